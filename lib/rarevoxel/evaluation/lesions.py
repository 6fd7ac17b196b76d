"""Lesion by lesion: how many were found and how many predicted ones are true, by size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from rarevoxel.errors import InputError, RequestError
from rarevoxel.evaluation.checks import Mask, bounding_box, check_mask, check_masks, check_spacing

SIZE_BANDS: dict[str, tuple[float, float]] = {
    "<0.1 ml": (0.0, 0.1),
    "0.1-0.5 ml": (0.1, 0.5),
    "0.5-2 ml": (0.5, 2.0),
    ">=2 ml": (2.0, math.inf),
}
"""Name -> volumes in ml that belong to the band, the lower bound included, the upper one not."""

BandCounts = tuple[int, int, int, int]
"""True lesions, those found, predicted lesions, those that are true."""

_NONE: BandCounts = (0, 0, 0, 0)
_TOUCHING = np.ones((3, 3, 3), dtype=bool)
# A spacing out of a float32 header makes a lesion of 0.1 ml one of 0.0999999.
_EDGES_MM3 = 1000 * np.array([high for _, high in SIZE_BANDS.values()][:-1]) * (1 - 1e-6)


@dataclass(frozen=True)
class LesionCounts:
    """Lesions counted by size; counts of several cases are added before rates are taken.

    Args:
        bands: for every band of `SIZE_BANDS` (truth, found, predicted, true), see `match_lesions`.

    Raises:
        InputError: if there is not one entry per band, or not 0 <= found <= truth and 0 <= true <= predicted.

    Example:
        >>> one = LesionCounts(((4, 1, 2, 1), (0, 0, 0, 0), (1, 1, 1, 1), (0, 0, 0, 0)))
        >>> (one + one).recall(), one.recall("<0.1 ml")
        (0.4, 0.25)
    """

    bands: tuple[BandCounts, ...] = (_NONE,) * len(SIZE_BANDS)

    def __post_init__(self) -> None:
        if len(self.bands) != len(SIZE_BANDS):
            raise InputError(f"lesion counts of {len(self.bands)} bands, expected those of {list(SIZE_BANDS)}")
        for name, (truth, found, predicted, true) in zip(SIZE_BANDS, self.bands, strict=True):
            if not (0 <= found <= truth and 0 <= true <= predicted):
                msg = f"lesion counts of band {name!r}: {found} found of {truth}, {true} true of {predicted} predicted"
                raise InputError(f"{msg}; expected 0 <= found <= truth and 0 <= true <= predicted")

    def __add__(self, other: LesionCounts) -> LesionCounts:
        if not isinstance(other, LesionCounts):
            return NotImplemented
        pairs = zip(self.bands, other.bands, strict=True)
        return LesionCounts(tuple((a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]) for a, b in pairs))

    @property
    def total(self) -> BandCounts:
        """(truth, found, predicted, true) over all sizes."""
        truth, found, predicted, true = (sum(column) for column in zip(*self.bands, strict=True))
        return truth, found, predicted, true

    def of(self, band: str | None = None) -> BandCounts:
        """Return (truth, found, predicted, true) of a band, or of all with None.

        Raises:
            RequestError: if there is no such band.
        """
        if band is None:
            return self.total
        if band not in SIZE_BANDS:
            raise RequestError(f"unknown size band {band!r}, expected one of {list(SIZE_BANDS)}")
        return self.bands[list(SIZE_BANDS).index(band)]

    def recall(self, band: str | None = None) -> float:
        """Return found / truth, of the true lesions of that size; NaN without one."""
        truth, found, _, _ = self.of(band)
        return found / truth if truth else math.nan

    def precision(self, band: str | None = None) -> float:
        """Return true / predicted, of the predicted lesions of that size; NaN without one."""
        _, _, predicted, true = self.of(band)
        return true / predicted if predicted else math.nan

    def f1(self, band: str | None = None) -> float:
        """Return `2 P R / (P + R)`; NaN without true and predicted lesions, 0 if only one kind is missing."""
        return lesion_f1(self.of(band))

    def to_dict(self) -> dict[str, list[int]]:
        """Return a JSON-able record: band -> [truth, found, predicted, true]."""
        return {name: list(counts) for name, counts in zip(SIZE_BANDS, self.bands, strict=True)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> LesionCounts:
        """Return the counts of a record of `to_dict`.

        Raises:
            InputError: if the bands are others, or an entry is not four possible counts.
        """
        if set(record) != set(SIZE_BANDS):
            msg = f"lesion record has bands {list(record)}, expected {list(SIZE_BANDS)}"
            raise InputError(msg, "score this case again")
        try:
            return cls(tuple(_four(record[name]) for name in SIZE_BANDS))
        except (TypeError, ValueError) as error:
            msg = f"lesion record cannot be read: {error}; expected four whole numbers in every band"
            raise InputError(msg, "score this case again") from error


class LesionMatcher:
    """The lesions of one truth mask, found once and matched against any number of predictions.

    Args:
        truth: boolean `(H, W, D)`.
        spacing: mm along the three axes.
        overlap: see `match_lesions`.
        minimum_voxels: see `match_lesions`.

    Raises:
        InputError: if the mask or the spacing is wrong.
        RequestError: if `overlap` is not in (0, 1], or `minimum_voxels` is below 1.
    """

    def __init__(self, truth: Mask, spacing: npt.ArrayLike, overlap: float = 0.1, minimum_voxels: int = 1) -> None:
        if not 0 < overlap <= 1:
            raise RequestError(f"overlap ({overlap}) must be in (0, 1]", "it is the fraction of a lesion's voxels")
        if minimum_voxels < 1:
            raise RequestError(f"minimum_voxels ({minimum_voxels}) must be >= 1", "1 keeps every predicted lesion")
        self.truth = check_mask("truth", truth)
        self.voxel_mm3 = math.prod(check_spacing(spacing))
        # 0.07 * 100 is a little more than 7.
        self.overlap = overlap * (1 - 1e-9)
        self.minimum_voxels = minimum_voxels
        self.labels, self.sizes = _components(self.truth)

    def match(self, prediction: Mask) -> LesionCounts:
        """Return the counts of a boolean prediction `(H, W, D)`.

        Raises:
            InputError: if it is not a boolean mask of the truth's shape.
        """
        prediction, _ = check_masks(prediction, self.truth)
        labels, sizes = _components(prediction)
        if self.minimum_voxels > 1:
            kept = sizes >= self.minimum_voxels
            prediction = np.concatenate(([False], kept))[labels]
        else:
            kept = np.ones(sizes.size, dtype=bool)
        found = np.bincount(self.labels[prediction], minlength=self.sizes.size + 1)[1:] >= self.overlap * self.sizes
        true = np.bincount(labels[self.truth], minlength=sizes.size + 1)[1:] >= self.overlap * sizes
        truth_band, predicted_band = band_of(self.sizes * self.voxel_mm3), band_of(sizes * self.voxel_mm3)
        columns = (truth_band, truth_band[found], predicted_band[kept], predicted_band[kept & true])
        table = np.stack([np.bincount(column, minlength=len(SIZE_BANDS)) for column in columns], axis=1)
        return LesionCounts(tuple(_four(row) for row in table.tolist()))


def band_of(volumes: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Return the position in `SIZE_BANDS` of volumes in mm^3, of their shape.

    Example:
        >>> band_of([50, 100, 3000]).tolist()
        [0, 1, 3]
    """
    return np.searchsorted(_EDGES_MM3, np.asarray(volumes, dtype=np.float64), side="right")


def match_lesions(
    prediction: Mask, truth: Mask, spacing: npt.ArrayLike, overlap: float = 0.1, minimum_voxels: int = 1
) -> LesionCounts:
    """Count the lesions that were found and the predicted ones that are true.

    A lesion is a component of voxels that touch over faces, edges or corners (26 neighbours). A true lesion is *found*
    if at least `overlap` of its voxels are predicted; a predicted lesion is *true* if at least `overlap` of its voxels
    lie in the truth. The two are asked apart, so one prediction that covers two lesions finds both, and a lesion
    predicted in pieces makes every piece true; nothing is matched one to one.

    Args:
        prediction: boolean `(H, W, D)`; empty is allowed.
        truth: the same shape; empty is allowed.
        spacing: mm along the three axes.
        overlap: fraction in (0, 1].
        minimum_voxels: predicted components of fewer voxels are taken out first: they find nothing and are no false
            alarm. The truth is never filtered.

    Returns:
        Counts by `SIZE_BANDS`, true lesions by their own volume and predicted ones by theirs.

    Raises:
        InputError: if a mask or the spacing is wrong.
        RequestError: if `overlap` or `minimum_voxels` is out of range.

    References:
        A. W. Moawad et al., 2023, The brain tumor segmentation - metastases challenge, arXiv:2306.00838 (lesion-wise
        scores). Ours does not dilate the lesions first, and asks for a stated overlap.

    Example:
        >>> truth = np.zeros((8, 8, 8), dtype=bool)
        >>> truth[:2], truth[5, 5, 5] = True, True
        >>> match_lesions(truth & (np.arange(8)[:, None, None] < 5), truth, (1, 1, 1)).recall()
        0.5
    """
    prediction, truth = check_masks(prediction, truth)
    box = bounding_box(prediction | truth) or np.s_[:1, :1, :1]
    return LesionMatcher(truth[box], spacing, overlap, minimum_voxels).match(prediction[box])


def lesion_f1(counts: Sequence[float] | npt.NDArray[np.float64]) -> float:
    """Return the lesion F1 of (truth, found, predicted, true); see `LesionCounts.f1`.

    Example:
        >>> lesion_f1((4, 2, 1, 1))
        0.6666666666666666
    """
    truth, found, predicted, true = (float(value) for value in counts)
    if not truth and not predicted:
        return math.nan
    if not found or not true:
        return 0.0
    recall, precision = found / truth, true / predicted
    return 2 * precision * recall / (precision + recall)


def _components(mask: Mask) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return the component of every voxel (0 for none) and the sizes in voxels of components 1, 2, ..."""
    labels, n = ndimage.label(mask, structure=_TOUCHING)
    return labels, np.bincount(labels[mask], minlength=n + 1)[1:]


def _four(values: Any) -> BandCounts:
    truth, found, predicted, true = (int(value) for value in values)
    return truth, found, predicted, true
