"""Calibration by hand and against scikit-learn."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from rarevoxel.errors import InputError, RequestError
from rarevoxel.evaluation import CalibrationBins


def test_by_hand():
    p, t = np.array([0.0, 0.2, 0.4, 0.9]), np.array([False, True, False, True])
    bins = CalibrationBins.from_probability(p, t, bins=2)
    assert bins.count == (3, 1)
    assert bins.positive == (1, 1)
    # |0.6 - 1| in the lower bin, |0.9 - 1| in the upper one.
    assert bins.ece == pytest.approx((0.4 + 0.1) / 4)
    assert bins.brier == pytest.approx((0 + 0.64 + 0.16 + 0.01) / 4)
    assert bins.curve == [(pytest.approx(0.2), pytest.approx(1 / 3)), (0.9, 1.0)]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.booleans()), min_size=2, max_size=80),
    st.sampled_from([1, 4, 10, 15, 20]),
    st.sampled_from([np.float32, np.float64]),
)
def test_against_scikit_learn(pairs, n, dtype):
    # Sixtieths lie on the edges of the bins, too.
    p = np.array([k / 60 for k, _ in pairs], dtype=dtype)
    t = np.array([truth for _, truth in pairs])
    bins = CalibrationBins.from_probability(p, t, bins=n)
    assert bins.brier == pytest.approx(brier_score_loss(t, p.astype(np.float64), pos_label=True), abs=1e-12)
    if len(set(t.tolist())) == 2:
        fraction, mean = calibration_curve(t, p.astype(np.float64), n_bins=n)
        np.testing.assert_allclose(bins.curve, np.stack([mean, fraction], axis=1), atol=1e-9)
        weights = np.array([c for c in bins.count if c]) / len(p)
        assert bins.ece == pytest.approx(float(weights @ np.abs(fraction - mean)), abs=1e-9)


def test_parts_add_up_to_the_whole():
    rng = np.random.default_rng(1)
    p, t = rng.random((6, 5, 4)).astype(np.float32), rng.random((6, 5, 4)) < 0.3
    whole = CalibrationBins.from_probability(p, t)
    parts = CalibrationBins.from_probability(p[:2], t[:2]) + CalibrationBins.from_probability(p[2:], t[2:])
    assert parts.count == whole.count
    assert parts.positive == whole.positive
    assert parts.ece == pytest.approx(whole.ece)
    assert parts.brier == pytest.approx(whole.brier)


def test_only_the_mask_counts():
    rng = np.random.default_rng(2)
    p, t, mask = rng.random((4, 4, 4)), rng.random((4, 4, 4)) < 0.5, rng.random((4, 4, 4)) < 0.5
    assert CalibrationBins.from_probability(p, t, mask) == CalibrationBins.from_probability(p[mask], t[mask])
    assert CalibrationBins.from_probability(p, t, mask).voxels == mask.sum()


def test_perfect_and_worst():
    t = np.array([True, False, True])
    perfect = CalibrationBins.from_probability(t.astype(float), t)
    worst = CalibrationBins.from_probability((~t).astype(float), t)
    assert (perfect.ece, perfect.brier) == (0.0, 0.0)
    assert (worst.ece, worst.brier) == (1.0, 1.0)


def test_an_empty_mask_is_undefined():
    bins = CalibrationBins.from_probability(np.zeros(3), np.zeros(3, dtype=bool), np.zeros(3, dtype=bool))
    assert math.isnan(bins.ece)
    assert math.isnan(bins.brier)
    assert bins.curve == []


def test_records_survive_json():
    rng = np.random.default_rng(4)
    bins = CalibrationBins.from_probability(rng.random(50), rng.random(50) < 0.4, bins=7)
    assert CalibrationBins.from_dict(json.loads(json.dumps(bins.to_dict()))) == bins


def test_wrong_arguments():
    p, t = np.zeros(4), np.zeros(4, dtype=bool)
    with pytest.raises(InputError, match="expected all in"):
        CalibrationBins.from_probability(p - 0.1, t)
    with pytest.raises(InputError, match=r"truth of shape \(4,\), int64 found, expected boolean"):
        CalibrationBins.from_probability(p, t.astype(int))
    with pytest.raises(InputError, match=r"mask of shape \(3,\), bool found, expected boolean, \(4,\)"):
        CalibrationBins.from_probability(p, t, t[:3])
    with pytest.raises(RequestError, match=r"bins \(0\) must be >= 1"):
        CalibrationBins.from_probability(p, t, bins=0)
    with pytest.raises(InputError, match="of 3 and of 4 bins cannot be added"):
        CalibrationBins.from_probability(p, t, bins=3) + CalibrationBins.from_probability(p, t, bins=4)
    with pytest.raises(InputError, match=r"\[1, 2, 1\] counts, probabilities and positives"):
        CalibrationBins((1,), (0.5, 0.5), (1,), 0.0)
    with pytest.raises(InputError, match="calibration record cannot be read: KeyError 'positive'"):
        CalibrationBins.from_dict({"count": [1], "probability": [0.5]})
