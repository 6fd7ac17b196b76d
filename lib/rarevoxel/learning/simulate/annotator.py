"""The simulated annotator: knows the truth, may overlook what is small, and does not correct what is nearly right."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rarevoxel.comparison.data import Entry
from rarevoxel.labels import labels_to_regions
from rarevoxel.volumes import read_label_volume, write_labels

SMALL_ML = 0.5
"""Lesions below this volume may be overlooked."""

_TOUCHING = np.ones((3, 3, 3), dtype=bool)

Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Annotator:
    """Labels a case with its true label, but for small lesions that are left out with a chance.

    What is overlooked in a case depends on seed and case alone, so all arms get the same label of a case.

    Args:
        noise: chance of every lesion (component of WT) below `SMALL_ML` to be left out, in [0, 1].
        seed: of the draws.
    """

    noise: float = 0.0
    seed: int = 0

    def label(self, case: str, truth: Labels, spacing: tuple[float, float, float]) -> Labels:
        """Return the label the annotator gives.

        Args:
            case: its id.
            truth: uint8 `CLIENT_LABELS`, `(H, W, D)`; left as it is.
            spacing: mm.
        """
        if not self.noise:
            return truth
        found, count = ndimage.label(labels_to_regions(truth, ["WT"])[0], structure=_TOUCHING)
        sizes = np.bincount(found.ravel(), minlength=count + 1)[1:] * math.prod(spacing) / 1000
        salt = int.from_bytes(hashlib.sha256(case.encode()).digest()[:4], "big")
        missed = (np.random.default_rng([self.seed, salt]).random(count) < self.noise) & (sizes < SMALL_ML)
        return np.where(np.concatenate(([False], missed))[found], np.uint8(0), truth)

    def file(self, entry: Entry, folder: Path) -> Path:
        """Return the file of the label the annotator gives, written when it is not the true one.

        Args:
            entry: the case.
            folder: where such labels go.

        Raises:
            InputError: if the label cannot be read.
            OSError: if the file cannot be written.
        """
        if not self.noise:
            return Path(entry.label)
        path = folder / "labels" / f"{entry.id}-{self.seed}-{self.noise:g}.nii.gz"
        if not path.is_file():
            volume = read_label_volume(Path(entry.label))
            write_labels(path, self.label(entry.id, volume.array, volume.grid.spacing), volume.grid.affine)
        return path


def tolerated(proposal: Labels, given: Labels) -> Labels:
    """Return the label at which an annotator stops correcting: the given one, but for borders nearly right.

    Two readers do not agree to the voxel, and nobody redraws a border for less. A wrong voxel stays as proposed if the
    label proposed for it is the given one of a voxel that shares a face with it: the border is then one voxel off.
    Lesions (components of WT before or after) of which nothing was proposed, or nothing is true, are put right whole.

    Args:
        proposal: uint8 `CLIENT_LABELS`, `(H, W, D)`.
        given: what it is corrected to, the same shape.
    """
    old, new = (labels_to_regions(labels, ["WT"])[0] for labels in (proposal, given))
    found, count = ndimage.label(old | new, structure=_TOUCHING)
    before, after = (np.bincount(found[mask], minlength=count + 1) > 0 for mask in (old, new))
    near = np.zeros(given.shape, dtype=bool)
    padded = np.pad(given, 1, mode="edge")
    inside = slice(1, -1)
    for axis in range(3):
        for shifted in (slice(0, -2), slice(2, None)):
            near |= padded[tuple(shifted if axis == at else inside for at in range(3))] == proposal
    kept: Labels = np.where(near & (before & after)[found], proposal, given)
    return kept
