"""White-matter lesions and caps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from rarevoxel.phantom.scene import Material, Scene, draw_scene, empty_scene, white_matter
from rarevoxel.phantom.scene import draw as drawing
from rarevoxel.phantom.scene.canvas import FULL, paint
from rarevoxel.phantom.scene.white_matter import (
    HOLE_MM3,
    PALE_BESIDE,
    VISIBLE,
    add_bands,
    add_caps,
    add_lesion,
    add_lesions,
    add_pale,
    lesion_centres,
)

MM = (2.0, 2.0, 2.0)
SHAPE = (48, 48, 48)
EDEMA = 2


def radius_mm() -> np.ndarray:
    x, y, z = np.ogrid[-24:24, -24:24, -24:24]
    return np.asarray(2 * np.sqrt(x * x + y * y + z * z))


@pytest.fixture
def scene() -> Scene:
    """White matter in a layer of grey, with a ventricle in its middle."""
    r = radius_mm()
    healthy = np.select([r < 10, r < 40, r < 46], [Material.CSF, Material.WHITE, Material.GREY], Material.AIR)
    return empty_scene(healthy.astype(np.uint8), MM)


def test_there_are_about_as_many_lesions_as_asked(scene: Scene) -> None:
    counts = []
    for seed in range(6):
        drawn = empty_scene(scene.healthy, MM)
        add_lesions(drawn, np.random.default_rng(seed), 20, 150.0, 0.2)
        assert set(np.unique(drawn.labels)) == {0, EDEMA}
        counts.append(ndimage.label(drawn.labels, np.ones((3, 3, 3)))[1])
    # Some are faint, some touch, and some have a partner on the other side.
    assert 9 <= np.mean(counts) <= 24


def test_a_lesion_in_folded_tissue_is_a_spot_and_no_scribble(scene: Scene) -> None:
    scene.healthy[scene.healthy == Material.GREY] = Material.WHITE
    scene.healthy[:, ::3][scene.healthy[:, ::3] == Material.WHITE] = Material.GREY  # Every third layer.
    shares = []
    for seed in range(20):
        drawn = empty_scene(scene.healthy, MM)
        add_lesion(drawn, np.random.default_rng(seed), (8, 24, 24), 1500.0)
        pieces, count = ndimage.label(drawn.labels)
        if count:  # A faint one carries no label.
            sizes = np.bincount(pieces.ravel())[1:]
            shares.append(sizes.max() / sizes.sum())
    assert np.mean(np.array(shares) > 0.95) > 0.75


def test_centres_lie_in_free_white_matter_and_lean_towards_the_ventricles(scene: Scene) -> None:
    box = (slice(0, 48), slice(0, 48), slice(0, 24))
    paint(scene, box, np.asarray(scene.healthy[box] == Material.WHITE), Material.CORE)
    centres = np.concatenate([lesion_centres(scene, np.random.default_rng(seed), 20) for seed in range(15)])
    assert np.all(scene.healthy[tuple(centres.T)] == Material.WHITE)
    assert np.all(centres[:, 2] >= 24)
    r = radius_mm()
    free = (scene.healthy == Material.WHITE) & (scene.labels == 0)
    assert np.mean(r[tuple(centres.T)] < 18) > 1.2 * np.mean(r[free] < 18)


def test_lesions_are_rare_in_thin_white_matter(scene: Scene) -> None:
    scene.healthy[:, :, 24:][scene.healthy[:, :, 24:] == Material.WHITE] = Material.GREY
    scene.healthy[:, :, 38:40] = Material.WHITE
    centres = np.concatenate([lesion_centres(scene, np.random.default_rng(seed), 20) for seed in range(15)])
    thin = scene.healthy[:, :, 24:] == Material.WHITE
    share = np.count_nonzero(thin) / np.count_nonzero(scene.healthy == Material.WHITE)
    assert np.mean(centres[:, 2] >= 24) < 0.75 * share


def test_some_lie_in_or_beside_the_brainstem(scene: Scene) -> None:
    centres = np.concatenate([lesion_centres(scene, np.random.default_rng(seed), 20) for seed in range(30)])
    white = np.argwhere(scene.healthy == Material.WHITE)
    # The brain reaches from 2 to 45: the lowest third of it, and what is within an eighth of its width of the middle.
    low, other = (np.mean((v[:, 2] < 16) & (np.abs(v[:, 0] - 23.5) < 5)) for v in (centres, white))
    assert 1.2 * other < low < 0.4


def test_nuclei_have_some_and_a_lesion_beside_them_may_reach_in(scene: Scene) -> None:
    scene.healthy[24:][scene.healthy[24:] == Material.WHITE] = Material.NUCLEUS
    centres = np.concatenate([lesion_centres(scene, np.random.default_rng(seed), 20) for seed in range(30)])
    assert 0.2 < np.mean(centres[:, 0] >= 24) < 0.45
    for start, least, most in ((24, 0.9, 1.0), (22, 0.0, 1.0)):
        densities = []
        for seed in range(12):
            drawn = empty_scene(scene.healthy, MM)
            add_lesion(drawn, np.random.default_rng(seed), (start, 24, 36), 2000.0)
            inside = drawn.healthy == Material.NUCLEUS
            densities.append(drawn.density[inside].max() / drawn.density.max())
        assert all(least <= density <= most for density in densities), start
    assert np.std(densities) > 0.1


def test_bands_line_ventricles_and_no_fissure(scene: Scene) -> None:
    scene.healthy[24:, 22:26, :16] = np.where(scene.healthy[24:, 22:26, :16] > 0, Material.CSF, Material.AIR)
    for seed in range(4):
        drawn = empty_scene(scene.healthy, MM)
        add_bands(drawn, np.random.default_rng(seed), 6.0)
        at = radius_mm()[drawn.labels > 0]
        assert at.size == 0 or at.max() < 30
    assert drawn.labels.any()


def test_no_lesions_are_drawn_where_none_can_be(scene: Scene) -> None:
    assert lesion_centres(scene, np.random.default_rng(0), 0).shape == (0, 3)
    scene.healthy[scene.healthy == Material.WHITE] = Material.GREY
    add_lesions(scene, np.random.default_rng(0), 5, 100.0, 0.5)
    assert not scene.density.any()


def test_what_an_annotator_would_see_is_labelled_and_faint_spots_are_not(scene: Scene) -> None:
    faint, volumes = 0, []
    for seed in range(50):
        spot = empty_scene(scene.healthy, MM)
        add_lesion(spot, np.random.default_rng(seed), (24, 24, 36), 600.0)
        assert np.all(np.isin(spot.disease[spot.density > 0], (Material.LESION, Material.HOLE)))
        labelled = spot.labels > 0
        assert np.all(spot.density[labelled] >= VISIBLE * FULL - 0.5)
        assert np.all(spot.density[~labelled] <= VISIBLE * FULL + 0.5)
        faint += not labelled.any()
        volumes.append(8.0 * np.count_nonzero(labelled))
    assert 2 <= faint <= 17
    assert 0.5 < np.median([volume for volume in volumes if volume]) / 600 < 1.4


def test_the_middle_of_larger_lesions_may_be_destroyed(scene: Scene) -> None:
    holes = []
    for seed in range(40):
        spot = empty_scene(scene.healthy, MM)
        add_lesion(spot, np.random.default_rng(seed), (24, 24, 36), 600.0)
        hole = spot.disease == Material.HOLE
        assert np.all(spot.labels[hole] == EDEMA)
        if hole.any():
            depth = ndimage.distance_transform_edt(spot.labels > 0)
            assert depth[hole].mean() > depth[(spot.labels > 0) & ~hole].mean()
        holes.append(np.count_nonzero(hole) / max(1, np.count_nonzero(spot.labels)))
        small = empty_scene(scene.healthy, MM)
        add_lesion(small, np.random.default_rng(seed), (24, 24, 36), HOLE_MM3)
        assert not np.any(small.disease == Material.HOLE)
    assert 12 <= sum(share > 0 for share in holes) <= 30
    assert max(holes) < 0.9


def test_lesions_spare_fluid_air_and_what_is_labelled_already(scene: Scene) -> None:
    box = (slice(20, 28), slice(20, 28), slice(30, 34))
    paint(scene, box, np.ones((8, 8, 4), dtype=bool), Material.CORE, 100)
    scene.healthy[:, 30:, :] = np.where(scene.healthy[:, 30:, :] > 0, Material.CSF, Material.AIR)
    for seed in range(8):
        add_lesion(scene, np.random.default_rng(seed), (24, 28, 35), 4000.0)
    assert np.all(scene.labels[box] == 1)
    assert np.all(scene.density[box] == 100)
    drawn = np.isin(scene.disease, (Material.LESION, Material.HOLE))
    assert drawn.any()
    assert np.isin(scene.healthy[drawn], (Material.WHITE, Material.GREY)).all()


def test_caps_line_the_ventricles_faintly_and_carry_no_label(scene: Scene) -> None:
    paint(scene, (slice(0, 48),) * 3, (radius_mm() < 20) & (np.indices(SHAPE)[2] > 27), Material.CORE, 50)
    before = scene.density.copy(), scene.labels.copy()
    add_caps(scene, np.random.default_rng(0), 4.0, 0.3)
    np.testing.assert_array_equal(scene.labels, before[1])
    changed = scene.density != before[0]
    assert changed.any()
    assert not before[0][changed].any()
    assert np.all(scene.healthy[changed] == Material.WHITE)
    assert np.all(scene.disease[changed] == Material.LESION)
    assert scene.density[changed].max() <= round(0.3 * FULL)
    assert np.all(radius_mm()[changed] < 10 + 4 + 4)


def test_in_some_patients_lesions_have_partners_on_the_other_side() -> None:
    shares = []
    for seed in range(16):
        scene = empty_scene(np.full((60, 60, 60), Material.WHITE, dtype=np.uint8), (1.0, 1.0, 1.0))
        add_lesions(scene, np.random.default_rng(seed), 12, 100.0, 0.3)
        labelled = scene.labels > 0
        shares.append(np.count_nonzero(labelled & labelled[::-1]) / np.count_nonzero(labelled))
    assert min(shares) < 0.05
    assert max(shares) > 0.3
    assert 4 <= sum(share > 0.1 for share in shares) <= 14


def test_a_pale_part_lies_at_its_lesion_is_larger_and_leaves_it_as_it_is(scene: Scene) -> None:
    centre, volume = (24, 24, 38), 600.0
    sizes = []
    for seed in range(30):
        fresh = empty_scene(scene.healthy, MM)
        paint(fresh, (slice(0, 48),) * 3, np.indices(SHAPE)[2] == 38, Material.LESION, FULL)
        bright = fresh.labels > 0
        add_pale(fresh, np.random.default_rng(seed), centre, volume)
        assert np.all(fresh.density[bright] == FULL)
        pale = (fresh.labels > 0) & ~bright
        assert fresh.density[pale].max(initial=0) <= round(0.65 * FULL)
        assert fresh.density[pale].min(initial=FULL) >= VISIBLE * FULL - 1
        sizes.append(np.count_nonzero(pale) * 8)
        drawn = np.argwhere((fresh.density > 0) & ~bright)
        assert np.all(np.abs(drawn.mean(axis=0) - centre) * 2 < 12)
    assert np.median(sizes) > 0.3 * volume
    assert max(sizes) > volume


@pytest.mark.parametrize(("share", "expected"), [(None, PALE_BESIDE), (0.0, 0.0), (1.0, 1.0)])
def test_so_many_lesions_flow_into_a_pale_one(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, share: float | None, expected: float
) -> None:
    if share is not None:
        monkeypatch.setattr(white_matter, "PALE_BESIDE", share)
    drawn: list[float] = []
    monkeypatch.setattr(white_matter, "add_pale", lambda *given: drawn.append(given[3]))
    add_lesions(scene, np.random.default_rng(0), 400, 30.0, 0.2)
    assert len(drawn) / 400 == pytest.approx(expected, abs=0.05)


def test_a_cap_is_never_so_strong_that_it_would_be_a_band(monkeypatch: pytest.MonkeyPatch) -> None:
    strengths: list[float] = []
    monkeypatch.setattr(drawing, "add_caps", lambda *given: strengths.append(given[3]))
    for seed in range(20):
        draw_scene(np.random.default_rng(seed), (36, 46, 36), (4.0, 4.0, 4.0), "healthy")
    assert strengths
    assert max(strengths) < VISIBLE


def test_bands_are_bright_or_pale(scene: Scene) -> None:
    means = []
    for seed in range(12):
        fresh = empty_scene(scene.healthy, MM)
        add_bands(fresh, np.random.default_rng(seed), 6.0)
        if fresh.labels.any():
            means.append(fresh.density[fresh.labels > 0].mean() / FULL)
    assert min(means) < 0.55 < 0.7 < max(means)


def test_bands_lie_along_ventricles_and_carry_labels(scene: Scene) -> None:
    drawn = []
    for seed in range(6):
        fresh = Scene(scene.healthy, *(np.zeros_like(scene.labels) for _ in range(3)), scene.spacing)
        add_bands(fresh, np.random.default_rng(seed), 6.0)
        labelled = fresh.labels > 0
        drawn.append(np.count_nonzero(labelled))
        r = radius_mm()[labelled]
        assert np.all((r >= 10) & (r <= 10 + 6 * 3**0.5 + 2))
        assert np.all(fresh.healthy[labelled] == Material.WHITE)
        assert np.all(fresh.density[labelled] >= VISIBLE * FULL - 1)
        assert set(np.unique(fresh.labels)) <= {0, EDEMA}
    rim = np.count_nonzero(ndimage.binary_dilation(scene.healthy == Material.CSF, iterations=3)) - np.count_nonzero(
        scene.healthy == Material.CSF
    )
    assert 0 < max(drawn) < 0.8 * rim
