"""How every ranking ends: best first, equals by name, and what has no score behind what has one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rarevoxel.learning.pool import CaseScore, Pool
from rarevoxel.learning.strategies.ranking import Choice

UNSCORED = "not scored yet, so in order of name behind those that are"

MEAN = "mean"
REGION_OPTION = [MEAN, "WT", "TC", "ET"]
"""The option `region`: one of the regions, or the mean of the three."""

WORDS = {"WT": "whole tumour", "TC": "tumour core", "ET": "enhancing tumour"}
"""Regions as a radiologist calls them."""


def regions_of(option: str) -> tuple[str, ...]:
    """Return the regions that the option `region` stands for."""
    return tuple(WORDS) if option == MEAN else (option,)


def scored(pool: Pool) -> Iterator[tuple[str, CaseScore]]:
    """Yield the waiting cases that have a score, by name."""
    return ((case, pool.scores[case]) for case in sorted(pool.waiting) if case in pool.scores)


def in_order(pool: Pool, choices: Iterable[Choice], rest: str = UNSCORED) -> list[Choice]:
    """Return choices by falling value, equals by name, and behind them every other waiting case, by name.

    Args:
        pool: what was ranked.
        choices: cases that have a value, each once.
        rest: reason given for the others.
    """
    first = sorted(choices, key=lambda choice: (-choice.value, choice.case))
    known = {choice.case for choice in first}
    behind = (case for case in sorted(pool.waiting) if case not in known)
    return [*first, *(Choice(case, 0.0, (rest,)) for case in behind)]
