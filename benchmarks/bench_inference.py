"""Time a click, from four files to a label map in memory, against MONAI's usual way with the same network.

One synthetic head of 240 x 240 x 155 voxels of 1 mm is segmented by the engine (a first click, a click on a case that
was read before, a click of another model on it) and by MONAI's transforms and `SlidingWindowInferer` with their
defaults: the whole volume, float32, windows of the configured size with an overlap of a quarter, probabilities
inverted. Both sides clip and scale intensities by the same function, because the network was trained with it, and
neither mirrors the image. Run as `rarevoxel bench inference [--rounds 5] [--json]`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from heads import write_head
from measuring import exponent, interleaved, machine, peak_mib
from monai.inferers import SlidingWindowInferer
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    ConcatItemsd,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    Orientationd,
    Spacingd,
)

from rarevoxel.bundled import bundled_app
from rarevoxel.cases import SEQUENCES
from rarevoxel.config import AppConfig, load_config
from rarevoxel.evaluation import region_dice
from rarevoxel.inference import Engine
from rarevoxel.inference.cache import VolumeCache
from rarevoxel.labels import regions_to_labels
from rarevoxel.networks import load_weights, use_norm
from rarevoxel.transforms import NormalizeBraind
from rarevoxel.volumes import read_volume, write_volume

Mask = npt.NDArray[np.uint8]
Click = Callable[[], Mask]

MONAI, FIRST, AGAIN, OTHER = "MONAI", "first click", "second click", "another model's click"
SHARES = (0.4, 0.7, 1.0)
"""Shares of the slices that the growth is measured on."""


def configuration() -> AppConfig:
    """The app's, without mirror images."""
    config = load_config(bundled_app() / "app.toml")
    return replace(config, inference=replace(config.inference, mirror=()))


def monai_click(weights: Path, files: Mapping[str, Path]) -> Click:
    """Return MONAI's way: everything of the whole volume, with defaults."""
    config = configuration()
    network, _, pre, _ = load_weights(weights)
    use_norm(network, torch.nn.InstanceNorm3d)
    before = Compose(
        [
            LoadImaged(SEQUENCES),
            EnsureChannelFirstd(SEQUENCES),
            ConcatItemsd(SEQUENCES, "image"),
            Orientationd("image", axcodes=pre.orientation, labels=None),
            NormalizeBraind("image", pre.percentiles, pre.power),
            Spacingd("image", pixdim=pre.spacing, mode="bilinear"),
        ]
    )
    infer = SlidingWindowInferer(roi_size=config.inference.window)
    after = Compose(
        [
            Activationsd("pred", sigmoid=True),
            Invertd("pred", transform=before, orig_keys="image", nearest_interp=False),
            AsDiscreted("pred", threshold=config.inference.threshold),
        ]
    )

    def click() -> Mask:
        data = before({name: str(file) for name, file in files.items()})
        with torch.inference_mode():
            data["pred"] = infer(data["image"][None], network)[0]
        return regions_to_labels(after(data)["pred"].numpy() > 0)

    return click


def our_click(weights: Path, files: Mapping[str, Path], cache: VolumeCache | None = None) -> Click:
    """Return the engine's way, warmed up."""
    engine = Engine(configuration(), [weights], cache=cache)
    engine.warm_up()
    return lambda: engine.predict(files).labels


def clicks(weights: Path, files: Mapping[str, Path]) -> dict[str, Click]:
    """Return all that is timed, by name."""
    cache = VolumeCache(1024)
    return {
        MONAI: monai_click(weights, files),
        FIRST: our_click(weights, files),
        AGAIN: our_click(weights, files, cache),
        OTHER: our_click(weights, files, cache),
    }


def compare(masks: Mapping[str, Mask], truth: Mask) -> dict[str, Any]:
    """Return Dice with the truth, how much of it the engine loses in the mean, and Dice of the two masks."""
    dice = {name: region_dice(masks[name], truth) for name in (MONAI, FIRST)}
    means = {name: float(np.mean(list(values.values()))) for name, values in dice.items()}
    between = region_dice(masks[FIRST], masks[MONAI])
    same = all(np.array_equal(masks[FIRST], masks[name]) for name in (AGAIN, OTHER))
    return {"truth": dice, "lost": means[MONAI] - means[FIRST], "between": between, "clicks_agree": same}


def growth(weights: Path, files: Mapping[str, Path], folder: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """Return the seconds of either way on slabs of the head, and with which power of the voxels they grow."""
    slabs = {share: slab(files, folder / f"{share}", share) for share in SHARES}
    voxels = [float(np.prod(read_volume(part["t1c"]).array.shape)) for part in slabs.values()]
    found: dict[str, dict[str, Any]] = {}
    for name, make in ((MONAI, monai_click), (FIRST, our_click)):
        parts = {f"{share}": make(weights, part) for share, part in slabs.items()}
        times = interleaved(parts, rounds, warm_up=1, title=f"growth of {name}")
        seconds = [timing.median for timing in times.values()]
        found[name] = {"voxels": voxels, "seconds": seconds, "exponent": exponent(voxels, seconds)}
    return found


def slab(files: Mapping[str, Path], folder: Path, share: float) -> dict[str, Path]:
    """Write the middle slices of a case and return their files."""
    written = {}
    for name, file in files.items():
        volume = read_volume(file)
        depth = volume.array.shape[2]
        first = round(depth * (1 - share) / 2)
        part = volume.array[:, :, first : depth - first].astype(np.int16)
        written[name] = folder / file.name
        write_volume(written[name], part, volume.grid.affine)
    return written


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return what `--json` prints."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        truth = write_head(folder / "head", args.seed, mm=args.mm)
        files = {name: folder / "head" / f"{name}.nii.gz" for name in SEQUENCES}
        candidates = clicks(args.weights, files)
        result = {
            "shape": list(truth.shape),
            "spacing_mm": args.mm,
            "machine": machine(),
            "dice": compare({name: click() for name, click in candidates.items()}, truth),
        }
        times = interleaved(candidates, args.rounds, warm_up=1, title="clicks")
        result["seconds"] = {name: timing.to_dict() for name, timing in times.items()}
        result["times_faster"] = {name: times[MONAI].over(times[name]).to_dict() for name in (FIRST, AGAIN, OTHER)}
        if not args.quick:
            jobs = {MONAI: monai_click, FIRST: our_click}
            result["peak_mib"] = {name: peak_mib(job, args.weights, files) for name, job in jobs.items()}
            result["growth"] = growth(args.weights, files, folder, max(args.rounds // 2, 1))
    return result


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default 5)")
    parser.add_argument("--weights", type=Path, help="weight file (default: the app's starter)")
    parser.add_argument("--seed", type=int, default=0, help="of the head (default 0)")
    parser.add_argument("--mm", type=float, default=1.0, help="voxel size of the head (default 1)")
    parser.add_argument("--threads", type=int, help="threads of torch (default its own choice)")
    parser.add_argument("--quick", action="store_true", help="leave memory and growth out")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse_args()
    if args.rounds < 1 or not 0.5 <= args.mm <= 6:
        parser.error("--rounds must be at least 1, --mm between 0.5 and 6")
    if args.threads:
        torch.set_num_threads(args.threads)
    args.weights = args.weights or bundled_app() / "starter" / "starter.pt"
    result = measure(args)
    sys.stdout.write(json.dumps(result, indent=2) + "\n" if args.json else "\n".join(lines(result)) + "\n")
    return 0


def lines(result: Mapping[str, Any]) -> list[str]:
    """Return the result for a reader."""
    dice, shape = result["dice"], " x ".join(map(str, result["shape"]))
    told = [f"{shape} voxels of {result['spacing_mm']:g} mm, {result['machine']['cores']} cores, "
            f"{result['machine']['threads']} threads", ""]  # fmt: skip
    for name, ratio in result["times_faster"].items():
        seconds = result["seconds"][name]["median_s"]
        spread = f"[{ratio['low']:.2f}, {ratio['high']:.2f}]"
        told.append(f"{name:<22} {ratio['median']:6.2f}x {spread} as fast as {MONAI} ({seconds:.2f} s)")
    told += ["", f"mean Dice lost         {dice['lost']:+.4f}; all clicks give one mask: {dice['clicks_agree']}"]
    told += [f"Dice with the truth    {name}: {_regions(dice['truth'][name])}" for name in (MONAI, FIRST)]
    told.append(f"Dice of the two masks  {_regions(dice['between'])}")
    if "peak_mib" in result:
        told.append("peak memory            " + ", ".join(f"{n} {v:.0f} MiB" for n, v in result["peak_mib"].items()))
        told.append(
            "time grows with voxels " + ", ".join(f"{n} ^{g['exponent']:.2f}" for n, g in result["growth"].items())
        )
    return told


def _regions(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())


if __name__ == "__main__":
    sys.exit(main())
