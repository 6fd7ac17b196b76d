"""Whether a probability of 0.7 is right seven times in ten."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import InputError, RequestError
from rarevoxel.evaluation.checks import Mask, check_probability


@dataclass(frozen=True)
class CalibrationBins:
    """Voxels counted by their probability, in n bins `(i / n, (i + 1) / n]`, the first with 0; can be added.

    Almost all voxels of a volume are background that no method doubts, and ECE and Brier score are means over voxels:
    give a mask (the brain), and compare them only between methods on the same voxels.

    Args:
        count: voxels per bin.
        probability: sum of their probabilities.
        positive: how many of them are true.
        squared_error: sum of `(p - t)^2` over all voxels.

    Raises:
        InputError: if the bins are not as many each, or none.

    References:
        C. Guo et al., 2017, On calibration of modern neural networks, arXiv:1706.04599 (ECE). There of the most
        likely class; here of one region's probability against its mask, sums kept so that cases can be pooled.

    Example:
        >>> bins = CalibrationBins.from_probability(np.array([0.9, 0.9, 0.2]), np.array([True, False, False]))
        >>> round(bins.ece, 3), round(bins.brier, 3)
        (0.333, 0.287)
    """

    count: tuple[int, ...]
    probability: tuple[float, ...]
    positive: tuple[int, ...]
    squared_error: float

    def __post_init__(self) -> None:
        sizes = [len(self.count), len(self.probability), len(self.positive)]
        if not sizes[0] or len(set(sizes)) != 1:
            raise InputError(f"calibration bins: {sizes} counts, probabilities and positives, expected as many of each")

    @classmethod
    def from_probability(
        cls, probability: npt.NDArray[Any], truth: Mask, mask: Mask | None = None, bins: int = 15
    ) -> CalibrationBins:
        """Return the bins of one volume.

        Args:
            probability: floating, in [0, 1], any shape.
            truth: boolean, the same shape.
            mask: boolean, the same shape: the voxels that count; None counts all. An empty one gives NaN scores.
            bins: how many, >= 1.

        Raises:
            InputError: if an array has another shape or type, or a probability is outside [0, 1].
            RequestError: if `bins` is below 1.
        """
        if bins < 1:
            raise RequestError(f"bins ({bins}) must be >= 1")
        t = np.asarray(truth)
        p = check_probability(probability, t, t.ndim)
        for name, array in (("truth", t), ("mask", t if mask is None else np.asarray(mask))):
            if array.dtype != np.bool_ or array.shape != p.shape:
                raise InputError(f"{name} of shape {array.shape}, {array.dtype} found, expected boolean, {p.shape}")
        chosen = (...,) if mask is None else mask
        p, t = p[chosen].ravel().astype(np.float64), t[chosen].ravel()
        index = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], p)
        difference: npt.NDArray[np.float64] = p - t
        return cls(
            tuple(np.bincount(index, minlength=bins).tolist()),
            tuple(np.bincount(index, weights=p, minlength=bins).tolist()),
            tuple(np.bincount(index[t], minlength=bins).tolist()),
            float(difference @ difference),
        )

    def __add__(self, other: CalibrationBins) -> CalibrationBins:
        if not isinstance(other, CalibrationBins):
            return NotImplemented
        if len(self.count) != len(other.count):
            msg = f"calibration of {len(self.count)} and of {len(other.count)} bins cannot be added"
            raise InputError(msg, "score all cases with as many bins")
        return CalibrationBins(
            tuple(a + b for a, b in zip(self.count, other.count, strict=True)),
            tuple(a + b for a, b in zip(self.probability, other.probability, strict=True)),
            tuple(a + b for a, b in zip(self.positive, other.positive, strict=True)),
            self.squared_error + other.squared_error,
        )

    @property
    def voxels(self) -> int:
        """How many voxels were counted."""
        return sum(self.count)

    @property
    def ece(self) -> float:
        """Expected calibration error `sum_b |sum p - positives| / N`, in [0, 1]; NaN without voxels."""
        gaps = (abs(p - t) for p, t in zip(self.probability, self.positive, strict=True))
        return sum(gaps) / self.voxels if self.voxels else math.nan

    @property
    def brier(self) -> float:
        """Mean of `(p - t)^2` over voxels, not binned; NaN without voxels."""
        return self.squared_error / self.voxels if self.voxels else math.nan

    @property
    def curve(self) -> list[tuple[float, float]]:
        """Mean probability and fraction of true voxels of every bin that has any, for a reliability diagram."""
        rows = zip(self.count, self.probability, self.positive, strict=True)
        return [(p / n, t / n) for n, p, t in rows if n]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> CalibrationBins:
        """Return the bins of a record of `to_dict`.

        Raises:
            InputError: if an entry is missing or no number.
        """
        try:
            return cls(
                tuple(int(n) for n in record["count"]),
                tuple(float(p) for p in record["probability"]),
                tuple(int(n) for n in record["positive"]),
                float(record["squared_error"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            msg = f"calibration record cannot be read: {type(error).__name__} {error}"
            raise InputError(msg, "score this case again") from error
