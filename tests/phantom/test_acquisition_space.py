"""Where the signal goes: slices, point spread, sharpening, shifts and turns."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from rarevoxel.errors import InputError
from rarevoxel.phantom.acquisition import blur, misregister, shade, sharpen, slice_matrix, thick_slices
from rarevoxel.phantom.acquisition.linear import along, shift_line

MM = (1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).random((17, 20, 24), dtype=np.float32)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_matrix_acts_along_its_axis_alone(image: np.ndarray, axis: int) -> None:
    matrix = np.random.default_rng(1).random((image.shape[axis],) * 2, dtype=np.float32)
    expected = np.moveaxis(np.tensordot(matrix, image, axes=(1, axis)), 0, axis)
    np.testing.assert_allclose(along(image, matrix, axis), expected, rtol=1e-5)


def test_an_axis_that_is_not_there_is_refused(image: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"axis 3 of a volume .* expected 0, 1 or 2"):
        along(image, np.eye(3, dtype=np.float32), 3)


@pytest.mark.parametrize("interpolation", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("profile", ["box", "gaussian"])
@pytest.mark.parametrize(("thickness", "gap"), [(1.5, 0.0), (3.0, 0.6), (6.0, 2.0), (40.0, 0.0)])
def test_slices_keep_a_constant(profile: str, interpolation: str, thickness: float, gap: float) -> None:
    matrix = slice_matrix(
        24, 1.0, thickness_mm=thickness, gap_mm=gap, phase=0.3, profile=profile, interpolation=interpolation
    )
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)


def test_nearest_box_slices_are_averages_of_whole_blocks(image: np.ndarray) -> None:
    thick = thick_slices(image, MM, axis=2, thickness_mm=4.0, interpolation="nearest")
    blocks = image.reshape(17, 20, 6, 4).mean(axis=-1)
    np.testing.assert_allclose(thick, np.repeat(blocks, 4, axis=2), atol=1e-6)


def test_linear_slices_run_straight_from_centre_to_centre() -> None:
    line = np.array([0, 0, 6, 6, 0, 0], dtype=np.float32)[None, None]
    thick = thick_slices(line, MM, axis=2, thickness_mm=2.0)
    np.testing.assert_allclose(thick[0, 0], [0, 1.5, 4.5, 4.5, 1.5, 0], atol=1e-6)


def test_slices_count_partial_voxels_and_skip_the_gap() -> None:
    matrix = slice_matrix(6, 1.0, thickness_mm=1.5, gap_mm=1.5, interpolation="nearest", phase=0.25)
    np.testing.assert_allclose(matrix[0], [1 / 1.5, 0.5 / 1.5, 0, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(matrix[5], [0, 0, 0, 1 / 1.5, 0.5 / 1.5, 0], atol=1e-6)


def test_a_gaussian_profile_has_its_thickness_as_full_width_at_half_maximum() -> None:
    row = slice_matrix(41, 1.0, thickness_mm=10.0, gap_mm=31.0, profile="gaussian")[0]
    assert row.argmax() == 20
    assert row[25] / row[20] == pytest.approx(0.5, abs=1e-3)


def test_cubic_slices_reproduce_a_parabola_between_the_end_slices() -> None:
    x = np.arange(24, dtype=np.float32) + 0.5
    got = slice_matrix(24, 1.0, thickness_mm=3.0, interpolation="cubic") @ (x**2)
    np.testing.assert_allclose(got[2:-2], (x**2 + (3**2 - 1) / 12)[2:-2], rtol=1e-4)


@pytest.mark.parametrize("thickness", [0.0, 0.5, 1.0])
def test_slices_no_thicker_than_a_voxel_change_nothing(image: np.ndarray, thickness: float) -> None:
    assert thick_slices(image, MM, axis=0, thickness_mm=thickness) is image


def test_overshoot_of_cubic_slices_is_cut_at_zero() -> None:
    line = np.zeros((1, 1, 24), dtype=np.float32)
    line[..., 9:12] = 1
    assert thick_slices(line, MM, axis=2, thickness_mm=3.0, interpolation="cubic").min() == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"thickness_mm": 0.0}, "slices of 0 mm with a gap of 0 mm"),
        ({"thickness_mm": 3.0, "gap_mm": -1.0}, "a gap of -1 mm"),
        ({"thickness_mm": 3.0, "profile": "sinc"}, "profile 'sinc' is unknown, expected 'box' or 'gaussian'"),
        ({"thickness_mm": 3.0, "interpolation": "spline"}, "interpolation 'spline' is unknown"),
    ],
)
def test_impossible_slices_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        slice_matrix(12, 1.0, **wrong)  # type: ignore[arg-type]


def test_blur_is_a_gaussian_in_mm(image: np.ndarray) -> None:
    got = blur(image, (2.0, 1.0, 0.5), sigma_mm=(2.0, 0.0, 1.0))
    whole = ndimage.gaussian_filter(image, (1.0, 0.0, 2.0), mode="nearest", truncate=8.0)
    np.testing.assert_allclose(got, whole, atol=6e-3)
    assert np.abs(got - ndimage.gaussian_filter(image, (1.1, 0.0, 2.0), mode="nearest")).max() > 8e-3


def test_no_width_and_no_amount_change_nothing(image: np.ndarray) -> None:
    assert blur(image, MM, sigma_mm=(0.0, 0.0, 0.0)) is image
    assert sharpen(image, MM, amount=0.0) is image


def test_sharpening_adds_the_detail_and_leaves_flat_parts(image: np.ndarray) -> None:
    soft = ndimage.gaussian_filter(image, 1.0, mode="nearest", truncate=3.0)
    expected = np.maximum(image + 0.7 * (image - soft), 0)
    np.testing.assert_allclose(sharpen(image, MM, amount=0.7), expected, atol=1e-5)
    flat = np.full((9, 9, 9), 0.4, dtype=np.float32)
    np.testing.assert_allclose(sharpen(flat, MM, amount=1.0), flat, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("by", [3, -2])
def test_a_whole_voxel_shift_is_a_roll_in_the_interior(image: np.ndarray, axis: int, by: int) -> None:
    shift = [0.0, 0.0, 0.0]
    shift[axis] = 0.5 * by
    moved = misregister(image, (0.5, 0.5, 0.5), shift_mm=(shift[0], shift[1], shift[2]))
    interior = (slice(4, -4),) * 3
    np.testing.assert_array_equal(moved[interior], np.roll(image, by, axis=axis)[interior])


@pytest.mark.parametrize("by", [-30.0, -2.25, -0.5, 0.3, 1.75, 40.0])
def test_a_shift_is_that_of_scipy(image: np.ndarray, by: float) -> None:
    expected = ndimage.shift(image, (0, by, 0), order=1, mode="nearest")
    np.testing.assert_allclose(shift_line(image, by, 1), expected, atol=1e-5)


def test_a_turn_and_shift_are_those_of_simpleitk() -> None:
    spacing = (1.0, 2.0, 1.5)
    smooth = ndimage.gaussian_filter(np.random.default_rng(2).random((21, 18, 16)), 2).astype(np.float32)
    got = misregister(smooth, spacing, shift_mm=(1.0, -0.7, 0.4), rotation_deg=(0.0, 0.0, 6.0))
    picture = sitk.GetImageFromArray(smooth.transpose(2, 1, 0))
    picture.SetSpacing(spacing)
    turn = sitk.Euler3DTransform()
    turn.SetCenter([(n - 1) / 2 * s for n, s in zip(smooth.shape, spacing, strict=True)])
    turn.SetRotation(0, 0, np.deg2rad(6.0))
    turn.SetTranslation((1.0, -0.7, 0.4))
    expected = sitk.GetArrayFromImage(sitk.Resample(picture, picture, turn.GetInverse(), sitk.sitkLinear))
    interior = (slice(4, -4),) * 3
    np.testing.assert_allclose(got[interior], expected.transpose(2, 1, 0)[interior], atol=1e-5)


def test_a_quarter_turn_about_the_third_axis_is_rot90(image: np.ndarray) -> None:
    square = image[:17, :17]
    turned = misregister(square, MM, rotation_deg=(0.0, 0.0, 90.0))
    np.testing.assert_allclose(turned, np.rot90(square, 1, axes=(0, 1)), atol=1e-5)


def test_an_image_that_does_not_move_is_itself(image: np.ndarray) -> None:
    assert misregister(image, MM) is image


def test_shading_has_the_strength_asked_for(image: np.ndarray) -> None:
    flat = np.full((32, 32, 32), 2.0, dtype=np.float32)
    factor = np.log(shade(flat, (4.0, 4.0, 4.0), np.random.default_rng(3), strength=0.3) / 2)
    assert factor.std() == pytest.approx(0.3, rel=1e-3)
    assert factor.mean() == pytest.approx(0.0, abs=1e-3)
    assert np.abs(np.diff(factor, axis=0)).max() < 0.15
    assert shade(image, MM, np.random.default_rng(3), strength=0.0) is image
