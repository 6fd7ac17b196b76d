"""Errors of skull stripping and the head they leave on."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from rarevoxel.errors import InputError
from rarevoxel.phantom.acquisition import Layers, remnants, rim, strip
from rarevoxel.phantom.acquisition.strip import rough_depth

MM = (1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def slab() -> np.ndarray:
    mask = np.zeros((40, 12, 12), dtype=bool)
    mask[20:] = True
    return mask


@pytest.fixture(scope="module")
def ball() -> np.ndarray:
    x, y, z = np.ogrid[-24:24, -24:24, -24:24]
    return np.asarray(x**2 + y**2 + z**2 < 17**2)


def test_depth_is_exact_at_a_flat_face(slab: np.ndarray) -> None:
    depth = rough_depth(slab, (2.0, 1.0, 1.0), 8.0)[:, 6, 6]
    places = (np.arange(40) - 19.5) * 2
    np.testing.assert_allclose(depth, np.clip(places * 16 / 18, -8, 8), atol=1e-4)


def test_no_error_leaves_the_mask(ball: np.ndarray) -> None:
    for none in ({}, {"erode_mm": 3.0}, {"grow_share": 0.5}):
        mask, remnant = strip(ball, MM, np.random.default_rng(0), **none)
        np.testing.assert_array_equal(mask, ball)
        assert not remnant.any()


@pytest.mark.parametrize("length", [2.0, 4.0])
def test_errors_everywhere_move_the_face_by_their_length(slab: np.ndarray, length: float) -> None:
    eroded, nothing = strip(slab, MM, np.random.default_rng(0), erode_mm=length, erode_share=1.0)
    assert abs(int(eroded[:, 6, 6].argmax()) - (20 + length)) <= 1
    assert not nothing.any()
    grown, remnant = strip(slab, MM, np.random.default_rng(0), grow_mm=length, grow_share=1.0)
    assert abs(int(grown[:, 6, 6].argmax()) - (20 - length)) <= 1
    np.testing.assert_array_equal(remnant > 0, grown & ~slab)
    assert remnant[19, 6, 6] == pytest.approx(0.5, abs=0.05)
    assert np.all(np.diff(remnant[:20, 6, 6][remnant[:20, 6, 6] > 0]) < 0)


def test_a_missing_rim_and_a_remnant_lie_at_the_surface_in_patches(ball: np.ndarray) -> None:
    mask, remnant = strip(
        ball, MM, np.random.default_rng(1), erode_mm=4, erode_share=0.3, grow_mm=4, grow_share=0.3, wavelength_mm=20
    )
    inside, outside = ndimage.distance_transform_edt(ball), ndimage.distance_transform_edt(~ball)
    assert 0 < inside[ball & ~mask].max() <= 6
    assert 0 < outside[mask & ~ball].max() <= 6
    np.testing.assert_array_equal(remnant > 0, mask & ~ball)
    surface = rim(ball)
    assert 0.05 < np.mean(~mask[surface]) < 0.6


def test_the_same_seed_makes_the_same_error(ball: np.ndarray) -> None:
    once, again, other = (
        strip(ball, MM, np.random.default_rng(s), erode_mm=3, erode_share=0.4, wavelength_mm=20)[0] for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(once, again)
    assert np.any(once != other)


@pytest.mark.parametrize("wrong", [{"erode_mm": -1.0}, {"grow_share": 1.5}, {"erode_share": float("nan")}])
def test_impossible_errors_are_refused(ball: np.ndarray, wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"of the surface, expected >= 0 mm and 0\.\.1"):
        strip(ball, MM, np.random.default_rng(0), **wrong)


def test_the_rim_is_what_a_binary_erosion_removes(ball: np.ndarray) -> None:
    np.testing.assert_array_equal(rim(ball), ball & ~ndimage.binary_erosion(ball))
    assert not rim(np.ones((5, 5, 5), dtype=bool)).any()


def test_remnants_are_dura_then_bone_then_scalp() -> None:
    image = np.full((1, 1, 5), 0.25, dtype=np.float32)
    remnant = np.array([0.0, 0.5, 1.9, 4.0, 7.0], dtype=np.float32)[None, None]
    layers = Layers(2.0, 6.0, (0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8), (0.9, 1.0, 1.1, 1.2))
    np.testing.assert_allclose(remnants(image, remnant, layers, 1)[0, 0], [0.25, 0.2, 0.2, 0.6, 1.0])
    assert np.all(image == 0.25)
