"""Load a real server as a busy reading room would, and check that nothing is lost and everybody is answered.

Four clients ask for masks without a pause, four submit a label each second (every tenth is bad), one asks every second
what 3D Slicer asks, and a training starts after a third of the time. A second run kills the server (`kill -9`) at a
random moment, starts it again, and looks for every label that was acknowledged. Run as `python benchmarks/load.py`
(about eight minutes), or shorter: `--seconds 20 --warm-up 5`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import requests
from load_clients import Client, InferClient, LabelClient, Notes, Poller
from load_report import Sample, growth, judge, lost_labels, machine, routes, show
from tqdm import tqdm

from rarevoxel.cases import discover
from rarevoxel.phantom import PhantomSpec, make_phantom, write_phantoms
from rarevoxel.server.process import ServerProcess
from rarevoxel.studies import write_studies

START_S = 300.0
SEED = 40
QUEUE = 2
"""Inferences that may wait: fewer than there are clients, so that some are told to come back."""


class Site:
    """A studies folder of phantoms and a server over it, which can be killed and started again."""

    def __init__(self, root: Path, cases: int, size: int, threads: int) -> None:
        self.root, self.spec = root, PhantomSpec(size=(size, size, size), spacing=(2.0, 2.0, 2.0))
        self.environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TMPDIR": str(root / "tmp")}
        (root / "tmp").mkdir()
        write_phantoms(root / "source", cases, SEED, self.spec, progress=True)
        report = write_studies(discover(root / "source"), root / "studies", labels=True, copy=True)
        self.cases = list(report.prepared)
        self.process: ServerProcess | None = None
        self.starts = 0

    @property
    def studies(self) -> Path:
        """The studies folder."""
        return self.root / "studies"

    @property
    def url(self) -> str:
        """Where the server answers now."""
        return self.process.url if self.process else "http://127.0.0.1:9"

    def start(self) -> float:
        """Start the server; returns the seconds until it answered."""
        log = self.root / f"server-{self.starts}.log"
        self.starts += 1
        process = ServerProcess(
            self.studies,
            home=self.root / "home",
            log=log,
            options=("--queue", str(QUEUE), "--conf", "scoring", "off"),
            environment=self.environment,
        )
        process.__enter__()
        self.process = process
        return process.wait_until_ready(START_S)

    def kill(self) -> None:
        """End the server as a power cut would."""
        if self.process and self.process.pid:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.stop()

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process:
            self.process.stop()

    def clients(self, notes: Notes, stop: threading.Event, infer: int = 4, label: int = 4) -> list[Client]:
        """Return the clients of the load, not yet started."""

        def common(name: str) -> tuple[Any, ...]:
            return (name, lambda: self.url, notes, stop)

        count = len(self.cases)
        clients: list[Client] = [
            InferClient(*common(f"infer-{n}"), cases=self.cases[n:] + self.cases[:n]) for n in range(infer)
        ]
        for n in range(label):
            phantom = make_phantom(SEED + n % count, self.spec)
            case = self.cases[n % count]
            arguments = {"case": case, "labels": phantom.labels, "affine": phantom.affine, "seed": n}
            clients.append(LabelClient(*common(f"label-{n}"), **arguments))
        return [*clients, Poller(*common("slicer"))]


@contextlib.contextmanager
def loaded(site: Site, notes: Notes) -> Iterator[None]:
    """Run every client for the time of the block."""
    stop = threading.Event()
    clients = site.clients(notes, stop)
    for client in clients:
        client.start()
    try:
        yield
    finally:
        stop.set()
        for client in clients:
            client.join(150)


def load(site: Site, seconds: float, warm_up: float, epochs: int) -> dict[str, Any]:
    """Run the load once and judge it."""
    started = site.start()
    notes, samples, training = Notes(), [], {}
    process = psutil.Process(site.process.pid if site.process else 0)
    with loaded(site, notes):
        wait(warm_up, "warm-up", lambda now: None)
        begin = time.monotonic()

        def look(now: float) -> None:
            with contextlib.suppress(psutil.Error):
                samples.append(Sample(now - begin, process.memory_info().rss))
            if now - begin >= seconds / 3 and not training:
                training["status"] = requests.post(
                    f"{site.url}/train/calf", json={"max_epochs": epochs}, timeout=60
                ).status_code

        wait(seconds, "load", look)
    training["task"] = _stop_training(site.url)
    measured = [reply for reply in notes.replies if reply.at >= begin]
    lost = lost_labels(site.studies, notes.acknowledged)
    verdicts = judge(measured, samples, notes, lost, seconds)
    return {
        "seconds": seconds,
        "warm_up": warm_up,
        "start_seconds": round(started, 1),
        "routes": routes(measured),
        "memory_mib": [round(sample.rss / 2**20) for sample in samples[:: max(1, len(samples) // 30)]],
        "training": training,
        "unanswered": [(who, round(at - begin, 1), what) for who, at, what in notes.unanswered],
        "acknowledged": len(notes.acknowledged),
        "lost": lost[:10],
        "memory_growth": round(growth(samples, seconds), 3),
        "passed": verdicts,
    }


def killed(site: Site, seconds: float, seed: int) -> dict[str, Any]:
    """Run the load, kill the server at a random moment, start it again, and look for the acknowledged labels."""
    if not (site.process and site.process.pid and psutil.pid_exists(site.process.pid)):
        site.start()
    moment = random.Random(seed).uniform(0.3, 0.8) * seconds
    notes = Notes()
    with loaded(site, notes):
        wait(moment, "until the kill", lambda now: None)
        site.kill()
        at = time.monotonic()
        before = list(notes.acknowledged)
        restart = site.start()
        lost = lost_labels(site.studies, before)
        wait(max(5.0, seconds - moment), "after the restart", lambda now: None)
    answers = [reply for reply in notes.replies if reply.at > at]
    left = [path.name for path in site.studies.rglob("*.tmp")]
    return {
        "killed_after_s": round(moment, 1),
        "restart_s": round(restart, 1),
        "acknowledged_before": len(before),
        "acknowledged": len(notes.acknowledged),
        "lost": lost[:10],
        "routes_after": routes(answers),
        "passed": {
            "labels were acknowledged before and after": 0 < len(before) < len(notes.acknowledged),
            "no acknowledged label lost or torn by the kill": not lost,
            "none lost by the end": not lost_labels(site.studies, notes.acknowledged),
            "no temporary file left": not left,
            "no 5xx after the restart": not any(reply.status >= 500 and not reply.retry_after for reply in answers),
        },
    }


def wait(seconds: float, what: str, look: Any) -> None:
    """Wait, showing a bar, and look every second."""
    end = time.monotonic() + seconds
    with tqdm(total=round(seconds), desc=what, disable=None) as bar:
        while (now := time.monotonic()) < end:
            look(now)
            time.sleep(min(1.0, max(0.0, end - time.monotonic())))
            bar.update(1)


def _stop_training(url: str) -> dict[str, Any]:
    task = requests.get(f"{url}/train/", timeout=60).json()
    if task.get("status") in ("SUBMITTED", "RUNNING"):
        requests.delete(f"{url}/train/", timeout=60)
    return {"status": task.get("status"), "last": list(task.get("details") or [])[-1:]}


def main() -> int:
    """Run both parts and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180, help="measured time (default 180)")
    parser.add_argument("--warm-up", type=float, default=30, help="before that (default 30)")
    parser.add_argument("--size", type=int, default=96, help="voxels along each axis of a case (default 96)")
    parser.add_argument("--cases", type=int, default=6, help="cases in the studies folder (default 6)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of the server's torch")
    parser.add_argument("--epochs", type=int, default=2, help="of the training (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the moment of the kill")
    parser.add_argument("--kill-seconds", type=float, help="time of the second part (default a third; 0 leaves it out)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    args = parser.parse_args()
    if args.seconds <= 0 or args.warm_up < 0 or args.cases < 4 or args.size < 32:
        parser.error("--seconds must be > 0, --warm-up >= 0, --cases >= 4 and --size >= 32")
    kill_seconds = args.seconds / 3 if args.kill_seconds is None else args.kill_seconds
    with (
        tempfile.TemporaryDirectory(prefix="rarevoxel-load-") as folder,
        Site(Path(folder), args.cases, args.size, args.threads) as site,
    ):
        result: dict[str, Any] = {"machine": machine(args.threads), "size": args.size, "cases": args.cases}
        result["load"] = load(site, args.seconds, args.warm_up, args.epochs)
        if kill_seconds:
            result["kill"] = killed(site, kill_seconds, args.seed)
    parts = [result[part] for part in ("load", "kill") if part in result]
    result["passed"] = all(all(part["passed"].values()) for part in parts)
    sys.stdout.write(show(result))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
