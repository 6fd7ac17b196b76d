"""Time drawing patches and reading prepared cases against MONAI's ways, interleaved in one run.

Patches: one of 64 voxels and four of 96 of a case in memory, by class. Ours finds the voxels of every class once a
case; MONAI's `RandCropByPosNegLabeld` (with and without `image_key`) and `RandCropByLabelClassesd` search the label at
every call. Copying the patches is the same for all, and of four large ones it is most of the time.
Disk: two patches of a case that is not in memory, with `CaseCache` (which reads the chunks a patch lies in) and with
`PersistentDataset` (which reads the case) and the same draw; and the bytes a case takes. `PersistentDataset` holds the
case as the steps of MONAI's BraTS tutorial make it, which crop to no brain, or as ours do. Run as
`rarevoxel bench loading [--rounds 15] [--json]`.
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
import torch
from heads import write_head
from measuring import exponent, interleaved, machine
from monai.data import PersistentDataset
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    RandCropByLabelClassesd,
    RandCropByPosNegLabeld,
    Spacingd,
)

from rarevoxel.bundled import bundled_app
from rarevoxel.cases import SEQUENCES
from rarevoxel.config import load_config
from rarevoxel.sampling import ClassCentresd, RandPatchesd
from rarevoxel.training.case_cache import CaseCache, made_by
from rarevoxel.transforms import build_case
from rarevoxel.volumes import write_labels

EDGE = 96
KEYS = ("image", "label")
WHOLE, CROPPED = "PersistentDataset", "PersistentDataset, cropped"
DRAWS = ((64, 1), (96, 4))
"""Edges and numbers of the patches that are drawn at once."""


def write_case(folder: Path, scale: float) -> dict[str, str]:
    """Write a synthetic head, larger or smaller, and return its entry."""
    labels = write_head(folder, 0, mm=1 / scale)
    write_labels(folder / "seg.nii.gz", labels, np.diag([1 / scale] * 3 + [1.0]))
    return {"id": folder.name, "image": str(folder / "t1c.nii.gz"), "label": str(folder / "seg.nii.gz")}


def draws(case: Mapping[str, Any], edge: int, number: int) -> dict[str, Callable[[], object]]:
    """Return the ways to draw patches of a case in memory."""
    plain = {key: torch.as_tensor(case[key]) for key in KEYS}
    ready = ClassCentresd()(plain)
    size = (edge,) * 3
    ours = RandPatchesd(KEYS, size=size, num_patches=number, foreground=0.5)
    pos_neg = RandCropByPosNegLabeld(KEYS, "label", size, num_samples=number)
    with_image = RandCropByPosNegLabeld(KEYS, "label", size, num_samples=number, image_key="image")
    classes = RandCropByLabelClassesd(KEYS, "label", size, num_classes=4, num_samples=number)
    return {
        "ours": lambda: ours(ready),
        "PosNegLabel": lambda: pos_neg(dict(plain)),
        "PosNegLabel(image_key)": lambda: with_image(dict(plain)),
        "LabelClasses": lambda: classes(dict(plain)),
    }


def disk(entry: Mapping[str, str], folder: Path) -> tuple[dict[str, Callable[[], object]], dict[str, int]]:
    """Return the ways to draw patches of a case on disk, and the bytes they keep of it."""
    config = load_config(bundled_app() / "app.toml")
    chain = build_case(config)
    crop = RandPatchesd(KEYS, size=(EDGE,) * 3, num_patches=2, foreground=0.5)
    ours = CaseCache([entry], chain, made_by(config.preprocessing, config.training.patch_size), folder / "ours")
    files = [str(Path(entry["image"]).with_name(f"{name}.nii.gz")) for name in SEQUENCES]
    whole = PersistentDataset([{**entry, "image": files}], tutorial(), cache_dir=folder / WHOLE)
    cropped = PersistentDataset([dict(entry)], Compose(chain.transforms), cache_dir=folder / CROPPED)
    calls = {
        "ours": lambda: crop(dict(ours[0])),
        WHOLE: lambda: crop(dict(whole[0])),
        CROPPED: lambda: crop(dict(cropped[0])),
    }
    for call in calls.values():
        call()
    sizes = {name: sum(path.stat().st_size for path in (folder / name).rglob("*") if path.is_file()) for name in calls}
    return calls, sizes


def tutorial() -> Compose:
    """Return the steps that make a case in MONAI's BraTS tutorial, and where its classes are."""
    modes = ("bilinear", "nearest")
    return Compose(
        [
            LoadImaged(KEYS),
            EnsureChannelFirstd(KEYS),
            EnsureTyped(KEYS),
            Orientationd(KEYS, axcodes="RAS", labels=None),
            Spacingd(KEYS, pixdim=(1.0, 1.0, 1.0), mode=modes),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
            ClassCentresd(),
        ]
    )


def measure(rounds: int, scales: tuple[float, ...] = (0.8, 0.9, 1.0)) -> dict[str, Any]:
    """Measure everything; `scales` are those of the volume for the growth of a draw with its size."""
    growth: list[tuple[int, float]] = []
    patches: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for scale in scales:
            entry = write_case(root / f"case-{scale:g}", scale)
            config = load_config(bundled_app() / "app.toml")
            fine = replace(config, preprocessing=replace(config.preprocessing, spacing=(1 / scale,) * 3))
            case = build_case(fine)(dict(entry))
            for edge, number in DRAWS:
                timed = interleaved(draws(case, edge, number), rounds, title=f"draws at {scale:g}")
                name = f"{number} of {edge}^3"
                patches[name] = {
                    "seconds": {way: timing.to_dict() for way, timing in timed.items()},
                    "ratio": {way: t.over(timed["ours"]).to_dict() for way, t in timed.items() if way != "ours"},
                }
                if (edge, number) == DRAWS[0]:
                    growth.append((case["label"].numel(), timed["ours"].median))
        calls, sizes = disk(entry, root)
        read = interleaved(calls, rounds, title="disk")
    return {
        "machine": machine(),
        "draws": patches,
        "draw_voxels": [voxels for voxels, _ in growth],
        "draw_s": [seconds for _, seconds in growth],
        "draw_exponent": exponent(*zip(*growth, strict=True)),
        "disk": {name: timing.to_dict() for name, timing in read.items()},
        "disk_ratio": {name: read[name].over(read["ours"]).to_dict() for name in (WHOLE, CROPPED)},
        "bytes": sizes,
        "bytes_ratio": {name: sizes[name] / sizes["ours"] for name in (WHOLE, CROPPED)},
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="timed rounds (default 15)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse_args()
    if min(args.rounds, args.threads) < 1:
        parser.error("--rounds and --threads must be at least 1")
    torch.set_num_threads(args.threads)
    found = measure(args.rounds)
    if args.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return 0
    lines = []
    for name, draw in found["draws"].items():
        lines.append(f"{name} voxels, of a case in memory, by class")
        for way, timing in draw["seconds"].items():
            told = f"   {_told(draw['ratio'][way])} of ours" if way in draw["ratio"] else ""
            lines.append(f"  {way:<28}{1000 * timing['median_s']:>9.2f} ms{told}")
    lines += [
        f"  the small draw grows with voxels^{found['draw_exponent']:.2f}",
        f"2 patches of {EDGE}^3 of a case on disk",
    ]
    lines += [f"  {name:<28}{1000 * t['median_s']:>9.2f} ms" for name, t in found["disk"].items()]
    lines += [f"  {name:<28}{size / 1e6:>9.1f} MB" for name, size in found["bytes"].items()]
    lines += [
        f"  {name} takes {_told(ratio)} the time of ours, {found['bytes_ratio'][name]:.1f}x the space"
        for name, ratio in found["disk_ratio"].items()
    ]
    where = found["machine"]
    lines += [f"{where['cores']} cores, {where['threads']} thread, {where['cpu']}, torch {where['torch']}"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _told(ratio: Mapping[str, float]) -> str:
    return f"{ratio['median']:.1f}x [{ratio['low']:.1f}, {ratio['high']:.1f}]"


if __name__ == "__main__":
    sys.exit(main())
