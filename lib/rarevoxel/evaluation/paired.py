"""Whether a method differs from the baseline, when several are compared on the same cases."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import InputError, RequestError
from rarevoxel.evaluation.resampling import (
    FloatArray,
    Statistic,
    check_counts,
    check_options,
    check_values,
    draw,
    mean_of,
    percentiles,
    pooled,
    resampled_means,
    seed_mean,
)
from rarevoxel.statistics.sizes import jsonable

_ROUND_OFF = 1e-12


@dataclass(frozen=True)
class PairedResult:
    """A method against the baseline; intervals and p are NaN with fewer than two cases to compare.

    Args:
        difference: method minus baseline.
        low: percentile interval of this method alone.
        high: its upper end.
        simultaneous_low: interval that holds for all methods of the family together; never narrower.
        simultaneous_high: its upper end.
        p: two-sided bootstrap p-value of no difference, for this method alone.
        p_adjusted: the same corrected for the family by the largest |t| (single step); never below p.
        n_cases: cases with a defined pair.
        n_seeds: seeds with a defined pair.
    """

    difference: float
    low: float
    high: float
    simultaneous_low: float
    simultaneous_high: float
    p: float
    p_adjusted: float
    n_cases: int
    n_seeds: int

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record; NaN becomes None."""
        return cast(dict[str, Any], jsonable(dict(vars(self))))


@dataclass(frozen=True)
class _Drawn:
    """A difference as observed and in every resample `(R,)`, and the size of what was subtracted."""

    difference: float
    replicates: FloatArray
    scale: float
    n_cases: int
    n_seeds: int

    @property
    def spread(self) -> float:
        """Standard deviation of the replicates; 0 if it is round-off only."""
        defined = self.replicates[np.isfinite(self.replicates)]
        spread = float(defined.std()) if defined.size else 0.0
        return spread if spread > _ROUND_OFF * self.scale else 0.0

    @property
    def usable(self) -> bool:
        return self.n_cases > 1 and math.isfinite(self.difference)

    @property
    def t(self) -> float:
        """|difference| / spread; without spread 0 for no difference and infinity for any."""
        if self.spread:
            return abs(self.difference) / self.spread
        return 0.0 if abs(self.difference) <= _ROUND_OFF * self.scale else math.inf

    @property
    def null(self) -> FloatArray:
        """|t| of the replicates around the difference observed, `(R,)`."""
        return np.abs(self.replicates - self.difference) / self.spread if self.spread else 0 * self.replicates


def paired_bootstrap(
    values: Mapping[str, npt.ArrayLike],
    baseline: str,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, PairedResult]:
    """Compare the mean score of every method with that of the baseline, on the same seeds and cases.

    With d the mean over seeds and cases of (method - baseline), d* the same of a resample, which is one for all
    methods, and s the standard deviation of d*: `p = P(|d* - d| / s >= |d| / s)`; the adjusted p-value compares
    |d| / s with the largest |d* - d| / s of all methods in each resample, and the simultaneous interval is d +- q s
    with q the quantile of that largest value, widened to hold the percentile interval where that is skewed. p is at
    least 1 / (R + 1).

    Args:
        values: method -> `(seeds, cases)`, or `(cases,)` of one seed; entry `[s, c]` of all methods is of the same
            case and of a training with the same seed. A pair with a NaN is left out.
        baseline: the method that the others are compared with. The family is all others.
        resamples: R; 10000 for the last digit.
        confidence: of the intervals, in (0, 1).
        seed: of the draws, see `draw`.

    Returns:
        Method (all but the baseline, in the order of `values`) -> result; the order changes no number.

    Raises:
        InputError: if the shapes differ, or a value is infinite.
        RequestError: if there is no such baseline, or an option is out of range.

    References:
        P. H. Westfall and S. S. Young, 1993, Resampling-based multiple testing, Wiley (single-step max-t).
        M. Mandel and R. A. Betensky, 2008, Simultaneous confidence intervals based on the percentile bootstrap
        approach, doi:10.1016/j.csda.2007.07.005. Ours takes the largest |t|, not the largest rank, so that intervals
        and p-values agree. Both are a little too sure with few seeds or cases; `draw` says how much.

    Example:
        >>> scores = {"dice": [0.70, 0.60, 0.80, 0.75], "calf": [0.74, 0.65, 0.82, 0.79]}
        >>> round(paired_bootstrap(scores, "dice")["calf"].difference, 4)
        0.0375
    """
    check_options(resamples, confidence)
    tables = {name: check_values(table, f"values of {name!r}") for name, table in values.items()}
    base = _check_family(tables, baseline)
    draws = draw(base.shape[0], base.shape[1], resamples, seed)
    family: dict[str, _Drawn] = {}
    for name, table in tables.items():
        if name == baseline:
            continue
        difference = table - base
        defined = np.isfinite(difference)
        scale = float(np.max(np.abs(base) + np.abs(table), where=defined, initial=0.0))
        n_cases, n_seeds = int(defined.any(axis=0).sum()), int(defined.any(axis=1).sum())
        family[name] = _Drawn(mean_of(difference), resampled_means(difference, draws), scale, n_cases, n_seeds)
    return _judge(family, confidence)


def paired_pooled(
    counts: Mapping[str, npt.ArrayLike],
    baseline: str,
    statistic: Statistic,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, PairedResult]:
    """Compare a statistic of counts pooled over cases, such as lesion F1, with that of the baseline.

    As `paired_bootstrap`, the difference being the mean over seeds of statistic(method) - statistic(baseline), each of
    the counts of one seed added over cases. It takes R times seeds times methods calls of `statistic`.

    Args:
        counts: method -> `(seeds, cases, ...)`, see `bootstrap_pooled`; all finite.
        baseline: the method that the others are compared with.
        statistic: takes the sum over cases, `(...)`; NaN where undefined (that seed of that resample is left out).
        resamples: R.
        confidence: of the intervals, in (0, 1).
        seed: of the draws; the same cases and seeds as `paired_bootstrap` draws.

    Raises:
        InputError: if the shapes differ, or a count is not finite.
        RequestError: if there is no such baseline, or an option is out of range.
    """
    check_options(resamples, confidence)
    tables = {name: check_counts(table, f"counts of {name!r}") for name, table in counts.items()}
    base = _check_family(tables, baseline)
    n_seeds, n_cases = base.shape[:2]
    draws = draw(n_seeds, n_cases, resamples, seed)
    ours, theirs = pooled(base, statistic, draws)
    family: dict[str, _Drawn] = {}
    for name, table in tables.items():
        if name == baseline:
            continue
        observed, replicates = pooled(table, statistic, draws)
        difference = observed - ours
        defined = np.isfinite(difference)
        scale = float(np.max(np.abs(observed) + np.abs(ours), where=defined, initial=0.0))
        drawn = seed_mean(replicates - theirs, draws.seeds)
        family[name] = _Drawn(mean_of(difference), drawn, scale, n_cases, int(defined.sum()))
    return _judge(family, confidence)


def _judge(family: Mapping[str, _Drawn], confidence: float) -> dict[str, PairedResult]:
    usable = [one for one in family.values() if one.usable]
    largest = np.fmax.reduce([one.null for one in usable]) if usable else np.empty(0)
    largest = largest[np.isfinite(largest)]
    critical = float(np.quantile(largest, confidence)) if largest.size else math.nan
    return {name: _result(one, largest, critical, confidence) for name, one in family.items()}


def _result(one: _Drawn, largest: FloatArray, critical: float, confidence: float) -> PairedResult:
    sizes = one.n_cases, one.n_seeds
    if not one.usable:
        return PairedResult(one.difference, *(math.nan,) * 6, *sizes)
    low, high = percentiles(one.replicates, confidence)
    reach = critical * one.spread
    p = _p_value(one.null, one.t)
    return PairedResult(
        difference=one.difference,
        low=low,
        high=high,
        simultaneous_low=min(low, one.difference - reach),
        simultaneous_high=max(high, one.difference + reach),
        p=p,
        p_adjusted=max(p, _p_value(largest, one.t)),
        n_cases=one.n_cases,
        n_seeds=one.n_seeds,
    )


def _p_value(null: FloatArray, t: float) -> float:
    """Return (1 + how many reach t) / (1 + how many there are): an estimate that is never 0."""
    defined = null[np.isfinite(null)]
    reached = int(np.count_nonzero(defined >= t * (1 - _ROUND_OFF)))
    return (1 + reached) / (1 + int(defined.size))


def _check_family(tables: Mapping[str, FloatArray], baseline: str) -> FloatArray:
    if baseline not in tables:
        raise RequestError(f"unknown baseline {baseline!r}, expected one of {list(tables)}")
    base = tables[baseline]
    for name, table in tables.items():
        if table.shape != base.shape:
            msg = f"{name!r} has shape {table.shape}, the baseline {baseline!r} {base.shape}: they must be equal"
            raise InputError(msg, "score all methods on the same cases and seeds; NaN marks a score that is missing")
    return base
