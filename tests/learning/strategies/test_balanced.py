"""Balance of sizes, by hand and against scipy."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from small_pools import pool_of, rank, score

from rarevoxel.learning.strategies.balanced import shape_distance
from rarevoxel.statistics import Branch, select_branch


def test_distance_by_hand() -> None:
    assert shape_distance(1.5, 3.0, 0.25) == pytest.approx(1.0 + 0.25 * 2.0)
    assert shape_distance(-1.5, -3.0, 0.25) == pytest.approx(1.5)
    assert shape_distance(0.4, 0.9, 0.25) == 0
    assert shape_distance(math.nan, math.nan, 0.25) == 0


@given(st.floats(-3, 3), st.floats(-2, 9))
def test_within_the_distance_0_no_branch_for_skewed_sizes_is_needed(skewness: float, kurtosis: float) -> None:
    if shape_distance(skewness, kurtosis, 0.25) == 0 and abs(skewness) < 0.5:
        assert select_branch(skewness, kurtosis) in (Branch.ARCSINE, Branch.BCE_DICE, Branch.LOG10)
    if select_branch(skewness, kurtosis) in (Branch.FISHER, Branch.LOGIT, Branch.LN):
        assert shape_distance(skewness, kurtosis, 0.25) > 0 or abs(skewness) == 0.5


def test_value_against_scipy() -> None:
    volumes = [1.0, 2.0, 2.0, 3.0, 40.0]

    def distance(values: list[float]) -> float:
        return shape_distance(float(stats.skew(values)), float(stats.kurtosis(values)), 0.25)

    pool = pool_of(score("a", regions_ml={"ET": 0.03}), labelled_volumes={"ET": tuple(volumes)})
    (choice,) = rank("balanced", pool, region="ET")
    assert choice.value == pytest.approx(distance(volumes) - distance([*volumes, 30.0]))
    assert choice.value > 0


def test_a_second_large_one_balances_and_one_more_small_one_does_not() -> None:
    small, large = score("small", regions_ml={"ET": 0.002}), score("large", regions_ml={"ET": 0.04})
    pool = pool_of(small, large, labelled_volumes={"ET": (1.0, 2.0, 2.0, 3.0, 40.0)})
    choices = rank("balanced", pool, region="ET")
    assert [choice.case for choice in choices] == ["large", "small"]
    assert choices[0].value > 0 > choices[1].value
    reason = "enhancing tumour of 0.04 ml predicted: S from 1.49 to 0.70, K from 0.24 to -1.50 over 6 cases"
    assert choices[0].reasons == (reason,)


def test_with_few_labels_nothing_is_promised() -> None:
    (choice,) = rank("balanced", pool_of(score("a", regions_ml={"ET": 3.0})))
    assert choice.value == 0
    assert "the 0 labelled volumes have no shape yet" in choice.reasons[0]
