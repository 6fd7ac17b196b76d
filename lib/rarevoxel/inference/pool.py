"""Scoring the cases of a pool, one after another, whatever is wrong with some of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rarevoxel.errors import ModelError, RareVoxelError, UnavailableError
from rarevoxel.inference.engine import Engine
from rarevoxel.inference.uncertainty import score_case
from rarevoxel.learning.pool import CaseScore, ScoreStore
from rarevoxel.learning.pool.cases import PoolCase, pool_cases
from rarevoxel.learning.pool.plan import Plan, is_fresh, make_plan, method_for
from rarevoxel.learning.pool.store import store_of, stores_beside

logger = logging.getLogger(__name__)


def score_studies(
    engine: Engine, studies: Path, model: str, *, method: str = "none", plan: Plan | None = None
) -> Iterator[CaseScore]:
    """Score what a studies folder has no score of, in `scores/<model>`; see `score_pool`.

    Args:
        engine: of the model.
        studies: the folder.
        model: its name.
        method: how unlabelled cases are asked.
        plan: of `plan_studies`; made here when None.

    Raises:
        InputError: as `pool_cases`.
        ModelError, OSError: see `score_pool`.
    """
    plan = plan or plan_studies(studies, model, str(engine.model()["sha256"]), method)
    store, others = store_of(studies, model), stores_beside(studies, model)
    yield from score_pool(engine, plan.waiting, store, method=method, others=others)


def plan_studies(studies: Path, model: str, weights: str, method: str) -> Plan:
    """Return what a studies folder has no score of by one model; see `make_plan`."""
    return make_plan(pool_cases(studies), store_of(studies, model).read(), weights, method)


def score_pool(
    engine: Engine,
    cases: Iterable[PoolCase],
    store: ScoreStore,
    *,
    method: str = "none",
    seed: int = 0,
    others: Sequence[ScoreStore] = (),
) -> Iterator[CaseScore]:
    """Score cases, keep every score, and yield it.

    A case that cannot be read gets a score with an `error`. One for which the memory does not suffice at the moment
    gets none, so that it is tried again.

    Args:
        engine: whose weights are asked.
        cases: in this order.
        store: where scores are kept.
        method: how unlabelled cases are asked, see `rarevoxel.inference.ensemble.METHODS`.
        seed: of what is drawn.
        others: of other models; a score of the same weights is taken from there. Models begin with the same ones.

    Raises:
        ModelError: without usable weights.
        OSError: when a score cannot be kept.
    """
    elsewhere = [other.read() for other in others] if method != "snapshots" else []
    for case in cases:
        weights = str(engine.model()["sha256"])
        known = [scores[case.id] for scores in elsewhere if case.id in scores]
        score = next((one for one in known if is_fresh(one, case, weights, method)), None)
        score = score or _score(engine, case, method, seed)
        if score is not None:
            store.write(score)
            yield score


def _score(engine: Engine, case: PoolCase, method: str, seed: int) -> CaseScore | None:
    how = method_for(case, method)
    failed = CaseScore(case.id, case.stamp, method=how)
    try:
        return score_case(engine, case.id, case.image, method=how, seed=seed, stamp=case.stamp)
    except ModelError:
        raise
    except (UnavailableError, MemoryError) as error:
        logger.warning("case %s is not scored for now: %s", case.id, error)
        return None
    except RareVoxelError as error:
        logger.warning("case %s cannot be scored: %s", case.id, error)
        # Relative to the folder it is kept in: where that lies is nobody's business, and it may be moved.
        return replace(failed, error=error.message.replace(f"{case.image.parent}{os.sep}", ""))
    except Exception as error:  # Whatever it is, the cases after this one are not to blame.
        logger.exception("scoring case %s failed", case.id)
        return replace(failed, error=f"{type(error).__name__}: {error}")
