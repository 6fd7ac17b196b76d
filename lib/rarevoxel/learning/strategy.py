"""Rankings as strategies of the host: the next case for a client, with reasons and a lease."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from rarevoxel.errors import ConflictError
from rarevoxel.learning.leases import MINUTES, Lease, Leases
from rarevoxel.learning.pool import Pool
from rarevoxel.learning.pool.gather import Gathered, PoolSource
from rarevoxel.learning.strategies import Choice, Option, Ranking, read_options

LEASE, MODEL = "lease_minutes", "model"

BOUNDS = {LEASE: (1.0, 1440.0)}
"""What the options of all strategies may be."""


class NextSample(Strategy):
    """A ranking as the host calls it.

    Args:
        ranking: the way to choose.
        source: makes the pool.
        leases: who has which case.
        new_rng: called once a request.
    """

    def __init__(
        self,
        ranking: Ranking,
        source: PoolSource,
        leases: Leases,
        new_rng: Callable[[], np.random.Generator] = np.random.default_rng,
    ) -> None:
        super().__init__(ranking.description)
        self.ranking = ranking
        self._source = source
        self._leases = leases
        self._new_rng = new_rng

    @property
    def options(self) -> dict[str, Option]:
        """Option -> default, those of all strategies among them."""
        models = {} if self.ranking.kind == "order" else {MODEL: list(self._source.models)}
        return {**self.ranking.options, **models, LEASE: MINUTES}

    def info(self) -> dict[str, Any]:
        """Return what clients show."""
        return {"description": self.description, "config": self.options}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Return the case to label next, leased to the client.

        Args:
            request: options of the strategy, and `client_id`.
            datastore: the cases.

        Returns:
            `id`, `weight` (the value it was ranked by), `reasons`, `terms`, `lease_until` (ISO 8601, UTC), `model`
            (None where none was asked) and `scored` (whether it has a score); and `left_out`, case -> why, where cases
            cannot be used. Without an `id`, mostly empty, when no case is left.

        Raises:
            RequestError: for an option that cannot be.
            ConflictError: when other clients have all the cases, until when.
        """
        options = read_options(self.options, request, BOUNDS)
        client = str(request.get("client_id") or "")
        model = str(options.get(MODEL) or next(iter(self._source.models), ""))
        gathered = self._gather(datastore, model)
        pool = gathered.pool
        choices = self.ranking.rank(pool, options, self._new_rng())
        told = {"left_out": dict(gathered.left_out)} if gathered.left_out else {}
        if not choices:
            return told
        lease = self._leases.take(client, [choice.case for choice in choices], options[LEASE])
        if lease is None:
            raise _all_taken(pool, self._leases.active())
        choice = next(choice for choice in choices if choice.case == lease.case)
        return {
            "id": choice.case,
            "weight": choice.value,
            "reasons": self._reasons(choice, pool, model),
            "terms": dict(choice.terms),
            "lease_until": lease.ends,
            "model": None if self.ranking.kind == "order" else model,
            "scored": choice.case in pool.scores,
            **told,
        }

    def _gather(self, datastore: Datastore, model: str) -> Gathered:
        if self.ranking.kind == "labels":
            return self._source.doubtful(datastore, model, self.ranking.name)
        by_scores = self.ranking.kind == "scores"
        in_work = self._leases.active() if by_scores else ()
        return self._source.waiting(datastore, model, by_scores=by_scores, in_work=in_work)

    def _reasons(self, choice: Choice, pool: Pool, model: str) -> list[str]:
        reasons = list(choice.reasons)
        if self.ranking.kind != "scores":
            return reasons
        scorer, score = self._source.models[model], pool.scores.get(choice.case)
        if score is None and not scorer.available():
            return [f"model {model} has no weights yet, so no case is scored: in order of name"]
        in_service = scorer.weights()
        if score is not None and in_service and score.weights != in_service:
            reasons.append("scored by earlier weights than those in service")
        return reasons


def _all_taken(pool: Pool, leases: Mapping[str, Lease]) -> ConflictError:
    ends = sorted(leases[case].ends for case in pool.waiting if case in leases)
    many = f"all {len(pool.waiting)} cases" if len(pool.waiting) > 1 else "the only case"
    msg = f"other clients have {many} that wait for a label"
    until = f", the first until {ends[0]}" if ends else ""
    return ConflictError(f"{msg}{until}", "ask again then, or when one of them has been submitted")
