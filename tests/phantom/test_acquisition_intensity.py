"""Noise, stored numbers and sequences that are missing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.interpolate import PchipInterpolator

from rarevoxel.errors import InputError
from rarevoxel.phantom.acquisition import bend, drop, quantise, rescale, rician, slice_matrix
from rarevoxel.phantom.acquisition.noise import sigma_map

FLAT = (48, 48, 48)


@pytest.fixture(scope="module")
def ramp() -> np.ndarray:
    return np.linspace(0, 2.5, 4 * 5 * 6 * 50, dtype=np.float32).reshape(20, 30, 10)


def test_noise_alone_has_the_mean_and_spread_of_rayleigh() -> None:
    noise = rician(np.zeros(FLAT, dtype=np.float32), np.random.default_rng(0), sigma=0.2)
    assert noise.mean() == pytest.approx(0.2 * math.sqrt(math.pi / 2), rel=0.01)
    assert noise.std() == pytest.approx(0.2 * math.sqrt(2 - math.pi / 2), rel=0.01)


@pytest.mark.parametrize("signal", [0.3, 1.0, 4.0])
def test_noise_on_a_signal_is_distributed_as_rice_said(signal: float) -> None:
    noisy = rician(np.full(FLAT, signal, dtype=np.float32), np.random.default_rng(1), sigma=0.5)
    rice = stats.rice(signal / 0.5, scale=0.5)
    for part in (0.05, 0.5, 0.95):
        assert np.mean(noisy < rice.ppf(part)) == pytest.approx(part, abs=0.01)


@pytest.mark.parametrize("correlation", [0.2, 0.5])
def test_correlated_noise_keeps_its_spread_and_resembles_its_neighbour(correlation: float) -> None:
    image = np.full(FLAT, 50.0, dtype=np.float32)
    noise = rician(image, np.random.default_rng(2), sigma=1.0, correlation=correlation) - 50
    assert noise.std() == pytest.approx(1.0, rel=0.03)
    expected = correlation * (1 - correlation) / (correlation**2 + (1 - correlation) ** 2)
    for axis in range(3):
        assert np.mean(noise * np.roll(noise, 1, axis)) == pytest.approx(expected, abs=0.03)


def test_noise_of_thick_slices_is_the_same_within_a_slice() -> None:
    matrix = slice_matrix(48, 1.0, thickness_mm=4.0, interpolation="nearest")
    image = np.full(FLAT, 50.0, dtype=np.float32)
    noise = rician(image, np.random.default_rng(3), sigma=1.0, mixing={2: matrix}) - 50
    blocks = noise.reshape(48, 48, 12, 4)
    np.testing.assert_allclose(blocks, np.broadcast_to(blocks[..., :1], blocks.shape), atol=1e-4)
    assert noise.std() == pytest.approx(1.0, rel=0.03)


def test_parallel_imaging_is_noisiest_in_the_middle() -> None:
    local = sigma_map((21, 21, 21), 0.1, 1.5)
    assert local[10, 10, 10] == pytest.approx(0.25)
    assert local[0, 0, 0] == pytest.approx(0.1, abs=1e-3)
    assert local[10, 10, 0] == pytest.approx(0.1 * (1 + 1.5 * math.exp(-0.5 / 0.35**2)), rel=1e-4)
    image = np.full((48, 48, 48), 50.0, dtype=np.float32)
    noise = rician(image, np.random.default_rng(4), sigma=0.1, centre=1.5) - 50
    assert noise[20:28, 20:28, 20:28].std() > 2 * noise[:8, :8, :8].std()


def test_no_noise_changes_nothing_and_a_seed_repeats_itself(ramp: np.ndarray) -> None:
    assert rician(ramp, np.random.default_rng(0), sigma=0.0) is ramp
    once, again = (rician(ramp, np.random.default_rng(5), sigma=0.1, centre=1, correlation=0.3) for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_a_curve_is_a_power_of_the_part_of_the_largest(ramp: np.ndarray) -> None:
    np.testing.assert_allclose(bend(ramp, gamma=1.6), 2.5 * (ramp / 2.5) ** 1.6, atol=3e-4)


def test_a_curve_goes_through_its_knots(ramp: np.ndarray) -> None:
    knots = ((0.2, 0.4), (0.7, 0.75))
    expected = 2.5 * PchipInterpolator([0, 0.2, 0.7, 1], [0, 0.4, 0.75, 1])(ramp / 2.5)
    np.testing.assert_allclose(bend(ramp, knots=knots), expected, atol=5e-4)
    probe = np.array([[[0.0, 0.2, 0.7, 1.0]]], dtype=np.float32)
    np.testing.assert_allclose(bend(probe, knots=knots)[0, 0], [0, 0.4, 0.75, 1], atol=2e-4)


@settings(max_examples=25, deadline=None)
@given(
    gamma=st.floats(0.4, 2.5),
    steps=st.lists(st.tuples(st.floats(0.02, 1), st.floats(0.02, 1)), min_size=1, max_size=6),
)
def test_curves_never_turn_the_order_of_intensities(gamma: float, steps: list[tuple[float, float]]) -> None:
    points = np.cumsum(np.array([*steps, (0.1, 0.1)]), axis=0)
    knots = tuple((float(x), float(y)) for x, y in (points / points[-1])[:-1])
    line = np.linspace(0, 1, 3000, dtype=np.float32).reshape(30, 10, 10)
    curve = bend(line, gamma=gamma, knots=knots).ravel()
    assert np.all(np.diff(curve) >= 0)
    assert curve[0] == 0
    assert curve[-1] == pytest.approx(1)


@pytest.mark.parametrize(
    ("gamma", "knots"), [(0.0, ()), (1.0, ((0.5, 1.2),)), (1.0, ((0.6, 0.3), (0.4, 0.5))), (1.0, ((0.5, 0.0),))]
)
def test_a_curve_that_falls_is_refused(ramp: np.ndarray, gamma: float, knots: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(InputError, match="expected gamma > 0 and knots that rise"):
        bend(ramp, gamma=gamma, knots=knots)


def test_whole_numbers_are_as_many_as_asked_for(ramp: np.ndarray) -> None:
    stored = quantise(ramp, levels=10)
    np.testing.assert_allclose(np.unique(stored), np.arange(11) * 0.25, atol=1e-6)
    assert np.abs(stored - ramp).max() <= 0.125 + 1e-6


def test_scale_and_offset(ramp: np.ndarray) -> None:
    np.testing.assert_allclose(rescale(ramp, scale=400.0, offset=0.1), 400 * (ramp + 0.1), rtol=1e-6)


def test_neutral_storage_changes_nothing(ramp: np.ndarray) -> None:
    assert bend(ramp) is ramp
    assert quantise(ramp, levels=0) is ramp
    assert rescale(ramp) is ramp


def test_an_empty_image_stays_empty() -> None:
    empty = np.zeros((3, 3, 3), dtype=np.float32)
    assert not bend(empty, gamma=2.0).any()
    assert not quantise(empty, levels=7).any()


def test_dropped_sequences_are_empty_and_the_others_as_they_were() -> None:
    images = np.random.default_rng(0).random((4, 3, 3, 3), dtype=np.float32)
    got = drop(images, (0, 2))
    np.testing.assert_array_equal(got[[1, 3]], images[[1, 3]])
    assert not got[[0, 2]].any()
    assert images.all()
    assert drop(images, ()) is images
    with pytest.raises(InputError, match=r"sequences \(4,\) were to be dropped from 4, expected numbers from 0 to 3"):
        drop(images, (4,))
