"""The self-check: what a mask's own probabilities say about it, and whether a tumour was found at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rarevoxel.inference.pieces import Dropped, Labels
from rarevoxel.labels import REGIONS, labels_to_regions

Mask = npt.NDArray[np.bool_]
Probability = npt.NDArray[np.float32]

SMOOTH_MM = 3.0
"""Edge of the cube over which the probability of an empty region is averaged: one voxel alone is no structure."""

UNCERTAIN = 0.5
"""A region is told as uncertain below this confidence."""


def expected_dice(probability: Probability, mask: Mask) -> float:
    """Return the Dice a mask can expect if its probabilities are right: `2 sum(p m) / (sum(p) + sum(m))`.

    The true mask is taken as drawn voxel by voxel with probability p; the ratio of the expectations stands for the
    expectation of the ratio. It is as good as the probabilities are calibrated: an overconfident network is
    overconfident here too.

    Args:
        probability: p, any shape, in [0, 1].
        mask: m, the same shape, not empty.

    Returns:
        0 to 1; 1 where p is 1 in the mask and 0 outside.

    References:
        B. L. C. Borges, B. M. Pacheco, D. Silva, Soft Dice Confidence, arXiv:2402.10665. As there, for one region.

    Example:
        >>> expected_dice(np.array([0.75, 0.5, 0.25], np.float32), np.array([True, True, False]))
        0.7142857142857143
    """
    inside = float(probability[mask].sum(dtype=np.float64))
    return 2.0 * inside / (float(probability.sum(dtype=np.float64)) + np.count_nonzero(mask))


def smoothed(probability: Probability, spacing: Sequence[float]) -> Probability:
    """Return the mean of a probability `(H, W, D)` over a cube of about `SMOOTH_MM` around every voxel.

    The cube has an odd number of voxels along each axis, at least one; beyond the border the outermost voxels go on.

    Args:
        probability: in [0, 1].
        spacing: voxel size in mm.
    """
    size = [1 + 2 * max(0, round((SMOOTH_MM / s - 1) / 2)) for s in spacing]
    means: Probability = ndimage.uniform_filter(probability, size, mode="nearest")
    return means


def highest(probability: Probability, spacing: Sequence[float]) -> float:
    """Return the highest of `smoothed`, in [0, 1].

    Args:
        probability: `(H, W, D)` in [0, 1].
        spacing: voxel size in mm.
    """
    return min(1.0, max(0.0, float(smoothed(probability, spacing).max(initial=0.0))))


def region_confidence(
    probabilities: Probability, regions: Mapping[str, Mask], spacing: Sequence[float]
) -> dict[str, float]:
    """Return per region how far its own probabilities support the decision, in [0, 1].

    For a region with voxels it is `expected_dice`; for an empty one `1 - highest(p)`, the chance that nothing was
    overlooked where the network came closest to seeing something.

    Args:
        probabilities: `(R, H, W, D)`, in the order of `regions`.
        regions: name -> decided mask `(H, W, D)`.
        spacing: voxel size in mm.
    """
    found = {}
    for (name, mask), probability in zip(regions.items(), probabilities, strict=True):
        value = expected_dice(probability, mask) if mask.any() else 1.0 - highest(probability, spacing)
        found[name] = round(value, 4)
    return found


def region_masks(labels: Labels) -> dict[str, Mask]:
    """Return region -> mask of a predicted label map; ET lies within TC, and TC within WT."""
    return dict(zip(REGIONS, labels_to_regions(labels), strict=True))


def tell(confidence: Mapping[str, float], highest: float, found: bool, dropped: Dropped) -> tuple[str, ...]:
    """Return what the self-check noticed, a sentence each.

    Args:
        confidence: from `region_confidence`.
        highest: highest probability of any voxel to be tumour.
        found: whether the mask has any voxel.
        dropped: what `drop_pieces` left out.
    """
    nothing = [] if found else [f"no tumour found (WT 0.0 ml, highest probability {highest:.2f})"]
    unsure = [
        f"{name} is uncertain (confidence {value:.2f})" for name, value in confidence.items() if value < UNCERTAIN
    ]
    return (*nothing, *dropped.sentences(), *unsure)
