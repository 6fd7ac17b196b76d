"""Limbic grey matter, a skull that does not give way, and tumours that push."""

from __future__ import annotations

import numpy as np
import pytest

from rarevoxel.phantom.contrast import draw_relaxation, draw_sequences, draw_table
from rarevoxel.phantom.fields import ellipsoid, grid_mm, smooth_field
from rarevoxel.phantom.scene import Material, Tumour, empty_scene, grow_tumour
from rarevoxel.phantom.scene.brain import draw_brain
from rarevoxel.phantom.scene.fissures import lateral_distance
from rarevoxel.phantom.scene.limbic import add_bright_cortex, add_cingulate, add_limbic
from rarevoxel.phantom.scene.mass_effect import push_aside

SHAPE, MM = (48, 62, 48), (3.0, 3.0, 3.0)
SIZE = (66.0, 82.0, 62.0)


@pytest.fixture(scope="module")
def heads() -> list[np.ndarray]:
    return [draw_brain(np.random.default_rng(seed), SHAPE, MM) for seed in range(4)]


def white() -> np.ndarray:
    """A brain without any grey matter."""
    head = np.zeros(SHAPE, dtype=np.uint8)
    head[ellipsoid(grid_mm(SHAPE, MM), SIZE) < 1] = Material.WHITE
    return head


def test_limbic_grey_matter_lies_on_both_sides_and_off_the_surface() -> None:
    sides = []
    for seed in range(4):
        rng, head = np.random.default_rng(seed), white()
        warp = smooth_field(rng, SHAPE, MM, 60.0)
        at = grid_mm(SHAPE, MM)
        insular = lateral_distance(at, SIZE, warp, rng)[1]
        head[(insular < 4) & (head > 0)] = Material.GREY
        add_limbic(head, at, SIZE, insular, warp, rng, MM)
        limbic = head == Material.LIMBIC
        sides.append((int(limbic[:24].sum()), int(limbic[24:].sum())))
        assert 8 < limbic.sum() * 0.027 < 120  # ml of insula, hippocampus and amygdala together.
        lateral = np.argwhere(limbic)[:, 0]
        assert lateral.min() > np.argwhere(head)[:, 0].min()
    left, right = np.sum(sides, axis=0)
    assert min(left, right) > 0.7 * max(left, right)


def test_a_cingulate_is_cortex_at_the_midline_with_an_uneven_border() -> None:
    rng, head = np.random.default_rng(1), white()
    head[head > 0] = Material.GREY
    head[:, ::2] = np.minimum(head[:, ::2], Material.CSF)
    before = head.copy()
    add_cingulate(head, grid_mm(SHAPE, MM), SIZE, smooth_field(rng, SHAPE, MM, 14.0), rng)
    limbic = head == Material.LIMBIC
    assert np.all(before[limbic] == Material.GREY)
    assert limbic.sum() * 0.027 > 3
    assert np.abs((np.argwhere(limbic)[:, 0] - 23.5) * 3).max() < 0.2 * 66 + 3
    tops = {int(np.argwhere(line)[-1][0]) for line in limbic.any(axis=0)[1::2] if line.any()}
    assert len(tops) >= 3


def test_bright_cortex_takes_cortex_alone_and_in_some_heads_none() -> None:
    fine = smooth_field(np.random.default_rng(0), SHAPE, MM, 14.0)
    shares = []
    for seed in range(30):
        before = np.tile(np.array([Material.GREY, Material.WHITE], dtype=np.uint8), (48, 62, 24))
        after = before.copy()
        add_bright_cortex(after, fine, np.random.default_rng(seed))
        assert set(before[after != before].tolist()) <= {Material.GREY}
        assert set(after[after != before].tolist()) <= {Material.LIMBIC}
        shares.append(float(np.mean(after[before == Material.GREY] == Material.LIMBIC)))
    assert min(shares) == 0 < max(shares) < 0.4


def test_no_midline_is_a_plane(heads: list[np.ndarray]) -> None:
    def fissure(head: np.ndarray) -> np.ndarray:
        top = head[18:30, 6:56, 34:] == Material.CSF
        return np.array([top[:, y, z].argmax() for y, z in np.argwhere(top.any(axis=0))])

    assert max(len(set(fissure(head).tolist())) for head in heads) > 2


def test_limbic_grey_matter_is_mostly_brighter_than_cortex_on_flair_alone() -> None:
    tables = [draw_sequences(rng, draw_relaxation(rng)) for rng in map(np.random.default_rng, range(200))]
    ratio = np.array([table[:, Material.LIMBIC] / table[:, Material.GREY] for table in tables])
    assert np.median(ratio[:, 3]) == pytest.approx(1.09, abs=0.04)
    assert np.percentile(ratio[:, 3], 98) < 1.25  # Drawn by itself it would be as bright as disease in many heads.
    assert np.median(ratio[:, 0]) == pytest.approx(1.0, abs=0.05)


def test_white_matter_lesions_outshine_limbic_grey_matter_on_flair() -> None:
    tables = [draw_table(np.random.default_rng(seed), "physics") for seed in range(200)]
    flair = np.array([table[3] for table in tables])
    span = flair[:, Material.GREY] - flair[:, Material.CSF]
    lesion, limbic = ((flair[:, m] - flair[:, Material.GREY]) / span for m in (Material.LESION, Material.LIMBIC))
    assert np.all(lesion > limbic)
    assert np.median(lesion) == pytest.approx(0.6, abs=0.06)
    assert np.percentile(lesion, 5) < 0.25
    assert np.percentile(lesion, 95) > 0.8


def test_the_skull_does_not_give_way(heads: list[np.ndarray]) -> None:
    head = heads[0]
    inside = np.argwhere(head != Material.AIR)
    centre = tuple(int(v) for v in inside[np.argmin(inside[:, 1])] + (0, 3, 0))
    moved = push_aside(head, centre, 25.0, 0.35, MM)
    assert np.any(moved != head)
    np.testing.assert_array_equal(moved == Material.AIR, head == Material.AIR)


@pytest.mark.parametrize("seed", range(3))
def test_a_tumour_that_pushes_is_rounder_than_one_that_infiltrates(heads: list[np.ndarray], seed: int) -> None:
    def spread(expansive: bool) -> float:
        values = []
        for draw in range(4):
            tumour = Tumour("solid", 14000.0, 0.3, expansive=expansive)
            scene = grow_tumour(empty_scene(heads[seed], MM), tumour, (15, 31, 30), np.random.default_rng(draw))
            where = np.argwhere(scene.labels > 0) * 3.0
            distance = np.linalg.norm(where - where.mean(axis=0), axis=1)
            values.append(float(np.mean(distance)))
        return float(np.mean(values))

    assert spread(True) < spread(False)
