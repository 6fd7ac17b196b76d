"""Which cases have to be scored again, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rarevoxel.learning.pool.case_score import CaseScore
from rarevoxel.learning.pool.cases import PoolCase

FOR_LABELLED = "none"
"""How a labelled case is asked: its features and its confidence are wanted, nobody chooses it by its uncertainty."""


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        waiting: cases to be scored, the most urgent first.
        scored: how many cases have a score of these weights and files.
        failed: how many could not be read and have not changed since.
    """

    waiting: tuple[PoolCase, ...]
    scored: int
    failed: int


def make_plan(cases: Iterable[PoolCase], scores: Mapping[str, CaseScore], weights: str, method: str) -> Plan:
    """Return what has to be scored so that every case has a score of these weights, its files as they are, and method.

    First come cases that have no score at all, which nobody could choose by one; then those with an old score, the
    least sure first, since they are the likeliest to be chosen next; then labelled ones.

    Args:
        cases: from `pool_cases`.
        scores: by case, from `ScoreStore.read`.
        weights: SHA-256 of the weights in service.
        method: how unlabelled cases are asked.
    """
    waiting: list[tuple[tuple[int, float, str], PoolCase]] = []
    scored = failed = 0
    for case in cases:
        score = scores.get(case.id)
        if score is None or not is_fresh(score, case, weights, method):
            rank = 2 if case.labelled else 1 if score is not None and not score.error else 0
            waiting.append(((rank, -sum(score.entropy.values()) if score and rank == 1 else 0.0, case.id), case))
        elif score.error:
            failed += 1
        else:
            scored += 1
    return Plan(tuple(case for _, case in sorted(waiting, key=lambda entry: entry[0])), scored, failed)


def method_for(case: PoolCase, method: str) -> str:
    """Return how a case is asked."""
    return FOR_LABELLED if case.labelled else method


def is_fresh(score: CaseScore, case: PoolCase, weights: str, method: str) -> bool:
    """Say whether a score still stands: a case that could not be read is not tried again until a file changes.

    Args:
        score: of this case.
        case: as it is now.
        weights: SHA-256 of the weights in service.
        method: how unlabelled cases are asked; of a labelled one, any will do.
    """
    if score.image != case.stamp:
        return False
    return bool(score.error) or (score.weights == weights and (case.labelled or score.method == method))
