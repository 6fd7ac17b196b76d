"""One case of a model: every number against masks made by hand, the largest error, and the words for it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from rarevoxel.errors import InputError, LabelError, RequestError
from rarevoxel.evaluation import CalibrationBins, hd95
from rarevoxel.evaluation.case_evaluation import NEAR_MM, CaseEvaluation, evaluate_case
from rarevoxel.evaluation.sentences import case_sentences, place
from rarevoxel.evaluation.worst import Kept, Worst

SHAPE = (40, 30, 24)
AFFINE = np.array([[-2.0, 0, 0, 50], [0, 1, 0, -20], [0, 0, 1, 5], [0, 0, 0, 1]])
"""Voxels of 2 x 1 x 1 mm, 0.002 ml; the first axis runs to the left."""

EDEMA, NECROSIS, ENHANCING = 2, 1, 3


def made() -> tuple[np.ndarray, np.ndarray]:
    """Prediction and label: 48 of 64 voxels found, 8 voxels missed as a whole, 27 voxels made up."""
    truth = np.zeros(SHAPE, np.uint8)
    truth[2:6, 2:6, 2:6] = EDEMA
    truth[32:34, 12:14, 12:14] = EDEMA
    prediction = np.zeros(SHAPE, np.uint8)
    prediction[3:7, 2:6, 2:6] = EDEMA
    prediction[2:5, 14:17, 14:17] = EDEMA
    return prediction, truth


def evaluated(prediction: np.ndarray, truth: np.ndarray, **options) -> CaseEvaluation:
    return evaluate_case("case-1", "patient-1", prediction, truth, AFFINE, **options)


def test_the_numbers_of_a_case_made_by_hand() -> None:
    prediction, truth = made()
    case = evaluated(prediction, truth)
    assert (case.case, case.patient, list(case.regions)) == ("case-1", "patient-1", ["WT", "TC", "ET"])
    wt = case.regions["WT"]
    assert wt.dice == pytest.approx(2 * 48 / (72 + 91))
    assert (wt.truth_ml, wt.predicted_ml) == (pytest.approx(0.144), pytest.approx(0.182))
    assert wt.difference_ml == pytest.approx(0.038)
    assert wt.hd95_mm == pytest.approx(hd95(prediction > 0, truth > 0, (2, 1, 1)))
    assert wt.lesions.to_dict() == {
        "<0.1 ml": [1, 0, 1, 0], "0.1-0.5 ml": [1, 1, 1, 1], "0.5-2 ml": [0] * 4, ">=2 ml": [0] * 4
    }  # fmt: skip
    assert case.regions["TC"].dice == 1.0
    assert case.regions["TC"].hd95_mm == 0.0
    assert math.isnan(wt.ece)
    assert case.dice == pytest.approx((wt.dice + 2) / 3)


def test_a_region_empty_on_one_side_is_as_far_as_the_whole_volume() -> None:
    prediction, truth = made()
    truth[4, 4, 4] = ENHANCING
    case = evaluated(prediction, truth)
    assert case.regions["ET"].dice == 0.0
    assert case.regions["ET"].hd95_mm == pytest.approx(math.hypot(80, 30, 24))


def test_only_the_regions_asked_for_count() -> None:
    prediction, truth = made()
    prediction[3, 3, 3] = ENHANCING
    case = evaluated(prediction, truth, regions=["WT"])
    assert list(case.regions) == ["WT"]
    assert case.dice == pytest.approx(2 * 48 / (72 + 91))


def test_the_largest_error_is_the_lesion_that_is_made_up() -> None:
    case = evaluated(*made())
    mistake = case.mistake
    assert mistake is not None
    assert (mistake.region, mistake.kind, mistake.whole, mistake.instead) == ("WT", "false", True, "")
    assert (mistake.ml, mistake.lesion_ml) == (pytest.approx(0.054), pytest.approx(0.054))
    assert mistake.voxel == (3, 15, 15)
    assert mistake.mm == (44.0, -5.0, 20.0)
    assert mistake.distance_mm == pytest.approx(math.hypot(9, 9))
    assert case_sentences(case) == [
        "WT: 1 of 2 lesions found, 1 of 2 predicted false.",
        "TC: rightly empty.",
        "ET: rightly empty.",
        "Largest error, in WT: a false lesion of 0.054 ml at RAS (44, -5, 20) mm, 13 mm from the nearest true one.",
    ]


def test_a_core_taken_for_edema_is_a_missed_core() -> None:
    truth = np.zeros(SHAPE, np.uint8)
    truth[10:20, 10:20, 10:20] = EDEMA
    truth[12:16, 12:16, 12:16] = NECROSIS
    prediction = np.where(truth, EDEMA, 0).astype(np.uint8)
    case = evaluated(prediction, truth)
    mistake = case.mistake
    assert mistake is not None
    assert (mistake.region, mistake.kind, mistake.whole, mistake.instead) == ("TC", "missed", True, "edema")
    assert mistake.lesion_ml == pytest.approx(0.128)
    assert mistake.voxel == (13, 13, 13)
    assert math.isnan(mistake.distance_mm)
    assert case_sentences(case)[1] == "TC: nothing predicted of 0.128 ml."
    words = "Largest error, in TC: a lesion of 0.128 ml missed as a whole at RAS (24, -7, 18) mm"
    assert case_sentences(case)[-1] == f"{words}, where the prediction says edema."
    prediction[12:14, 12:16, 12:16] = NECROSIS
    words = "Largest error, in TC: 0.064 ml of a lesion of 0.128 ml missed at"
    assert case_sentences(evaluated(prediction, truth))[-1].startswith(words)


def test_what_is_too_large_lies_beside_a_true_lesion() -> None:
    truth = np.zeros(SHAPE, np.uint8)
    truth[10:14, 10:14, 10:14] = EDEMA
    prediction = np.zeros(SHAPE, np.uint8)
    prediction[10:20, 10:14, 10:14] = EDEMA
    last = case_sentences(evaluated(prediction, truth))[-1]
    assert last.startswith("Largest error, in WT: 0.192 ml too much beside a true lesion at")


def test_a_thin_rim_does_not_hide_a_core_that_is_wrong() -> None:
    truth = np.zeros(SHAPE, np.uint8)
    truth[5:25, 5:25, 2:22] = EDEMA
    prediction = truth.copy()
    prediction[4, 5:25, 2:22] = EDEMA
    prediction[10:14, 10:14, 10:14] = NECROSIS
    mistake = evaluated(prediction, truth).mistake
    assert mistake is not None
    assert (mistake.region, mistake.ml) == ("TC", pytest.approx(0.128))
    assert mistake.ml < 400 * 0.002
    words = "a false lesion of 0.128 ml at RAS (28, -9, 16) mm, where the label says edema."
    assert case_sentences(evaluated(prediction, truth))[-1].endswith(words)


def test_of_several_errors_the_largest_counts() -> None:
    truth = np.zeros(SHAPE, np.uint8)
    truth[20:24, 10:14, 10:14] = EDEMA
    prediction = truth.copy()
    prediction[10, 2, 10] = prediction[30:33, 20:23, 10:13] = prediction[36, 2, 10] = EDEMA
    mistake = evaluated(prediction, truth).mistake
    assert mistake is not None
    assert (mistake.ml, mistake.voxel) == (pytest.approx(0.054), (31, 21, 11))


def test_equal_masks_have_no_error() -> None:
    _, truth = made()
    case = evaluated(truth, truth)
    assert case.mistake is None
    assert case.dice == 1.0
    assert case_sentences(case)[-1] == "Prediction and label are equal."
    assert evaluated(0 * truth, 0 * truth).dice == 1.0


def test_calibration_counts_the_voxels_near_the_region() -> None:
    prediction, truth = made()
    rng = np.random.default_rng(0)
    p = rng.uniform(0, 1, (3, *SHAPE)).astype(np.float32)
    near = (prediction == EDEMA) | (truth == EDEMA)
    for box in ((11, 1, 1), (1, 21, 1), (1, 1, 21)):
        near = ndimage.binary_dilation(near, np.ones(box))
    assert 0 < near.sum() < near.size
    found = evaluated(prediction, truth, probabilities=p).regions
    expected = CalibrationBins.from_probability(p[0], truth > 0, near)
    assert NEAR_MM == 10
    assert found["WT"].calibration == expected
    assert found["WT"].ece == expected.ece
    assert found["WT"].brier == expected.brier
    assert found["TC"].calibration is not None
    assert found["TC"].calibration.voxels == 0


def test_probabilities_belong_to_their_region() -> None:
    truth = np.zeros(SHAPE, np.uint8)
    truth[10:20, 10:20, 10:20] = ENHANCING
    p = np.zeros((3, *SHAPE), np.float32)
    p[2] = truth > 0
    p[2, 15, 15, 15] += 1e-6
    found = evaluated(truth, truth, probabilities=p, regions=["ET"]).regions
    assert found["ET"].brier == pytest.approx(0, abs=1e-9)


def test_what_does_not_fit_is_refused() -> None:
    prediction, truth = made()
    with pytest.raises(InputError, match=r"case case-1: prediction \(39, 30, 24\) and label \(40, 30, 24\) found"):
        evaluated(prediction[1:], truth)
    with pytest.raises(LabelError, match="label of case case-1: label value 9"):
        evaluated(prediction, np.where(truth, 9, 0).astype(np.uint8))
    with pytest.raises(InputError, match=r"probabilities of shape \(2, 40, 30, 24\) found, expected \(3, 40, 30, 24\)"):
        evaluated(prediction, truth, probabilities=np.zeros((2, *SHAPE), np.float32))
    with pytest.raises(InputError, match=r"from 0 to 1\.5 found"):
        evaluated(prediction, truth, probabilities=np.where(truth, 1.5, 0)[None].repeat(3, 0).astype(np.float32))


def test_places_are_signed_coordinates() -> None:
    assert place((32.4, -10.0, -0.4)) == "RAS (32, -10, 0) mm"


def test_the_worst_are_kept_and_no_more() -> None:
    prediction, truth = made()
    good, bad = evaluated(truth, truth), evaluated(prediction, truth)
    worse = evaluated(np.zeros_like(truth), truth)
    worst = Worst(2)
    for case in (good, bad, worse, good):
        worst.offer(Kept(case, prediction, truth, AFFINE, {}))
    assert [kept.evaluation for kept in worst.cases] == [worse, bad]
    none = Worst(0)
    none.offer(Kept(bad, prediction, truth, AFFINE, {}))
    assert none.cases == []
    with pytest.raises(RequestError, match=r"number of worst cases \(-1\) must be >= 0"):
        Worst(-1)
