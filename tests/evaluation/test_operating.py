"""Sweeps equal their thresholds one by one; recall at a precision by hand."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rarevoxel.errors import InputError, RequestError
from rarevoxel.evaluation import lesion_sweep, match_lesions, pool_sweeps, recall_at_precision, sweep_rows

MM = (1.0, 1.0, 1.0)
LEVELS = (0.05, 0.3, 0.5, 0.95)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([np.float16, np.float32, np.float64]))
def test_a_sweep_is_every_threshold_alone(seed, dtype):
    rng = np.random.default_rng(seed)
    probability = (rng.random((8, 7, 6)) ** 4).astype(dtype)
    truth = rng.random(probability.shape) < 0.03
    found = lesion_sweep(probability, truth, MM, LEVELS, overlap=0.5, minimum_voxels=2)
    alone = [(t, match_lesions(probability >= t, truth, MM, overlap=0.5, minimum_voxels=2)) for t in LEVELS]
    assert found == alone


def test_the_threshold_itself_is_predicted():
    probability = np.full((3, 3, 3), 0.5)
    truth = np.ones((3, 3, 3), dtype=bool)
    counts = dict(lesion_sweep(probability, truth, MM, (0.4, 0.5, 0.6)))
    assert [counts[t].total for t in (0.4, 0.5, 0.6)] == [(1, 1, 1, 1), (1, 1, 1, 1), (1, 0, 0, 0)]


def test_nothing_at_all():
    points = lesion_sweep(np.zeros((4, 4, 4)), np.zeros((4, 4, 4), dtype=bool), MM, LEVELS)
    assert sweep_rows(points) == [[t, 0, 0, 0, 0] for t in LEVELS]
    assert math.isnan(recall_at_precision(points, 0.5))


def test_recall_at_precision_by_hand():
    # precision 0.5, 0.75, 1; recall 0.8, 0.6, 0.2
    points = [[0.1, 10, 8, 16, 8], [0.5, 10, 6, 8, 6], [0.9, 10, 2, 2, 2]]
    assert recall_at_precision(points, 0.5) == 0.8
    assert recall_at_precision(points, 0.75) == 0.6
    assert recall_at_precision(points, 1.0) == 0.2
    # s = true - 0.6 * predicted: -1.6 and 1.2, so w = 4/7 of the way from 0.8 to 0.6.
    assert recall_at_precision(points, 0.6) == pytest.approx(0.8 - 0.2 * 4 / 7)
    assert recall_at_precision(points[::-1], 0.6) == pytest.approx(0.8 - 0.2 * 4 / 7)
    assert recall_at_precision(points, 0.1) == 0.8


def test_between_two_thresholds_the_pooled_counts_have_just_that_precision():
    a, b = np.array([10, 8, 16, 8.0]), np.array([10, 6, 8, 6.0])
    w = 4 / 7
    _, found, predicted, true = (1 - w) * a + w * b
    assert true / predicted == pytest.approx(0.6)
    assert recall_at_precision([[0.1, *a], [0.5, *b]], 0.6) == pytest.approx(found / 10)


def test_a_precision_never_reached_gives_0_not_nan():
    assert recall_at_precision([[0.1, 10, 8, 16, 4], [0.5, 10, 6, 8, 3]], 0.9) == 0.0
    # Silence at a high threshold is no way to reach it either.
    assert recall_at_precision([[0.1, 10, 8, 16, 4], [0.9, 10, 0, 0, 0]], 0.9) == 0.0
    assert recall_at_precision([[0.9, 10, 0, 0, 0]], 0.9) == 0.0


def test_precision_need_not_rise_with_the_threshold():
    points = [[0.1, 10, 5, 5, 5], [0.3, 10, 9, 10, 5], [0.5, 10, 7, 7, 7]]
    assert recall_at_precision(points, 1.0) == 0.7


def test_a_precision_met_up_to_round_off_is_met():
    # 0.07 * 100 is 7.000000000000001, 0.29 * 100 is 28.999999999999996.
    for true, predicted in ((7, 100), (55, 100), (29, 100), (7, 10)):
        assert recall_at_precision([[0.5, 100, true, predicted, true]], true / predicted) == true / 100


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 12)] * 3), min_size=1, max_size=6))
def test_more_precision_never_finds_more(rows):
    points = [[i / 10, 12, found, true + false, true] for i, (found, true, false) in enumerate(rows, start=1)]
    recalls = [recall_at_precision(points, p) for p in (0.1, 0.4, 0.5, 0.9, 1.0)]
    assert all(a >= b - 1e-12 for a, b in pairwise(recalls))
    assert all(0 <= recall <= 1 for recall in recalls)


def test_pooled_sweeps_add_lesions():
    one, two = [[0.1, 3, 2, 5, 2], [0.5, 3, 1, 1, 1]], [[0.1, 1, 1, 2, 1], [0.5, 1, 0, 0, 0]]
    table = pool_sweeps([one, two])
    assert table.tolist() == [[0.1, 4, 3, 7, 3], [0.5, 4, 1, 1, 1]]
    assert recall_at_precision(table, 1.0) == 0.25


def test_counts_and_rows_give_the_same_recall():
    rng = np.random.default_rng(3)
    probability = rng.random((8, 8, 8)) ** 6
    truth = (probability > 0.4) & (rng.random(probability.shape) < 0.7)
    points = lesion_sweep(probability, truth, MM, LEVELS)
    rows = json.loads(json.dumps(sweep_rows(points)))
    assert recall_at_precision(points, 0.6) == recall_at_precision(rows, 0.6) > 0


def test_wrong_arguments():
    p, truth = np.zeros((4, 4, 4)), np.zeros((4, 4, 4), dtype=bool)
    for levels in ((), (0.5, 0.5), (0.5, 0.1), (0.0, 0.5), (0.5, 1.1), (math.nan,)):
        with pytest.raises(RequestError, match=r"thresholds .* must rise, each in \(0, 1\]"):
            lesion_sweep(p, truth, MM, levels)
    with pytest.raises(InputError, match=r"int64 found, expected floating, shape \(4, 4, 4\)"):
        lesion_sweep(p.astype(int), truth, MM, LEVELS)
    with pytest.raises(InputError, match=r"from 0 to 3 found, expected all in \[0, 1\].*sigmoid"):
        lesion_sweep(np.where(np.arange(4) == 1, 3.0, p), truth, MM, LEVELS)
    with pytest.raises(InputError, match="expected all in"):
        lesion_sweep(p * math.nan, truth, MM, LEVELS)
    with pytest.raises(RequestError, match=r"precision \(0\) must be in"):
        recall_at_precision([[0.5, 1, 1, 1, 1]], 0)
    with pytest.raises(InputError, match="expected rows of threshold, truth"):
        recall_at_precision([[0.5, 1, 1]], 0.5)
    with pytest.raises(InputError, match="expected rows of threshold, truth"):
        recall_at_precision([], 0.5)
    with pytest.raises(InputError, match="no sweeps to pool"):
        pool_sweeps([])
    with pytest.raises(InputError, match=r"thresholds \[0.5\] and \[0.4\] cannot be pooled"):
        pool_sweeps([[[0.4, 1, 1, 1, 1]], [[0.5, 1, 1, 1, 1]]])
