"""Central moments up to the fourth that can be merged: sizes of parts give the skewness and kurtosis of the whole."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_BLOCK = 1 << 16
_ROUND_OFF = 1e-12
_RESAMPLED_AT_ONCE = 1 << 21

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Number, mean and sums of central powers of a set of values: M_k = sum((x - mean)^k) for k = 2, 3, 4.

    Merging is exact in real arithmetic, so the order of merging changes round-off only, and `Moments()` (no values)
    is its identity. `std` and the shape are population ("biased") moments, the defaults of `scipy.stats`.

    Args:
        n: number of values.
        mean: their mean, in the unit u of the values; NaN without values.
        m2: sum of squared deviations, u^2.
        m3: sum of cubed deviations, u^3.
        m4: sum of fourth powers of deviations, u^4.
        mean_low: what rounding took from `mean`; the deviations are from `mean + mean_low`. It keeps the shape right
            to 1e-10 where the mean is 1e9 times the spread, and is 0 in ordinary data.

    References:
        P. Pebay, 2008, Formulas for robust, one-pass parallel computation of covariances and arbitrary-order
        statistical moments, SAND2008-6212, doi:10.2172/1028931. Ours: the mean is carried in two floats.

    Example:
        >>> (Moments.from_values([1, 2]) + Moments.from_values([3, 10])).mean
        4.0
    """

    n: int = 0
    mean: float = math.nan
    m2: float = 0.0
    m3: float = 0.0
    m4: float = 0.0
    mean_low: float = 0.0

    @classmethod
    def from_values(cls, values: npt.ArrayLike) -> Moments:
        """Return the moments of `values` (any shape, any real dtype, any unit), computed in float64 block by block.

        No values give `Moments()`. A NaN or an infinity makes the mean and everything after it NaN or infinite.
        """
        flat = np.asarray(values).reshape(-1)
        whole = cls()
        for start in range(0, flat.size, _BLOCK):
            whole = whole.merge(cls._of_block(flat[start : start + _BLOCK].astype(np.float64)))
        return whole

    @classmethod
    def from_counts(cls, values: npt.ArrayLike, counts: npt.ArrayLike) -> Moments:
        """Return the moments of a histogram: each of `values` as often as `counts` says, at a cost of one pass over it.

        Args:
            values: different values, `(V,)`.
            counts: whole numbers >= 0, `(V,)`; all zero gives `Moments()`.
        """
        times = np.asarray(counts, dtype=np.float64)
        n = int(times.sum())
        if not n:
            return cls()
        block = np.asarray(values, dtype=np.float64)
        centre = float(times @ block) / n
        deviations = block - centre
        shift = float(times @ deviations) / n
        deviations -= shift
        squares = deviations * deviations
        mean, low = _two_sum(centre, shift)
        m2, m3, m4 = (float(times @ powers) for powers in (squares, squares * deviations, squares * squares))
        return cls(n, mean, m2, m3, m4, low)

    @classmethod
    def _of_block(cls, block: FloatArray) -> Moments:
        with np.errstate(over="ignore", invalid="ignore"):
            centre = float(block.mean())
            deviations = block - centre
            # The rounded mean of a large offset is off by an ulp of the offset, which may be much of the spread.
            shift = float(deviations.mean())
            deviations -= shift
            squares = deviations * deviations
            mean, low = _two_sum(centre, shift)
            m2, m3, m4 = squares.sum(), (squares * deviations).sum(), (squares * squares).sum()
        return cls(block.size, mean, float(m2), float(m3), float(m4), low)

    def merge(self, other: Moments) -> Moments:
        """Return the moments of the values of both; with delta = mean_b - mean_a, n = n_a + n_b and f = n_b / n

        mean = mean_a + delta f
        M2 = M2_a + M2_b + delta^2 n_a f
        M3 = M3_a + M3_b + delta^3 n_a f (n_a - n_b) / n + 3 delta (n_a M2_b - n_b M2_a) / n
        M4 = M4_a + M4_b + delta^4 n_a f (n_a^2 - n_a n_b + n_b^2) / n^2
             + 6 delta^2 (n_a^2 M2_b + n_b^2 M2_a) / n^2 + 4 delta (n_a M3_b - n_b M3_a) / n
        """
        if not self.n:
            return other
        if not other.n:
            return self
        n = self.n + other.n
        fa, fb = self.n / n, other.n / n
        delta = (other.mean - self.mean) + (other.mean_low - self.mean_low)
        square = delta * delta
        between = square * self.n * fb
        mean, low = _two_sum(self.mean, self.mean_low + delta * fb)
        m2 = self.m2 + other.m2 + between
        m3 = self.m3 + other.m3 + between * delta * (fa - fb) + 3 * delta * (fa * other.m2 - fb * self.m2)
        m4 = (
            self.m4
            + other.m4
            + between * square * (fa * fa - fa * fb + fb * fb)
            + 6 * square * (fa * fa * other.m2 + fb * fb * self.m2)
            + 4 * delta * (fa * other.m3 - fb * self.m3)
        )
        return Moments(n, mean, m2, m3, m4, low)

    def __add__(self, other: Moments) -> Moments:
        return self.merge(other) if isinstance(other, Moments) else NotImplemented

    @property
    def std(self) -> float:
        """Population standard deviation sqrt(M2 / n), in the unit of the values; NaN without values, 0 for one."""
        return math.sqrt(self.m2 / self.n) if self.n else math.nan

    @property
    def is_constant(self) -> bool:
        """Whether there are no values or, as scipy judges it, all are equal: variance <= (eps mean)^2."""
        threshold = sys.float_info.epsilon * self.mean
        return self.n == 0 or self.m2 / self.n <= threshold * threshold

    @property
    def skewness(self) -> float:
        """Biased skewness (M3 / n) / std^3, no unit; NaN where `is_constant`, as in scipy.

        Below 1e-12 it is 0: of symmetric values round-off is all that is left, and its sign must choose no branch.
        """
        if self.is_constant:
            return math.nan
        skewness = (self.m3 / self.m2) * math.sqrt(self.n / self.m2)
        return 0.0 if abs(skewness) < _ROUND_OFF else skewness

    @property
    def kurtosis(self) -> float:
        """Biased excess kurtosis (M4 / n) / std^4 - 3, no unit; NaN where `is_constant`, as in scipy."""
        return math.nan if self.is_constant else (self.m4 / self.m2) * (self.n / self.m2) - 3


def bootstrap_shape(
    parts: Sequence[Moments], resamples: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Return skewness and excess kurtosis of bootstrap resamples that draw whole parts with replacement.

    A part is what is independent of the others: a value alone, or all values of one case (cluster bootstrap). For the
    parts g of a resample, with d_g = mean_g - mean, the whole has

        M2 = sum(M2_g + n_g d_g^2)
        M3 = sum(M3_g + 3 d_g M2_g + n_g d_g^3)
        M4 = sum(M4_g + 4 d_g M3_g + 6 d_g^2 M2_g + n_g d_g^4)

    so a resample costs its parts, not its values.

    Args:
        parts: G moments, each with n >= 1.
        resamples: how many resamples R, each of G parts; 0 gives empty arrays, as do no parts.
        rng: the source of the draws; the same state gives the same result.

    Returns:
        Two arrays `(R,)`; NaN for a resample whose values are all equal.

    References:
        A. C. Davison and D. V. Hinkley, 1997, Bootstrap Methods and their Application, doi:10.1017/CBO9780511802843.
    """
    if not parts or resamples < 1:
        return np.empty(0), np.empty(0)
    table = np.array([(p.n, p.mean, p.m2, p.m3, p.m4) for p in parts], dtype=np.float64)
    rows = max(1, _RESAMPLED_AT_ONCE // len(parts))
    done = [
        _shape_of_rows(table, rng.integers(len(parts), size=(min(rows, resamples - start), len(parts))))
        for start in range(0, resamples, rows)
    ]
    return np.concatenate([s for s, _ in done]), np.concatenate([k for _, k in done])


def _shape_of_rows(table: FloatArray, drawn: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Return `(R,)` skewness and kurtosis of the parts `drawn` `(R, G)` from `table` `(G, 5)`."""
    n, mean, m2, m3, m4 = (table[:, column][drawn] for column in range(5))
    total = n.sum(axis=1)
    centre = (n * mean).sum(axis=1) / total
    d = mean - centre[:, None]
    square = d * d
    sum2 = (m2 + n * square).sum(axis=1)
    sum3 = (m3 + 3 * d * m2 + n * square * d).sum(axis=1)
    sum4 = (m4 + 4 * d * m3 + 6 * square * m2 + n * square * square).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # Wider than the rule of one sample: the mean of equal values drawn many times is off by more than one ulp.
        constant = sum2 / total <= (_ROUND_OFF * centre) ** 2
        skewness = np.where(constant, np.nan, (sum3 / sum2) * np.sqrt(total / sum2))
        kurtosis = np.where(constant, np.nan, (sum4 / sum2) * (total / sum2) - 3)
    return skewness, kurtosis


def _two_sum(a: float, b: float) -> tuple[float, float]:
    """Return the rounded sum of a and b and its rounding error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)
