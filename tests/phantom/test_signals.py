"""Noise-free signals of a scene."""

from __future__ import annotations

import numpy as np
import pytest

from rarevoxel.phantom.scene import Material, Scene, empty_scene
from rarevoxel.phantom.scene.canvas import paint
from rarevoxel.phantom.signals import Texture, draw_texture, signals

MM = (2.0, 2.0, 2.0)


@pytest.fixture
def table() -> np.ndarray:
    values = np.random.default_rng(0).uniform(0.1, 1, size=(4, len(Material))).astype(np.float32)
    values[:, Material.AIR] = 0
    return values


@pytest.fixture
def scene() -> Scene:
    healthy = np.full((24, 24, 24), Material.WHITE, dtype=np.uint8)
    healthy[:6] = Material.AIR
    healthy[6:12] = Material.GREY
    return empty_scene(healthy, MM)


def test_without_texture_a_voxel_has_the_mean_of_its_material(scene: Scene, table: np.ndarray) -> None:
    got = signals(scene, table, Texture(), np.random.default_rng(0))
    np.testing.assert_allclose(got, table[:, scene.healthy], rtol=1e-6)
    assert got.dtype == np.float32


def test_disease_is_mixed_in_by_its_density(scene: Scene, table: np.ndarray) -> None:
    where = np.ones((2, 2, 2), dtype=bool)
    paint(scene, (slice(14, 16),) * 3, where, Material.EDEMA, 51)
    paint(scene, (slice(18, 20),) * 3, where, Material.CYST)
    got = signals(scene, table, Texture(), np.random.default_rng(0))
    np.testing.assert_allclose(
        got[:, 14, 14, 14], 0.8 * table[:, Material.WHITE] + 0.2 * table[:, Material.EDEMA], 1e-6
    )
    np.testing.assert_allclose(got[:, 19, 19, 19], table[:, Material.CYST], rtol=1e-6)


def test_each_tissue_is_as_uneven_as_it_is_said_to_be(scene: Scene, table: np.ndarray) -> None:
    texture = Texture((0.1, 0.2, 0.05, 0.0), (0.02, 0.0, 0.03, 0.04), wavelength_mm=8.0)
    got = signals(scene, table, texture, np.random.default_rng(0))
    for index in range(4):
        for material, strength in ((Material.GREY, texture.healthy), (Material.WHITE, texture.white)):
            values = got[index][scene.healthy == material] / table[index, material] - 1
            assert values.std() == pytest.approx(strength[index], rel=0.35, abs=1e-6)
    assert not got[:, :6].any()


def test_the_grain_is_added_to_health_alone_and_shared_in_part(scene: Scene, table: np.ndarray) -> None:
    paint(scene, (slice(14, 22),) * 3, np.ones((8, 8, 8), dtype=bool), Material.CORE)
    grain = (0.04, 0.01, 0.0, 0.02)
    got = signals(scene, table, Texture(grain=grain, grain_mm=5.0), np.random.default_rng(0))
    added = got - table[:, scene.healthy]
    healthy = scene.brain & (scene.density == 0)
    for index, strength in enumerate(grain):
        assert added[index][healthy].std() == pytest.approx(strength, rel=0.15, abs=1e-6)
    assert 0.2 < np.corrcoef(added[0][healthy], added[1][healthy])[0, 1] < 0.6
    np.testing.assert_allclose(
        got[:, 14:22, 14:22, 14:22], table[:, Material.CORE, None, None, None] + np.zeros((8,) * 3)
    )
    assert not got[:, ~scene.brain].any()


def test_the_texture_of_disease_is_the_same_on_every_sequence(scene: Scene, table: np.ndarray) -> None:
    where = np.ones((8, 8, 8), dtype=bool)
    paint(scene, (slice(14, 22),) * 3, where, Material.CORE)
    got = signals(scene, table, Texture(disease=(0.2, 0.1, 0.2, 0.1)), np.random.default_rng(0))
    factor = got[:, 14:22, 14:22, 14:22] / table[:, Material.CORE, None, None, None] - 1
    assert factor[0].std() > 0.02
    np.testing.assert_allclose(factor[0], 2 * factor[1], atol=1e-5)
    np.testing.assert_allclose(factor[0], factor[2], atol=1e-5)


def test_no_signal_is_negative_and_the_state_decides(scene: Scene, table: np.ndarray) -> None:
    wild = Texture((2.0,) * 4, (2.0,) * 4, (2.0,) * 4)
    got = signals(scene, table, wild, np.random.default_rng(0))
    assert got.min() == 0
    np.testing.assert_array_equal(got, signals(scene, table, wild, np.random.default_rng(0)))
    assert np.any(got != signals(scene, table, wild, np.random.default_rng(1)))


def test_drawn_textures_leave_white_matter_the_most_even() -> None:
    drawn = [draw_texture(np.random.default_rng(seed)) for seed in range(50)]
    assert all(min(t.healthy + t.white + t.disease) > 0 and max(t.white) <= 0.07 for t in drawn)
    assert max(max(t.healthy) for t in drawn) > 0.1
    assert all(6 <= t.wavelength_mm <= 30 and 4 <= t.disease_wavelength_mm <= 15 for t in drawn)
    assert all(0 <= min(t.grain) <= max(t.grain) <= 0.04 and 2.5 <= t.grain_mm <= 7 for t in drawn)
