"""Pieces of a predicted tumour that are left out: too small to be meant, or nowhere likely enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

PEAK = "peak"
"""What weights call their peak in the plain data stored with them, see `drop_pieces`."""

Labels = npt.NDArray[np.uint8]

_TOUCHING = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class Dropped:
    """Volumes of what was left out, mm^3.

    Attributes:
        small: of pieces below `smallest_mm3`.
        faint: of other pieces in which no probability reaches `peak`.
        smallest_mm3: see `drop_pieces`.
        peak: see `drop_pieces`.
    """

    small: tuple[float, ...] = ()
    faint: tuple[float, ...] = ()
    smallest_mm3: float = 0.0
    peak: float = 0.0

    def sentences(self) -> list[str]:
        """Return what was left out and why, a sentence each."""
        reasons = (
            (self.small, f"below {self.smallest_mm3:g} mm3"),
            (self.faint, f"nowhere as likely as {self.peak:g}"),
        )
        return [
            f"{_pieces(left)} of tumour {why} left out ({sum(left) / 1000:.3g} ml in all)"
            for left, why in reasons
            if left
        ]


def drop_pieces(
    labels: Labels,
    probabilities: npt.NDArray[np.float32],
    voxel_mm3: float,
    *,
    smallest_mm3: float = 0.0,
    peak: float = 0.0,
) -> tuple[Labels, Dropped]:
    """Take pieces of tumour out of a label map that are small, or faint all over.

    A piece is a 26-connected component of all tumour labels together, so what is inside a larger tumour stays. With a
    peak the decision has two thresholds (hysteresis): how far a piece reaches is decided by the low one that made the
    labels, whether it is one by the high one. A lesion is certain somewhere and pale at its border; healthy tissue that
    resembles one is pale all over.

    Args:
        labels: `(H, W, D)`, not changed.
        probabilities: of the regions, `(R, H, W, D)` in [0, 1].
        voxel_mm3: volume of a voxel.
        smallest_mm3: smaller pieces go; with 0 none does.
        peak: pieces in which every probability is lower go; with 0 none does.

    Returns:
        The labels, and what was left out.

    References:
        J. Canny, A computational approach to edge detection, IEEE TPAMI 8(6), 1986, section VII: hysteresis.

    Example:
        >>> labels = np.array([2, 2, 0, 2], np.uint8).reshape(4, 1, 1)
        >>> whole = np.array([0.95, 0.5, 0.1, 0.6], np.float32).reshape(1, 4, 1, 1)
        >>> kept, dropped = drop_pieces(labels, whole, 1.0, peak=0.9)
        >>> kept.ravel(), dropped.faint
        (array([2, 2, 0, 0], dtype=uint8), (1.0,))
    """
    if smallest_mm3 <= 0 and peak <= 0:
        return labels, Dropped()
    where = labels != 0
    pieces, count = ndimage.label(where, structure=_TOUCHING)
    inside = pieces[where]
    volumes = np.bincount(inside, minlength=count + 1) * voxel_mm3
    certain = np.zeros(count + 1, bool)
    certain[inside[probabilities[:, where].max(axis=0, initial=0.0) >= peak]] = True
    small = volumes < smallest_mm3
    faint = ~certain & ~small
    small[0] = faint[0] = False
    kept = np.where((small | faint)[pieces], np.uint8(0), labels)
    return kept, Dropped(tuple(volumes[small].tolist()), tuple(volumes[faint].tolist()), smallest_mm3, peak)


def whole_mask(whole: npt.NDArray[np.float32], threshold: float, peak: float) -> npt.NDArray[np.bool_]:
    """Return the mask of whole tumour by two thresholds, of its probability `(H, W, D)` alone; see `drop_pieces`.

    Args:
        whole: probability in [0, 1].
        threshold: from which a voxel belongs to a piece.
        peak: what a piece must reach somewhere.
    """
    labels = (whole >= threshold).astype(np.uint8)
    kept: npt.NDArray[np.bool_] = drop_pieces(labels, whole[None], 1.0, peak=peak)[0] != 0
    return kept


def _pieces(left: tuple[float, ...]) -> str:
    return "1 piece" if len(left) == 1 else f"{len(left)} pieces"
