"""The quality of a label under a model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rarevoxel.errors import InputError
from rarevoxel.evaluation.label_quality import label_quality

SHAPE = (3, 4, 4, 4)
probabilities = arrays.arrays(np.float64, SHAPE, elements=st.floats(0, 1))
masks = arrays.arrays(np.bool_, SHAPE)


def test_a_hand_number() -> None:
    p, mask = np.zeros(SHAPE), np.zeros(SHAPE, dtype=bool)
    p[0, 0, 0, :2], mask[0, 0, 0, 0] = (0.8, 0.4), True
    weights = np.exp((1 - np.array([0.8, 0.6])) / 0.1)
    expected = float((weights * [0.8, 0.6]).sum() / weights.sum())
    assert label_quality(p, mask)["WT"] == pytest.approx(expected)
    assert 0.6 < expected < 0.63
    assert label_quality(p, mask)["ET"] == 1.0


def test_background_far_from_everything_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    p, mask = np.zeros((3, 20, 8, 8)), np.zeros((3, 20, 8, 8), dtype=bool)
    p[:, :6], mask[:, 2:5, 2:5, 2:5] = rng.uniform(size=(3, 6, 8, 8)), True
    assert label_quality(p, mask) == label_quality(p[:, :6], mask[:, :6])


def test_a_lesion_nobody_labelled_and_one_nobody_sees_lower_it() -> None:
    p, mask = np.full((3, 9, 9, 9), 0.02), np.zeros((3, 9, 9, 9), dtype=bool)
    p[:, 1:4, 1:4, 1:4], mask[:, 1:4, 1:4, 1:4] = 0.95, True
    good = label_quality(p, mask)["WT"]
    missed, made_up = p.copy(), mask.copy()
    missed[:, 7, 7, 7], made_up[:, 7, 7, 7] = 0.9, True
    assert label_quality(missed, mask)["WT"] < 0.5 * good
    assert label_quality(p, made_up)["WT"] < 0.5 * good


@given(probabilities, masks)
def test_it_lies_between_the_worst_and_the_best_voxel(p: np.ndarray, mask: np.ndarray) -> None:
    for i, value in enumerate(label_quality(p, mask).values()):
        near = mask[i] | (p[i] >= 0.1)
        own = np.where(mask[i], p[i], 1 - p[i])[near]
        assert (own.min() - 1e-12 <= value <= own.max() + 1e-12) if near.any() else value == 1


@given(probabilities, masks)
def test_a_colder_soft_minimum_is_lower(p: np.ndarray, mask: np.ndarray) -> None:
    cold, warm = label_quality(p, mask, 0.01), label_quality(p, mask, 10.0)
    assert all(cold[name] <= warm[name] + 1e-9 for name in cold)


def test_bad_input_is_refused() -> None:
    p, mask = np.zeros(SHAPE), np.zeros(SHAPE, dtype=bool)
    with pytest.raises(InputError, match="temperature"):
        label_quality(p, mask, 0.0)
    with pytest.raises(InputError, match="probability from"):
        label_quality(p + 2, mask)
    with pytest.raises(InputError, match="shape"):
        label_quality(p[:2], mask)
