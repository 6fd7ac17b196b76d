"""The waiting cases in the order a strategy gives them, with their scores, reasons and leases."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rarevoxel.datastore.studies import StudiesDatastore
from rarevoxel.errors import RareVoxelError
from rarevoxel.learning.confidence import Calibration
from rarevoxel.learning.leases import Leases
from rarevoxel.learning.pool import CaseScore, Pool
from rarevoxel.learning.pool.gather import PoolSource
from rarevoxel.learning.strategies import STRATEGIES, read_options
from rarevoxel.report.dashboard import Queue, Waiting
from rarevoxel.report.dashboard.queue import uncertainty
from rarevoxel.report.dashboard.words import count
from rarevoxel.server.dashboard.trust import Trust

logger = logging.getLogger(__name__)

STRATEGY = "combined"
"""Whose order the queue shows, with its default options."""

Ranked = list[tuple[str, tuple[str, ...]]]
"""Cases, the next one first, each with why."""


class WaitingCases:
    """Makes the queue again and again, and ranks only when something has changed.

    Args:
        store: the cases.
        pools: what strategies choose from.
        leases: who has which case.
        clean: takes paths out of sentences.
    """

    def __init__(self, store: StudiesDatastore, pools: PoolSource, leases: Leases, clean: Callable[[str], str]) -> None:
        self._store, self._pools, self._leases, self._clean = store, pools, leases, clean
        self._known: tuple[Any, Ranked, str] = (None, [], "")
        self._trust = Trust(store)

    def score(self, model: str, case: str) -> CaseScore | None:
        """Return what a model says about a case; None when it was not scored, or for no model."""
        return self._pools.models[model].store.read().get(case) if model else None

    def calibrations(self, model: str, score: CaseScore | None) -> dict[str, Calibration]:
        """Return region -> what the word of the weights that gave a model's score was worth on labelled cases."""
        return self._trust.of(model, score.weights) if score is not None else {}

    def model(self) -> str:
        """Return the model whose scores are shown: the first that has any, else the first; empty without models."""
        names = list(self._pools.models)
        with_scores = (name for name in names if self._pools.models[name].store.read())
        return next(with_scores, names[0] if names else "")

    def leased(self, case: str) -> str:
        """Return until when somebody has a case, ISO 8601; empty when nobody has."""
        lease = self._leases.active().get(case)
        return lease.ends if lease else ""

    def queue(self, cases: int, scoring: str) -> Queue:
        """Return the queue.

        Args:
            cases: how many there are, labelled ones among them.
            scoring: state of the scoring in a few words.
        """
        model, leases = self.model(), self._leases.active()
        gathered = self._pools.waiting(self._store, model, by_scores=True, in_work=leases)
        ranked, order = self._rank(gathered.pool, tuple(leases))
        failed = {case: self._clean(why) for case, why in gathered.left_out.items()}
        rows = [
            Waiting(case, gathered.pool.scores.get(case), reasons, leases[case].ends if case in leases else "")
            for case, reasons in ranked
        ]
        rows += [Waiting(case, None, ("could not be scored, see below",)) for case in failed]
        calibrations = self.calibrations(model, next(iter(gathered.pool.scores.values()), None))
        return Queue(rows, cases, model if gathered.pool.scores else "", order, failed, scoring, calibrations)

    def _rank(self, pool: Pool, leases: tuple[str, ...]) -> tuple[Ranked, str]:
        labelled = tuple(map(len, pool.labelled_sizes.values()))
        key = (pool.waiting, tuple(id(score) for score in pool.scores.values()), labelled, leases)
        if self._known[0] == key:
            return self._known[1], self._known[2]
        found: Ranked = [
            (case, ()) for case in sorted(pool.waiting, key=lambda one: (-uncertainty(pool.scores.get(one)), one))
        ]
        order, ranking = "", STRATEGIES[STRATEGY]
        if pool.scores:
            try:
                choices = ranking.rank(pool, read_options(ranking.options, {}), np.random.default_rng(0))
                found, order = [(choice.case, tuple(choice.reasons)) for choice in choices], STRATEGY
            except (RareVoxelError, ValueError, TypeError, KeyError) as error:
                logger.warning("the queue is not in the order of %s: %s", STRATEGY, error)
        self._known = (key, found, order)
        return found, order


def scoring_of(status: Mapping[str, Any]) -> str:
    """Return the state of the background scoring in a few words.

    Args:
        status: as `rarevoxel.server.scorer.Scorer.status` gives it; empty where nothing is scored.

    Example:
        >>> scoring_of({"state": "running", "models": {"calf": {"waiting": 3}}})
        'running, 3 scores to go'
    """
    state, note = str(status.get("state", "")), str(status.get("note", ""))
    left = sum(int(counts.get("waiting", 0)) for counts in dict(status.get("models") or {}).values())
    if note:
        return f"{state}: {note}"
    return f"{state}, {count(left, 'score')} to go" if left and state in ("running", "waiting") else state
