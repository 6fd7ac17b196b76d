"""What holds for every strategy, whatever the pool."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from small_pools import candidate, pool_of, pools, rank, score

from rarevoxel.learning.pool import Pool
from rarevoxel.learning.strategies import STRATEGIES
from rarevoxel.learning.strategies.order import UNSCORED

NAMES = list(STRATEGIES)
BY_SCORES = [name for name, ranking in STRATEGIES.items() if ranking.kind == "scores"]


def test_the_table() -> None:
    assert NAMES == ["random", "first", "uncertainty", "rare", "diversity", "combined", "balanced", "review"]
    assert BY_SCORES == ["uncertainty", "rare", "diversity", "combined", "balanced"]
    for name, ranking in STRATEGIES.items():
        assert ranking.name == name
        assert 10 < len(ranking.description) < 80
        for default in ranking.options.values():
            # As Slicer shows it: a combo box of short texts, a check box, or a number, of which 0 is an empty field.
            if isinstance(default, list):
                assert all(0 < len(text) <= 20 for text in default)
            else:
                assert default


@pytest.mark.parametrize("name", NAMES)
@given(pool=pools())
@settings(max_examples=25, deadline=None)
def test_every_waiting_case_comes_once_with_a_reason(name: str, pool: Pool) -> None:
    choices = rank(name, pool, seed=3)
    assert sorted(choice.case for choice in choices) == list(pool.waiting)
    assert choices == rank(name, pool, seed=3), "the same seed gives the same order"
    for choice in choices:
        assert choice.reasons
        assert all(reason == reason.strip() and reason for reason in choice.reasons)
        assert all(math.isfinite(value) for value in (choice.value, *choice.terms.values()))


@pytest.mark.parametrize("name", BY_SCORES)
@given(pool=pools())
@settings(max_examples=25, deadline=None)
def test_scored_cases_come_first_by_value_and_equals_by_name(name: str, pool: Pool) -> None:
    choices = rank(name, pool)
    behind = [choice for choice in choices if any("not scored yet" in reason for reason in choice.reasons)]
    front = choices[: len(choices) - len(behind)]
    assert choices[len(front) :] == behind
    assert [choice.case for choice in behind] == sorted(choice.case for choice in behind)
    assert {choice.case for choice in front} <= pool.scores.keys()
    if name == "diversity":
        # The first of all is chosen by another rule when nothing is labelled, and its value bounds the others.
        front = front[0 if pool.labelled_features else 1 :]
        assert all(one.value >= other.value - 1e-9 for one, other in itertools.pairwise(front))
    else:
        assert front == sorted(front, key=lambda choice: (-choice.value, choice.case))
        assert {choice.case for choice in front} == pool.scores.keys()


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_pool_gives_nothing(name: str) -> None:
    assert rank(name, Pool(())) == []


@pytest.mark.parametrize("name", BY_SCORES)
def test_a_pool_without_scores_is_in_order_of_name_and_says_so(name: str) -> None:
    choices = rank(name, pool_of(unscored=("b", "a")))
    assert [choice.case for choice in choices] == ["a", "b"]
    assert all("not scored yet" in choice.reasons[0] for choice in choices)


def test_unscored_cases_come_behind_the_least_valuable_scored_one() -> None:
    certain, doubtful = score("y", entropy={"ET": 0.0}), score("z", entropy={"ET": 0.4})
    choices = rank("uncertainty", pool_of(certain, doubtful, unscored=("a",)), region="ET")
    assert [choice.case for choice in choices] == ["z", "y", "a"]
    assert choices[-1].reasons == (UNSCORED,)


def test_first_is_by_name() -> None:
    assert [choice.case for choice in rank("first", Pool(("b", "c", "a")))] == ["a", "b", "c"]


def test_random_draws_in_proportion_to_age() -> None:
    pool = Pool(("a", "b", "c"), ages={"a": 10.0, "b": 30.0, "c": 60.0})
    first = [rank("random", pool, seed=seed)[0].case for seed in range(600)]
    shares = {case: first.count(case) / 600 for case in pool.waiting}
    # Binomial: the standard error of the largest share is 0.02.
    assert shares == pytest.approx({"a": 0.1, "b": 0.3, "c": 0.6}, abs=0.07)
    assert rank("random", pool)[0].reasons[0] == "drawn at random"


def test_random_prefers_what_was_never_handed_out() -> None:
    pool = Pool(("a", "b"), ages={"a": 3600.0})
    orders = [rank("random", pool, seed=seed) for seed in range(50)]
    assert all(order[0].case == "b" for order in orders)
    assert orders[0][0].reasons[1] == "not handed out before"
    assert orders[0][1].reasons[1] == "last handed out 60 min ago"


def test_nothing_is_drawn_from_a_generator_that_is_not_needed() -> None:
    pool = pool_of(score("a", candidates=(candidate(),)), unscored=("b",))
    for name in set(NAMES) - {"random"}:
        rng = np.random.default_rng(5)
        options = {
            key: value[0] if isinstance(value, list) else value for key, value in STRATEGIES[name].options.items()
        }
        STRATEGIES[name].rank(pool, options, rng)
        assert rng.random() == np.random.default_rng(5).random(), name
