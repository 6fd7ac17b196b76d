"""Faults of k-space: ringing, motion, ghosts, fold-over."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft, ndimage

from rarevoxel.errors import InputError
from rarevoxel.phantom.acquisition import Moved, ghosts, motion, ringing, wrap

MM = (1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    volume = np.zeros((24, 20, 18), dtype=np.float32)
    volume[6:18, 5:15, 4:13] = np.random.default_rng(0).random((12, 10, 9), dtype=np.float32) + 1
    return volume


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_ringing_keeps_the_centre_of_k_space_and_nothing_else(image: np.ndarray, axis: int) -> None:
    offset = image + 5
    after, before = (
        np.moveaxis(fft.rfft(np.concatenate([x, np.flip(x, axis)], axis=axis), axis=axis), axis, 0)
        for x in (ringing(offset, axis=axis, keep=0.5), offset)
    )
    half = image.shape[axis] // 2
    np.testing.assert_allclose(after[:half], before[:half], atol=1e-3)
    assert np.abs(after[half:]).max() < 1e-3
    assert np.abs(before[half:]).max() > 1


def test_the_ends_of_a_crop_do_not_ring() -> None:
    slope = np.linspace(0.2, 1, 64, dtype=np.float32).reshape(64, 1, 1)
    np.testing.assert_allclose(ringing(slope, axis=0, keep=0.6), slope, atol=2e-3)


def test_ringing_overshoots_an_edge_as_gibbs_said() -> None:
    edge = np.full((512, 1, 1), 1.0, dtype=np.float32)
    edge[128:384] = 2
    overshoot = ringing(edge, axis=0, keep=0.2).max() - 2
    assert overshoot == pytest.approx(0.0895, abs=0.01)


def test_ringing_is_never_negative_and_all_lines_change_nothing(image: np.ndarray) -> None:
    assert ringing(image, axis=0, keep=0.4).min() >= 0
    assert ringing(image, axis=0, keep=1.0) is image


@pytest.mark.parametrize("keep", [0.0, -0.1, 1.5])
def test_an_impossible_part_of_k_space_is_refused(image: np.ndarray, keep: float) -> None:
    with pytest.raises(InputError, match="expected more than 0 and at most 1"):
        ringing(image, axis=0, keep=keep)


def test_no_movement_changes_nothing(image: np.ndarray) -> None:
    assert motion(image, MM, axis=0, moves=()) is image
    assert motion(image, MM, axis=0, moves=(Moved(0.1, 0.4, (0.0, 0.0, 0.0)),)) is image
    nothing = motion(image, MM, axis=0, moves=(Moved(0.3, 0.3, (5.0, 5.0, 5.0)),))
    np.testing.assert_allclose(nothing, image, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_movement_for_the_whole_scan_is_a_shift(image: np.ndarray, axis: int) -> None:
    moved = motion(image, (2.0, 2.0, 2.0), axis=axis, moves=(Moved(0.0, 1.0, (4.0, -2.0, 6.0)),))
    np.testing.assert_allclose(moved, np.roll(image, (2, -1, 3), axis=(0, 1, 2)), atol=1e-5)


def test_a_movement_of_half_a_voxel_along_the_phase_axis_is_that_of_fourier() -> None:
    smooth = ndimage.gaussian_filter(np.random.default_rng(1).random((24, 6, 6)), (2, 0, 0), mode="wrap")
    moved = motion(smooth.astype(np.float32), MM, axis=0, moves=(Moved(0.0, 1.0, (0.5, 0.0, 0.0)),))
    expected = fft.ifft(ndimage.fourier_shift(fft.fft(smooth, axis=0), (0.5, 0, 0), axis=-1, n=-1), axis=0)
    np.testing.assert_allclose(moved, np.abs(expected), atol=1e-4)


def test_only_the_lines_of_the_movement_change(image: np.ndarray) -> None:
    offset = image + 20
    moved = motion(offset, MM, axis=1, moves=(Moved(0.0, 0.25, (0.0, 1.0, 0.0)),))
    assert not np.allclose(moved, offset, atol=1e-3)
    lines = fft.fftshift(fft.fft(offset, axis=1), axes=1)
    rolled = fft.fftshift(fft.fft(np.roll(offset, 1, axis=1), axis=1), axes=1)
    lines[:, :5] = rolled[:, :5]
    np.testing.assert_allclose(moved, np.abs(fft.ifft(fft.ifftshift(lines, axes=1), axis=1)), atol=1e-4)


def test_a_movement_outside_the_scan_is_refused(image: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"a movement from 0.8 to 0.2 of the scan"):
        motion(image, MM, axis=0, moves=(Moved(0.8, 0.2, (1.0, 0.0, 0.0)),))


@pytest.mark.parametrize(("axis", "every"), [(0, 2), (0, 3), (1, 4), (2, 6)])
def test_ghosts_are_copies_at_even_distances(image: np.ndarray, axis: int, every: int) -> None:
    offset = image + 20
    n = offset.shape[axis]
    copies = sum(np.roll(offset, k * n // every, axis=axis) for k in range(every))
    expected = offset - 0.6 / every * copies
    np.testing.assert_allclose(ghosts(offset, axis=axis, every=every, amount=0.6), expected, atol=1e-4)


def test_a_spared_centre_keeps_the_mean(image: np.ndarray) -> None:
    offset = image + 20
    assert ghosts(offset, axis=0, every=2, amount=0.5).mean() == pytest.approx(0.5 * offset.mean(), rel=1e-4)
    spared = ghosts(offset, axis=0, every=2, amount=0.5, centre=0.1)
    assert spared.mean() == pytest.approx(offset.mean(), rel=1e-4)
    assert np.abs(spared - offset).max() > 0.05


def test_ghosts_of_no_amount_change_nothing(image: np.ndarray) -> None:
    assert ghosts(image, axis=0, every=2, amount=0.0) is image


def test_ghosts_of_every_line_are_refused(image: np.ndarray) -> None:
    with pytest.raises(InputError, match="every 1-th k-space line was to be scaled, expected 2 or more"):
        ghosts(image, axis=0, every=1, amount=0.5)


def test_fold_over_adds_exactly_the_rolled_copy(image: np.ndarray) -> None:
    folded = wrap(image, (2.0, 1.0, 1.0), axis=0, shift_mm=-14.0, amount=0.25)
    np.testing.assert_array_equal(folded, image + np.float32(0.25) * np.roll(image, -7, axis=0))
    assert wrap(image, MM, axis=0, shift_mm=7.0, amount=0.0) is image


@pytest.mark.parametrize("fault", [ringing, ghosts, wrap, motion])
def test_a_fault_of_an_axis_that_is_not_there_is_refused(image: np.ndarray, fault: object) -> None:
    numbers = {
        ringing: {"keep": 0.5},
        ghosts: {"every": 2, "amount": 0.5},
        wrap: {"spacing": MM, "shift_mm": 3.0, "amount": 0.5},
        motion: {"spacing": MM, "moves": ()},
    }
    with pytest.raises(InputError, match="axis 5"):
        fault(image, axis=5, **numbers[fault])  # type: ignore[operator, index]
