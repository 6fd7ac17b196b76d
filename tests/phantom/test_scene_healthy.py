"""Healthy heads: what they are made of, and how they differ."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from rarevoxel.phantom.fields import ellipsoid, grid_mm
from rarevoxel.phantom.scene import Material
from rarevoxel.phantom.scene.brain import draw_brain
from rarevoxel.phantom.scene.cortex import (
    Folding,
    draw_folding,
    fold_cerebellum,
    fold_cortex,
    sheet_distance,
    slope_of,
    sulcal_distance,
)
from rarevoxel.phantom.scene.healthy import (
    FINE_MM,
    add_meninges,
    add_outer_fluid,
    add_plexus,
    add_sinuses,
    add_vessels,
    coarse_depth,
    draw_healthy,
)
from rarevoxel.phantom.scene.material import FIRST_DISEASE

MM = (4.0, 4.0, 4.0)
SHAPE = (36, 46, 36)


@pytest.fixture(scope="module")
def brains() -> list[np.ndarray]:
    return [draw_brain(np.random.default_rng(seed), SHAPE, MM) for seed in range(3)]


def ball(radius: float, n: int = 24) -> np.ndarray:
    x, y, z = np.ogrid[-n:n, -n:n, -n:n]
    return np.asarray((x + 0.5) ** 2 + (y + 0.5) ** 2 + (z + 0.5) ** 2 < radius * radius)


def test_a_brain_has_its_parts_in_human_amounts(brains: list[np.ndarray]) -> None:
    for head in brains:
        ml = np.bincount(head.ravel(), minlength=len(Material)) * 0.064
        assert 900 < ml[1:].sum() < 1900
        cortex = ml[Material.GREY] + ml[Material.LIMBIC]
        assert 0.25 < cortex / ml[1:].sum() < 0.65
        assert 0.25 < ml[Material.WHITE] / ml[1:].sum() < 0.65
        assert 4 < ml[Material.NUCLEUS] < 60
        assert ml[Material.CSF] > 10
        assert head.max() < FIRST_DISEASE


def test_a_brain_is_one_piece_with_grey_matter_outside(brains: list[np.ndarray]) -> None:
    for head in brains:
        parts, count = ndimage.label(head > 0)
        assert np.bincount(parts.ravel())[1:].max() > 0.99 * np.count_nonzero(head)
        depth = ndimage.distance_transform_edt(head > 0)
        outer, inner = head[depth == 1], head[depth > 5]
        assert np.mean(outer == Material.GREY) > 0.55 > 0.4 > np.mean(inner == Material.GREY)
        assert count < 20


def test_brains_differ_and_a_seed_gives_the_same_one(brains: list[np.ndarray]) -> None:
    assert np.mean(brains[0] != brains[1]) > 0.1
    np.testing.assert_array_equal(draw_brain(np.random.default_rng(0), SHAPE, MM), brains[0])


def test_a_brain_is_scaled_down_to_a_small_field_of_view(brains: list[np.ndarray]) -> None:
    small = draw_brain(np.random.default_rng(0), (18, 23, 18), MM)
    assert np.count_nonzero(small) * 8 == pytest.approx(np.count_nonzero(brains[0]), rel=0.25)


def test_sheet_distance_of_a_linear_field_is_exact() -> None:
    x = (np.arange(20, dtype=np.float32) * 2.0)[:, None, None] * np.ones((1, 5, 5), np.float32)
    field = 0.3 * (x - 17)
    np.testing.assert_allclose(sheet_distance(field, slope_of(field, (2.0, 1.0, 1.0))), np.abs(x - 17), rtol=1e-4)


def test_sheet_distance_means_nothing_where_a_field_is_flat() -> None:
    slope = np.array([1.0, 1.0, 0.0], dtype=np.float32)
    floor = 0.25 * np.sqrt(2 / 3)
    np.testing.assert_allclose(sheet_distance(np.full(3, 2.0, np.float32), slope), [2, 2, 2 / floor], rtol=1e-6)


def planar(depth: np.ndarray, gap_mm: float, **changed: float) -> np.ndarray:
    """A slab folded by sulci that go straight down every 12 mm."""
    y = np.arange(depth.shape[1], dtype=np.float32)[None, :, None] % 12
    sulci = np.broadcast_to(np.minimum(y, 12 - y), depth.shape)
    head = np.zeros(depth.shape, dtype=np.uint8)
    how = Folding(sulcus_mm=10, thickness_mm=3, gap_mm=gap_mm, **changed)
    fold_cortex(head, depth, depth, sulci, how, np.random.default_rng(0), (1.0, 1.0, 1.0))
    return head


def test_cortex_lies_along_the_surface_and_sulci_hold_fluid() -> None:
    depth = np.broadcast_to((np.arange(40, dtype=np.float32) - 5)[:, None, None], (40, 40, 40))
    head = planar(depth, 1.5)
    assert set(np.unique(head[:6])) == {Material.AIR}
    assert np.isin(head[6:8], (Material.GREY, Material.CSF)).all()
    assert np.mean(head[35:] == Material.WHITE) > 0.95
    fluid = (head == Material.CSF).mean(axis=(1, 2))
    assert fluid[6:9].mean() > fluid[13:16].mean() > fluid[35:].mean()
    assert np.all(head[6:8, 12] == Material.CSF)
    assert np.all(head[6:10, 6] != Material.CSF)
    assert not np.any(planar(depth, 0.0) == Material.CSF)


@pytest.mark.parametrize("closed", [0.0, 0.5, 1.0])
def test_where_banks_touch_cortex_takes_the_place_of_fluid(closed: float) -> None:
    depth = np.broadcast_to((np.arange(40, dtype=np.float32) - 5)[:, None, None], (40, 40, 40))
    fluid = planar(depth, 1.5) == Material.CSF
    head = planar(depth, 1.5, closed=closed)
    assert np.mean(head[fluid] == Material.GREY) == pytest.approx(closed, abs=0.15)
    assert not np.any((head == Material.CSF) & ~fluid)


def test_thickness_varies_and_sulci_end_as_bluntly_as_they_are_said_to() -> None:
    depth = np.broadcast_to((np.arange(40, dtype=np.float32) - 5)[:, None, None], (40, 40, 40))
    even, uneven = ((planar(depth, 0.0, uneven=u) == Material.GREY).sum(axis=0) for u in (0.0, 0.3))
    assert even[6].std() < 0.3 < uneven[6].std()
    sharp, blunt = (np.count_nonzero(planar(depth, 0.0, blunt=b)[6:] == Material.GREY) for b in (1.0, 12.0))
    assert blunt > 1.2 * sharp


def test_sulci_lie_a_gyrus_apart_and_go_down_rather_than_along() -> None:
    shape, spacing, size = (60, 72, 54), (2.0, 2.0, 2.0), (55.0, 66.0, 50.0)
    at = grid_mm(shape, spacing)
    across = []
    for upright in (0.0, 1.0):
        how = Folding(gyrus_mm=11, upright=upright)
        sulci = sulcal_distance(at, size, how, np.random.default_rng(4), spacing)
        assert sulci.shape == shape
        assert sulci.min() >= 0
        x = at[0] - 0.42 * size[0]
        radius = ellipsoid((x, at[1], at[2] - 0.1 * size[2]), (0.45 * size[0], 0.9 * size[1], 0.8 * size[2]))
        near = (sulci < 2) & (radius > 0.6) & (radius < 1.2) & (x > 0)
        ray = np.stack(np.broadcast_arrays(x, at[1], at[2] - 0.1 * size[2]))
        normal = np.stack(np.gradient(sulci))
        along = np.abs((ray * normal).sum(0)) / np.maximum(
            np.linalg.norm(ray, axis=0) * np.linalg.norm(normal, axis=0), 1e-6
        )
        across.append(float(along[near].mean()))
        if upright == 0:
            assert np.mean(sulci < 1.5) == pytest.approx(3 / 11, abs=0.09)
    assert across[1] < 0.7 * across[0]


def test_folding_scales_with_the_brain() -> None:
    large, small = draw_folding(np.random.default_rng(3), 1.0), draw_folding(np.random.default_rng(3), 0.5)
    assert small.thickness_mm == pytest.approx(0.5 * large.thickness_mm)
    assert small.upright == large.upright
    assert 2.2 <= large.thickness_mm <= 3.6


def test_the_cerebellum_fills_only_what_is_free() -> None:
    head = np.zeros((20, 20, 20), dtype=np.uint8)
    head[:10] = Material.WHITE
    radius = np.full(head.shape, 0.3, dtype=np.float32)
    fold_cerebellum(head, radius, np.random.default_rng(0), (1.0, 1.0, 1.0), 1.0)
    assert np.all(head[:9] == Material.WHITE)
    assert set(np.unique(head[10:])) == {Material.GREY, Material.WHITE}


def test_coarse_depth_is_near_the_exact_one() -> None:
    brain = ball(20.0)
    exact = ndimage.distance_transform_edt(brain)
    assert np.abs(coarse_depth(brain, (1.0, 1.0, 1.0)) - exact).max() < 8
    assert not coarse_depth(brain, (1.0, 1.0, 1.0))[ndimage.distance_transform_edt(~brain) > 6].any()
    np.testing.assert_allclose(
        coarse_depth(brain, (4.0, 4.0, 4.0)), ndimage.distance_transform_edt(brain, sampling=4), rtol=1e-6
    )


def test_outer_fluid_is_a_layer_of_so_many_voxels() -> None:
    head = np.where(ball(10.0, 16), Material.GREY, 0).astype(np.uint8)
    assert add_outer_fluid(head, 0) is head
    grown = add_outer_fluid(head, 2)
    taxicab = ndimage.distance_transform_cdt(head == 0, metric="taxicab")
    np.testing.assert_array_equal(grown == Material.CSF, (taxicab > 0) & (taxicab <= 2))
    assert np.all(grown[head > 0] == Material.GREY)


def test_plexus_lies_in_deep_fluid_only() -> None:
    head = np.full((16, 16, 16), Material.WHITE, dtype=np.uint8)
    head[4:12, 4:12] = Material.CSF
    before, depth = head.copy(), np.zeros(head.shape, dtype=np.float32)
    depth[:8] = 20
    add_plexus(head, np.random.default_rng(1), depth, MM)
    changed = head != before
    assert set(np.unique(head[changed])) == {Material.PLEXUS}
    assert np.all(before[changed] == Material.CSF)
    assert np.all(depth[changed] > 14)


def test_vessels_spare_white_matter_and_air(brains: list[np.ndarray]) -> None:
    drawn = 0
    for seed in range(6):
        head = brains[0].copy()
        add_vessels(head, np.random.default_rng(seed), MM)
        changed = head != brains[0]
        drawn += changed.any()
        assert np.all(head[changed] == Material.VESSEL)
        assert not np.isin(brains[0][changed], (Material.WHITE, Material.AIR)).any()
        assert changed.mean() < 0.03
    assert 1 <= drawn < 6


def test_dura_and_sinuses_lie_outside_and_the_falx_in_the_middle(brains: list[np.ndarray]) -> None:
    head = add_outer_fluid(brains[0], 1)
    depth = coarse_depth(brains[0] > 0, MM)
    seen = set()
    for seed in range(8):
        drawn = head.copy()
        add_meninges(drawn, np.random.default_rng(seed), depth, MM)
        changed = drawn != head
        seen |= set(np.unique(drawn[changed]).tolist())
        assert np.all((depth[changed] <= 5) | (np.argwhere(changed)[:, 0] == SHAPE[0] // 2))
        assert not np.isin(head[changed], (Material.WHITE, Material.AIR)).any()
    assert seen == {Material.MENINGES, Material.VESSEL}


def test_dura_is_thin() -> None:
    brain = ellipsoid(grid_mm((64, 72, 64), (1.0, 1.0, 1.0)), (28.0, 32.0, 28.0)) < 1
    head = np.where(brain, np.uint8(Material.GREY), np.uint8(Material.AIR))
    surface = coarse_depth(brain, (1.0, 1.0, 1.0), FINE_MM)
    exact = ndimage.distance_transform_edt(brain)
    thick = []
    for seed in range(12):
        drawn = head.copy()
        add_meninges(drawn, np.random.default_rng(seed), surface, (1.0, 1.0, 1.0))
        if np.any(drawn != head):
            thick.append(exact[drawn != head].max())
    assert len(thick) > 4
    assert max(thick) <= 6


def test_sinuses_run_along_the_midline_and_the_back_at_the_edge(brains: list[np.ndarray]) -> None:
    head = brains[0]
    depth = coarse_depth(head > 0, MM)
    drawn = 0
    for seed in range(12):
        after = head.copy()
        add_sinuses(after, np.random.default_rng(seed), depth, MM)
        changed = np.argwhere(after != head)
        drawn += len(changed) > 0
        assert set(after[after != head].tolist()) <= {Material.MENINGES, Material.VESSEL}
        assert np.all(head[after != head] != Material.AIR)
        assert np.all(depth[after != head] <= 15)
        medial = np.abs(changed[:, 0] - 17.5) * 4 <= 18
        assert np.all(medial | (changed[:, 1] < SHAPE[1] / 2))
    assert 2 < drawn < 12


def test_a_healthy_head_holds_no_disease() -> None:
    head = draw_healthy(np.random.default_rng(2), SHAPE, MM)
    assert head.max() < FIRST_DISEASE
    assert head.dtype == np.uint8
    np.testing.assert_array_equal(head, draw_healthy(np.random.default_rng(2), SHAPE, MM))
