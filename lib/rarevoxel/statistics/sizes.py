"""The distribution of lesion sizes: its shape, how sure it is, and the loss branch it asks for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import InputError
from rarevoxel.statistics.branch import Branch, branch_condition, select_branch
from rarevoxel.statistics.moments import Moments, bootstrap_shape

Unit = Literal["case", "component", "slice"]
"""What one size is: the volume of all lesions of a case, of one component (mm^3), or the area in one slice (mm^2)."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class SizeStatistics:
    """The distribution of foreground sizes and the loss branch that follows from it; see `from_sizes`.

    Sizes, `mean`, `std`, `minimum`, `maximum` and `median` are in mm^3, or mm^2 for `unit="slice"`, and NaN without
    sizes. `skewness` and `kurtosis` (excess) are population moments, NaN where all sizes are equal.

    Args:
        n: number of sizes.
        n_cases: number of independent cases the sizes come from; what `minimum_n` is compared with.
        empty: how many sizes are 0.
        branch: the branch to train with: `rule_branch` if `enough`, else `bce_dice`.
        rule_branch: `select_branch(skewness, kurtosis)`, however few the cases.
        enough: whether `n_cases >= minimum_n`.
        minimum_n: the fewest cases whose shape is trusted.
        interval: percentile bootstrap interval of `"skewness"` and `"kurtosis"`; NaN where it is undefined.
        confidence: of the interval.
        branch_shares: branch -> fraction of the bootstrap resamples that it is the rule's answer for.
        resamples: bootstrap resamples drawn.
        unit: see `Unit`.
    """

    n: int
    n_cases: int
    mean: float
    std: float
    minimum: float
    median: float
    maximum: float
    empty: int
    skewness: float
    kurtosis: float
    branch: Branch
    rule_branch: Branch
    enough: bool
    minimum_n: int
    interval: dict[str, Interval]
    confidence: float
    branch_shares: dict[Branch, float]
    resamples: int
    unit: Unit

    @classmethod
    def from_sizes(
        cls,
        sizes: npt.ArrayLike,
        *,
        groups: Sequence[Any] | None = None,
        minimum_n: int = 20,
        bootstrap: int = 1000,
        confidence: float = 0.95,
        seed: int = 0,
        unit: Unit = "case",
    ) -> SizeStatistics:
        """Return the statistics of sizes, with a percentile bootstrap of their shape.

        Args:
            sizes: numbers >= 0, any shape; none at all is allowed and gives NaN moments and `bce_dice`.
            groups: for every size, the case it belongs to. Sizes of one case are alike, so the bootstrap draws whole
                cases, and `minimum_n` counts cases. By default every size is a case of its own.
            minimum_n: below so many cases the branch is `bce_dice`, because |S| <= (n - 2) / sqrt(n - 1) lets n
                decide the branch rather than the data.
            bootstrap: number of resamples; 0 leaves the interval NaN.
            confidence: of the interval, between 0 and 1.
            seed: of the resamples; the same seed, sizes and order give the same interval.
            unit: what a size is.

        Raises:
            InputError: if a size is negative, not finite or not a number, there is not one group per size, or another
                argument is outside its range.

        References:
            Alam et al., 2025, arXiv:2504.04458: skewness and kurtosis of sizes choose the loss. Theirs come from every
            mini-batch; ours from all cases, once, with an interval and a minimum number of cases.

        Example:
            >>> SizeStatistics.from_sizes([10.0, 20.0, 90.0]).reason
            'too few cases: n=3 (< 20), so bce_dice; the rule alone gives ln (0.5 <= S < 1) at S=0.665, K=-1.5'
        """
        values = _check_sizes(sizes)
        check_options(minimum_n, bootstrap, confidence, unit)
        parts = _parts(values, groups)
        whole = Moments.from_values(values)
        skewness, kurtosis = bootstrap_shape(parts, bootstrap, np.random.default_rng(seed))
        drawn = Counter(select_branch(s, k) for s, k in zip(skewness.tolist(), kurtosis.tolist(), strict=True))
        rule_branch = select_branch(whole.skewness, whole.kurtosis)
        enough = len(parts) >= minimum_n
        minimum, median, maximum = np.quantile(values, (0, 0.5, 1)).tolist() if whole.n else (math.nan,) * 3
        return cls(
            n=whole.n,
            n_cases=len(parts),
            mean=whole.mean,
            std=whole.std,
            minimum=minimum,
            median=median,
            maximum=maximum,
            empty=int(np.count_nonzero(values == 0)),
            skewness=whole.skewness,
            kurtosis=whole.kurtosis,
            branch=rule_branch if enough else Branch.BCE_DICE,
            rule_branch=rule_branch,
            enough=enough,
            minimum_n=minimum_n,
            interval={"skewness": _interval(skewness, confidence), "kurtosis": _interval(kurtosis, confidence)},
            confidence=confidence,
            branch_shares={branch: drawn[branch] / len(skewness) for branch in Branch if drawn[branch]},
            resamples=len(skewness),
            unit=unit,
        )

    @property
    def branch_stability(self) -> float:
        """Fraction of bootstrap resamples whose branch is `rule_branch`; NaN without resamples."""
        return self.branch_shares.get(self.rule_branch, 0.0) if self.resamples else math.nan

    @property
    def reason(self) -> str:
        """Why `branch` was chosen, in one sentence with its numbers."""
        shape = f"S={self.skewness:.3g}, K={self.kurtosis:.3g}"
        rule = f"{self.rule_branch} ({branch_condition(self.skewness, self.kurtosis)})"
        undefined = math.isnan(self.skewness)
        if not self.enough:
            tail = "" if undefined else f"; the rule alone gives {rule} at {shape}"
            return f"too few cases: n={self.n_cases} (< {self.minimum_n}), so {self.branch}{tail}"
        sizes = (
            f"{self.n_cases} cases" if self.unit == "case" else f"{self.n} {self.unit} sizes of {self.n_cases} cases"
        )
        if undefined:
            return f"all sizes of {sizes} are {self.mean:g}, so skewness is undefined and the branch is {self.branch}"
        sure = f", the same in {self.branch_stability:.0%} of {self.resamples} resamples" if self.resamples else ""
        return f"{sizes}: {shape} give {rule}{sure}"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record; NaN becomes None."""
        record = {
            **vars(self),
            "branch": self.branch.value,
            "rule_branch": self.rule_branch.value,
            "interval": {name: list(bounds) for name, bounds in self.interval.items()},
            "branch_shares": {branch.value: share for branch, share in self.branch_shares.items()},
            "branch_stability": self.branch_stability,
            "reason": self.reason,
        }
        return cast(dict[str, Any], jsonable(record))


def _parts(values: npt.NDArray[np.float64], groups: Sequence[Any] | None) -> list[Moments]:
    """Return the moments of every case, cases in sorted order of their group."""
    if groups is None:
        return [Moments(1, value) for value in values.tolist()]
    if len(groups) != values.size:
        raise InputError(f"number of groups ({len(groups)}) must be the number of sizes ({values.size})")
    if not values.size:
        return []
    _, of, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    ordered = values[np.argsort(of, kind="stable")]
    return [Moments.from_values(part) for part in np.split(ordered, np.cumsum(counts)[:-1])]


def _check_sizes(sizes: npt.ArrayLike) -> npt.NDArray[np.float64]:
    try:
        values = np.asarray(sizes, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise InputError(f"sizes cannot be read as numbers: {error}") from error
    wrong = np.flatnonzero(~np.isfinite(values) | (values < 0))
    if wrong.size:
        msg = f"size {values[wrong[0]]:g} at index {wrong[0]} (one of {wrong.size} such) must be finite and >= 0"
        raise InputError(msg, "check the label map and the spacing of that case")
    return values


def check_options(minimum_n: int, bootstrap: int, confidence: float, unit: str) -> None:
    """Raise unless the options of `SizeStatistics.from_sizes` are possible.

    Raises:
        InputError: naming the option, what was found and what was expected.
    """
    if minimum_n < 1:
        raise InputError(f"minimum_n ({minimum_n}) must be >= 1")
    if bootstrap < 0:
        raise InputError(f"bootstrap ({bootstrap}) must be >= 0 resamples")
    if not 0 < confidence < 1:
        raise InputError(f"confidence ({confidence}) must be between 0 and 1")
    if unit not in get_args(Unit):
        raise InputError(f"unit {unit!r} must be one of {list(get_args(Unit))}")


def _interval(drawn: npt.NDArray[np.float64], confidence: float) -> Interval:
    defined = drawn[~np.isnan(drawn)]
    if not defined.size:
        return math.nan, math.nan
    low, high = np.quantile(defined, ((1 - confidence) / 2, (1 + confidence) / 2)).tolist()
    return low, high


def jsonable(value: Any) -> Any:
    """Return `value` with NaN and infinity replaced by None, which JSON has no number for."""
    if isinstance(value, dict):
        return {key: jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [jsonable(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
