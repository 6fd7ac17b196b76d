"""Calibrated confidence: by hand, against scikit-learn, and on cases that the map has not seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from rarevoxel.errors import InputError
from rarevoxel.learning.confidence import FEWEST, ConfidenceMap, calibrate, calibrate_regions, calibration_error

share = st.integers(0, 50).map(lambda k: k / 50)  # Its peer takes values a rounding error apart for equal ones.
pairs = st.lists(st.tuples(share, share), min_size=FEWEST, max_size=40)


def test_error_by_hand() -> None:
    x, y = np.array([0.1, 0.9, 0.2, 0.8]), np.array([0.3, 0.5, 0.0, 0.6])
    assert calibration_error(x, y, groups=2) == pytest.approx((abs(0.3 - 0.3) + abs(1.7 - 1.1)) / 4)
    assert calibration_error(x, y, groups=9) == pytest.approx((0.2 + 0.4 + 0.2 + 0.2) / 4)


def test_few_cases_change_nothing() -> None:
    found = calibrate([0.9] * (FEWEST - 1), [0.5] * (FEWEST - 1))
    assert found.map(0.37) == 0.37
    assert found.error_after == found.error_before == pytest.approx(0.4)
    assert found.distance_after == found.distance_before == pytest.approx(0.4)
    assert not found.pays
    none = calibrate([], [])
    assert none.cases == 0
    assert math.isnan(none.error_before)
    assert ConfidenceMap()(0.2) == 0.2


def test_overconfidence_is_taken_back_on_cases_left_out() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0.5, 1, 80)
    y = np.clip(x - 0.25 + rng.normal(0, 0.05, 80), 0, 1)
    found = calibrate(x.tolist(), y.tolist())
    assert found.error_before == pytest.approx(0.25, abs=0.02)
    assert found.error_after < 0.05
    assert found.distance_after < 0.08
    assert found.pays
    assert found.map(0.75) == pytest.approx(0.5, abs=0.08)


def test_left_out_cases_are_judged_by_the_others() -> None:
    x, y = [0.1 * k for k in range(10)] + [0.95], [0.5] * 10 + [1.0]
    found = calibrate(x, y)
    assert found.map(0.95) == 1.0
    # Without itself the last is told 0.5; the one before it, at 0.9, lies two thirds of the way from 0.8 to 0.95.
    assert found.distance_after == pytest.approx((0.5 + 0.5 * 2 / 3) / 11)


@settings(max_examples=25, deadline=None)
@given(drawn=pairs)
def test_it_is_the_isotonic_regression_of_scikit_learn(drawn: list[tuple[float, float]]) -> None:
    x, y = (np.array(values) for values in zip(*drawn, strict=True))
    found = calibrate(x.tolist(), y.tolist()).map
    peer = IsotonicRegression(out_of_bounds="clip").fit(x, y)
    np.testing.assert_allclose([found(value) for value in x], peer.predict(x), atol=1e-6)
    said = [found(value) for value in np.linspace(0, 1, 21)]
    assert said == sorted(said)
    assert 0 <= min(said) <= max(said) <= 1


def test_regions_are_calibrated_from_the_cases_both_are_known_of() -> None:
    confidence = {"a": {"WT": 0.9, "ET": 0.4}, "b": {"WT": 0.8, "ET": 0.3}, "c": {"WT": 0.1, "ET": 0.1}}
    found = calibrate_regions(confidence, {"a": {"WT": 0.8, "ET": 0.5}, "b": {"WT": 0.6}, "z": {"WT": 0.0}})
    assert {region: one.cases for region, one in found.items()} == {"WT": 2, "ET": 1}
    assert found["WT"].distance_before == pytest.approx(0.15)
    assert calibrate_regions(confidence, {}) == {}


@pytest.mark.parametrize(
    ("confidence", "dice", "words"),
    [
        ([0.1, 0.2], [0.1], r"shape \(2,\), Dice of shape \(1,\)"),
        ([1.2], [0.1], "confidence 1.2, expected 0 to 1"),
        ([0.2], [math.nan], "Dice nan, expected 0 to 1"),
    ],
)
def test_what_is_no_pair(confidence: list[float], dice: list[float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        calibrate(confidence, dice)
