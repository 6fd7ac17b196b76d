"""What cores are made of, and tumours grown into a scene."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from rarevoxel.errors import ConfigError
from rarevoxel.phantom.scene import Material, Scene, Tumour, empty_scene, erase_contrast, grow_tumour, tumours
from rarevoxel.phantom.scene.canvas import FULL
from rarevoxel.phantom.scene.core import CORES, fill_core
from rarevoxel.phantom.scene.growth import Infiltration
from rarevoxel.phantom.scene.material import LABEL_OF
from rarevoxel.phantom.scene.tumours import ball_mm3

MM = (2.0, 2.0, 2.0)
CENTRE = (20, 20, 20)
NECROSIS, EDEMA, ENHANCING, CAVITY = 1, 2, 3, 4


@pytest.fixture(scope="module")
def ball() -> np.ndarray:
    x, y, z = np.ogrid[-10:11, -10:11, -10:11]
    return np.asarray(x * x + y * y + z * z < 8**2)


@pytest.fixture(scope="module")
def filled(ball: np.ndarray) -> dict[str, list[np.ndarray]]:
    return {kind: [fill_core(ball, kind, np.random.default_rng(seed), MM) for seed in range(16)] for kind in CORES}


def blank() -> Scene:
    return empty_scene(np.full((41, 41, 41), Material.WHITE, dtype=np.uint8), MM)


def grown(tumour: Tumour, seed: int = 0, centre: tuple[int, ...] = CENTRE) -> Scene:
    return grow_tumour(blank(), tumour, centre, np.random.default_rng(seed))


def share(volumes: list[np.ndarray], where: np.ndarray, material: Material) -> float:
    return float(np.mean([np.mean(volume[where] == material) for volume in volumes]))


@pytest.mark.parametrize("kind", CORES)
def test_a_core_is_filled_whole_and_nothing_else_is(
    kind: str, filled: dict[str, list[np.ndarray]], ball: np.ndarray
) -> None:
    for volume in filled[kind]:
        np.testing.assert_array_equal(volume > 0, ball)
        assert set(np.unique(volume[ball])) <= set(range(Material.CORE, Material.CAVITY))
    assert not fill_core(np.zeros_like(ball), kind, np.random.default_rng(0), MM).any()


def test_a_ring_encloses_what_does_not_enhance(filled: dict[str, list[np.ndarray]], ball: np.ndarray) -> None:
    depth = ndimage.distance_transform_edt(ball)
    rim, deep = ball & (depth <= 2), depth > 5
    assert share(filled["ring"], rim, Material.ENHANCING) > 0.5
    assert share(filled["ring"], deep, Material.ENHANCING) < 0.25
    assert share(filled["ring"], deep, Material.NECROSIS) > 0.3


def test_a_solid_core_enhances_nearly_throughout(filled: dict[str, list[np.ndarray]], ball: np.ndarray) -> None:
    rim = ball & (ndimage.distance_transform_edt(ball) <= 2)
    assert share(filled["solid"], rim, Material.ENHANCING) > 0.9
    assert all(np.mean(volume[ball] == Material.ENHANCING) > 0.5 for volume in filled["solid"])
    small = np.ones((5, 5, 5), dtype=bool)
    seen = np.stack([fill_core(small, "solid", np.random.default_rng(seed), MM) for seed in range(80)])
    assert not np.isin(seen, (Material.CYST, Material.CORE)).any()


def test_patches_enhance_a_little_and_plain_cores_never(filled: dict[str, list[np.ndarray]], ball: np.ndarray) -> None:
    patches = share(filled["patchy"], ball, Material.ENHANCING)
    assert 0.02 < patches < 0.4
    assert patches < share(filled["patchy"], ball, Material.CORE)
    assert share(filled["plain"], ball, Material.ENHANCING) == 0
    assert share(filled["plain"], ball, Material.CORE) > 0.8


def test_some_cores_hold_a_cyst_deep_inside_and_some_have_bled(
    filled: dict[str, list[np.ndarray]], ball: np.ndarray
) -> None:
    depth = ndimage.distance_transform_edt(ball)
    everything = [volume for kind in CORES for volume in filled[kind]]
    cysts = [volume == Material.CYST for volume in everything if np.any(volume == Material.CYST)]
    assert 2 <= len(cysts) < 25
    assert all(depth[cyst].min() >= 0.3 * depth.max() for cyst in cysts)
    bled = sum(bool(np.any(volume == Material.HAEMORRHAGE)) for volume in everything)
    assert 2 <= bled < 25


@pytest.mark.parametrize("core_share", [0.0, 0.3, 1.0])
def test_a_tumour_has_the_volumes_it_was_asked_for(core_share: float) -> None:
    scene = grown(Tumour("plain", 12000.0, core_share))
    whole = np.count_nonzero(scene.labels)
    assert whole == pytest.approx(12000 / 8, rel=0.02)
    assert np.count_nonzero(scene.labels == NECROSIS) == round(core_share * whole)
    assert np.count_nonzero(scene.labels == EDEMA) == whole - round(core_share * whole)


def test_the_core_shows_fully_and_the_oedema_fades() -> None:
    scene = grown(Tumour("solid", 12000.0, 0.3), seed=2)
    labelled, core = scene.labels > 0, np.isin(scene.labels, (NECROSIS, ENHANCING))
    assert np.all(scene.density[core] == FULL)
    assert np.all(scene.density[labelled] > 0)
    np.testing.assert_array_equal(scene.labels[labelled], LABEL_OF[scene.disease[labelled]])
    faint = (scene.density > 0) & ~labelled
    assert faint.any()
    assert np.all(scene.disease[faint] == Material.EDEMA)
    assert scene.density[faint].mean() < scene.density[labelled & ~core].mean()
    assert np.all(ndimage.distance_transform_edt(~labelled)[faint] < 12)


def test_what_is_reached_last_may_show_palely(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(pale_share: float) -> Scene:
        how = Infiltration(roughness=0.1, edge=0.5, width_mm=0.0, pale_share=pale_share, pale=0.4)
        monkeypatch.setattr(tumours, "draw_infiltration", lambda *_: how)
        return grown(Tumour("plain", 12000.0, 0.0))

    even, pale = drawn(0.0), drawn(0.3)
    np.testing.assert_array_equal(even.labels, pale.labels)
    labelled = even.labels > 0
    assert np.all(even.density[labelled] == FULL)
    shown = pale.density[labelled]
    assert set(np.unique(shown)) == {round(0.4 * FULL), FULL}
    assert np.mean(shown < FULL) == pytest.approx(0.3, abs=0.01)
    depth = ndimage.distance_transform_edt(labelled)[labelled]
    assert depth[shown < FULL].mean() < 0.6 * depth[shown == FULL].mean()


def test_a_cavity_takes_the_place_of_core_and_carries_its_label() -> None:
    scene = grown(Tumour("solid", 12000.0, 0.5, cavity_share=0.6))
    core = round(0.5 * np.count_nonzero(scene.labels))
    cavity = scene.labels == CAVITY
    np.testing.assert_array_equal(cavity, scene.disease == Material.CAVITY)
    assert 0.4 * core < np.count_nonzero(cavity) <= round(0.6 * core)
    assert np.any(scene.labels == ENHANCING)
    assert not np.any(grown(Tumour("solid", 12000.0, 0.5)).labels == CAVITY)


def test_mass_effect_moves_the_healthy_brain_only_where_it_is_asked() -> None:
    scene = blank()
    scene.healthy[26:28] = Material.CSF
    kept = scene.healthy.copy()
    still = grow_tumour(scene, Tumour("plain", 6000.0, 0.3), CENTRE, np.random.default_rng(0))
    assert still.healthy is scene.healthy
    moved = grow_tumour(scene, Tumour("plain", 6000.0, 0.3, mass_effect=0.35), CENTRE, np.random.default_rng(0))
    np.testing.assert_array_equal(scene.healthy, kept)
    line = np.flatnonzero(moved.healthy[:, 20, 20] == Material.CSF)
    assert line.min() > 26
    np.testing.assert_array_equal(moved.healthy[:, 0, 0], kept[:, 0, 0])


def test_a_second_tumour_leaves_the_first_one_alone() -> None:
    first = grow_tumour(blank(), Tumour("ring", 2000.0, 0.6), (10, 10, 10), np.random.default_rng(0))
    labels = first.labels[:20].copy()
    second = grow_tumour(first, Tumour("ring", 2000.0, 0.6), (32, 32, 32), np.random.default_rng(1))
    np.testing.assert_array_equal(second.labels[:20], labels)
    assert np.any(second.labels[25:])


def test_growth_stays_in_the_head() -> None:
    scene = blank()
    scene.healthy[:18] = Material.AIR
    scene = grow_tumour(scene, Tumour("solid", 20000.0, 0.5), CENTRE, np.random.default_rng(0))
    assert not scene.labels[:18].any()
    assert not scene.density[:18].any()
    assert np.count_nonzero(scene.labels) == pytest.approx(20000 / 8, rel=0.02)


def test_the_same_state_gives_the_same_tumour() -> None:
    tumour = Tumour("ring", 6000.0, 0.5)
    np.testing.assert_array_equal(grown(tumour, 3).disease, grown(tumour, 3).disease)
    assert np.any(grown(tumour, 3).disease != grown(tumour, 4).disease)


def test_without_contrast_enhancing_tumour_is_core() -> None:
    scene = grown(Tumour("ring", 8000.0, 0.6))
    before = scene.labels.copy()
    plain = erase_contrast(scene)
    np.testing.assert_array_equal(scene.labels, before)
    was = before == ENHANCING
    assert was.any()
    assert np.all(plain.labels[was] == NECROSIS)
    assert np.all(plain.disease[was] == Material.CORE)
    np.testing.assert_array_equal(plain.labels[~was], before[~was])
    np.testing.assert_array_equal(plain.density, scene.density)


def test_the_volume_of_a_ball() -> None:
    assert ball_mm3(3.0) == pytest.approx(14.13717)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cystic", 100.0, 0.5), r"kind of core \('cystic'\) must be one of ring, solid, patchy, plain"),
        (("ring", 0.0, 0.5), r"a tumour of 0 mm\^3 .*expected more than 0 mm\^3"),
        (("ring", 100.0, 0.5, 1.0), "with a mass effect of 1, expected .* 0 <= mass effect < 1"),
        (("ring", 100.0, 1.5), "core share 1.5 and cavity share 0 found, expected 0 to 1"),
        (("ring", 100.0, 0.5, 0.0, -0.1), "cavity share -0.1 found"),
    ],
)
def test_tumours_that_cannot_be(arguments: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Tumour(*arguments)
