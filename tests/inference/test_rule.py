"""How probabilities become labels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rarevoxel.config import InferenceConfig
from rarevoxel.inference.rule import rule_of, thresholds_without

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


def test_labels_follow_the_thresholds_and_the_peak() -> None:
    p = np.zeros((3, 5, 1, 1), np.float32)
    p[:, 0, 0, 0] = 0.95, 0.45, 0.1
    p[:, 4, 0, 0] = 0.3, 0.3, 0.3
    settings = InferenceConfig()
    assert rule_of({}, ["t2f"], settings).apply(p, 2.0)[0].ravel().tolist() == [2, 0, 0, 0, 0]
    assert rule_of(INFO, ["t2f"], settings).apply(p, 2.0)[0].ravel().tolist() == [1, 0, 0, 0, 2]
    labels, dropped = rule_of({**INFO, "peak": 0.9}, ["t2f"], settings).apply(p, 2.0)
    assert labels.ravel().tolist() == [1, 0, 0, 0, 0]
    assert dropped.faint == (2.0,)
    assert rule_of({}, [], InferenceConfig(smallest_mm3=2.1)).apply(p, 2.0)[1].small == (2.0,)
