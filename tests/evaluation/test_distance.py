"""The Hausdorff distance by hand, against scipy, and the table of empty masks."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_hausdorff_distance
from scipy import ndimage
from scipy.spatial.distance import cdist

from rarevoxel.errors import InputError
from rarevoxel.evaluation import hd95


def empty(shape=(10, 9, 8)):
    return np.zeros(shape, dtype=bool)


def border(mask):
    return np.argwhere(mask & ~ndimage.binary_erosion(mask))


def second_way(prediction, truth, spacing):
    distances = cdist(border(prediction) * spacing, border(truth) * spacing)
    return max(np.percentile(distances.min(axis=1), 95), np.percentile(distances.min(axis=0), 95))


def test_two_voxels_by_hand():
    prediction, truth = empty(), empty()
    prediction[1, 1, 1] = truth[4, 5, 1] = True
    assert hd95(prediction, truth, (1, 1, 1)) == 5.0
    assert hd95(prediction, truth, (2, 1, 1)) == pytest.approx(math.hypot(6, 4))


def test_the_95th_percentile_forgives_one_far_voxel_in_a_hundred():
    truth = empty((101, 3, 20))
    truth[:100, 1, 0] = True
    prediction = truth.copy()
    prediction[50, 1, 18] = True
    assert hd95(prediction, truth, (1, 1, 1)) == 0.0
    prediction[40:47, 1, 18] = True
    assert hd95(prediction, truth, (1, 1, 1)) == 18.0


def test_the_table_of_empty_masks():
    mask = empty((10, 9, 8))
    mask[2, 2, 2] = True
    diagonal = math.sqrt(10**2 + 18**2 + 24**2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert hd95(empty(), empty(), (1, 2, 3)) == 0.0
        assert hd95(mask, empty(), (1, 2, 3)) == pytest.approx(diagonal)
        assert hd95(empty(), mask, (1, 2, 3)) == pytest.approx(diagonal)
        assert hd95(mask, mask, (1, 2, 3)) == 0.0


def test_no_distance_inside_is_longer_than_that_of_nothing():
    a, b = empty(), empty()
    a[0, 0, 0] = b[-1, -1, -1] = True
    assert hd95(a, b, (1, 2, 3)) < hd95(a, empty(), (1, 2, 3))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.sampled_from([0.5, 1.0, 2.3])] * 3))
def test_random_masks_against_monai_uncropped_and_scipy(seed, spacing):
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(2):
        mask = empty((14, 13, 12))
        start = rng.integers(0, 9, 3)
        stop = start + rng.integers(1, 5, 3)
        mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
        mask[tuple(rng.integers(0, 12, 3))] = True
        masks.append(mask)
    found = hd95(*masks, spacing)
    whole = compute_hausdorff_distance(
        masks[0][None, None], masks[1][None, None], include_background=True, percentile=95, spacing=spacing
    )
    assert found == pytest.approx(float(whole), rel=1e-6)
    assert found == pytest.approx(second_way(*masks, spacing), rel=1e-5)
    assert found == hd95(masks[1], masks[0], spacing)


def test_the_size_of_the_volume_around_does_not_matter():
    rng = np.random.default_rng(0)
    small = rng.random((2, 6, 5, 4)) < 0.4
    large = np.pad(small, ((0, 0), (9, 3), (0, 7), (2, 2)))
    assert hd95(*small, (1.0, 1.5, 3.0)) == pytest.approx(hd95(*large, (1.0, 1.5, 3.0)), rel=1e-6)


def test_wrong_arguments():
    with pytest.raises(InputError, match="expected a boolean mask"):
        hd95(empty().astype(float), empty(), (1, 1, 1))
    with pytest.raises(InputError, match="must be three positive finite numbers in mm"):
        hd95(empty(), empty(), (1, 1))


def test_only_a_distance_imports_torch():
    code = "import rarevoxel.evaluation, sys; print([n for n in ('torch', 'monai', 'monailabel') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
