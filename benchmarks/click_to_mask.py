"""Seconds from a click to a mask on a case of 240 x 240 x 155 voxels at 1 mm, with a real server, cold and warm.

A synthetic head is written as four compressed files, a server is started over it on a free port, and 3D Slicer's
client library asks for masks: the first time right after the server answers, then again and again. Run as
`python benchmarks/click_to_mask.py [--rounds N] [--json]`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from rarevoxel.cases import SEQUENCES, discover
from rarevoxel.phantom.examine import examine
from rarevoxel.phantom.scene import draw_scene
from rarevoxel.server.client import LabelClient
from rarevoxel.server.process import ServerProcess
from rarevoxel.studies import write_studies
from rarevoxel.volumes import write_volume

SHAPE = (240, 240, 155)
HEAD = (144, 184, 144)
START_S = 300.0


def write_case(folder: Path, seed: int) -> None:
    """Write a head in the middle of a volume of the usual size, as whole numbers."""
    rng = np.random.default_rng(seed)
    scene = draw_scene(rng, HEAD, (1.0, 1.0, 1.0), "glioma")
    images, _ = examine(scene, rng, missing=())
    folder.mkdir(parents=True)
    place = tuple(slice((n - h) // 2, (n - h) // 2 + h) for n, h in zip(SHAPE, HEAD, strict=True))
    for name, image in zip(SEQUENCES, images, strict=True):
        whole = np.zeros(SHAPE, dtype=np.int16)
        whole[place] = np.where(image != 0, np.clip(np.rint(900 * image / image.max()), 1, None), 0)
        write_volume(folder / f"{name}.nii.gz", whole, np.eye(4))


def measure(rounds: int, model: str, seed: int) -> dict[str, Any]:
    """Start a server, click once and then `rounds` times; returns seconds."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_case(root / "source" / "head", seed)
        write_studies(discover(root / "source"), root / "studies", labels=False, copy=True)
        with ServerProcess(root / "studies", home=root / "home", log=root / "log") as server:
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


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="warm clicks (default 7)")
    parser.add_argument("--model", default="calf", help="model to ask (default calf)")
    parser.add_argument("--seed", type=int, default=0, help="of the head (default 0)")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    result = measure(args.rounds, args.model, args.seed)
    if args.json:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
        return 0
    low, high = result["warm_spread_s"]
    sys.stdout.write(
        f"server answers after {result['start_s']} s\n"
        f"first click to mask  {result['cold_s']} s\n"
        f"later clicks, median {result['warm_s']} s ({low} to {high}, {args.rounds} clicks; "
        f"{result['warm_server_s']} s of it in the model's task)\n"
        f"{result['shape']} voxels, model {args.model}, weights {result['weights']}, {result['cores']} cores\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
