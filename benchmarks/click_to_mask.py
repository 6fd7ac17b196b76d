"""Seconds from a click to a mask on a case of 240 x 240 x 155 voxels at 1 mm, with a real server, cold and warm.

A synthetic head is written as four compressed files, a server is started over it on a free port, and 3D Slicer's
client library asks for masks: the first time right after the server answers, then again and again. With `--starts N`,
servers are started N times over, in turn with MONAI Label's own launcher over the same app. Run as
`python benchmarks/click_to_mask.py [--rounds N] [--starts N] [--json]`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from heads import SHAPE, write_head

from rarevoxel.bundled import bundled_app
from rarevoxel.cases import discover
from rarevoxel.errors import UnavailableError
from rarevoxel.server.client import LabelClient
from rarevoxel.server.process import ServerProcess
from rarevoxel.studies import write_studies

START_S = 300.0


def measure(rounds: int, model: str, seed: int) -> dict[str, Any]:
    """Start a server, click once and then `rounds` times; returns seconds."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_head(root / "source" / "head", seed)
        write_studies(discover(root / "source"), root / "studies", labels=False, copy=True)
        with ServerProcess(
            root / "studies", home=root / "home", log=root / "log", options=("--conf", "scoring", "off")
        ) as server:
            start = server.wait_until_ready(START_S)
            client = LabelClient(server.url, root / "masks")
            answers = [client.infer(model, "head") for _ in range(1 + rounds)]
    waits = [answer.round_trip for answer in answers]
    return {
        "shape": list(SHAPE),
        "model": model,
        "weights": answers[0].weights,
        "cores": os.cpu_count(),
        "start_s": round(start, 2),
        "cold_s": round(waits[0], 2),
        "warm_s": round(statistics.median(waits[1:]), 2),
        "warm_spread_s": [round(min(waits[1:]), 2), round(max(waits[1:]), 2)],
        "warm_server_s": round(statistics.median(answer.seconds for answer in answers[1:]), 2),
        "rounds": rounds,
    }


def measure_starts(times: int, seed: int) -> dict[str, Any]:
    """Start our server and MONAI Label's own in turn; returns seconds to the first answer to `GET /info/`."""
    found: dict[str, list[float]] = {"rarevoxel": [], "monailabel": []}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_head(root / "source" / "head", seed)
        write_studies(discover(root / "source"), root / "studies", labels=False, copy=True)
        for turn in range(times):
            for launcher, seconds in found.items():
                server = ServerProcess(root / "studies", home=root / "home", log=root / f"log-{launcher}-{turn}")
                if launcher == "monailabel":
                    app = shutil.copytree(bundled_app(), root / f"app-{turn}")
                    server.command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app)]
                    server.command += ["--studies", str(root / "studies"), "--host", server.host]
                    server.command += ["--port", str(server.port)]
                started = time.monotonic()
                with server:
                    _wait_for_info(server)
                    seconds.append(time.monotonic() - started)
    return {
        f"{name}_start_s": [round(statistics.median(s), 2), round(min(s), 2), round(max(s), 2)]
        for name, s in found.items()
    }


def _wait_for_info(server: ServerProcess) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        server.check()
        try:
            with urllib.request.urlopen(f"{server.url}/info/", timeout=10) as reply:
                if reply.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    raise UnavailableError(f"no answer to GET /info/ within {START_S:.0f} s; last lines:\n{server.tail()}")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="warm clicks (default 7)")
    parser.add_argument("--model", default="calf", help="model to ask (default calf)")
    parser.add_argument("--seed", type=int, default=0, help="of the head (default 0)")
    parser.add_argument("--starts", type=int, default=0, help="starts of each launcher, in turn (default 0)")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    result = measure(args.rounds, args.model, args.seed)
    if args.starts > 0:
        result |= measure_starts(args.starts, args.seed)
    if args.json:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
        return 0
    low, high = result["warm_spread_s"]
    sys.stdout.write(
        f"server answers after {result['start_s']} s\n"
        f"first click to mask  {result['cold_s']} s\n"
        f"later clicks, median {result['warm_s']} s ({low} to {high}, {args.rounds} clicks; "
        f"{result['warm_server_s']} s of it in the model's task)\n"
        + "".join(
            f"GET /info/ answered, started by {name}: {result[key][0]} s ({result[key][1]} to {result[key][2]})\n"
            for name in ("rarevoxel", "monailabel")
            if (key := f"{name}_start_s") in result
        )
        + f"{result['shape']} voxels, model {args.model}, weights {result['weights']}, {result['cores']} cores\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
