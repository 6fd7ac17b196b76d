"""A whole acquisition: drawn, applied, repeated."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from rarevoxel.errors import InputError
from rarevoxel.phantom.acquisition import (
    FLOOR,
    Acquisition,
    Layers,
    Lines,
    Misregistration,
    Moved,
    Noise,
    SequenceAcquisition,
    Shading,
    Sharpness,
    Slices,
    Storage,
    Stripping,
    acquire,
    bend,
    blur,
    draw_acquisition,
    ghosts,
    misregister,
    motion,
    quantise,
    rescale,
    rim,
    ringing,
    sharpen,
    thick_slices,
    wrap,
)

MM = (2.0, 2.0, 2.0)


@pytest.fixture(scope="module")
def brain() -> np.ndarray:
    x, y, z = np.ogrid[-14:14, -16:16, -12:12]
    return np.asarray((x / 11) ** 2 + (y / 13) ** 2 + (z / 9) ** 2 < 1)


@pytest.fixture(scope="module")
def signals(brain: np.ndarray) -> np.ndarray:
    return (0.2 + 0.8 * np.random.default_rng(0).random((4, *brain.shape), dtype=np.float32)) * brain


def one(sequence: SequenceAcquisition) -> Acquisition:
    return Acquisition(sequences=(SequenceAcquisition(), sequence, SequenceAcquisition(), SequenceAcquisition()))


def test_a_perfect_acquisition_is_the_signal_within_the_mask(signals: np.ndarray, brain: np.ndarray) -> None:
    perfect = draw_acquisition(np.random.default_rng(0), 0.0)
    assert perfect == Acquisition()
    got = acquire(signals + 0.1, brain, perfect, MM, np.random.default_rng(0))
    np.testing.assert_array_equal(got, (signals + np.float32(0.1)) * brain)


def test_a_dark_voxel_of_the_brain_is_told_from_what_lies_outside(brain: np.ndarray) -> None:
    got = acquire(np.zeros((4, *brain.shape), np.float32), brain, Acquisition(), MM, np.random.default_rng(0))
    np.testing.assert_array_equal(got, np.float32(FLOOR) * np.broadcast_to(brain, got.shape))


@pytest.mark.parametrize("seed", range(12))
def test_every_draw_is_zero_outside_and_positive_inside_one_mask(
    signals: np.ndarray, brain: np.ndarray, seed: int
) -> None:
    drawn = draw_acquisition(np.random.default_rng(seed), 1.0 + seed % 2)
    before = signals.copy()
    got = acquire(signals, brain, drawn, MM, np.random.default_rng(seed))
    np.testing.assert_array_equal(signals, before)
    assert got.dtype == np.float32
    assert np.isfinite(got).all()
    shown = [index for index in range(4) if index not in drawn.dropped]
    assert not got[list(drawn.dropped)].any()
    mask = got[shown[0]] > 0
    assert mask.any()
    for index in shown:
        np.testing.assert_array_equal(got[index] > 0, mask)
        assert got[index][mask].min() >= np.float32(FLOOR)


def test_the_same_seed_gives_the_same_images(signals: np.ndarray, brain: np.ndarray) -> None:
    def scanned(drawn: int, noise: int) -> np.ndarray:
        return acquire(signals, brain, draw_acquisition(np.random.default_rng(drawn)), MM, np.random.default_rng(noise))

    np.testing.assert_array_equal(scanned(3, 5), scanned(3, 5))
    assert np.any(scanned(3, 5) != scanned(3, 6))
    assert np.any(scanned(3, 5) != scanned(4, 5))


def test_one_sequence_goes_through_all_steps_in_order(signals: np.ndarray, brain: np.ndarray) -> None:
    moves = (Moved(0.1, 0.4, (1.0, 0.0, 2.0)),)
    knots = ((0.4, 0.5),)
    sequence = SequenceAcquisition(
        misregistration=Misregistration((0.5, -1.0, 0.0), (0.0, 2.0, 0.0)),
        sharpness=Sharpness((1.0, 1.0, 0.0), sharpen=0.4, keep=0.7, axis=1),
        slices=Slices(axis=2, thickness_mm=5.0, gap_mm=1.0, interpolation="cubic", profile="gaussian", phase=0.2),
        lines=Lines(0, moves, ghost_every=3, ghost_amount=0.4, ghost_centre=0.2, wrap_mm=20.0, wrap_amount=0.1),
        storage=Storage(1.2, knots, levels=255, scale=300.0, offset=0.02),
    )
    x = misregister(signals[1], MM, shift_mm=(0.5, -1.0, 0.0), rotation_deg=(0.0, 2.0, 0.0))
    x = sharpen(blur(x, MM, sigma_mm=(1.0, 1.0, 0.0)), MM, amount=0.4)
    x = thick_slices(x, MM, axis=2, thickness_mm=5.0, gap_mm=1.0, phase=0.2, profile="gaussian", interpolation="cubic")
    x = motion(ringing(x, axis=1, keep=0.7), MM, axis=0, moves=moves)
    x = wrap(ghosts(x, axis=0, every=3, amount=0.4, centre=0.2), MM, axis=0, shift_mm=20.0, amount=0.1) * brain
    x = rescale(quantise(bend(x, gamma=1.2, knots=knots), levels=255), scale=300.0, offset=0.02)
    got = acquire(signals, brain, one(sequence), MM, np.random.default_rng(0))
    np.testing.assert_allclose(got[1], np.maximum(x, FLOOR) * brain, rtol=1e-5)
    np.testing.assert_array_equal(got[[0, 2, 3]], signals[[0, 2, 3]])


def test_shading_and_noise_reach_the_image(signals: np.ndarray, brain: np.ndarray) -> None:
    shaded = acquire(signals, brain, one(SequenceAcquisition(shading=Shading(0.3))), MM, np.random.default_rng(0))
    ratio = shaded[1][brain] / signals[1][brain]
    assert 0.1 < np.log(ratio).std() < 0.6
    noisy = acquire(signals, brain, one(SequenceAcquisition(noise=Noise(0.05))), MM, np.random.default_rng(0))
    assert (noisy[1] - signals[1])[brain].std() == pytest.approx(0.05, rel=0.05)


def test_noise_of_thick_slices_is_shaped_by_them(signals: np.ndarray, brain: np.ndarray) -> None:
    sequence = SequenceAcquisition(slices=Slices(axis=2, thickness_mm=8.0, interpolation="nearest"), noise=Noise(0.05))
    whole = np.ones_like(brain)
    got = acquire(signals + 1, whole, one(sequence), MM, np.random.default_rng(0))[1]
    blocks = got.reshape(*got.shape[:2], -1, 4)
    np.testing.assert_allclose(blocks, np.broadcast_to(blocks[..., :1], blocks.shape), atol=1e-5)


def test_stripping_shows_the_head_and_dims_the_rim(signals: np.ndarray, brain: np.ndarray) -> None:
    layers = Layers(2.0, 6.0, (0.5, 0.6, 0.7, 0.8), (0.1, 0.1, 0.1, 0.1), (0.9, 0.9, 0.9, 0.9))
    grown = Acquisition(stripping=Stripping(grow_mm=4.0, grow_share=1.0, layers=layers))
    got = acquire(signals, brain, grown, MM, np.random.default_rng(0))
    extra = (got[0] > 0) & ~brain
    assert extra.sum() > rim(brain).sum() / 2
    for index, dura in enumerate((0.5, 0.6, 0.7, 0.8)):
        assert set(np.unique(got[index][extra])) <= {np.float32(dura), np.float32(0.1)}
        np.testing.assert_array_equal(got[index][brain], signals[index][brain])
    dimmed = acquire(signals, brain, Acquisition(stripping=Stripping(rim_gain=0.5)), MM, np.random.default_rng(0))
    np.testing.assert_allclose(dimmed[:, rim(brain)], 0.5 * signals[:, rim(brain)])
    np.testing.assert_array_equal(dimmed[:, brain & ~rim(brain)], signals[:, brain & ~rim(brain)])
    eroded = Acquisition(stripping=Stripping(erode_mm=4.0, erode_share=1.0))
    assert 0 < np.count_nonzero(acquire(signals, brain, eroded, MM, np.random.default_rng(0))[0]) < brain.sum()


def test_dropped_sequences_are_empty(signals: np.ndarray, brain: np.ndarray) -> None:
    got = acquire(signals, brain, Acquisition(dropped=(0, 3)), MM, np.random.default_rng(0))
    assert got.any(axis=(1, 2, 3)).tolist() == [False, True, True, False]


def test_what_does_not_fit_is_refused(signals: np.ndarray, brain: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match=r"do not fit, expected signals \(C, H, W, D\)"):
        acquire(signals[:3], brain, Acquisition(), MM, rng)
    with pytest.raises(InputError, match="do not fit"):
        acquire(signals, brain[1:], Acquisition(), MM, rng)
    with pytest.raises(InputError, match="were to be dropped from 4"):
        acquire(signals, brain, Acquisition(dropped=(7,)), MM, rng)
    for strength in (-0.1, 2.5, float("nan")):
        with pytest.raises(InputError, match=r"strength .* was to be drawn, expected 0\.\.2"):
            draw_acquisition(rng, strength)


def test_mild_scans_have_noise_and_point_spread_too() -> None:
    rng = np.random.default_rng(3)
    scans = [sequence for _ in range(150) for sequence in draw_acquisition(rng, 0.1).sequences]
    sigma = np.array([scan.noise.sigma for scan in scans])
    assert 0.7 < np.mean(sigma > 0) < 0.85
    assert 0.01 < np.median(sigma[sigma > 0]) < 0.02
    typical = [np.max(scan.sharpness.sigma_mm) for scan in scans if max(scan.sharpness.sigma_mm) > 0]
    assert 0.05 < min(typical) <= max(typical) < 0.45


def test_flair_is_noisier_than_the_others_by_half() -> None:
    rng = np.random.default_rng(5)
    sigma = np.array([[scan.noise.sigma for scan in draw_acquisition(rng, 0.5).sequences] for _ in range(400)])
    t1n, t1c, t2w, t2f = (np.median(column[column > 0]) for column in sigma.T)
    assert t2f / np.median([t1n, t1c, t2w]) == pytest.approx(1.5, rel=0.15)


def test_gross_faults_come_in_five_to_twelve_percent_and_slight_ones_in_most() -> None:
    rng = np.random.default_rng(7)
    cases = [draw_acquisition(rng) for _ in range(600)]
    found: Counter[str] = Counter()
    for case in cases:
        found["strip"] += 4 * (max(case.stripping.erode_mm, case.stripping.grow_mm) >= 3)
        found["dropped"] += 4 * bool(case.dropped)
        for sequence in case.sequences:
            slices, lines = sequence.slices, sequence.lines
            assert slices.thickness_mm + slices.gap_mm <= 6.0
            assert sequence.shading.strength <= 0.4
            found["thick"] += slices.thickness_mm + slices.gap_mm > 3
            found["motion"] += bool(lines.moves)
            found["ghost"] += lines.ghost_amount > 0
            found["wrap"] += lines.wrap_amount > 0
            found["noise"] += sequence.noise.sigma > 0
            found["shading"] += sequence.shading.strength > 0
    share = {name: count / (4 * len(cases)) for name, count in found.items()}
    for gross in ("thick", "motion", "ghost", "wrap", "strip"):
        assert 0.05 <= share[gross] <= 0.12, share
    assert share["noise"] > 0.9
    assert share["shading"] > 0.8
    assert 0.02 < share["dropped"] < 0.1


def test_thick_slices_are_a_plan_of_the_case() -> None:
    rng = np.random.default_rng(8)
    plans = [[s.slices for s in draw_acquisition(rng).sequences] for _ in range(300)]
    two_d = [[s for s in plan if s.thickness_mm] for plan in plans]
    two_d = [plan for plan in two_d if plan]
    for plan in two_d:
        assert len({(s.axis, s.thickness_mm, s.gap_mm) for s in plan}) == 1
    counts = Counter(len(plan) for plan in two_d)
    assert counts[4] > 0.2 * len(two_d)
    assert counts[3] > 0.2 * len(two_d)


def test_a_weaker_draw_is_closer_to_the_truth(signals: np.ndarray, brain: np.ndarray) -> None:
    def error(strength: float) -> float:
        total = 0.0
        for seed in range(8):
            drawn = draw_acquisition(np.random.default_rng(seed), strength)
            plain = tuple(replace(s, storage=Storage()) for s in drawn.sequences)
            drawn = replace(drawn, sequences=plain, dropped=())
            got = acquire(signals, brain, drawn, MM, np.random.default_rng(seed))
            total += float(np.abs(got - signals).mean())
        return total

    assert error(0.05) < 0.5 * error(0.5) < error(1.0)
