"""Random fields, and bringing coarse ones back to a fine grid."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from rarevoxel.phantom.fields import ball_radius_mm, refined, smooth_field, wave_field

SHAPE, MM = (48, 60, 40), (2.0, 1.5, 2.5)


def mean_wave_mm(field: np.ndarray, spacing: tuple[float, float, float]) -> float:
    """Root mean square wave length: `2 pi sd(f) / rms |grad f|`."""
    slopes = [np.gradient(field, step, axis=axis) for axis, step in enumerate(spacing)]
    return float(2 * np.pi * field.std() / np.sqrt(np.mean(np.sum(np.square(slopes), axis=0))))


@pytest.mark.parametrize("draw", [smooth_field, wave_field])
def test_a_field_has_mean_0_and_variance_1_and_a_seed(draw) -> None:
    field = draw(np.random.default_rng(1), SHAPE, MM, 20.0)
    assert field.shape == SHAPE
    assert field.dtype == np.float32
    assert field.mean() == pytest.approx(0, abs=1e-5)
    assert field.std() == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(draw(np.random.default_rng(1), SHAPE, MM, 20.0), field)
    assert np.abs(draw(np.random.default_rng(2), SHAPE, MM, 20.0) - field).mean() > 0.3


@pytest.mark.parametrize("wavelength", [16.0, 24.0, 32.0])
def test_waves_are_as_long_as_asked_in_mm(wavelength: float) -> None:
    field = wave_field(np.random.default_rng(0), SHAPE, MM, wavelength)
    assert mean_wave_mm(field, MM) == pytest.approx(wavelength, rel=0.15)


def test_a_narrow_spread_makes_even_waves() -> None:
    """The share of the power near the wave number asked for."""

    def near(spread: float) -> float:
        field = wave_field(np.random.default_rng(0), (64, 64, 64), (1.0, 1.0, 1.0), 16.0, spread)
        power = np.abs(np.fft.fftn(field)) ** 2
        number = np.sqrt(sum(f * f for f in np.meshgrid(*[np.fft.fftfreq(64)] * 3, indexing="ij")))
        return float(power[np.abs(number * 16 - 1) < 0.35].sum() / power.sum())

    assert near(0.1) > 0.85 > near(0.6)


def test_refining_is_linear_interpolation_from_the_first_voxel() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.standard_normal((5, 4, 3)).astype(np.float32)
    fine = refined(coarse, (2, 3, 1), (10, 11, 3))
    np.testing.assert_allclose(fine[::2, ::3], coarse, rtol=1e-6)
    at = np.meshgrid(np.arange(10) / 2, np.arange(11) / 3, np.arange(3), indexing="ij")
    np.testing.assert_allclose(fine, ndimage.map_coordinates(coarse, at, order=1, mode="nearest"), atol=1e-5)


def test_the_radius_of_a_ball_undoes_its_volume() -> None:
    assert ball_radius_mm(np.pi * 4 / 3 * 5.0**3) == pytest.approx(5.0)
