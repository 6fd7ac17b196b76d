"""Mass effect and growth: what moves, what is reached when, and how it fades."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from rarevoxel.phantom.scene import Material
from rarevoxel.phantom.scene.growth import (
    Infiltration,
    density_of,
    draw_infiltration,
    fade,
    first_reached,
    growth_times,
    without_crumbs,
)
from rarevoxel.phantom.scene.mass_effect import push_aside

MM = (1.0, 1.0, 1.0)
CENTRE = (30, 30, 30)
BOX = (slice(0, 61),) * 3
SMOOTH = Infiltration(roughness=0.0)


def radii(spacing: tuple[float, float, float] = MM) -> np.ndarray:
    axes = [(np.arange(61) - c) * s for c, s in zip(CENTRE, spacing, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    return np.asarray(np.sqrt(x * x + y * y + z * z))


def white() -> np.ndarray:
    return np.full((61, 61, 61), Material.WHITE, dtype=np.uint8)


def test_no_strength_moves_nothing() -> None:
    head = np.random.default_rng(0).integers(0, 8, size=(20, 20, 20)).astype(np.uint8)
    assert push_aside(head, (10, 10, 10), 5.0, 0.0, MM) is head


def test_the_centre_stays_and_what_is_far_away_stays() -> None:
    head = np.random.default_rng(0).integers(0, 8, size=(61, 61, 61)).astype(np.uint8)
    moved = push_aside(head, CENTRE, 5.0, 0.38, MM)
    assert moved[CENTRE] == head[CENTRE]
    far = radii() > 20
    np.testing.assert_array_equal(moved[far], head[far])
    assert np.mean(moved[radii() < 8] != head[radii() < 8]) > 0.3


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.5, 0.8)])
def test_a_shell_moves_outwards_as_the_formula_says(spacing: tuple[float, float, float]) -> None:
    radius, strength, r = 6.0, 0.35, radii(spacing)
    head = np.where(r < 8, Material.GREY, Material.WHITE).astype(np.uint8)
    moved = push_aside(head, CENTRE, radius, strength, spacing)
    source = r * (1 - strength * np.exp(-((r / (2 * radius)) ** 2)))
    np.testing.assert_array_equal(
        moved[np.abs(source - 8) > 1.0] == Material.GREY, (source < 8)[np.abs(source - 8) > 1]
    )
    assert np.count_nonzero(moved == Material.GREY) > 1.3 * np.count_nonzero(head == Material.GREY)


def test_the_map_is_monotone_for_every_strength_below_one() -> None:
    r = np.linspace(0, 60, 2000)
    head = np.clip(np.arange(121) // 2, 0, 255).astype(np.uint8)[:, None, None]
    for strength in (0.1, 0.39, 0.99):
        assert np.all(np.diff(r * (1 - strength * np.exp(-((r / 16) ** 2)))) > 0)
        moved = push_aside(head, (60, 0, 0), 8.0, strength, MM)[:, 0, 0].astype(int)
        assert np.all(np.diff(moved) >= 0)


def test_growth_in_white_matter_is_distance_in_mm() -> None:
    spacing = (1.0, 2.0, 0.5)
    times = growth_times(white(), CENTRE, BOX, SMOOTH, np.random.default_rng(0), spacing)
    np.testing.assert_allclose(times, radii(spacing), rtol=1e-5, atol=1e-6)


def test_growth_is_slower_in_grey_matter_still_slower_in_fluid_and_stops_at_air() -> None:
    head = white()
    head[40:] = Material.GREY
    head[:20] = Material.CSF
    head[:, :10] = Material.AIR
    times = growth_times(head, CENTRE, BOX, SMOOTH, np.random.default_rng(0), MM)
    assert times[50, 30, 30] == pytest.approx(20 * SMOOTH.grey)
    assert times[10, 30, 30] == pytest.approx(20 * SMOOTH.fluid)
    assert times[30, 50, 30] == pytest.approx(20)
    assert np.isinf(times[:, :10]).all()
    assert np.isfinite(times[:, 10:]).all()


def test_roughness_spreads_the_log_of_the_times() -> None:
    how = replace(SMOOTH, roughness=0.3, wavelength_mm=10)
    times = growth_times(white(), CENTRE, BOX, how, np.random.default_rng(0), MM)
    log = np.log(times[radii() > 0] / radii()[radii() > 0])
    assert log.std() == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize("count", [1, 27, 5000])
def test_so_many_voxels_are_reached(count: int) -> None:
    times = np.random.default_rng(0).random((30, 30, 30)).astype(np.float32)
    times[:5] = np.inf
    assert np.count_nonzero(times <= first_reached(times, count)) == count


def test_nothing_is_reached_where_nothing_is_asked_and_all_where_too_much_is() -> None:
    times = np.array([[[1.0, 3.0, np.inf]]], dtype=np.float32)
    assert first_reached(times, 0) == -np.inf
    assert first_reached(times, 99) == 3.0
    assert first_reached(np.full((2, 2, 2), np.inf, dtype=np.float32), 3) == -np.inf


def test_crumbs_are_what_scipy_finds_small() -> None:
    mask = ndimage.gaussian_filter(np.random.default_rng(1).random((24, 24, 24)), 1.2) > 0.56
    mask[2:10, 2:10, 2:10] = True
    parts, count = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = ndimage.sum_labels(mask, parts, range(1, count + 1))
    kept = np.isin(parts, 1 + np.flatnonzero(sizes >= 0.05 * mask.sum()))
    assert 0 < kept.sum() < mask.sum()
    np.testing.assert_array_equal(without_crumbs(mask, 0.05), kept)
    whole = np.ones((3, 3, 3), dtype=bool)
    assert without_crumbs(whole) is whole


def test_fading_is_full_inside_edge_at_the_border_and_nothing_beyond() -> None:
    slab = np.zeros((9, 5, 5), dtype=bool)
    slab[:5] = True
    # Centres of voxels lie 4.5, 3.5, 2.5, 1.5, 0.5 mm inside and as far outside; 0.4 at the border and 0.2 per mm.
    density = fade(slab, Infiltration(edge=0.4, width_mm=5.0), (1.0, 2.0, 2.0))
    assert density[:, 2, 2].tolist() == pytest.approx([255, 255, 229.5, 178.5, 127.5, 76.5, 25.5, 0, 0], abs=0.6)
    sharp = fade(slab, Infiltration(edge=0.4, width_mm=0.0), (1.0, 2.0, 2.0))
    assert sharp[:, 2, 2].tolist() == [255] * 5 + [0] * 4


def test_drawn_infiltrations_are_in_range() -> None:
    for seed in range(20):
        how = draw_infiltration(np.random.default_rng(seed), 15.0)
        assert 0.2 <= how.edge <= 0.65
        assert 0.5 <= how.width_mm <= 9
        assert draw_infiltration(np.random.default_rng(seed), 2.0).width_mm <= 1.6
        assert 0 <= how.pale_share <= 0.6
        assert 0.25 <= how.pale <= 0.7
        assert how.fluid >= 4 > 1 <= how.grey
        assert 14.5 <= how.wavelength_mm <= 34
    shares = [draw_infiltration(np.random.default_rng(seed), 15.0).pale_share for seed in range(100)]
    assert 40 <= np.count_nonzero(shares) <= 80


def test_of_a_tumour_too_small_to_be_strong_anywhere_all_is_pale() -> None:
    one = np.zeros((5, 5, 5), dtype=bool)
    one[2, 2, 2] = True
    density = density_of(
        one, np.where(one, 1, 2).astype(np.float32), Infiltration(width_mm=0, pale_share=0.6, pale=0.4), MM
    )
    assert density[one] == round(0.4 * 255)
    assert not density[~one].any()
