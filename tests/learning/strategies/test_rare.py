"""Rare sizes first, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_pools import candidate, pool_of, rank, score

from rarevoxel.evaluation.lesions import SIZE_BANDS
from rarevoxel.learning.strategies.rare import BANDS, band_counts, band_of


def test_bands_are_those_of_the_evaluation_with_the_open_one_cut() -> None:
    assert list(BANDS) == ["<0.1 ml", "0.1-0.5 ml", "0.5-2 ml", "2-10 ml", ">=10 ml"]
    assert list(BANDS)[:3] == list(SIZE_BANDS)[:3]
    lows, highs = zip(*BANDS.values(), strict=True)
    assert lows[1:] == highs[:-1]


@pytest.mark.parametrize(
    ("ml", "band"),
    [
        (0, "<0.1 ml"),
        (0.0999, "<0.1 ml"),
        (0.0999999999, "0.1-0.5 ml"),
        (0.1, "0.1-0.5 ml"),
        (0.5, "0.5-2 ml"),
        (2, "2-10 ml"),
        (9.99, "2-10 ml"),
        (10, ">=10 ml"),
        (500, ">=10 ml"),
    ],
)
def test_lower_bounds_belong_to_their_band(ml: float, band: str) -> None:
    assert band_of(ml) == band


@given(st.lists(st.floats(0, 1e5)))
def test_every_lesion_is_counted_once(sizes: list[float]) -> None:
    assert band_counts(sizes).total() == len(sizes)


def test_value_by_hand() -> None:
    # Labelled: one lesion of 0.2 ml, three of 1 ml. P / (1 + n): 0.6 / 2 and 0.8 / 4, and 0.5 / 1 in an empty band.
    labelled = {"ET": (200.0, 1000.0, 1000.0, 1500.0)}
    lesions = (candidate(ml=0.3, probability=0.6), candidate(ml=0.7, probability=0.8), candidate("WT", ml=20))
    pool = pool_of(score("a", candidates=lesions), labelled_sizes=labelled)
    assert rank("rare", pool, region="ET")[0].value == pytest.approx(0.6 / 2 + 0.8 / 4)
    (choice,) = rank("rare", pool)
    assert choice.terms == pytest.approx({"WT": 0.5, "TC": 0.0, "ET": 0.5})
    assert choice.value == pytest.approx(1.0 / 3)


def test_a_case_that_fills_the_thin_band_comes_first() -> None:
    labelled = {"ET": (200.0, *[5000.0] * 6)}
    thin = score("thin", candidates=(candidate(ml=0.2, probability=0.6),))
    common = score("common", candidates=(candidate(ml=5, probability=1.0),))
    pool = pool_of(common, thin, labelled_sizes=labelled, labelled_volumes={"ET": (0.0,) * 12})
    choices = rank("rare", pool, region="ET")
    assert [choice.case for choice in choices] == ["thin", "common"]
    assert choices[0].reasons == (
        "small enhancing component likely (0.2 ml expected), thin size band 0.1-0.5 ml: 1 lesion among 12 labelled "
        "cases",
    )
    assert choices[1].reasons == (
        "enhancing component likely (5 ml expected), size band 2-10 ml: 6 lesions among 12 labelled cases",
    )


def test_improbable_places_do_not_add_up() -> None:
    noise = score("noise", candidates=tuple(candidate(ml=0.01, probability=0.15) for _ in range(20)))
    (choice,) = rank("rare", pool_of(noise))
    assert choice.value == 0
    assert choice.reasons == ("no possible lesion found",)
    (choice,) = rank("rare", pool_of(noise), least_probability=0.1, region="ET")
    assert choice.value == pytest.approx(20 * 0.15)
    assert "possible (0.01 ml expected)" in choice.reasons[0]
