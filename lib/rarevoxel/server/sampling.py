"""What the choice of the next sample is made of on a server, and the note it leaves."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore

from rarevoxel.datastore.studies import StudiesDatastore
from rarevoxel.errors import RareVoxelError
from rarevoxel.inference.engine import Engine
from rarevoxel.learning.leases import FILE, Leases
from rarevoxel.learning.pool import ScoreStore
from rarevoxel.learning.pool.gather import FINAL, PoolSource, Scorer
from rarevoxel.learning.pool.store import FOLDER
from rarevoxel.learning.strategies import STRATEGIES
from rarevoxel.learning.strategy import NextSample

logger = logging.getLogger(__name__)


def make_strategies(
    studies: str, app_folder: Path, engines: Mapping[str, Engine], datastore: Datastore
) -> tuple[Leases, PoolSource, dict[str, NextSample]]:
    """Return who has which case, what pools are made of, and every strategy.

    Args:
        studies: studies folder, which holds leases and scores; for a remote archive the app folder does.
        app_folder: the app that is served.
        engines: model -> engine.
        datastore: the cases.
    """
    local = isinstance(datastore, StudiesDatastore)
    folder = Path(studies) if local else app_folder
    models = {
        name: Scorer(ScoreStore(folder / FOLDER / name), engine.available, engine.loaded_sha256)
        for name, engine in engines.items()
    }

    def findings(case: str) -> Sequence[Mapping[str, Any]]:
        newest = datastore.store.history.newest(case, FINAL) if local else None
        return newest.findings if newest else ()

    leases, source = Leases(folder / FILE), PoolSource(models, findings=findings)
    return leases, source, {name: NextSample(ranking, source, leases) for name, ranking in STRATEGIES.items()}


def note_served(datastore: Datastore, case: str, strategy: str, client: str) -> dict[str, Any]:
    """Note that a case was handed out, and return what is known about it; a folder that is read-only is no obstacle."""
    info: dict[str, Any] = datastore.get_image_info(case)
    known = info.get("strategy")
    served = {**(known if isinstance(known, dict) else {}), strategy: {"ts": int(time.time()), "client_id": client}}
    try:
        datastore.update_image_info(case, {"strategy": served})
    except (HTTPException, RareVoxelError, OSError) as error:
        logger.warning("that case %s was handed out could not be noted: %s", case, error)
    return {**info, "strategy": served}
