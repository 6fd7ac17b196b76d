"""Areas under curves and where they reach a height, by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rarevoxel.learning.simulate.curves import first_reach, mean_height


def test_mean_height_is_the_area_divided_by_the_width() -> None:
    # Trapezoids of 4 * 0.3 and 8 * 0.6 over a width of 12.
    assert mean_height([6, 10, 18], [0.2, 0.4, 0.8]) == pytest.approx((4 * 0.3 + 8 * 0.6) / 12)
    assert mean_height([6, 10], [0.5, 0.5]) == 0.5


def test_mean_height_stops_inside_a_piece() -> None:
    # At 14 the curve is at 0.6: trapezoids of 4 * 0.3 and 4 * 0.5 over a width of 8.
    assert mean_height([6, 10, 18], [0.2, 0.4, 0.8], end=14) == pytest.approx((4 * 0.3 + 4 * 0.5) / 8)
    assert mean_height([6, 10, 18], [0.2, 0.4, 0.8], end=20) == mean_height([6, 10, 18], [0.2, 0.4, 0.8])
    assert mean_height([6, 10, 18], [0.2, 0.4, 0.8], end=6) == 0.2


def test_a_gap_makes_the_mean_height_undefined() -> None:
    assert math.isnan(mean_height([6, 10], [0.5, math.nan]))


def test_first_reach_is_straight_between_points() -> None:
    assert first_reach([6, 10, 14], [0.2, 0.4, 0.6], 0.45) == pytest.approx(11.0)
    assert first_reach([6, 10, 14], [0.2, 0.4, 0.6], 0.1) == 6
    assert first_reach([6, 10, 14], [0.2, 0.4, 0.6], 0.6) == 14


def test_a_curve_that_falls_again_counts_where_it_first_got_there() -> None:
    assert first_reach([6, 10, 14], [0.2, 0.6, 0.3], 0.5) == pytest.approx(9.0)


def test_what_is_never_reached_is_infinite_and_what_is_undefined_is_nan() -> None:
    assert first_reach([6, 10], [0.2, 0.4], 0.5) == math.inf
    assert first_reach([6, 10], [math.nan, 0.6], 0.5) == 10
    assert math.isnan(first_reach([6, 10], [0.2, 0.4], math.nan))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_every_curve_reaches_its_own_end_by_its_end(ys: list[float]) -> None:
    xs = [6 + 4 * at for at in range(len(ys))]
    assert xs[0] <= first_reach(xs, ys, ys[-1]) <= xs[-1]
    assert min(ys) - 1e-9 <= mean_height(xs, ys) <= max(ys) + 1e-9
