"""Servers that are stopped or killed while they train: nothing is left running, and the next one goes on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

pytestmark = pytest.mark.server

WAIT_S = 180.0
OPTIONS = {"max_epochs": 10_000, "loss": "dice_ce", "sampler": "instance", "pretrained": False}


class Site:
    """A studies folder, an app folder, and the server that runs on them at the moment."""

    def __init__(self, root: Path, studies: Path, app: Path) -> None:
        self.root, self.studies, self.app = root, studies, app
        self.served = root / "home" / "tiny"
        self.log = root / "log"
        self.server: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def command(self, plain: bool) -> list[str]:
        port = ["--port", str(self.port)]
        if plain:
            served = ["--app", str(self.served), "--studies", str(self.studies), "--host", "127.0.0.1"]
            return [sys.executable, "-m", "monailabel.main", "start_server", *served, *port]
        home = ["--app", str(self.app), "--home", str(self.root / "home")]
        return [sys.executable, "-m", "rarevoxel", "serve", str(self.studies), *home, *port]

    @contextlib.contextmanager
    def running(self, plain: bool) -> Iterator[subprocess.Popen[bytes]]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("MONAI_", "RAREVOXEL_"))}
        (self.root / "tmp").mkdir(exist_ok=True)
        environment |= {"OMP_NUM_THREADS": "1", "TMPDIR": str(self.root / "tmp"), "HOME": str(self.root / "tmp")}
        with self.log.open("wb") as stream:
            server = subprocess.Popen(
                self.command(plain), stdout=stream, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        try:
            until(lambda: self.answers(server), "the server answers")
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait(20)

    def answers(self, server: subprocess.Popen[bytes]) -> bool:
        assert server.poll() is None, self.log.read_text(errors="replace")[-3000:]
        with contextlib.suppress(requests.ConnectionError, requests.Timeout):
            return requests.get(f"{self.url}/info/", timeout=10).status_code == 200
        return False

    def stats(self) -> dict[str, Any]:
        """What the training process wrote last."""
        path = self.served / "model" / "calf" / "train_stats.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def shown(self) -> dict[str, Any]:
        """What a client is shown."""
        return requests.get(f"{self.url}/info/", timeout=60).json()["train_stats"]["calf"]

    def train(self, epoch: int) -> psutil.Process:
        """Start a training and wait until it has saved an epoch; returns its process."""
        before = self.stats().get("pid")
        reply = requests.post(f"{self.url}/train/calf", json=OPTIONS, timeout=60)
        assert reply.status_code == 200, reply.text
        until(
            lambda: self.stats().get("pid") not in (None, before) and self.stats().get("checkpoint_epoch", 0) > epoch,
            "the training saves an epoch",
        )
        return psutil.Process(self.stats()["pid"])


def until(done: Callable[[], bool], what: str, seconds: float = WAIT_S) -> float:
    start = time.monotonic()
    while not done():
        assert time.monotonic() - start < seconds, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - start


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def site(tmp_path: Path, studies: Path, app_toml: str, tiny_weights: Path, main_py: Path) -> Site:
    app = tmp_path / "source" / "tiny"
    (app / "starter").mkdir(parents=True)
    shutil.copyfile(main_py, app / "main.py")
    shutil.copyfile(tiny_weights, app / "starter" / "starter.pt")
    (app / "app.toml").write_text(app_toml, encoding="utf-8")
    return Site(tmp_path, studies, app)


@pytest.mark.fault(36)
@pytest.mark.timeout(900)
def test_no_training_outlives_its_server(site: Site) -> None:
    with site.running(plain=False) as server:
        training = site.train(0)
        assert training.ppid() == server.pid
        assert training.nice() == psutil.Process(server.pid).nice() + 10, "serving comes first"
        # The host's own way to stop a training is kill -9.
        assert requests.delete(f"{site.url}/train/", timeout=60).status_code == 200
        until(lambda: gone(training), "the training ends when it is stopped")
        shown = site.shown()
        assert shown["status"] == "interrupted"
        saved = shown["checkpoint_epoch"]
        assert shown["note"].endswith(f"goes on after epoch {saved}")

        training = site.train(saved)
        assert site.shown()["status"] == "running"
        assert site.shown()["resumed_from_epoch"] == saved
        os.kill(server.pid, signal.SIGTERM)
        until(lambda: gone(training), "the training ends when the server is asked to", 15)
        assert server.wait(30) in (0, -signal.SIGTERM)
    stats = site.stats()
    assert stats["status"] == "interrupted", "it had the time to say so"
    assert stats["checkpoint_epoch"] > saved

    with site.running(plain=True) as server:
        assert "the last training of calf was interrupted after epoch" in site.log.read_text(errors="replace")
        training = site.train(stats["checkpoint_epoch"])
        assert site.stats()["resumed_from_epoch"] == stats["checkpoint_epoch"]
        server.kill()
        until(lambda: gone(training), "the training ends when the server is killed", 15)
    assert site.stats()["status"] in ("interrupted", "running")
