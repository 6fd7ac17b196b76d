"""Dice per region, by hand and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from rarevoxel.evaluation import dice, mean_dice, region_dice


def mask(*values: int) -> np.ndarray:
    return np.array(values, dtype=bool)


def test_dice_by_hand() -> None:
    assert dice(mask(1, 1, 0, 0), mask(0, 1, 1, 0)) == pytest.approx(2 * 1 / (2 + 2))
    assert dice(mask(1, 1, 1, 0), mask(0, 0, 1, 0)) == pytest.approx(2 * 1 / (3 + 1))
    assert dice(mask(1, 0), mask(0, 1)) == 0.0
    assert dice(mask(1, 0), mask(1, 0)) == 1.0


def test_the_table_of_empty_masks() -> None:
    assert dice(mask(0, 0), mask(0, 0)) == 1.0
    assert dice(mask(1, 0), mask(0, 0)) == 0.0
    assert dice(mask(0, 0), mask(1, 0)) == 0.0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_dice_equals_the_f1_score(pairs: list[tuple[bool, bool]]) -> None:
    prediction, truth = (np.array(column) for column in zip(*pairs, strict=True))
    assert dice(prediction, truth) == pytest.approx(f1_score(truth, prediction, zero_division=1.0))
    assert dice(prediction, truth) == dice(truth, prediction)


def test_regions_by_hand() -> None:
    truth = np.array([0, 1, 2, 3], dtype=np.uint8).reshape(4, 1, 1)
    prediction = np.array([2, 1, 2, 1], dtype=np.uint8).reshape(4, 1, 1)
    # WT: 4 predicted, 3 true, 3 in common; TC: 2 and 2, both in common; ET: none predicted, one true.
    assert region_dice(prediction, truth) == {"WT": pytest.approx(6 / 7), "TC": 1.0, "ET": 0.0}


def test_a_perfect_prediction_scores_1_whatever_the_values() -> None:
    truth = np.random.default_rng(0).integers(0, 4, (5, 6, 7)).astype(np.uint8)
    assert region_dice(truth, truth) == {"WT": 1.0, "TC": 1.0, "ET": 1.0}


def test_the_mean_is_over_cases_of_the_mean_over_regions() -> None:
    assert mean_dice([{"WT": 1.0, "TC": 0.5}, {"WT": 0.0, "TC": 0.1}]) == pytest.approx((0.75 + 0.05) / 2)
    assert math.isnan(mean_dice([]))
