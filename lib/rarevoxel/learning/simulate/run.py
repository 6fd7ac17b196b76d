"""All campaigns of a study: round by round in several processes, kept on disk, taken up where they stopped."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rarevoxel.comparison.workers import check_workers, finished, worker_pool
from rarevoxel.errors import RareVoxelError
from rarevoxel.learning.simulate.campaign import Place, run_round
from rarevoxel.learning.simulate.spec import Campaign

logger = logging.getLogger(__name__)

Record = dict[str, Any]


def run_campaigns(campaigns: Sequence[Campaign], place: Place, workers: int = 1) -> list[list[Record]]:
    """Run every round that has no record yet, and return the records of every campaign, round by round.

    A round is one task; the first one is shared by the strategies of a loss and a seed. A campaign ends with a round
    that fails, whose record then has an `error`; the next call tries it again, and the other campaigns go on.

    Args:
        campaigns: in the order in which they are begun.
        place: where records and weights lie.
        workers: processes; each trains with its share of the cores.

    Raises:
        RequestError: for less than one worker.
        TrainingError: if a worker was killed, most likely for its memory; the records so far are kept.
        OSError: if a record cannot be written.
    """
    check_workers(workers)
    known: dict[Path, Record] = {}
    for campaign in campaigns:
        for path in _paths(campaign, place):
            record = finished(path)
            if record is None:
                break
            known[path] = record
    total = len({path for campaign in campaigns for path in _paths(campaign, place)})
    bar = tqdm(total=total, initial=len(known), desc="simulate", unit="round", disable=None)
    running: dict[Future[Record], Path] = {}
    with bar, worker_pool(workers, "round") as pool:
        while True:
            for campaign, number, path in _open(campaigns, place, known, set(running.values())):
                if len(running) < workers:
                    running[pool.submit(_run, campaign, number, place)] = path
            if not running:
                break
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                known[running.pop(future)] = future.result()
                bar.update()
    return [[known[path] for path in _paths(campaign, place) if path in known] for campaign in campaigns]


def _paths(campaign: Campaign, place: Place) -> list[Path]:
    return [campaign.record(place.folder, number) for number in range(campaign.schedule.rounds + 1)]


def _open(
    campaigns: Sequence[Campaign], place: Place, known: dict[Path, Record], running: set[Path]
) -> list[tuple[Campaign, int, Path]]:
    """The next round of every campaign that can go on, each file once."""
    found: dict[Path, tuple[Campaign, int, Path]] = {}
    for campaign in campaigns:
        for number, path in enumerate(_paths(campaign, place)):
            if path not in known:
                if path not in running:
                    found.setdefault(path, (campaign, number, path))
                break
            if "error" in known[path]:
                break
    return list(found.values())


def _run(campaign: Campaign, number: int, place: Place) -> Record:
    try:
        return run_round(campaign, number, place)
    except OSError:
        raise
    except Exception as error:
        # Whatever a round dies of, the other campaigns go on; what it was is told at the end.
        if not isinstance(error, RareVoxelError):
            logger.error("a round failed unexpectedly", exc_info=error)
            error = RareVoxelError(f"{type(error).__name__}: {error}")
        who = {"data": campaign.fold.name, "strategy": campaign.arm.strategy, "loss": campaign.arm.loss}
        return {**who, "seed": campaign.seed, "round": number, "error": error.to_dict()}
