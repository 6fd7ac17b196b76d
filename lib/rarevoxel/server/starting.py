"""What a server does before its first answer, and what it does ahead of the first question."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from rarevoxel.errors import RareVoxelError
from rarevoxel.inference.task import SegmentationTask
from rarevoxel.training.registry import Registry
from rarevoxel.training.task import TumorTrainTask

logger = logging.getLogger(__name__)


def note_interrupted(trainers: Mapping[str, TumorTrainTask]) -> None:
    """Log which trainings ended with the server before."""
    for name, task in trainers.items():
        stats = task.stats()
        if stats.get("status") == "interrupted":
            logger.warning("the last training of %s was %s", name, stats["note"])


def recover_models(app: Path, models: Iterable[str], keep: int) -> None:
    """Finish what a crash left half done while weights were put into service; the engines cope without it.

    Args:
        app: app folder.
        models: names.
        keep: versions kept of each.
    """
    for name in models:
        try:
            Registry(app, name, keep).recover()
        except (OSError, RareVoxelError) as error:
            logger.warning("the weights of %s could not be put in order: %s", name, error)


def warm_up(infers: Mapping[str, SegmentationTask], read_pools: Callable[[], object]) -> None:
    """Do what the first questions would have to wait for.

    Args:
        infers: each predicts a little case.
        read_pools: reads scores and labels.
    """
    try:
        read_pools()
    except (OSError, RareVoxelError) as error:
        logger.warning("scores and labels could not be read ahead: %s", error)
    for name, task in infers.items():
        try:
            task.warm_up()
        except (OSError, RareVoxelError) as error:
            logger.warning("model %s: %s", name, error)
