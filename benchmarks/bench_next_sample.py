"""How long a client waits for the next sample: every strategy over HTTP, against a server with many unlabelled cases.

The cases are tiny volumes, which nothing here reads; their scores are drawn by chance, as large as real ones. With
`--busy` two processes compute all the while, at the niceness at which cases are scored and models are trained.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from measuring import interleaved, machine

from rarevoxel.learning.pool import Candidate, CaseScore, ScoreStore
from rarevoxel.learning.strategies import STRATEGIES
from rarevoxel.server.background import NICENESS
from rarevoxel.server.process import ServerProcess
from rarevoxel.volumes import label_bytes

MODEL = "calf"
LIMIT_S = 0.3
ABOUT = "/health, for comparison"
REGIONS = ("WT", "TC", "ET")


def write_pool(studies: Path, cases: int, labelled: int, features: int = 256) -> None:
    """Write a studies folder of scored cases, the last ones labelled."""
    rng = np.random.default_rng(0)
    array = np.zeros((8, 8, 8), np.uint8)
    array[2:5, 2:5, 2:6] = 3
    volume = label_bytes(array, np.eye(4))
    store, labels = ScoreStore(studies / "scores" / MODEL), studies / "labels" / "final"
    labels.mkdir(parents=True)
    for number in range(cases + labelled):
        case = f"case-{number:05d}"
        (studies / f"{case}.nii.gz").write_bytes(volume)
        if number >= cases:
            (labels / f"{case}.nii.gz").write_bytes(volume)
        store.write(_score(case, features, rng))


def _score(case: str, features: int, rng: np.random.Generator) -> CaseScore:
    def by_region(scale: float = 1.0) -> dict[str, float]:
        return {region: float(scale * rng.random()) for region in REGIONS}

    candidates = tuple(
        Candidate(region, 400.0, float(rng.lognormal(5, 2)), float(rng.random()), float(rng.random()), number == 0)
        for region in REGIONS
        for number in range(6)
    )
    seen = tuple(rng.normal(size=features).tolist())
    return CaseScore(
        case, "stamp", "weights", "tta", by_region(), by_region(0.3), by_region(5), by_region(), by_region(50),
        candidates, seen,
    )  # fmt: skip


def asking(connection: http.client.HTTPConnection, strategy: str) -> Callable[[], None]:
    """Return a function that asks for the next sample, as one client."""

    def ask() -> None:
        body = json.dumps({"client_id": "bench"})
        connection.request("POST", f"/activelearning/{strategy}", body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        content = reply.read()
        if reply.status != 200:
            raise SystemExit(f"{strategy}: {reply.status} {content.decode(errors='replace')[:500]}")

    return ask


def health(connection: http.client.HTTPConnection) -> Callable[[], None]:
    """Return a function that asks for what costs the server nothing."""

    def ask() -> None:
        connection.request("GET", "/health")
        connection.getresponse().read()

    return ask


def _compute() -> None:
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    while True:
        np.linalg.svd(np.random.default_rng(0).normal(size=(200, 200)))


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep processes computing until the block ends."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_compute, daemon=True) for _ in range(processes)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Serve a pool, ask, and return the seconds of every strategy."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_pool(folder / "studies", args.cases, args.labelled)
        environment = {**os.environ, "RAREVOXEL_CACHE": str(folder / "cache")}
        process = ServerProcess(
            folder / "studies", home=folder / "home", log=folder / "log", options=["--conf", "models", MODEL],
            environment=environment,
        )  # fmt: skip
        with process as server, busy(2 if args.busy else 0):
            server.wait_until_ready(args.patience)
            connection = http.client.HTTPConnection(server.host, server.port, timeout=120)
            candidates = {ABOUT: health(connection)}
            candidates |= {name: asking(connection, name) for name in STRATEGIES}
            times = interleaved(candidates, args.rounds)
    return {
        "cases": args.cases,
        "labelled": args.labelled,
        "busy": args.busy,
        "machine": machine(),
        "seconds": {name: {**timing.to_dict(), "longest_s": max(timing.seconds)} for name, timing in times.items()},
    }


def lines(result: Mapping[str, Any]) -> list[str]:
    """Return the result for a reader."""
    background = "two processes computing in the background" if result["busy"] else "nothing else running"
    told = [f"{result['cases']} unlabelled cases, {result['labelled']} labelled, {background}", ""]
    for name, found in result["seconds"].items():
        within = "" if found["longest_s"] < LIMIT_S else f"   above {LIMIT_S * 1000:.0f} ms"
        told.append(
            f"{name:<24} median {found['median_s'] * 1e3:6.0f} ms, longest {found['longest_s'] * 1e3:6.0f}{within}"
        )
    return told


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=500, help="unlabelled cases (default 500)")
    parser.add_argument("--labelled", type=int, default=50, help="labelled cases (default 50)")
    parser.add_argument("--rounds", type=int, default=10, help="timed rounds (default 10)")
    parser.add_argument("--busy", action="store_true", help="compute in the background meanwhile")
    parser.add_argument("--patience", type=float, default=300, help="seconds the server has to start (default 300)")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse_args()
    if args.rounds < 1 or args.cases < 1 or args.labelled < 0:
        parser.error("--rounds and --cases must be at least 1, --labelled at least 0")
    result = measure(args)
    sys.stdout.write(json.dumps(result, indent=2) + "\n" if args.json else "\n".join(lines(result)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
