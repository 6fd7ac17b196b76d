"""Time the fused losses against the plain ones and against MONAI's, like for like: forward and backward together.

Logits are `2 4 n^3` with softmax and class indices, `2 3 n^3` with sigmoid and masks. The peers compute the same terms:
with softmax that is `DiceLoss` beside `FocalLoss(use_softmax=True)`, because `DiceFocalLoss(softmax=True)` takes a
sigmoid focal loss. `DiceCELoss(sigmoid=True)` takes a categorical cross-entropy where CALF takes a binary one; it is
what a user would reach for. MONAI's unified focal loss knows two classes, so ours is given two; for LMF and top-k there
is no peer but the same loss in torch's operators. Run as `rarevoxel bench losses [--size 96] [--rounds 9] [--threads 1]
[--rows NAME ...] [--json]`.

glibc returns large blocks to the system at every release, and a loss that allocates much pays for their pages anew in
every step. The same ratios are therefore taken twice, the second time in a process with `MALLOC_*` tuned against that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from measuring import exponent, interleaved, machine, peak_mib
from monai.losses import AsymmetricUnifiedFocalLoss, DiceCELoss, DiceFocalLoss, DiceLoss, FocalLoss

from rarevoxel.losses import CALFLoss, CompoundLoss, LMFLoss, TermOptions, TopKLoss, UnifiedFocalLoss
from rarevoxel.losses.fused import fused_way, use_fused

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

TUNED = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**34), "MALLOC_TOP_PAD_": str(2**26)}
SIDES = ("fused", "plain", "MONAI")


@dataclass(frozen=True)
class Row:
    """One loss of ours and its peer.

    Args:
        softmax: whether the data are classes, and not regions.
        ours: makes our loss.
        peer: makes MONAI's; None where it has none.
        goal: how many times faster than MONAI the fused loss is meant to be, on one thread; None where nothing was
            said.
        classes: with softmax.
    """

    softmax: bool
    ours: Callable[[], Loss]
    peer: Callable[[], Loss] | None
    goal: float | None
    classes: int = 4

    @property
    def sides(self) -> tuple[str, ...]:
        """Who takes part."""
        return SIDES if self.peer else SIDES[:-1]


def _softmax_peer() -> Loss:
    dice, focal = DiceLoss(softmax=True, to_onehot_y=True), FocalLoss(use_softmax=True, to_onehot_y=True)
    return lambda logits, target: dice(logits, target) + focal(logits, target)


def _unified_peer() -> Loss:
    loss = AsymmetricUnifiedFocalLoss(to_onehot_y=True, num_classes=2)
    return lambda logits, target: loss(torch.softmax(logits, dim=1), target)


def _lmf(softmax: bool) -> Loss:
    if softmax:
        return LMFLoss([9e5, 9e3, 3e3, 1e3], scale=3.0, softmax=True, to_onehot_y=True)
    return LMFLoss([(99.0, 1.0)] * 3, scale=3.0)


ROWS = {
    "softmax dice_focal": Row(
        True, lambda: CompoundLoss("dice_focal", TermOptions("softmax"), to_onehot_y=True), _softmax_peer, 8
    ),
    "sigmoid dice_focal": Row(False, lambda: CompoundLoss("dice_focal"), lambda: DiceFocalLoss(sigmoid=True), 4),
    "CALF bce_dice": Row(False, lambda: CALFLoss("bce_dice"), lambda: DiceCELoss(sigmoid=True), 2),
    "CALF ln + Dice": Row(False, lambda: CALFLoss("ln", region_weight=1.0), lambda: DiceCELoss(sigmoid=True), 2),
    "unified focal": Row(
        True, lambda: UnifiedFocalLoss(softmax=True, to_onehot_y=True), _unified_peer, None, classes=2
    ),
    "LMF softmax": Row(True, lambda: _lmf(True), None, None),
    "LMF sigmoid": Row(False, lambda: _lmf(False), None, None),
    "top-k softmax": Row(True, lambda: TopKLoss(softmax=True, to_onehot_y=True), None, None),
    "top-k sigmoid": Row(False, TopKLoss, None, None),
}


def data(row: Row, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits that want a gradient, and a target with one voxel in fifty positive."""
    generator = torch.Generator().manual_seed(0)
    channels = row.classes if row.softmax else 3
    logits = torch.randn(2, channels, size, size, size, generator=generator)
    if row.softmax:
        target = torch.randint(-150, channels, (2, 1, size, size, size), generator=generator).clamp_(min=0)
    else:
        target = (torch.rand(logits.shape, generator=generator) < 0.02).float()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return logits.to(device).requires_grad_(), target.to(device)


def step(name: str, side: str, size: int) -> Callable[[], object]:
    """Return what does one forward and backward pass; importable, so that a fresh process can measure its memory."""
    row = ROWS[name]
    loss = _loss(row, side)
    logits, target = data(row, size)

    def run() -> None:
        logits.grad = None
        with use_fused(side == "fused", least=1):
            loss(logits, target).backward()

    run()  # Compiles, where there is something to compile.
    logits.grad = None
    return run


def _loss(row: Row, side: str) -> Loss:
    return row.peer() if side == "MONAI" and row.peer else row.ours()


def peak_step(name: str, side: str, size: int, threads: int) -> Callable[[], object]:
    """Return `step` on that number of threads."""
    torch.set_num_threads(threads)
    return step(name, side, size)


def kept(name: str, side: str) -> tuple[int, int]:
    """Return the bytes kept for backward beyond logits and target, and the bytes of the logits, of `16^3` voxels."""
    row = ROWS[name]
    logits, target = data(row, 16)
    loss = _loss(row, side)
    inputs = {logits.untyped_storage().data_ptr(), target.untyped_storage().data_ptr()}
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in inputs:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t), use_fused(side == "fused", least=1):
        value = loss(logits, target)
    del value
    return sum(storages.values()), logits.nbytes


def measure_times(names: Sequence[str], size: int, rounds: int) -> dict[str, Any]:
    """Return for every row the ratios, seconds, and the seconds that the first fused call took."""
    found: dict[str, Any] = {}
    for name in names:
        started = time.perf_counter()
        runs = {"fused": step(name, "fused", size)}
        first = time.perf_counter() - started
        runs |= {side: step(name, side, size) for side in ROWS[name].sides[1:]}
        timings = interleaved(runs, rounds, title=name)
        pairs = [("plain", "fused"), *((("MONAI", "fused"), ("MONAI", "plain")) if ROWS[name].peer else ())]
        found[name] = {
            **{f"{slow} over {fast}": timings[slow].over(timings[fast]).to_dict() for slow, fast in pairs},
            "goal": ROWS[name].goal,
            "first_call_s": first,
            "seconds": {side: timing.to_dict() for side, timing in timings.items()},
        }
    return found


def measure_growth(names: Sequence[str], size: int, rounds: int) -> dict[str, Any]:
    """Return for every row the fused loss's seconds from half the size to all, and k of `seconds = a voxels^k`."""
    sizes = [max(size // 2, 8), max(3 * size // 4, 12), max(size, 16)]
    growth = {}
    for name in names:
        runs = {str(n): step(name, "fused", n) for n in sizes}
        timings = interleaved(runs, rounds, title=f"{name}, growth")
        voxels, seconds = [n**3 for n in sizes], [timings[str(n)].median for n in sizes]
        growth[name] = {"voxels": voxels, "seconds": seconds, "exponent": exponent(voxels, seconds)}
    return growth


def measure_memory(names: Sequence[str], size: int, threads: int) -> dict[str, Any]:
    """Return for every row and side the peak of one step in a fresh process, and the bytes kept for backward."""
    found: dict[str, Any] = {}
    for name in names:
        sides = ROWS[name].sides
        peaks = {side: peak_mib(peak_step, name, side, size, threads) for side in sides}
        saved = {side: kept(name, side) for side in sides}
        found[name] = {
            "peak_mib": peaks,
            f"{sides[-1]} over fused": peaks[sides[-1]] / max(peaks["fused"], 0.1),
            "kept_bytes_16": {side: bytes_ for side, (bytes_, _) in saved.items()},
            "kept_over_logits": {side: bytes_ / logits for side, (bytes_, logits) in saved.items()},
        }
    return found


def tuned(args: argparse.Namespace) -> dict[str, Any]:
    """Return the ratios of a process of its own in which malloc keeps what is released."""
    options = ["--size", str(args.size), "--rounds", str(args.rounds), "--threads", str(args.threads)]
    options += ["--rows", *args.rows]
    command = [sys.executable, __file__, *options, "--json", "--times-only"]
    done = subprocess.run(command, env={**os.environ, **TUNED}, stdout=subprocess.PIPE, text=True, check=True)
    times: dict[str, Any] = json.loads(done.stdout)["times"]
    return times


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=96, help="voxels along each axis (default 96)")
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds (default 9)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), help="which losses (default all)")
    parser.add_argument("--times-only", action="store_true", help="no memory, no growth, no second process")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse_args()
    if min(args.size, args.rounds, args.threads) < 1:
        parser.error("--size, --rounds and --threads must be at least 1")
    torch.set_num_threads(args.threads)
    logits, target = data(ROWS["sigmoid dice_focal"], 8)
    with use_fused(True, least=1):
        way = fused_way(logits, target)
    result: dict[str, Any] = {"size": args.size, "rounds": args.rounds, "way": way, "machine": machine()}
    result["times"] = measure_times(args.rows, args.size, args.rounds)
    if not args.times_only:
        result["growth"] = measure_growth(args.rows, args.size, args.rounds)
        result["memory"] = measure_memory(args.rows, args.size, args.threads)
        if sys.platform == "linux":
            result["times_tuned_malloc"] = tuned(args)
    if args.json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(lines(result)) + "\n")
    return 0


def lines(result: dict[str, Any]) -> list[str]:
    """Return the text that a person reads."""
    cores, threads = result["machine"]["cores"], result["machine"]["threads"]
    text = [f"n = {result['size']}, {result['way']}, {cores} cores, {threads} threads, {result['rounds']} rounds", ""]
    for title, key in (("as it is", "times"), ("malloc tuned", "times_tuned_malloc")):
        for name, row in result.get(key, {}).items():
            ratios = [_ratio(label, row[label]) for label in ("MONAI over fused", "plain over fused") if label in row]
            goal = f"  goal {row['goal']}x" if row["goal"] else ""
            text.append(f"{name:<20} {title:<13} {'  '.join(ratios)}{goal}")
    for name, row in result.get("memory", {}).items():
        peaks = ", ".join(f"{side} {mib:.0f}" for side, mib in row["peak_mib"].items())
        kept_here = ", ".join(f"{side} {bytes_}" for side, bytes_ in row["kept_bytes_16"].items())
        text.append(f"{name:<20} peak MiB: {peaks}; bytes kept for backward at 16^3: {kept_here}")
    text += [f"{name:<20} seconds grow with voxels^{g['exponent']:.2f}" for name, g in result.get("growth", {}).items()]
    return text


def _ratio(label: str, ratio: dict[str, float]) -> str:
    return f"{label} {ratio['median']:.1f}x [{ratio['low']:.1f}, {ratio['high']:.1f}]"


if __name__ == "__main__":
    sys.exit(main())
