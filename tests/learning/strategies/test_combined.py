"""The weighted mean of ranks, by hand."""

from __future__ import annotations

import pytest
from small_pools import candidate, pool_of, rank, score

from rarevoxel.errors import RequestError
from rarevoxel.learning.pool import Pool


@pytest.fixture
def pool() -> Pool:
    """`a` is the least certain, `b` has the rare lesion, `c` looks different."""
    return pool_of(
        score("a", entropy={"ET": 0.9}, features=(0.0, 1.0)),
        score("b", entropy={"ET": 0.5}, features=(0.0, 2.0), candidates=(candidate(),)),
        score("c", entropy={"ET": 0.1}, features=(0.0, 9.0)),
        labelled_features={"l": (0.0, 0.0)},
    )


def test_value_by_hand(pool: Pool) -> None:
    choices = {choice.case: choice for choice in rank("combined", pool, region="ET")}
    # Ranks from 0 to 1 of three cases; a and c share the lowest two places of `rare`.
    assert choices["a"].terms == {"uncertainty": 1.0, "rare": 0.25, "diversity": 0.0}
    assert choices["b"].terms == {"uncertainty": 0.5, "rare": 1.0, "diversity": 0.5}
    assert choices["c"].terms == {"uncertainty": 0.0, "rare": 0.25, "diversity": 1.0}
    assert choices["b"].value == pytest.approx(2 / 3)
    assert list(choices) == ["b", "a", "c"]


def test_weights(pool: Pool) -> None:
    choices = rank("combined", pool, region="ET", uncertainty=2, rare=0, diversity=1)
    assert [(choice.case, choice.value) for choice in choices] == [
        ("a", pytest.approx(2 / 3)), ("b", pytest.approx(0.5)), ("c", pytest.approx(1 / 3)),
    ]  # fmt: skip
    assert all(not reason.startswith("rare") for choice in choices for reason in choice.reasons)


def test_a_case_without_features_ranks_lowest_in_diversity(pool: Pool) -> None:
    without = score("d", entropy={"ET": 0.5})
    choices = rank("combined", pool_of(*pool.scores.values(), without, labelled_features={"l": (0.0, 0.0)}))
    found = {choice.case: choice for choice in choices}
    assert {case: choice.terms["diversity"] for case, choice in found.items()} == pytest.approx(
        {"d": 0.0, "a": 1 / 3, "b": 2 / 3, "c": 1.0}
    )
    assert not any(reason.startswith("diversity") for reason in found["d"].reasons)


@pytest.mark.parametrize("part", ["uncertainty", "rare", "diversity"])
def test_one_weight_alone_is_that_strategy(pool: Pool, part: str) -> None:
    weights = dict.fromkeys(("uncertainty", "rare", "diversity"), 0.0) | {part: 3.0}
    assert rank("combined", pool, **weights)[0].case == rank(part, pool)[0].case


def test_reasons_say_how_a_case_stands_in_each_part_the_strongest_first(pool: Pool) -> None:
    best = rank("combined", pool, region="ET")[0]
    assert best.reasons[0].startswith("rare above 100% of the cases: small enhancing component likely (0.2 ml")
    assert best.reasons[1].startswith("uncertainty above 50% of the cases: entropy 0.50 bit")
    assert best.reasons[2].startswith("diversity above 50% of the cases: looks different: distance 2")


def test_all_weights_zero_is_refused(pool: Pool) -> None:
    with pytest.raises(RequestError, match="options uncertainty, rare, diversity: found 0 for all"):
        rank("combined", pool, uncertainty=0, rare=0, diversity=0)
