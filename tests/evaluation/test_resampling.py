"""Bootstrap intervals: against scipy, against known variances, and where they are undefined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rarevoxel.errors import InputError, RequestError
from rarevoxel.evaluation import (
    LesionCounts,
    bootstrap_mean,
    bootstrap_pooled,
    bootstrap_statistic,
    lesion_f1,
    recall_at_precision,
)
from rarevoxel.evaluation.resampling import draw


@pytest.fixture
def skewed():
    return np.random.default_rng(0).exponential(size=60)


def test_one_level_against_scipy(skewed):
    oracle = stats.bootstrap((skewed,), np.mean, method="percentile", n_resamples=9999, random_state=1)
    expected = pytest.approx(list(oracle.confidence_interval), rel=0.03)
    assert list(bootstrap_mean(skewed, 9999)[1:]) == expected
    assert list(bootstrap_statistic(list(skewed), np.mean, 4000)[1:]) == expected
    pairs = np.stack([skewed, np.ones(60)], axis=-1)[None]
    assert list(bootstrap_pooled(pairs, lambda total: total[0] / total[1], 9999)[1:]) == expected


def test_the_median_against_scipy(skewed):
    oracle = stats.bootstrap((skewed,), np.median, method="percentile", n_resamples=4000, random_state=1)
    found = bootstrap_statistic(list(skewed), np.median, 4000, confidence=0.95)
    assert found.value == np.median(skewed)
    assert list(found[1:]) == pytest.approx(list(oracle.confidence_interval), rel=0.1)


def test_the_variance_of_seeds_is_not_too_small():
    # Seeds alone differ: the spread of the mean must be s / sqrt(3), s with n - 1.
    seeds = np.array([0.1, 0.4, 0.9])
    draws = draw(3, 5, 40000, 0)
    replicates = (draws.seeds @ seeds) / draws.seeds.sum(axis=1)
    assert replicates.std() == pytest.approx(seeds.std(ddof=1) / math.sqrt(3), rel=0.02)


def test_draws_are_as_many_as_stated_and_apart():
    draws = draw(4, 30, 500, 0)
    assert set(draws.seeds.sum(axis=1)) == {3}
    assert set(draws.cases.sum(axis=1)) == {30}
    assert set(draw(1, 30, 9, 0).seeds.ravel()) == {1}
    assert abs(np.corrcoef(draws.seeds[:, 0], draws.cases[:, 0])[0, 1]) < 0.15


def test_both_levels_widen_the_interval():
    rng = np.random.default_rng(0)
    cases, seeds = rng.standard_normal((1, 30)), rng.standard_normal((4, 1))

    def width(values):
        _, low, high = bootstrap_mean(values)
        return high - low

    assert width(np.repeat(cases, 4, axis=0)) == pytest.approx(width(cases), rel=0.05)
    assert width(cases + seeds) > 1.5 * width(cases)


def test_the_estimate_is_the_mean_and_nan_is_left_out():
    values = np.array([[0.2, np.nan, 0.6, 0.4], [0.4, np.nan, np.nan, 0.6]])
    found = bootstrap_mean(values)
    assert found.value == pytest.approx(np.nanmean(values))
    assert 0.2 <= found.low < found.value < found.high <= 0.6
    assert found == bootstrap_mean(values, seed=0)
    assert found != bootstrap_mean(values, seed=1)


@pytest.mark.parametrize("values", [[0.5], [0.5, math.nan], [[0.5], [0.7]]])
def test_one_case_has_no_interval(values):
    found = bootstrap_mean(values)
    assert found.value == pytest.approx(np.nanmean(values))
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    counts = np.ones((2, 1, 4))
    assert math.isnan(bootstrap_pooled(counts, lesion_f1, 50).low)
    assert math.isnan(bootstrap_statistic([1.0], np.mean, 50).high)


def test_nothing_defined_is_nan():
    assert all(math.isnan(number) for number in bootstrap_mean([math.nan, math.nan]))


def test_a_higher_confidence_is_wider(skewed):
    narrow, wide = bootstrap_mean(skewed, confidence=0.5), bootstrap_mean(skewed, confidence=0.99)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_pooled_lesions_are_divided_after_they_are_added():
    one, other = LesionCounts(((9, 9, 9, 9), *[(0,) * 4] * 3)), LesionCounts(((1, 0, 9, 0), *[(0,) * 4] * 3))
    counts = np.array([[one.bands, other.bands]])
    found = bootstrap_pooled(counts, lambda total: lesion_f1(total.sum(axis=0)))
    assert found.value == pytest.approx((one + other).f1()) != pytest.approx(0.5)
    assert (found.low, found.high) == (0.0, 1.0)


def test_each_seed_is_pooled_for_itself():
    counts = np.array([[[4, 4, 4, 4], [4, 4, 4, 4]], [[4, 0, 4, 0], [4, 0, 4, 0]]])
    assert bootstrap_pooled(counts, lesion_f1, 200).value == 0.5


def test_a_statistic_that_is_undefined_now_and_then():
    # One case in three has lesions; a resample without it says nothing.
    counts = np.array([[[2, 1, 2, 2], [0, 0, 0, 0], [0, 0, 0, 0]]])
    found = bootstrap_pooled(counts, lesion_f1, 300)
    assert found.value == found.low == found.high == pytest.approx(2 / 3)


def test_sweeps_can_be_pooled():
    rows = np.array([[[[0.2, 4, 4, 8, 4], [0.6, 4, 2, 2, 2]], [[0.2, 6, 4, 8, 4], [0.6, 6, 2, 2, 2]]]])
    found = bootstrap_pooled(rows, lambda total: recall_at_precision(total, 0.8), 100)
    # Pooled precision 0.5 at recall 0.8, 1 at 0.4: s is -4.8 and 0.8, so 6/7 of the way.
    assert found.value == pytest.approx(0.8 - 0.4 * 6 / 7)
    assert found.low < found.value < found.high


def test_wrong_arguments():
    with pytest.raises(RequestError, match=r"resamples \(0\) must be >= 1"):
        bootstrap_mean([1.0, 2.0], 0)
    with pytest.raises(RequestError, match=r"confidence \(1\) must be between 0 and 1"):
        bootstrap_statistic([1.0, 2.0], np.mean, confidence=1)
    with pytest.raises(InputError, match=r"values of shape \(1, 1, 1\) found, expected \(seeds, cases\)"):
        bootstrap_mean([[[1.0]]])
    with pytest.raises(InputError, match=r"values of shape \(0,\)"):
        bootstrap_mean([])
    with pytest.raises(InputError, match="values: an infinite score"):
        bootstrap_mean([1.0, math.inf])
    with pytest.raises(InputError, match=r"counts of shape \(3,\) found, expected \(seeds, cases, ...\)"):
        bootstrap_pooled([1, 2, 3], lesion_f1)
    with pytest.raises(InputError, match="a count that is not finite"):
        bootstrap_pooled([[[1, 2, 3, math.nan]]], lesion_f1)
    with pytest.raises(InputError, match="no cases to draw from"):
        bootstrap_statistic([], np.mean)
