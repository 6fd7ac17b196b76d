"""Scores of label maps by region."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rarevoxel.errors import InputError
from rarevoxel.evaluation import LesionCounts, dice, hd95
from rarevoxel.evaluation.masks import mask_scores, summarize_masks
from rarevoxel.labels import REGIONS, labels_to_regions

MM = (1.0, 2.0, 3.0)


def blocks() -> tuple[np.ndarray, np.ndarray]:
    truth = np.zeros((16, 12, 10), dtype=np.uint8)
    truth[1:5, 1:5, 1:5], truth[2:4, 2:4, 2:4], truth[12, 8, 7] = 2, 3, 1
    prediction = np.zeros_like(truth)
    prediction[2:6, 1:5, 1:5], prediction[2:4, 2:4, 2:4] = 2, 3
    return prediction, truth


def test_regions_are_scored_each_by_itself() -> None:
    prediction, truth = blocks()
    found = mask_scores(prediction, truth, MM)
    pairs = dict(zip(REGIONS, zip(labels_to_regions(prediction), labels_to_regions(truth), strict=True), strict=True))
    for name, (p, t) in pairs.items():
        assert found[name]["dice"] == dice(p, t)
        assert found[name]["hd95"] == hd95(p, t, MM)
        assert found[name]["truth_ml"] == pytest.approx(np.count_nonzero(t) * 6 / 1000)
    assert found["WT"]["dice"] == pytest.approx(2 * 48 / (64 + 65))
    assert found["WT"]["lesion_f1"] == pytest.approx(2 * 0.5 / 1.5)
    assert found["TC"]["dice"] == pytest.approx(2 * 8 / (8 + 9))
    assert found["ET"]["dice"] == found["ET"]["lesion_f1"] == 1.0


def test_an_empty_region_has_no_lesion_score_and_counts_as_right() -> None:
    empty = np.zeros((4, 4, 4), dtype=np.uint8)
    found = mask_scores(empty, empty, MM)["ET"]
    assert (found["dice"], found["hd95"], found["lesion_f1"]) == (1.0, 0.0, None)


def test_cases_are_averaged_and_their_lesions_pooled() -> None:
    prediction, truth = blocks()
    one, two = mask_scores(prediction, truth, MM), mask_scores(truth, truth, MM)
    summary = summarize_masks([one, two])
    assert summary["WT"]["dice"] == pytest.approx((one["WT"]["dice"] + 1) / 2)
    pooled = LesionCounts.from_dict(one["WT"]["lesions"]) + LesionCounts.from_dict(two["WT"]["lesions"])
    assert summary["WT"]["lesion_f1"] == pooled.f1()
    assert not math.isclose(pooled.f1(), (one["WT"]["lesion_f1"] + 1) / 2)
    assert summarize_masks([]) == {}


def test_masks_of_two_grids_are_refused() -> None:
    with pytest.raises(InputError, match=r"prediction of shape \(4, 4, 4\) and truth of shape \(4, 4, 5\)"):
        mask_scores(np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 5), np.uint8), MM)
