"""Cases whose volume does not belong to the others: robust z-scores, and the adjusted box plot for skewed data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.stats import median_abs_deviation

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses.checks import unknown_name
from rarevoxel.transforms.rule import Candidate, Judgement, Rule, check_positive, check_region, describe_volume

Method = Literal["robust_z", "adjusted_boxplot"]
Scale = Literal["log", "raw"]
FloatArray = npt.NDArray[np.float64]

LIMITS: dict[Method, float] = {"robust_z": 3.5, "adjusted_boxplot": 1.5}
SCALES: dict[Method, Scale] = {"robust_z": "log", "adjusted_boxplot": "raw"}
_ROUND_OFF = 1e-9


def robust_z(values: npt.ArrayLike) -> FloatArray:
    """Return z = (x - median) / (1.4826 median|x - median|), no unit, shape as given.

    NaN where the median absolute deviation is 0 or round-off, as when more than half of the values are equal.

    References:
        B. Iglewicz and D. C. Hoaglin, 1993, How to detect and handle outliers: a limit of 3.5 on |z|.

    Example:
        >>> robust_z([1.0, 2.0, 3.0, 4.0, 100.0]).round(2).tolist()
        [-1.35, -0.67, 0.0, 0.67, 65.43]
    """
    x = _finite(values)
    if not x.size:
        return x
    spread = float(median_abs_deviation(x, axis=None, scale="normal"))
    if spread <= _ROUND_OFF * float(np.abs(x).max()):
        return np.full(x.shape, np.nan)
    return np.asarray((x - np.median(x)) / spread)


def medcouple(values: npt.ArrayLike) -> float:
    """Return the medcouple of n values, a skewness in [-1, 1] that a quarter of wild values cannot move far.

    It is the median, over all pairs x_i <= m <= x_j about the median m, of

        h(x_i, x_j) = ((x_j - m) - (m - x_i)) / (x_j - x_i)

    and, for the pairs of the k values that equal m, of sign(i + j - 1 - k), i, j = 1..k. Symmetric values give 0, a
    tail to the right is positive. Time and memory grow as n^2. No values give NaN.

    References:
        G. Brys, M. Hubert and A. Struyf, 2004, A robust measure of skewness, doi:10.1198/106186004X12632.

    Example:
        >>> medcouple([1.0, 2.0, 3.0, 6.0, 10.0])
        0.5
    """
    x = _finite(values).ravel()
    if not x.size:
        return math.nan
    centred = x - np.median(x)
    low, high = centred[centred <= 0], centred[centred >= 0]
    left, right = np.meshgrid(low, high, indexing="ij")
    tied = (left == 0) & (right == 0)
    h = (right + left)[~tied] / (right - left)[~tied]
    order = np.arange(1, np.count_nonzero(centred == 0) + 1)
    ties = np.sign(order[:, None] + order[None, :] - 1 - len(order)).ravel()
    return float(np.median(np.concatenate([h, ties])))


def adjusted_fences(values: npt.ArrayLike, limit: float = 1.5) -> tuple[float, float]:
    """Return the fences of the adjusted box plot; values outside them are outliers.

    With quartiles Q1 and Q3 (linear interpolation), IQR = Q3 - Q1 and medcouple M

        M >= 0: [Q1 - limit exp(-4 M) IQR, Q3 + limit exp(3 M) IQR]
        M < 0:  [Q1 - limit exp(-3 M) IQR, Q3 + limit exp(4 M) IQR]

    For symmetric values (M = 0) and limit 1.5 it is Tukey's box plot.

    References:
        M. Hubert and E. Vandervieren, 2008, An adjusted boxplot for skewed distributions,
        doi:10.1016/j.csda.2007.11.008.
    """
    x = _finite(values).ravel()
    if not x.size:
        return math.nan, math.nan
    first, third = np.quantile(x, (0.25, 0.75)).tolist()
    m = medcouple(x)
    down, up = (-4.0, 3.0) if m >= 0 else (-3.0, 4.0)
    reach = limit * (third - first)
    return first - reach * math.exp(down * m), third + reach * math.exp(up * m)


@dataclass(frozen=True)
class DropVolumeOutliers(Rule):
    """Drop cases whose region is far smaller or far larger than that of the others. Ours.

    Cases without the region are neither judged nor counted. Removing outliers narrows the spread, so a second run may
    find new ones.

    Args:
        region: region or label.
        method: `robust_z` (see `robust_z`) or `adjusted_boxplot` (see `adjusted_fences`).
        limit: largest |z| that stays, or the length of the whiskers in IQR; None takes 3.5 and 1.5.
        scale: judge `log` or `raw` volumes; None takes log for `robust_z`, since tumour volumes are nearly log-normal
            and raw scores would drop large tumours as a matter of course, and raw for `adjusted_boxplot`.
        minimum_n: below so many cases with the region nobody is dropped, and a note says so.

    Raises:
        RequestError: if an option is unknown or out of range.
    """

    region: str = "WT"
    method: Method = "robust_z"
    limit: float | None = None
    scale: Scale | None = None
    minimum_n: int = 8
    name: ClassVar[str] = "outliers"

    def __post_init__(self) -> None:
        check_region(self.name, self.region)
        if self.method not in get_args(Method):
            raise unknown_name(f"method of filter {self.name!r}", self.method, get_args(Method))
        if self.scale is not None and self.scale not in get_args(Scale):
            raise unknown_name(f"scale of filter {self.name!r}", self.scale, get_args(Scale))
        check_positive(self.name, "limit", self.the_limit)
        if self.minimum_n < 3:
            raise RequestError(f"filter {self.name!r}: minimum_n ({self.minimum_n}) must be >= 3")

    @property
    def the_limit(self) -> float:
        """The limit in force."""
        return LIMITS[self.method] if self.limit is None else self.limit

    @property
    def the_scale(self) -> Scale:
        """The scale in force."""
        return self.scale or SCALES[self.method]

    def __str__(self) -> str:
        how = f"{self.method} on {self.the_scale} volumes, limit {self.the_limit:g}"
        return f"{self.name}: drop cases with an outlying volume of {self.region} ({how}, from {self.minimum_n} cases)"

    def judge(self, candidates: Sequence[Candidate], rng: np.random.Generator) -> Judgement:
        """Compare the volumes with each other."""
        sizes = {i: case.structure(self.region).volume for i, case in enumerate(candidates)}
        volumes = {i: volume for i, volume in sizes.items() if volume > 0}
        if len(volumes) < self.minimum_n:
            note = f"{self.name}: {len(volumes)} cases with {self.region} (< {self.minimum_n}), nobody is dropped"
            return Judgement({}, (note,))
        found = np.array(list(volumes.values()))
        x = np.log(found) if self.the_scale == "log" else found
        why = self._by_score(x) if self.method == "robust_z" else self._by_fences(x)
        if why is None:
            note = f"{self.name}: volumes of {self.region} in {len(volumes)} cases have no spread, nobody is dropped"
            return Judgement({}, (note,))
        return Judgement(
            {
                i: f"{self.region} volume {describe_volume(volumes[i])} is {reason}"
                for i, reason in zip(volumes, why, strict=True)
                if reason
            }
        )

    def _by_score(self, x: FloatArray) -> list[str] | None:
        z = robust_z(x)
        if np.isnan(z).any():
            return None
        median = describe_volume(self._mm3(float(np.median(x))))
        scale = ", log scale" if self.the_scale == "log" else ""
        return [
            f"{abs(score):.1f} robust standard deviations {'above' if score > 0 else 'below'} the median {median} "
            f"(limit {self.the_limit:g}{scale})"
            if abs(score) > self.the_limit
            else ""
            for score in z.tolist()
        ]

    def _by_fences(self, x: FloatArray) -> list[str] | None:
        first, third = np.quantile(x, (0.25, 0.75)).tolist()
        if third - first <= _ROUND_OFF * float(np.abs(x).max()):
            return None
        low, high = adjusted_fences(x, self.the_limit)
        shape = f"of the adjusted box plot (medcouple {medcouple(x):.2f}, {x.size} cases)"
        return [
            f"above the upper fence {describe_volume(self._mm3(high))} {shape}"
            if value > high
            else f"below the lower fence {describe_volume(self._mm3(low))} {shape}"
            if value < low
            else ""
            for value in x.tolist()
        ]

    def _mm3(self, value: float) -> float:
        return math.exp(value) if self.the_scale == "log" else value


def _finite(values: npt.ArrayLike) -> FloatArray:
    x = np.asarray(values, dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(x))
    if wrong.size:
        raise InputError(f"value {x.ravel()[wrong[0]]} at index {wrong[0]} must be finite")
    return x
