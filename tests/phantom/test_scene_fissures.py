"""Where the surface of the brain turns inwards, and what mirrors itself."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from rarevoxel.phantom.fields import ellipsoid, grid_mm
from rarevoxel.phantom.scene import Material
from rarevoxel.phantom.scene.brain import draw_brain
from rarevoxel.phantom.scene.fissures import lateral_distance, midline_distance
from rarevoxel.phantom.scene.variants import MOST, add_variants

SIZE = (66.0, 82.0, 62.0)


def test_the_midline_fissure_ends_above_what_joins_the_hemispheres() -> None:
    at = grid_mm((41, 81, 61), (1.0, 1.0, 1.0))
    distance = midline_distance(at, (20.0, 40.0, 30.0), 0.4)
    assert distance[20, 40, 50] == 0  # High up the sheet itself,
    assert distance[25, 40, 50] == 5
    assert distance[20, 40, 30] == pytest.approx(12)  # but in the middle it ends 12 mm above,
    assert distance[25, 40, 30] == pytest.approx(13)
    assert distance[20, 79, 30] == 0  # in front and behind it does not,
    assert distance[20, 79, 6] == pytest.approx(15)  # down to where the cerebrum ends.


def test_a_lateral_fissure_is_a_sheet_inwards_and_one_across() -> None:
    shape, spacing = (70, 90, 66), (2.0, 2.0, 2.0)
    at = grid_mm(shape, spacing)
    for seed in range(3):
        flat = np.zeros(shape, dtype=np.float32)
        nearest, insular, outwards = lateral_distance(at, SIZE, flat, np.random.default_rng(seed))
        assert nearest.shape == insular.shape == shape
        assert np.all(nearest <= insular + 1e-6)
        np.testing.assert_allclose(nearest, nearest[::-1], atol=1e-4)  # Without warp both sides are alike.
        x = np.abs(np.broadcast_to(at[0], shape))
        np.testing.assert_array_equal(outwards > 0, x > (x - outwards))
        sheet = nearest < 1.5
        across = insular < 1.5
        assert 0.4 * 66 < x[across].mean() < 0.6 * 66
        assert np.all(x[sheet] > 0.35 * 66)
        assert x[sheet & (insular > 10)].min() > x[across].mean()  # The sheet inwards lies outside the insula,
        lateral = np.argwhere(sheet & (x > 55))
        assert len(lateral) > 20  # reaches the surface,
        assert np.ptp(lateral[:, 2]) * 2 < 40  # and is a level, not a wall.


def test_an_insula_is_limbic_cortex_beside_fluid() -> None:
    for seed in range(3):
        head = draw_brain(np.random.default_rng(seed), (48, 62, 48), (3.0, 3.0, 3.0))
        limbic = ndimage.binary_dilation(head == Material.LIMBIC, iterations=2)
        x = np.abs(grid_mm(head.shape, (3.0, 3.0, 3.0))[0]) * np.ones(head.shape)
        fluid = (head == Material.CSF) & (x > 24) & (x < 42)
        assert np.mean(limbic[fluid]) > 0.15


def test_variants_mirror_themselves() -> None:
    shape = (67, 82, 62)
    at = grid_mm(shape, (2.0, 2.0, 2.0))
    brain = ellipsoid(at, SIZE) < 1
    kinds: set[int] = set()
    for seed in range(10):
        head = np.where(brain, Material.WHITE, Material.AIR).astype(np.uint8)
        add_variants(head, brain, at, SIZE, np.zeros(shape, np.float32), np.random.default_rng(seed))
        drawn = head[brain & (head != Material.WHITE)]
        kinds |= set(drawn.tolist())
        np.testing.assert_array_equal(head, head[::-1])
        assert ndimage.label(head > Material.WHITE)[1] <= 3 * MOST  # One may cut another in two.
        assert np.all(head[~brain] == Material.AIR)
    assert kinds == {Material.VARIANT, Material.LIMBIC, Material.NUCLEUS}
