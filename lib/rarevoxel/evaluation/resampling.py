"""Intervals of a mean or a pooled rate, from seeds and cases drawn with replacement."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import InputError, RequestError

FloatArray = npt.NDArray[np.float64]
Statistic = Callable[[FloatArray], float]
"""Counts of all cases added up, in the shape of one case -> a number, NaN where it is undefined."""


class Interval(NamedTuple):
    """An estimate and the percentile bootstrap interval around it; NaN bounds where there is no spread to draw from."""

    value: float
    low: float
    high: float


class Draws(NamedTuple):
    """How often each resample holds each seed `(R, S)` and each case `(R, C)`."""

    seeds: FloatArray
    cases: FloatArray


def draw(n_seeds: int, n_cases: int, resamples: int, seed: int) -> Draws:
    """Draw cases and, independently, training seeds with replacement.

    Cases are drawn C of C. Seeds are drawn S - 1 of S (one of one): there are two to five, and S of S would make the
    variance between seeds too small by (S - 1) / S. With one seed the spread of training is not in the interval.

    Few seeds stay few: in simulated studies (standard deviation 1 between cases, 0.3 between seeds, 0.5 of the rest)
    95 % intervals of the mean held the truth in 93 % with 3 seeds and 30 cases, in 90 % with 3 and 100, in 92 % with
    5 and 100. A verdict near the limit wants more seeds, not more cases.

    References:
        A. B. Owen, 2007, The pigeonhole bootstrap, doi:10.1214/07-AOAS122 (rows and columns drawn apart; it errs on
        the wide side). J. N. K. Rao and C. F. J. Wu, 1988, Resampling inference with complex survey data,
        doi:10.1080/01621459.1988.10478591 (n - 1 of n).
    """
    rng = np.random.default_rng(seed)
    cases = rng.multinomial(n_cases, np.full(n_cases, 1 / n_cases), size=resamples)
    seeds = rng.multinomial(max(1, n_seeds - 1), np.full(n_seeds, 1 / n_seeds), size=resamples)
    return Draws(seeds.astype(np.float64), cases.astype(np.float64))


def bootstrap_mean(values: npt.ArrayLike, resamples: int = 2000, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Return the mean over seeds and cases with its percentile interval; see `draw`.

    Args:
        values: `(seeds, cases)`, or `(cases,)` of one seed; NaN is left out.
        resamples: R.
        confidence: of the interval, in (0, 1).
        seed: of the draws.

    Raises:
        InputError: if the values have another shape, or one is infinite.
        RequestError: if an option is out of range.

    Example:
        >>> mean, low, high = bootstrap_mean([0.5, 0.7, 0.9, float("nan")])
        >>> low < mean < high
        True
    """
    check_options(resamples, confidence)
    table = check_values(values)
    draws = draw(table.shape[0], table.shape[1], resamples, seed)
    replicates = resampled_means(table, draws)
    defined = np.isfinite(table).any(axis=0).sum()
    return _interval(mean_of(table), replicates if defined > 1 else replicates[:0], confidence)


def bootstrap_pooled(
    counts: npt.ArrayLike, statistic: Statistic, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return a statistic of counts pooled over cases, averaged over seeds, with its percentile interval.

    Args:
        counts: `(seeds, cases, ...)`, anything that adds up over cases: `LesionCounts.bands`, sweep rows, bins.
        statistic: takes the sum over cases, `(...)`; NaN where undefined (left out).
        resamples: R.
        confidence: of the interval, in (0, 1).
        seed: of the draws, see `draw`.

    Raises:
        InputError: if there are less than two axes, nothing to draw, or a value that is not finite.
        RequestError: if an option is out of range.

    Example:
        >>> bootstrap_pooled([[[2, 1, 1, 1], [4, 3, 5, 4]]], lambda total: total[1] / total[0]).value
        0.6666666666666666
    """
    check_options(resamples, confidence)
    table = check_counts(counts)
    draws = draw(table.shape[0], table.shape[1], resamples, seed)
    observed, replicates = pooled(table, statistic, draws)
    drawn = seed_mean(replicates, draws.seeds)
    return _interval(_mean(observed), drawn if table.shape[1] > 1 else drawn[:0], confidence)


def bootstrap_statistic(
    cases: Sequence[Any],
    statistic: Callable[[list[Any]], float],
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return any statistic of a list of cases with its percentile interval, drawing cases only.

    Args:
        cases: anything; for the difference of two methods, pairs of what both made of a case.
        statistic: takes a list of as many cases, drawn with replacement; NaN where undefined (left out).
        resamples: R.
        confidence: of the interval, in (0, 1).
        seed: of the draws.

    Raises:
        InputError: if there are no cases.
        RequestError: if an option is out of range.

    Example:
        >>> bootstrap_statistic([1.0, 2.0, 6.0], lambda drawn: sum(drawn) / len(drawn)).value
        3.0
    """
    check_options(resamples, confidence)
    if not len(cases):
        raise InputError("no cases to draw from", "score at least one case")
    indices = np.random.default_rng(seed).integers(len(cases), size=(resamples, len(cases)))
    drawn = [statistic([cases[i] for i in row]) for row in indices.tolist()] if len(cases) > 1 else []
    return _interval(float(statistic(list(cases))), np.array(drawn, dtype=np.float64), confidence)


def resampled_means(values: FloatArray, draws: Draws) -> FloatArray:
    """Return the mean of the defined `values` `(S, C)` in every resample, `(R,)`; NaN if it holds none."""
    defined = np.isfinite(values)
    total = ((draws.seeds @ np.where(defined, values, 0.0)) * draws.cases).sum(axis=1)
    number = ((draws.seeds @ defined.astype(np.float64)) * draws.cases).sum(axis=1)
    return _divide(total, number)


def pooled(counts: FloatArray, statistic: Statistic, draws: Draws) -> tuple[FloatArray, FloatArray]:
    """Return the statistic of `counts` `(S, C, ...)` per seed, as observed `(S,)` and in every resample `(R, S)`."""
    shape = counts.shape[2:]
    observed = np.array([statistic(one.sum(axis=0)) for one in counts], dtype=np.float64)
    replicates = np.empty((len(draws.cases), len(counts)))
    for s, one in enumerate(counts):
        sums = draws.cases @ one.reshape(one.shape[0], -1)
        replicates[:, s] = [statistic(row.reshape(shape)) for row in sums]
    return observed, replicates


def seed_mean(values: FloatArray, seeds: FloatArray) -> FloatArray:
    """Return the mean of the defined `values` `(R, S)` over the seeds drawn `(R, S)`; NaN where there is none."""
    defined = np.isfinite(values)
    return _divide((np.where(defined, values, 0.0) * seeds).sum(axis=1), (defined * seeds).sum(axis=1))


def check_values(values: npt.ArrayLike, name: str = "values") -> FloatArray:
    """Return values as `(seeds, cases)` in float64.

    Raises:
        InputError: if they have another shape, are none, or one is infinite.
    """
    table = np.asarray(values, dtype=np.float64)
    table = table[None] if table.ndim == 1 else table
    if table.ndim != 2 or not table.size:
        raise InputError(f"{name} of shape {np.shape(values)} found, expected (seeds, cases), at least one of each")
    if np.isinf(table).any():
        raise InputError(f"{name}: an infinite score found, expected finite ones", "NaN leaves a case out")
    return table


def check_counts(counts: npt.ArrayLike, name: str = "counts") -> FloatArray:
    """Return counts as `(seeds, cases, ...)` in float64.

    Raises:
        InputError: if there are less than two axes, nothing, or a value that is not finite.
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim < 2 or not table.size:
        raise InputError(f"{name} of shape {table.shape} found, expected (seeds, cases, ...), at least one of each")
    if not np.isfinite(table).all():
        msg = f"{name}: a count that is not finite found"
        raise InputError(msg, "leave a case that was not scored out of all methods and seeds")
    return table


def check_options(resamples: int, confidence: float) -> None:
    """Raise unless the options of a bootstrap are possible.

    Raises:
        RequestError: naming the option.
    """
    if resamples < 1:
        raise RequestError(f"resamples ({resamples}) must be >= 1")
    if not 0 < confidence < 1:
        raise RequestError(f"confidence ({confidence}) must be between 0 and 1")


def percentiles(replicates: FloatArray, confidence: float) -> tuple[float, float]:
    """Return the equal-tailed interval of the defined replicates; NaN without one."""
    defined = replicates[np.isfinite(replicates)]
    if not defined.size:
        return math.nan, math.nan
    low, high = np.quantile(defined, ((1 - confidence) / 2, (1 + confidence) / 2)).tolist()
    return low, high


def mean_of(values: FloatArray) -> float:
    """Return the mean of the defined values; NaN without one."""
    return _mean(values[np.isfinite(values)])


def _mean(values: FloatArray) -> float:
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if defined.size else math.nan


def _divide(total: FloatArray, number: FloatArray) -> FloatArray:
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)


def _interval(value: float, replicates: FloatArray, confidence: float) -> Interval:
    return Interval(value, *percentiles(replicates, confidence))
