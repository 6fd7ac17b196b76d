"""The second threshold of a model, chosen by lesions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from rarevoxel.training.peak import PEAKS, Judged, choose_peak, lesion_scores

SPACING = (1.0, 1.0, 1.0)


def head(*pieces: tuple[float, bool]) -> Judged:
    """Cubes of two voxels a side, each with its highest probability, and whether it is a lesion; the rest is 0.6."""
    whole = np.zeros((4 * max(1, len(pieces)), 4, 4), np.float32)
    truth = np.zeros(whole.shape, bool)
    for place, (peak, real) in enumerate(pieces):
        cube = np.s_[4 * place : 4 * place + 2, :2, :2]
        whole[cube] = min(0.6, peak)
        whole[4 * place, 0, 0] = peak
        truth[cube] = real
    return whole, truth


def scores(case: Judged, *peaks: float) -> list[float]:
    return lesion_scores(*case, SPACING, peaks)


def test_lesion_f1_by_hand() -> None:
    case = head((0.99, True), (0.7, False), (0.9, True), (0.7, False))
    assert scores(case, 0.0, 0.8, 0.95, 1.0) == pytest.approx([2 / 3, 1.0, 2 / 3, 0.0])
    assert scores(head((0.7, False)), 0.0, 0.8) == [0.0, 1.0], "nothing left where there is nothing"
    assert scores(head((0.3, True)), 0.0, 0.8) == [0.0, 0.0], "not even marked"
    assert scores(head(), 0.0) == [1.0]


def test_the_best_mean_over_heads_is_taken() -> None:
    false, true = head((0.82, False)), head((0.92, True))
    assert choose_peak([false, false, true], SPACING) == 0.85
    assert choose_peak([true], SPACING) == 0.0, "of equally good ones the nearest to what is known"
    assert choose_peak([true], SPACING, known=0.91) == 0.91
    assert choose_peak([true], SPACING, known=0.97) == 0.9, "what is known goes when it costs lesions"
    assert choose_peak([], SPACING, known=0.42) == 0.42


def test_what_is_better_by_less_than_a_standard_error_is_not_better() -> None:
    # One of eight heads is better without its false piece: 1/8, and the standard error of that is 1/8 as well.
    heads = [head((0.82, False))] + [head((0.99, True))] * 7
    assert choose_peak(heads, SPACING) == 0.0
    # Two of eight: 2/8, against 0.164.
    assert choose_peak([heads[0], *heads[:-1]], SPACING) == 0.85


def test_the_nearest_peak_that_brings_three_quarters_of_the_gain_is_taken() -> None:
    sure = [head((0.99, True))] * 4
    few, most = head((0.75, False)), head((0.94, False))
    assert choose_peak([*sure, few, few, few, most], SPACING) == 0.8, "three of four"
    assert choose_peak([*sure, few, few, most, most], SPACING) == 0.95, "half is not enough"
    assert choose_peak([*sure, few, few, most, most], SPACING, known=0.99) == 0.99


def test_pieces_begin_at_the_threshold() -> None:
    whole: npt.NDArray[np.float32]
    whole, truth = head((0.9, True), (0.4, False))
    assert lesion_scores(whole, truth, SPACING, [0.0], threshold=0.5) == [1.0]
    assert lesion_scores(whole, truth, SPACING, [0.0], threshold=0.3) == pytest.approx([2 / 3])
    assert PEAKS[0] == 0.0
