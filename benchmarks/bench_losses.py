"""Time the losses against the MONAI losses they stand beside: forward and backward, interleaved, medians.

Each round times every loss once, so that whatever else the machine does falls on all of them alike; ratios are of
medians. Run as `rarevoxel bench losses [--size 64] [--rounds 15] [--json]`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable

import torch
from monai.losses import DiceCELoss, DiceFocalLoss
from tqdm import tqdm

from rarevoxel.losses import CALFLoss, build_loss

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

PEERS = {"CALF bce_dice": "MONAI DiceCE", "CALF log10 + Dice": "MONAI DiceCE", "dice_focal": "MONAI DiceFocal"}


def losses() -> dict[str, Loss]:
    """Return the losses by name, ours first; all take logits of nested regions."""
    return {
        "CALF bce_dice": CALFLoss("bce_dice", sigmoid=True),
        "CALF log10 + Dice": CALFLoss("log10", sigmoid=True, region_weight=1.0),
        "dice_focal": build_loss("dice_focal").loss,
        "MONAI DiceCE": DiceCELoss(sigmoid=True),
        "MONAI DiceFocal": DiceFocalLoss(sigmoid=True),
    }


def seconds(loss: Loss, logits: torch.Tensor, target: torch.Tensor) -> float:
    """Return the time of one forward and backward pass."""
    logits.grad = None
    _wait(logits.device)
    start = time.perf_counter()
    loss(logits, target).backward()
    _wait(logits.device)
    return time.perf_counter() - start


def measure(size: int, rounds: int, device: torch.device) -> dict[str, float]:
    """Return the median seconds of every loss on logits `(2, 3, size, size, size)` with one voxel in fifty positive."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, size, size, size, generator=generator).to(device).requires_grad_()
    target = (torch.rand(2, 3, size, size, size, generator=generator) < 0.02).float().to(device)
    candidates = losses()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for round_number in tqdm(range(rounds + 2), desc="rounds", disable=None):
        for name, loss in candidates.items():
            taken = seconds(loss, logits, target)
            if round_number >= 2:  # the first two warm up
                times[name].append(taken)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64, help="voxels along each axis (default 64)")
    parser.add_argument("--rounds", type=int, default=15, help="timed rounds (default 15)")
    parser.add_argument("--threads", type=int, help="threads of torch (default its own choice)")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse_args()
    if min(args.size, args.rounds) < 1:
        parser.error("--size and --rounds must be at least 1")
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    medians = measure(args.size, args.rounds, device)
    result = {
        "shape": [2, 3, args.size, args.size, args.size],
        "device": str(device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "rounds": args.rounds,
        "torch": torch.__version__,
        "seconds": medians,
        "ratios": {name: medians[name] / medians[peer] for name, peer in PEERS.items()},
    }
    if args.json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return 0
    lines = [f"{name:<20}{1000 * taken:>10.2f} ms" for name, taken in medians.items()]
    lines += ["", *(f"{name:<20}{result['ratios'][name]:>10.2f} x {peer}" for name, peer in PEERS.items())]
    lines += ["", f"{result['shape']} on {device}, {os.cpu_count()} cores, {result['threads']} threads"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main())
