"""Thresholds of cases without a sequence."""

from __future__ import annotations

import math

import pytest

from rarevoxel.inference.thresholds import thresholds_without

INFO = {"missing": {"t2f": {"WT": 0.15, "TC": 0.4}, "t1c": {"WT": 0.3}}}


def test_the_weights_say_where_a_missing_sequence_counts() -> None:
    assert thresholds_without(INFO, ["t2f"], 0.5) == pytest.approx((0.15, 0.4, 0.5))
    assert thresholds_without(INFO, ["t1c", "t2f"], 0.5) == pytest.approx((0.15, 0.4, 0.5)), "the lowest"
    assert thresholds_without(INFO, ["t1n"], 0.5) == (0.5, 0.5, 0.5)
    assert thresholds_without(INFO, [], 0.35) == (0.35, 0.35, 0.35)
    assert thresholds_without({}, ["t2f"], 0.35) == (0.35, 0.35, 0.35)


def test_a_configured_threshold_is_moved_by_as_much_in_logits() -> None:
    moved = thresholds_without(INFO, ["t2f"], 0.4)[0]
    assert math.log(moved / (1 - moved)) == pytest.approx(math.log(0.4 / 0.6) + math.log(0.15 / 0.85))
