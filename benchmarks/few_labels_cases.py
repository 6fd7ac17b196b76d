"""The cases of the few-label study: a style the starter never saw, and examinations of its own kind.

Unseen are the phantoms of `make_phantom`. They share the outer shape of the head and the generator of smooth noise with
what the starter learned from, and nothing else: their anatomy, their table of contrasts (here spread four times as
widely as usual), the way their tumours grow, and blur, noise and bias field are other code with other numbers. Of its
own kind are scenes of `draw_scene` seen by `examine`, as in its training, but of seeds it never met.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from rarevoxel.cases import SEQUENCES
from rarevoxel.phantom import PhantomSpec, make_phantom
from rarevoxel.phantom.examine import examine
from rarevoxel.phantom.scene import PATIENTS, draw_scene
from rarevoxel.phantom.write import to_integers
from rarevoxel.volumes import write_volume

SPACING = (2.0, 2.0, 2.0)
SEVERITY, SPREAD = "moderate", 0.12
UNSEEN_SEED, OWN_SEED = 710_000, 720_000
KINDS = tuple(name for name in PATIENTS if name != "healthy")
LABEL = "seg.nii.gz"


@dataclass(frozen=True)
class Sides:
    """How many cases of what: folders of each side never share a seed.

    Args:
        train: unseen style, to learn from.
        test: unseen style, to judge.
        tune: unseen style, to choose the anchor by; another `train_tune` cases are learned from for that.
        own: the starter's own kind, to judge what was forgotten.
        own_tune: the same, to choose the anchor by.
    """

    train: int = 16
    test: int = 12
    tune: int = 4
    train_tune: int = 4
    own: int = 8
    own_tune: int = 4


def write_cases(out: Path, sides: Sides, size: tuple[int, int, int]) -> None:
    """Write the cases that are not there yet, `OUT/<side>/<side>-01/{t1n,t1c,t2w,t2f,seg}.nii.gz` and so on."""
    jobs = [(side, number) for side, count in vars(sides).items() for number in range(1, count + 1)]
    for side, number in tqdm(jobs, desc="cases", disable=None):
        folder = out / side / f"{side}-{number:02d}"
        if not (folder / LABEL).is_file():
            seed = 1000 * list(vars(sides)).index(side) + number
            _write(folder, own_case(seed, number, size) if side.startswith("own") else unseen_case(seed, size))


def case_folders(out: Path, side: str, count: int) -> list[Path]:
    """Return the case folders of a side."""
    return [out / side / f"{side}-{number:02d}" for number in range(1, count + 1)]


def unseen_case(seed: int, size: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return images `(4, H, W, D)` and labels of the style that the starter never saw."""
    phantom = make_phantom(UNSEEN_SEED + seed, PhantomSpec(size, SPACING, severity=SEVERITY, spread=SPREAD))
    return phantom.images, phantom.labels


def own_case(seed: int, number: int, size: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return images `(4, H, W, D)` and labels of an examination of the starter's own kind, no sequence missing."""
    rng = np.random.default_rng([OWN_SEED, seed])
    scene = draw_scene(rng, size, SPACING, KINDS[(number - 1) % len(KINDS)])
    images, shown = examine(scene, rng, missing=())
    return images, shown.labels


def _write(folder: Path, case: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = case
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * s for n, s in zip(labels.shape, SPACING, strict=True)]
    for name, image in zip(SEQUENCES, to_integers(images), strict=True):
        write_volume(folder / f"{name}.nii.gz", image, affine)
    write_volume(folder / LABEL, labels.astype(np.uint8), affine)  # last: a case with a label is whole
