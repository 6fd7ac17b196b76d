"""A second server on one folder ends with a message that says which one is there, however it is started."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from rarevoxel.datastore.server_lock import check_server_lock
from rarevoxel.server.process import ServerProcess, free_port

pytestmark = pytest.mark.server
CASE, OTHER = "phantom-001", "phantom-002"


def run(*command: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **(environment or {})}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120, env=env, check=False)


@pytest.mark.fault(34)
def test_a_second_server_and_a_restore_beside_the_first(studies: Path, app_folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with ServerProcess(studies, home=home, log=tmp_path / "server.log", options=["--app", str(app_folder)]) as server:
        server.wait_until_ready(120)
        second = run("-m", "rarevoxel", "serve", str(studies), "--home", str(home), "--port", str(free_port()))
        assert second.returncode == 1
        assert f"another server uses this studies folder already: process {server.pid} on" in second.stderr
        assert f"hint: use that server, or stop it first: kill {server.pid}" in second.stderr
        arguments = ["--app", str(app_folder), "--studies", str(studies), "--host", "127.0.0.1"]
        plain = run(
            *("-m", "monailabel.main", "start_server", *arguments, "--port", str(free_port())),
            environment={"MONAI_LABEL_AUTO_UPDATE_SCORING": "false"},
        )
        assert plain.returncode != 0
        assert (
            f"another server uses this studies folder already: process {server.pid} on" in plain.stdout + plain.stderr
        )

        sent = (studies / "labels" / "final" / f"{OTHER}.nii.gz").read_bytes()
        reply = requests.put(
            f"{server.url}/datastore/label",
            params={"image": CASE, "tag": "final"},
            data={"params": json.dumps({"client_id": "test"})},
            files={"label": ("label.nii.gz", sent)},
            timeout=60,
        )
        assert reply.status_code == 200, reply.text
        receipt = reply.json()
        assert (receipt["version"], receipt["image"], receipt["label"]) == (2, CASE, CASE)
        assert receipt["received_sha256"] == hashlib.sha256(sent).hexdigest()
        stored = (studies / "history" / CASE / "final" / "000002.nii.gz").read_bytes()
        assert receipt["sha256"] == hashlib.sha256(stored).hexdigest()

        assert run("-m", "rarevoxel", "restore", CASE, "1", "--studies", str(studies)).returncode == 0
        info = requests.get(
            f"{server.url}/datastore/label/info", params={"label": CASE, "tag": "final"}, timeout=60
        ).json()
        assert info["version"] == 3
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
    check_server_lock(studies)
