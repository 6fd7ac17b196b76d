"""How far a mask changes when the same case comes in another form, or with a sequence less.

Each case is predicted as it is, and again turned to other orientations, resampled to other voxel sizes, with other
intensity scales, offsets and number formats, shaded as by coils that see one side better, and without each of its
sequences. What is printed is the Dice of every such mask with the untouched one, brought to the same grid; with a label
also the Dice with the truth. For other voxel sizes the Dice that the untouched mask has with itself after it went to
those voxels and back is printed too: no mask on them can be expected to agree better. Run as
`python benchmarks/robustness.py CASE [CASE ...] [--kind KIND ...] [--weights FILE] [--json]`; a CASE is a
folder `rarevoxel prepare` understands, or `phantom:SEED` for a synthetic head of the starter's own kind.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from heads import draw_head
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from scipy import ndimage
from tqdm import tqdm

from rarevoxel.bundled import bundled_app
from rarevoxel.cases import SEQUENCES, discover
from rarevoxel.config import load_config
from rarevoxel.evaluation import region_dice
from rarevoxel.inference.engine import Engine
from rarevoxel.phantom.acquisition import shade
from rarevoxel.volumes import read_volume

Array = npt.NDArray[Any]

ORIENTATIONS = ("LPI", "ASR", "SRP", "PIL")
SPACINGS: tuple[tuple[float, float, float], ...] = (
    (0.5, 0.5, 1.0), (0.8, 0.8, 0.8), (1.5, 1.5, 1.5), (2.0, 2.0, 2.0), (1.0, 1.0, 3.0), (1.0, 1.0, 5.5),
)  # fmt: skip
FORMATS: dict[str, Callable[[Array], Array]] = {
    "x 1000": lambda x: x * 1000,
    "x 0.001": lambda x: x * 0.001,
    "+ 500 everywhere": lambda x: x + 500,
    "- 3000 everywhere": lambda x: x - 3000,
    "uint8": lambda x: _integers(x, 255, np.uint8),
    "uint16": lambda x: _integers(x, 65535, np.uint16),
    "int16": lambda x: _integers(x, 4095, np.int16),
    "float64": lambda x: x.astype(np.float64),
}
SHADINGS = (0.05, 0.1, 0.15)
"""Standard deviations of the log of a smooth factor, another one for each sequence; see `shade`."""
KINDS = ("orientation", "spacing", "intensity", "shading", "missing")


@dataclass(frozen=True)
class Loaded:
    """A case in memory: four images on one grid in the orientation RAS, and its label if there is one."""

    name: str
    images: dict[str, npt.NDArray[np.float32]]
    affine: npt.NDArray[np.float64]
    truth: npt.NDArray[np.uint8] | None

    @property
    def spacing(self) -> npt.NDArray[np.float64]:
        """Voxel size in mm."""
        return np.asarray(nib.affines.voxel_sizes(self.affine))


@dataclass(frozen=True)
class Variant:
    """The case in another form, the way back for a mask of it, and the way there where voxels have another size."""

    kind: str
    name: str
    images: Mapping[str, Array]
    affine: npt.NDArray[np.float64]
    back: Callable[[Array], Array]
    there: Callable[[Array], Array] | None = None


def load(name: str) -> Loaded:
    """Read a case folder, or draw the synthetic head of `phantom:SEED` at 1 mm."""
    if name.startswith("phantom:"):
        drawn, labels = draw_head(int(name.partition(":")[2]))
        return Loaded(name, dict(zip(SEQUENCES, drawn, strict=True)), np.eye(4), labels)
    case = discover(Path(name))[0]
    images, affine = {}, np.eye(4)
    for sequence, path in case.sequences.items():
        volume = read_volume(path)
        images[sequence], affine = _turned(np.asarray(volume.array, np.float32), volume.grid.affine, "RAS")
    truth = None
    if case.label:
        values = read_volume(case.label).array
        names = case.scheme.to_client(values, str(case.label)) if case.scheme else values
        truth = _turned(np.asarray(names, np.uint8), read_volume(case.label).grid.affine, "RAS")[0]
    return Loaded(Path(name).name, images, affine, truth)


def variants(case: Loaded) -> Iterator[Variant]:
    """Yield the case in all its forms."""
    for codes in ORIENTATIONS:
        turned = {name: _turned(image, case.affine, codes) for name, image in case.images.items()}
        affine = next(iter(turned.values()))[1]
        yield Variant(
            "orientation",
            codes,
            {name: image for name, (image, _) in turned.items()},
            affine,
            lambda mask, affine=affine: _turned(mask, affine, "RAS")[0],
        )
    for spacing in SPACINGS:
        yield _resampled(case, spacing)
    for name, change in FORMATS.items():
        images = {sequence: change(image) for sequence, image in case.images.items()}
        yield Variant("intensity", name, images, case.affine, lambda mask: mask)
    for strength in SHADINGS:
        rng = np.random.default_rng(1)
        size = (float(case.spacing[0]), float(case.spacing[1]), float(case.spacing[2]))
        images = {name: shade(image, size, rng, strength=strength) for name, image in case.images.items()}
        yield Variant("shading", f"{strength:g}", images, case.affine, lambda mask: mask)
    for sequence in case.images:
        rest = {name: image for name, image in case.images.items() if name != sequence}
        yield Variant("missing", f"without {sequence}", rest, case.affine, lambda mask: mask)


def _integers(image: Array, high: int, kind: type[np.integer[Any]]) -> Array:
    """Whole numbers 1 to `high` inside the brain, clipped at the 99.9th percentile as converters do; 0 outside."""
    inside = image != 0
    low, top = np.percentile(image[inside], (0, 99.9))
    scaled = 1 + (np.clip(image, low, top) - low) / max(top - low, 1e-6) * (high - 1)
    return np.where(inside, np.rint(scaled), 0).astype(kind)


def _turned(array: Array, affine: npt.NDArray[np.float64], codes: str) -> tuple[Array, npt.NDArray[np.float64]]:
    change = ornt_transform(io_orientation(affine), axcodes2ornt(codes))
    return np.ascontiguousarray(apply_orientation(array, change)), affine @ inv_ornt_aff(change, array.shape)


def _resampled(case: Loaded, spacing: tuple[float, float, float]) -> Variant:
    """Averaged over the new voxel where it is larger, interpolated where it is smaller; masks come back by nearest."""
    factor = case.spacing / spacing
    shape = next(iter(case.images.values())).shape
    images = {}
    for name, image in case.images.items():
        sigma = [0.0 if f >= 1 else 0.3 / f for f in factor]
        inside = ndimage.zoom((image != 0).astype(np.float32), factor, order=1, grid_mode=True, mode="nearest") >= 0.5
        smooth = ndimage.gaussian_filter(image, sigma) if max(sigma) else image
        weight = np.maximum(ndimage.gaussian_filter((image != 0).astype(np.float32), sigma), 1e-3)
        values = ndimage.zoom(smooth / weight, factor, order=1, grid_mode=True, mode="nearest")
        images[name] = np.where(inside, np.where(values == 0, 1e-3, values), 0).astype(np.float32)
    new = next(iter(images.values())).shape
    step = np.array(shape) / np.array(new)
    affine = case.affine @ np.diag([*step, 1.0])
    affine[:3, 3] = (case.affine @ [*((step - 1) / 2), 1.0])[:3]

    def back(mask: Array) -> Array:
        index = [
            np.minimum(((np.arange(n) + 0.5) / s).astype(int), m - 1) for n, s, m in zip(shape, step, new, strict=True)
        ]
        return np.asarray(mask[np.ix_(*index)])

    def there(mask: Array) -> Array:
        index = [
            ((np.arange(m) + 0.5) * s).astype(int).clip(0, n - 1) for n, s, m in zip(shape, step, new, strict=True)
        ]
        return np.asarray(mask[np.ix_(*index)])

    return Variant("spacing", " x ".join(f"{s:g}" for s in spacing) + " mm", images, affine, back, there)


def predict(engine: Engine, images: Mapping[str, Array], affine: npt.NDArray[np.float64], folder: Path) -> Array:
    """Write the images as files and predict them as a server would."""
    for old in folder.glob("*.nii"):
        old.unlink()
    for name, image in images.items():
        nib.save(nib.Nifti1Image(image, affine), folder / f"{name}.nii")
    return engine.predict(folder).labels


def measure(engine: Engine, case: Loaded, kinds: Sequence[str]) -> dict[str, Any]:
    """Predict a case in its forms of some kinds; returns the Dice of each with the untouched mask, and with the truth.

    Args:
        engine: the weights.
        case: as it is.
        kinds: of `KINDS`.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        plain = predict(engine, case.images, case.affine, folder)
        result: dict[str, Any] = {"truth": region_dice(plain, case.truth) if case.truth is not None else None}
        result["variants"] = []
        chosen = (variant for variant in variants(case) if variant.kind in kinds)
        for variant in tqdm(chosen, desc=case.name, disable=None):
            mask = variant.back(predict(engine, variant.images, variant.affine, folder))
            truth = region_dice(mask, case.truth) if case.truth is not None else None
            agreement = region_dice(mask, plain)
            grid = region_dice(variant.back(variant.there(plain)), plain) if variant.there else None
            told = {"kind": variant.kind, "name": variant.name, "agreement": agreement, "truth": truth, "grid": grid}
            result["variants"].append(told)
    return result


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", metavar="CASE", help="case folder, or phantom:SEED")
    parser.add_argument("--weights", type=Path, help="weight file (default: the starter)")
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=KINDS, help="what is changed (default: all)")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    args = parser.parse_args()
    app = bundled_app()
    engine = Engine(load_config(app / "app.toml"), [args.weights or app / "starter" / "starter.pt"])
    results = {name: measure(engine, load(name), args.kind) for name in args.cases}
    if args.json:
        sys.stdout.write(json.dumps(results, indent=1) + "\n")
        return 0
    for name, result in results.items():
        truth = result["truth"]
        told = "  ".join(f"{k} {v:.3f}" for k, v in truth.items()) if truth else "no label"
        sys.stdout.write(f"{name}: Dice with the truth, untouched: {told}\n")
        for entry in result["variants"]:
            same = "  ".join(f"{k} {v:.3f}" for k, v in entry["agreement"].items())
            fall = f"   WT against truth {entry['truth']['WT'] - truth['WT']:+.3f}" if truth else ""
            grid = f"   the grid alone: WT {entry['grid']['WT']:.3f}" if entry["grid"] else ""
            sys.stdout.write(f"  {entry['kind']:<12}{entry['name']:<20}{same}{fall}{grid}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
