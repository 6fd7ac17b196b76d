"""How synthetic heads differ from real scans in what a network sees: borders, contrast and noise, in z-scores.

For real labelled cases and for synthetic heads alike: the contrast of disease against what lies 3 to 7 mm outside, by
the distance to the border of its label (negative inside) and by the size of the piece, of each sequence; and the
noise, the robust standard deviation of what a Gaussian of one voxel takes away, within brain at least 4 mm from its
surface and 8 mm from disease. Medians over pieces, over cases for noise. Enhancing tumour and core are left out of the
contrasts. Run as `python benchmarks/realism.py CASE [CASE ...] [--heads 12] [--patient glioma white_matter] [--json]`;
a CASE is a folder `rarevoxel prepare` understands.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from heads import HEAD
from robustness import load
from scipy import ndimage
from tqdm import tqdm

from rarevoxel.bundled import bundled_app
from rarevoxel.cases import SEQUENCES
from rarevoxel.config import load_config
from rarevoxel.labels import CLIENT_LABELS, EDEMA
from rarevoxel.phantom.examine import examine
from rarevoxel.phantom.scene import PATIENTS, draw_scene
from rarevoxel.transforms.normalize import NormalizeBrain

Array = npt.NDArray[Any]
Pieces = dict[str, list[Array]]

SIZES: dict[str, tuple[float, float]] = {"15-40": (15, 40), "40-600": (40, 600), "more": (600, np.inf)}
"""Voxels of a piece, of 1 mm^3."""

STEPS = (-4, -3, -2, -1, 1, 2, 3)
"""Distances to the border in mm, half a mm to both sides."""

SEED = 900
FAR_MM, DEEP_MM = 8, 4


def contrasts(images: Array, labels: Array) -> Pieces:
    """Return for each size the contrasts `(sequences, steps)` of its pieces.

    Args:
        images: z-scores `(4, H, W, D)`; exactly 0 outside the brain.
        labels: `CLIENT_LABELS` `(H, W, D)`, voxels of 1 mm.
    """
    pieces, count = ndimage.label(labels > 0, np.ones((3, 3, 3)))
    found: Pieces = {size: [] for size in SIZES}
    if count == 0:
        return found
    outside, nearest = ndimage.distance_transform_edt(pieces == 0, return_indices=True)
    signed = outside - ndimage.distance_transform_edt(pieces > 0)
    owner, shown = pieces[tuple(nearest)], (labels == 0) | (labels == CLIENT_LABELS[EDEMA])
    voxels = np.bincount(pieces.ravel())
    for number, box in enumerate(ndimage.find_objects(pieces), start=1):
        size = next((name for name, (low, high) in SIZES.items() if low <= voxels[number] < high), None)
        if size is None:
            continue
        wide = tuple(slice(max(0, edge.start - 8), edge.stop + 8) for edge in box)
        part = images[(slice(None), *wide)]
        own = (owner[wide] == number) & shown[wide] & (part != 0).all(axis=0)
        distance = signed[wide]
        around = own & (distance > 2.5) & (distance < 7)
        if np.count_nonzero(around) < 10:
            continue
        rows = []
        for image in part:
            rings = [image[own & (np.abs(distance - step) <= 0.5)] for step in STEPS]
            rows.append([float(ring.mean() - np.median(image[around])) if ring.size else np.nan for ring in rings])
        found[size].append(np.array(rows))
    return found


def noise(images: Array, labels: Array) -> Array:
    """Return the noise of each sequence, see the module."""
    brain = (images != 0).all(axis=0)
    deep = ndimage.distance_transform_edt(brain) > DEEP_MM
    if labels.any():
        deep &= ndimage.distance_transform_edt(labels == 0) > FAR_MM
    spread = []
    for image in images:
        rest = (image - ndimage.gaussian_filter(image, 1.0))[deep]
        spread.append(np.subtract(*np.percentile(rest, (75, 25))) / 1.349)
    return np.array(spread)


def measure(cases: Iterable[tuple[Array, Array]]) -> dict[str, Any]:
    """Return medians over cases of images as stored `(4, H, W, D)` and labels."""
    low, high = load_config(bundled_app() / "app.toml").preprocessing.percentiles
    normalize = NormalizeBrain((low, high))
    everything: Pieces = {size: [] for size in SIZES}
    noises = []
    for images, labels in cases:
        scored = normalize(torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))).numpy()
        noises.append(noise(scored, labels))
        for size, found in contrasts(scored, labels).items():
            everything[size] += found
    with np.errstate(all="ignore"):
        told = {
            size: {"pieces": len(found), **_by_sequence(np.nanmedian(np.stack(found), axis=0))}
            for size, found in everything.items()
            if found
        }
    return {"cases": len(noises), "noise": _by_sequence(np.median(noises, axis=0)), "contrast": told}


def heads(count: int, patients: Sequence[str]) -> Iterable[tuple[Array, Array]]:
    """Draw synthetic heads as the starter is trained on, all sequences present."""
    for number in tqdm(range(count), desc="heads", unit="head", disable=None):
        rng = np.random.default_rng(SEED + number)
        scene = draw_scene(rng, HEAD, (1.0, 1.0, 1.0), patients[number % len(patients)])
        images, shown = examine(scene, rng, missing=(), strength=float(rng.uniform(0.1, 1.0)))
        yield images, shown.labels


def _real(names: Sequence[str]) -> Iterable[tuple[Array, Array]]:
    for name in names:
        case = load(name)
        lacking = [sequence for sequence in SEQUENCES if sequence not in case.images]
        if case.truth is None or lacking:
            sys.exit(
                f"error: {name} lacks {', '.join(lacking) or 'a label'}; name cases with four sequences and a label"
            )
        yield np.stack([case.images[sequence] for sequence in SEQUENCES]), case.truth


def _by_sequence(values: Array) -> dict[str, Any]:
    return dict(zip(SEQUENCES, np.round(values, 2).tolist(), strict=True))


def _print(name: str, told: dict[str, Any]) -> None:
    print(f"{name}: {told['cases']} cases; noise", "  ".join(f"{k} {v:.2f}" for k, v in told["noise"].items()))
    for size, rows in told["contrast"].items():
        print(f"  pieces of {size} voxels: {rows['pieces']}; mm from the border", *(f"{step:5d}" for step in STEPS))
        for sequence in SEQUENCES:
            print(f"    {sequence:>38}", *(f"{value:5.2f}" for value in rows[sequence]))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", metavar="CASE")
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--patient", nargs="+", choices=sorted(PATIENTS), default=["glioma", "white_matter"])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    told = {"real": measure(_real(args.cases)), "synthetic": measure(heads(args.heads, args.patient))}
    if args.json:
        print(json.dumps(told))
    else:
        for name, found in told.items():
            _print(name, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
