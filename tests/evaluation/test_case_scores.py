"""The record of one case is what its parts say one by one."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from scipy import ndimage

from rarevoxel.errors import InputError, LabelError, RequestError
from rarevoxel.evaluation import (
    EMPTY_POLICY,
    THRESHOLDS,
    CalibrationBins,
    dice,
    hd95,
    lesion_sweep,
    match_lesions,
    score_case_regions,
    sweep_rows,
)
from rarevoxel.labels import labels_to_regions

MM = (1.0, 1.5, 2.0)


def make_case(shape=(24, 22, 20), seed=0):
    """A label map of a few blobs and soft probabilities of its regions that are off by a voxel."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal(shape), 2.0)
    field /= field.std()
    labels = np.digitize(field, [1.3, 1.7, 2.1]).astype(np.uint8)
    labels = np.array([0, 2, 1, 3], dtype=np.uint8)[labels]
    masks = np.roll(labels_to_regions(labels), 1, axis=1)
    soft = [ndimage.gaussian_filter(mask.astype(np.float32), 1.0) for mask in masks]
    return np.clip(np.stack(soft) * 1.2, 0, 1), labels


def test_the_record_is_what_its_parts_say():
    p, labels = make_case()
    brain = np.zeros(labels.shape, dtype=bool)
    brain[4:20, 4:20, 4:18] = True
    record = score_case_regions(p, labels, MM, brain=brain, overlap=0.3, minimum_voxels=2)
    assert list(record) == ["WT", "TC", "ET"]
    options = {"overlap": 0.3, "minimum_voxels": 2}
    for q, truth, found in zip(p, labels_to_regions(labels), record.values(), strict=True):
        assert found["dice"] == dice(q >= 0.5, truth)
        assert 0 < found["dice"] < 1
        assert found["hd95"] == hd95(q >= 0.5, truth, MM)
        assert found["truth_ml"] == pytest.approx(truth.sum() * 0.003)
        assert found["predicted_ml"] == pytest.approx((q >= 0.5).sum() * 0.003)
        assert found["lesions"] == match_lesions(q >= 0.5, truth, MM, **options).to_dict()
        assert found["sweep"] == sweep_rows(lesion_sweep(q, truth, MM, THRESHOLDS, **options))
        bins = CalibrationBins.from_dict(found["calibration"])
        assert bins == CalibrationBins.from_probability(q, truth, brain)
        assert bins.voxels == brain.sum()
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_label_map_and_region_masks_are_the_same_truth():
    p, labels = make_case()
    assert score_case_regions(p, labels, MM) == score_case_regions(p, labels_to_regions(labels), MM)


@pytest.mark.parametrize("threshold", [0.02, 0.33, 0.5, 0.98])
def test_a_threshold_need_not_be_one_of_the_sweep(threshold):
    p, labels = make_case()
    record = score_case_regions(p, labels, MM, thresholds=(0.3, 0.5), threshold=threshold)
    truth = labels_to_regions(labels)[0]
    assert record["WT"]["dice"] == dice(p[0] >= threshold, truth)
    assert record["WT"]["predicted_ml"] == pytest.approx((p[0] >= threshold).sum() * 0.003)
    assert record["WT"]["lesions"] == match_lesions(p[0] >= threshold, truth, MM).to_dict()


def test_a_threshold_below_the_sweep_counts_what_is_far_away():
    p, labels = np.zeros((3, 8, 8, 8)), np.zeros((8, 8, 8), dtype=np.uint8)
    labels[1, 1, 1], p[:, 1, 1, 1], p[:, 7, 7, 7] = 3, 0.9, 0.1
    record = score_case_regions(p, labels, MM, thresholds=(0.3, 0.5), threshold=0.05)
    assert record["ET"]["dice"] == pytest.approx(2 / 3)
    assert record["ET"]["lesions"]["<0.1 ml"] == [1, 1, 2, 1]
    assert record["ET"]["sweep"] == [[0.3, 1, 1, 1, 1], [0.5, 1, 1, 1, 1]]


def test_an_empty_case_has_a_record_without_nan():
    labels = np.zeros((5, 6, 7), dtype=np.uint8)
    record = score_case_regions(np.zeros((3, 5, 6, 7), dtype=np.float32), labels, MM)
    json.dumps(record, allow_nan=False)
    assert record["ET"]["dice"] == 1.0
    assert record["ET"]["hd95"] == record["ET"]["truth_ml"] == record["ET"]["predicted_ml"] == 0.0
    assert record["ET"]["sweep"] == [[t, 0, 0, 0, 0] for t in THRESHOLDS]
    labels[2:4, 2:4, 2:4] = 1
    missed = score_case_regions(np.zeros((3, 5, 6, 7)), labels, MM)
    assert missed["TC"]["dice"] == 0.0
    # The diagonal of the volume, not of the box around the lesion.
    assert missed["TC"]["hd95"] == pytest.approx(float(np.hypot(np.hypot(5, 9), 14)))


def test_the_default_thresholds():
    assert tuple(round(0.05 * i, 2) for i in range(1, 20)) == THRESHOLDS


def test_one_case_takes_well_below_half_a_second():
    grid = np.indices((64, 64, 64)) - 32
    radius = np.sqrt((grid**2).sum(axis=0))
    labels = np.array([3, 1, 2, 0], dtype=np.uint8)[np.digitize(radius, [6, 9, 14])]
    p = np.stack([1 / (1 + np.exp((radius - r) / 1.5)) for r in (13, 9, 6)]).astype(np.float32)
    score_case_regions(p, labels, MM)
    took = []
    for _ in range(3):
        start = time.process_time()
        score_case_regions(p, labels, MM)
        took.append(time.process_time() - start)
    # An idle core takes 0.08 s; other tests run beside this one.
    assert min(took) < 0.5


def test_the_policy_is_a_paragraph():
    assert "Dice is 1" in EMPTY_POLICY
    assert "\n" not in EMPTY_POLICY


def test_wrong_arguments():
    p, labels = make_case((6, 6, 6))
    with pytest.raises(InputError, match=r"probability of shape \(2, 6, 6, 6\), float32 found"):
        score_case_regions(p[:2], labels, MM)
    with pytest.raises(InputError, match="pass probabilities, not decisions"):
        score_case_regions(p > 0.5, labels, MM)
    with pytest.raises(InputError, match=r"truth of shape \(6, 6, 6\), bool found, expected a client label map"):
        score_case_regions(p, labels > 0, MM)
    with pytest.raises(InputError, match=r"truth of shape \(6, 6\)"):
        score_case_regions(p, labels[0], MM)
    with pytest.raises(LabelError, match=r"truth: label value 9 \(1 voxels\)"):
        score_case_regions(p, np.where(np.arange(216).reshape(6, 6, 6) == 5, 9, 0), MM)
    with pytest.raises(InputError, match=r"brain shape \(5, 6, 6\)"):
        score_case_regions(p, labels, MM, brain=np.ones((5, 6, 6), dtype=bool))
    with pytest.raises(RequestError, match="must rise, each in"):
        score_case_regions(p, labels, MM, threshold=0.0)
    with pytest.raises(InputError, match="must be three positive finite numbers"):
        score_case_regions(p, labels, (1, 1, -1))
