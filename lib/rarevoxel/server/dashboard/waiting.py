"""The waiting cases in the order a strategy gives them, with their scores and leases."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rarevoxel.datastore.store import LabelStore
from rarevoxel.errors import RareVoxelError
from rarevoxel.labels import REGIONS
from rarevoxel.learning import strategies
from rarevoxel.learning.pool import CaseScore, Pool, ScoreStore
from rarevoxel.learning.pool.store import FOLDER
from rarevoxel.report.dashboard import LabelVersion, Queue, Waiting, current
from rarevoxel.report.dashboard.queue import uncertainty

logger = logging.getLogger(__name__)

STRATEGY = "combined"
"""Whose order the queue shows, where there is one of this name."""


class WaitingCases:
    """Reads scores again and again, and ranks only when something has changed.

    Args:
        store: of the labels; scores lie beside them.
        models: that are served; the scores of the first that has any are shown.
        clean: takes paths out of sentences.
    """

    def __init__(self, store: LabelStore, models: Sequence[str], clean: Callable[[str], str]) -> None:
        self._folder = store.studies / FOLDER
        self._models, self._clean = tuple(models), clean
        self._stores = {name: ScoreStore(self._folder / name) for name in models}
        self._ranked: tuple[Any, list[tuple[str, tuple[str, ...]]], str] = (None, [], "")

    def scores(self) -> tuple[str, dict[str, CaseScore]]:
        """Return the model whose scores are shown and its scores by case; the first model where none has any."""
        for name, store in self._stores.items():
            if Path(store.folder).is_dir() and (found := store.read()):
                return name, found
        return (self._models[0] if self._models else ""), {}

    def queue(
        self,
        cases: Sequence[str],
        labelled: set[str],
        labels: Sequence[LabelVersion],
        leases: Mapping[str, str],
        scoring: str,
    ) -> Queue:
        """Return the queue.

        Args:
            cases: ids of all cases.
            labelled: of them, those with a final label.
            labels: versions of all labels, oldest first.
            leases: case -> until when somebody has it.
            scoring: state of the scoring in a few words.
        """
        model, scores = self.scores()
        waiting = sorted(set(cases) - labelled)
        failed = {case: self._clean(scores[case].error) for case in waiting if case in scores and scores[case].error}
        good = {case: scores[case] for case in waiting if case in scores and not scores[case].error}
        ranked, order = self._rank(tuple(waiting), good, labels)
        rows = [
            Waiting(
                case,
                good.get(case),
                ("could not be scored, see below",) if case in failed else reasons,
                leases.get(case, ""),
            )
            for case, reasons in ranked
        ]
        return Queue(rows, len(cases), model if good else "", order, failed, scoring)

    def _rank(
        self, waiting: tuple[str, ...], scores: Mapping[str, CaseScore], labels: Sequence[LabelVersion]
    ) -> tuple[list[tuple[str, tuple[str, ...]]], str]:
        key = (waiting, tuple(id(score) for score in scores.values()), len(labels))
        if self._ranked[0] == key:
            return self._ranked[1], self._ranked[2]
        own = sorted(waiting, key=lambda case: (-uncertainty(scores.get(case)), case))
        found: list[tuple[str, tuple[str, ...]]] = [(case, ()) for case in own]
        order = ""
        ranking = dict(getattr(strategies, "STRATEGIES", {})).get(STRATEGY)
        if ranking is not None and scores:
            try:
                choices = ranking.rank(_pool(waiting, scores, labels), ranking.options, np.random.default_rng(0))
                found, order = [(choice.case, tuple(choice.reasons)) for choice in choices], STRATEGY
            except (RareVoxelError, ValueError, TypeError, KeyError) as error:
                logger.warning("the queue is not in the order of %s: %s", STRATEGY, error)
        self._ranked = (key, found, order)
        return found, order


def _pool(waiting: tuple[str, ...], scores: Mapping[str, CaseScore], labels: Sequence[LabelVersion]) -> Pool:
    newest = [one for one in current(labels).values() if one.volumes]
    return Pool(
        waiting,
        scores,
        labelled_sizes={r: tuple(size for one in newest for size in one.lesions.get(r, ())) for r in REGIONS},
        labelled_volumes={r: tuple(one.volumes.get(r, 0.0) for one in newest) for r in REGIONS},
    )
