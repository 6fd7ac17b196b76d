"""Relaxation, signal equations and tables of mean signals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rarevoxel.phantom.contrast import (
    Relaxation,
    draw_relaxation,
    draw_sequences,
    draw_table,
    free_table,
    inversion_recovery,
    keep_lesions,
    nulling_time,
    prepared_gradient_echo,
    spin_echo,
)
from rarevoxel.phantom.scene import Material
from rarevoxel.phantom.scene.material import ENHANCES, FIRST_DISEASE

ONE = np.ones(1)
LN2 = math.log(2)
T1N, T1C, T2W, T2F = range(4)
M = Material


def test_spin_echo_by_hand() -> None:
    got = spin_echo(0.8 * ONE, 900 * ONE, 60 * ONE, tr=900 * LN2, te=60 * LN2)
    assert got == pytest.approx(0.8 * 0.5 * 0.5)
    assert spin_echo(ONE, 900 * ONE, 60 * ONE, tr=math.inf, te=0.0) == pytest.approx(1.0)


def test_prepared_gradient_echo_by_hand() -> None:
    assert prepared_gradient_echo(ONE, 1000 * ONE, ti=1000 * LN2, tr=1000 * LN2) == pytest.approx(1 / 3)
    assert prepared_gradient_echo(ONE, 1000 * ONE, ti=1000 * LN2, tr=math.inf) == pytest.approx(0.0, abs=1e-12)
    assert prepared_gradient_echo(0.7 * ONE, 1000 * ONE, ti=0.0, tr=math.inf) == pytest.approx(0.7)


def test_inversion_recovery_by_hand() -> None:
    got = inversion_recovery(0.9 * ONE, 1000 * ONE, 80 * ONE, tr=2000 * LN2, ti=2000 * LN2, te=80 * LN2)
    assert got == pytest.approx(0.9 * (1 - 2 / 4 + 1 / 4) / 2)


@pytest.mark.parametrize(("t1", "tr"), [(4000.0, 9000.0), (3000.0, 6000.0), (800.0, 1e6)])
def test_at_the_nulling_time_there_is_no_signal(t1: float, tr: float) -> None:
    ti = nulling_time(t1, tr)
    assert inversion_recovery(ONE, t1 * ONE, 100 * ONE, tr, ti, 0.0) == pytest.approx(0.0, abs=1e-9)
    assert inversion_recovery(ONE, t1 * ONE, 100 * ONE, tr, 1.1 * ti, 0.0) > 0.01
    assert ti <= t1 * LN2 + 1e-6


def test_contrast_agent_shortens_t1() -> None:
    tissue = Relaxation(np.ones(2), np.array([1000.0, 1000.0]), np.ones(2), np.array([0.0, 1.0]))
    np.testing.assert_allclose(tissue.t1_after_contrast, [1000.0, 1 / (1e-3 + 4.3e-3)])


def test_drawn_tissues_are_possible_and_lie_around_the_published_ones() -> None:
    drawn = [draw_relaxation(np.random.default_rng(seed)) for seed in range(100)]
    t1 = np.median([tissue.t1 for tissue in drawn], axis=0)
    t2 = np.median([tissue.t2 for tissue in drawn], axis=0)
    np.testing.assert_allclose([t1[M.WHITE], t1[M.GREY], t1[M.CSF]], [820, 1260, 4200], rtol=0.1)
    np.testing.assert_allclose([t2[M.WHITE], t2[M.GREY], t2[M.CSF]], [76, 95, 1600], rtol=0.1)
    without = [m for m in M if m not in (*ENHANCES, M.CORE)]
    for tissue in drawn:
        assert tissue.density[M.AIR] == 0
        assert tissue.density[1:].min() > 0.3
        assert min(tissue.t1.min(), tissue.t2.min()) > 0
        assert not tissue.agent[without].any()
        assert np.all(tissue.agent[list(ENHANCES)] >= 0.1)
        assert 0 <= tissue.agent[M.CORE] <= 0.06


def test_drawn_protocols_have_the_contrasts_that_name_them() -> None:
    tables = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        tables.append(draw_sequences(rng, draw_relaxation(rng)))
    stack = np.stack(tables)
    np.testing.assert_allclose(stack[:, :, M.CSF : M.VESSEL].max(axis=2), 1.0, rtol=1e-6)
    t1n, t1c, t2w, t2f = (stack[:, index] for index in range(4))
    assert np.mean(t1n[:, M.WHITE] > t1n[:, M.GREY]) > 0.85
    assert np.mean(t1n[:, M.GREY] > t1n[:, M.CSF]) > 0.9
    assert np.mean(t2w[:, M.CSF] == 1) == 1
    assert np.mean(t2w[:, M.GREY] > t2w[:, M.WHITE]) > 0.95
    assert np.mean(t2f[:, M.CSF] < 0.5 * t2f[:, M.WHITE]) > 0.8
    assert np.mean(t2f[:, M.EDEMA] > t2f[:, M.WHITE]) > 0.9
    assert np.mean(t1c[:, M.ENHANCING] > t1n[:, M.ENHANCING]) > 0.8


SURFACE = [M.VESSEL, M.MENINGES, M.PLEXUS]
"""Healthy, and kept from being as bright as disease on FLAIR."""


@pytest.mark.parametrize("style", ["physics", "loose", "free"])
def test_whatever_the_contrast_a_lesion_stays_one(style: str) -> None:
    for seed in range(200):
        table = draw_table(np.random.default_rng(seed), style)
        t1n, t1c, _, t2f = table
        healthy = t2f[[M.WHITE, M.GREY, M.NUCLEUS]].max()
        assert table.shape == (4, len(M))
        assert table.dtype == np.float32
        assert t2f[M.EDEMA] > healthy
        assert t2f[M.CORE] > t2f[M.WHITE]
        assert t2f[M.LESION] > healthy
        assert t2f[M.ENHANCING] >= 0.9 * t2f[M.WHITE]
        assert t2f[[M.VESSEL, M.MENINGES]].max() <= max(healthy, t2f[M.LIMBIC])
        assert t2f[M.PLEXUS] <= 1.2 * max(healthy, t2f[M.LIMBIC])
        assert t1c[M.ENHANCING] >= t1n[M.ENHANCING] + 0.139
        assert t1c[M.ENHANCING] > 0.979 * t1c[M.WHITE]
        assert not table[:, M.AIR].any()
        assert table[:, 1:].min() >= np.float32(0.02)


def test_what_defines_a_lesion_is_put_back_and_the_rest_left_alone() -> None:
    table = np.full((4, len(M)), 0.5, dtype=np.float32)
    table[T2F, SURFACE] = 0.3
    kept = keep_lesions(table, np.random.default_rng(0))
    changed = {(int(row), M(int(column)).name) for row, column in np.argwhere(kept != table)}
    lesions = {(T2F, "EDEMA"), (T2F, "CORE"), (T2F, "LESION"), (T2F, "HOLE"), (T1C, "ENHANCING")}
    air = {(row, "AIR") for row in range(4)}
    assert changed - {(T2F, "ENHANCING")} == lesions | air
    bright = table.copy()
    bright[T2F, SURFACE] = 0.2
    bright[T2F, FIRST_DISEASE:], bright[T1C, M.ENHANCING] = 5.0, 5.0
    np.testing.assert_array_equal(keep_lesions(bright, np.random.default_rng(0))[:, 1:], bright[:, 1:])
    assert np.all(table[:T2F] == 0.5)
    table[T1N, M.ENHANCING] = 2.0
    assert keep_lesions(table, np.random.default_rng(0))[T1C, M.ENHANCING] >= 2.14


def test_a_style_is_drawn_where_none_is_given() -> None:
    found = {"physics": 0, "loose": 0, "free": 0}
    for seed in range(100):
        drawn = draw_table(np.random.default_rng(seed))
        (style,) = (s for s in found if np.array_equal(draw_table(np.random.default_rng(seed), s), drawn))  # type: ignore[arg-type]
        found[style] += 1
    assert found["physics"] == pytest.approx(70, abs=15)
    assert found["loose"] == pytest.approx(20, abs=13)
    assert found["free"] == pytest.approx(10, abs=9)


def test_free_contrasts_go_beyond_physics_but_for_lesions_on_flair() -> None:
    spread = {
        style: np.std([draw_table(np.random.default_rng(seed), style)[T1N, M.WHITE] for seed in range(60)])
        for style in ("physics", "free")
    }
    assert spread["free"] > 2 * spread["physics"]
    rng = np.random.default_rng(0)
    table = draw_sequences(rng, draw_relaxation(rng))
    free = free_table(rng, table)
    np.testing.assert_array_equal(free[T2F, FIRST_DISEASE:], table[T2F, FIRST_DISEASE:])
    assert free[T2F, :FIRST_DISEASE].min() >= np.float32(0.03)
    assert np.delete(free[T2F, :FIRST_DISEASE], M.LIMBIC).max() <= np.float32(1.1)
    assert free[T2F, M.LIMBIC] / free[T2F, M.GREY] == pytest.approx(table[T2F, M.LIMBIC] / table[T2F, M.GREY])
