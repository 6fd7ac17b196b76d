"""A background that is one exact value becomes 0, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rarevoxel.phantom import Phantom
from rarevoxel.transforms import background_value, load_sequences, subtract_background


def head(background: float, size: int = 9) -> np.ndarray:
    """A brain of all values from -5 to 5 in a box of background."""
    array = np.full((size, size, size), background, np.float32)
    inner = (size - 4) ** 3
    array[2:-2, 2:-2, 2:-2] = np.resize(np.arange(-5, 6), inner).reshape((size - 4,) * 3)
    return array


@pytest.mark.parametrize("value", [100.0, -1024.0, 0.1, 1e-30, 3e7])
def test_the_background_becomes_0_and_the_brain_stays_brain(value: float) -> None:
    array = head(np.float32(value))
    found = subtract_background(array)
    assert background_value(array) == np.float32(value)
    np.testing.assert_array_equal(found == 0, array == np.float32(value))
    assert found.dtype == np.float32
    assert array[0, 0, 0] == np.float32(value), "the input must stay as it is"


def test_zero_stays_the_background() -> None:
    array = head(0.0)
    assert subtract_background(array) is array


def test_an_offset_is_taken_back_exactly() -> None:
    np.testing.assert_array_equal(subtract_background(head(0.0) + np.float32(64)), head(0.0))


def test_less_than_half_of_the_faces_is_no_background() -> None:
    array = np.arange(1000, dtype=np.float32).reshape(10, 10, 10) + 1
    array[0] = array[-1] = 7  # With its edges on the other faces 200 + 80 of 600 voxels.
    assert background_value(array) == 0.0
    array[:, 0] = 7  # 200 + 100 + 36 + ... : more than half.
    assert background_value(array) == 7.0


def test_of_two_halves_zero_is_the_background() -> None:
    array = np.zeros((4, 4, 4), np.float32)
    array[:2] = 9
    faces = [array[0], array[-1], array[:, 0], array[:, -1], array[..., 0], array[..., -1]]
    assert sum(int((face == 9).sum()) for face in faces) == 48  # Of 96.
    assert background_value(array) == 0.0
    assert background_value(array + 1) in (1.0, 10.0)


def test_noise_in_the_air_is_no_background() -> None:
    array = np.random.default_rng(0).normal(20, 1, (12, 12, 12)).astype(np.float32)
    assert subtract_background(array) is array


def test_a_single_voxel_is_no_background() -> None:
    array = np.full((1, 1, 1), 9, np.float32)
    assert subtract_background(array) is array


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_it_is_the_most_frequent_value_of_the_faces(h: int, w: int, d: int, kinds: int, seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, kinds + 1, (h, w, d)).astype(np.float32)
    faces = [array[0], array[-1], array[:, 0], array[:, -1], array[..., 0], array[..., -1]]
    values, counts = np.unique(np.concatenate([face.ravel() for face in faces]), return_counts=True)
    half = values[2 * counts >= counts.sum()]
    expected = set(half.tolist()) - {0.0} if 0.0 not in half else {0.0}
    assert background_value(array) in (expected or {0.0})


STORED = {
    "uint8": (np.uint8, 1.0, 0.0),
    "uint16": (np.uint16, 1.0, 0.0),
    "int32": (np.int32, 1.0, 0.0),
    "float32": (np.float32, 1.0, 0.0),
    "float64": (np.float64, 1.0, 0.0),
    "scaled": (np.int16, 0.5, 16.0),
}


@pytest.mark.parametrize("kind", STORED)
def test_how_a_file_stores_its_numbers_does_not_matter(case_folder: Path, phantom: Phantom, kind: str) -> None:
    dtype, slope, intercept = STORED[kind]
    expected = np.clip(phantom.images, 0, 200).round()
    for index, name in enumerate(("t1n", "t1c", "t2w", "t2f")):
        stored = (expected[index] / slope + 32).astype(dtype)  # Also an offset, so the air is not stored as 0.
        image = nib.Nifti1Image(stored, phantom.affine)
        image.header.set_slope_inter(slope, intercept)
        nib.save(image, case_folder / f"{name}.nii.gz")
    np.testing.assert_array_equal(load_sequences(case_folder).numpy(), expected)


def test_one_sequence_with_an_offset_is_loaded_as_without(case_folder: Path, phantom: Phantom) -> None:
    before = load_sequences(case_folder).numpy()
    nib.save(nib.Nifti1Image(phantom.images[2] + np.float32(512), phantom.affine), case_folder / "t2w.nii.gz")
    after = load_sequences(case_folder).numpy()
    np.testing.assert_allclose(after, before, atol=512 * 2**-23)
    np.testing.assert_array_equal(after[2] == 0, before[2] == 0)
