"""Lesions counted by hand, and against a second, slow way to count."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from rarevoxel.errors import InputError, RequestError
from rarevoxel.evaluation import SIZE_BANDS, LesionCounts, LesionMatcher, lesion_f1, match_lesions

MM = (1.0, 1.0, 1.0)
ZERO = (0, 0, 0, 0)
SMALL, MEDIUM, LARGE, HUGE = SIZE_BANDS


def empty(shape=(12, 12, 12)):
    return np.zeros(shape, dtype=bool)


def only(band, counts):
    return LesionCounts(tuple(counts if name == band else ZERO for name in SIZE_BANDS))


def test_one_found_one_missed_one_false_alarm():
    truth, prediction = empty(), empty()
    truth[0:2, 0:2, 0:2] = True
    truth[6:8, 6:8, 6:8] = True
    prediction[1:3, 0:2, 0:2] = True
    prediction[11, 11, 11] = True
    counts = match_lesions(prediction, truth, MM)
    assert counts == only(SMALL, (2, 1, 2, 1))
    assert (counts.recall(), counts.precision(), counts.f1()) == (0.5, 0.5, 0.5)


def test_found_asks_the_truth_and_true_asks_the_prediction():
    truth, prediction = empty(), empty()
    truth[:4, :5, :1] = True
    prediction[:1, :1, :] = True
    # 1 of 20 true voxels is predicted (5 %), 1 of 12 predicted ones is in the truth (8.3 %).
    assert match_lesions(prediction, truth, MM).total == (1, 0, 1, 0)
    assert match_lesions(prediction, truth, MM, overlap=0.06).total == (1, 0, 1, 1)
    assert match_lesions(prediction, truth, MM, overlap=0.05).total == (1, 1, 1, 1)


def test_the_overlap_itself_is_enough_whatever_the_round_off():
    # 0.07 * 100 is 7.000000000000001.
    truth, prediction = empty((100, 2, 2)), empty((100, 2, 2))
    truth[:, 0, 0] = True
    prediction[:7, 0, 0] = True
    assert match_lesions(prediction, truth, MM, overlap=0.07).recall() == 1.0
    prediction[6] = False
    assert match_lesions(prediction, truth, MM, overlap=0.07).recall() == 0.0


def test_corners_touch():
    truth = empty()
    truth[0, 0, 0] = truth[1, 1, 1] = True
    assert match_lesions(empty(), truth, MM).total == (1, 0, 0, 0)
    truth[1, 1, 1], truth[2, 2, 2] = False, True
    assert match_lesions(empty(), truth, MM).total == (2, 0, 0, 0)


def test_one_prediction_may_find_two_lesions_and_pieces_are_all_true():
    truth, prediction = empty(), empty()
    truth[0:3, 0, 0] = truth[5:8, 0, 0] = True
    prediction[0:8, 0, 0] = True
    assert match_lesions(prediction, truth, MM).total == (2, 2, 1, 1)
    assert match_lesions(truth, prediction, MM).total == (1, 1, 2, 2)


@pytest.mark.parametrize(
    ("voxels", "spacing", "band"),
    [
        (99, MM, SMALL),
        (100, MM, MEDIUM),
        (499, MM, MEDIUM),
        (500, MM, LARGE),
        (1999, MM, LARGE),
        (2000, MM, HUGE),
        (12, (2.0, 2.0, 2.0), SMALL),
        (13, (2.0, 2.0, 2.0), MEDIUM),
        (100, (0.99999998, 1.0, 0.99999998), MEDIUM),
        (50, (1.0, 1.0, 2.0), MEDIUM),
    ],
)
def test_bands_are_in_ml_with_the_lower_bound_included(voxels, spacing, band):
    mask = np.zeros((20, 20, 20), dtype=bool)
    mask.ravel()[:voxels] = True
    assert match_lesions(mask, mask, spacing) == only(band, (1, 1, 1, 1))


def test_true_and_predicted_lesions_are_binned_by_their_own_volume():
    truth, prediction = empty(), empty()
    truth[:5, :5, :4] = True
    prediction[:5, :5, :3] = True
    counts = match_lesions(prediction, truth, MM)
    assert counts.of(MEDIUM) == (1, 1, 0, 0)
    assert counts.of(SMALL) == (0, 0, 1, 1)
    assert math.isnan(counts.recall(SMALL))
    assert counts.recall(MEDIUM) == counts.precision(SMALL) == 1.0
    assert math.isnan(counts.precision(MEDIUM))


def test_specks_neither_find_nor_alarm():
    truth, prediction = empty(), empty()
    truth[0:2, 0, 0] = True
    prediction[0, 0, 0] = prediction[9, 9, 9] = True
    prediction[5:8, 5, 5] = True
    assert match_lesions(prediction, truth, MM).total == (1, 1, 3, 1)
    assert match_lesions(prediction, truth, MM, minimum_voxels=2).total == (1, 0, 1, 0)
    assert match_lesions(prediction, truth, MM, minimum_voxels=3).total == (1, 0, 1, 0)
    assert match_lesions(prediction, truth, MM, minimum_voxels=4).total == (1, 0, 0, 0)


@pytest.mark.parametrize(
    ("truth", "prediction", "recall", "precision", "f1"),
    [(0, 0, None, None, None), (1, 0, 0.0, None, 0.0), (0, 1, None, 0.0, 0.0), (1, 1, 1.0, 1.0, 1.0)],
)
def test_the_table_of_empty_masks(truth, prediction, recall, precision, f1):
    masks = {0: empty(), 1: ~empty()}
    counts = match_lesions(masks[prediction], masks[truth], MM)
    found = [counts.recall(), counts.precision(), counts.f1()]
    assert [None if math.isnan(value) else value for value in found] == [recall, precision, f1]


def test_f1_without_a_hit_is_0_not_a_division():
    assert lesion_f1((3, 0, 2, 0)) == 0.0
    assert lesion_f1((4, 2, 1, 1)) == pytest.approx(2 * 0.5 * 1 / 1.5)


def by_hand(prediction, truth, overlap):
    """Count component by component; all in one band."""

    def hits(of, against):
        labels, n = ndimage.label(of, structure=np.ones((3, 3, 3)))
        shares = [np.mean(against[labels == i]) for i in range(1, n + 1)]
        return n, sum(share >= overlap - 1e-9 for share in shares)

    return (*hits(truth, prediction), *hits(prediction, truth))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.1, 0.3]), st.sampled_from([0.1, 0.5, 1.0]))
def test_random_masks_count_as_component_by_component(seed, density, overlap):
    rng = np.random.default_rng(seed)
    truth, noise = rng.random((2, 7, 8, 9)) < density
    prediction = np.where(rng.random(truth.shape) < 0.7, truth, noise)
    counts = match_lesions(prediction, truth, (0.1, 0.1, 0.1), overlap)
    assert counts.total == counts.of(SMALL) == by_hand(prediction, truth, overlap)
    swapped = match_lesions(truth, prediction, (0.1, 0.1, 0.1), overlap)
    assert swapped.total == (*counts.total[2:], *counts.total[:2])
    assert LesionMatcher(truth, (0.1, 0.1, 0.1), overlap).match(prediction) == counts


def test_adding_pools_lesions_not_rates():
    one, other = only(SMALL, (4, 1, 1, 1)), only(HUGE, (1, 1, 3, 1))
    both = sum([one, other], LesionCounts())
    assert both.total == (5, 2, 4, 2)
    assert both.recall() == 2 / 5
    assert both.recall(SMALL) == 1 / 4
    assert both.f1() == pytest.approx(2 * 0.5 * 0.4 / 0.9)
    assert one + other == other + one


def test_records_survive_json():
    counts = LesionCounts(((4, 1, 2, 1), ZERO, (1, 1, 3, 0), ZERO))
    record = counts.to_dict()
    assert record[LARGE] == [1, 1, 3, 0]
    assert LesionCounts.from_dict(json.loads(json.dumps(record))) == counts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tiny": [0, 0, 0, 0]}, r"has bands .*'tiny'.*score this case again"),
        ({SMALL: [1, 2, 0, 0]}, "2 found of 1"),
        ({SMALL: [1, 1, 0]}, "four whole numbers"),
        ({SMALL: ["x", 1, 0, 0]}, "four whole numbers"),
    ],
)
def test_records_that_cannot_be(change, message):
    with pytest.raises(InputError, match=message):
        LesionCounts.from_dict(LesionCounts().to_dict() | change)


def test_wrong_arguments():
    mask = empty()
    with pytest.raises(InputError, match=r"3 true of 2 predicted"):
        only(SMALL, (0, 0, 2, 3))
    with pytest.raises(InputError, match=r"counts of 1 bands, expected those of"):
        LesionCounts((ZERO,))
    with pytest.raises(RequestError, match="unknown size band 'tiny'"):
        LesionCounts().recall("tiny")
    with pytest.raises(RequestError, match=r"overlap \(0\) must be in \(0, 1\]"):
        match_lesions(mask, mask, MM, overlap=0)
    with pytest.raises(RequestError, match=r"minimum_voxels \(0\) must be >= 1"):
        match_lesions(mask, mask, MM, minimum_voxels=0)
    with pytest.raises(InputError, match=r"prediction of shape .* uint8 found, expected a boolean mask"):
        match_lesions(mask.astype(np.uint8), mask, MM)
    with pytest.raises(InputError, match=r"truth of shape \(12, 12\)"):
        match_lesions(mask, mask[0], MM)
    with pytest.raises(InputError, match=r"shape \(11, 12, 12\) and truth shape \(12, 12, 12\) must be equal"):
        match_lesions(mask[1:], mask, MM)
    with pytest.raises(InputError, match=r"spacing \[1.0, 0.0, 1.0\] must be three positive"):
        match_lesions(mask, mask, (1, 0, 1))
