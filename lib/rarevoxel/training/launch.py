"""Training on all GPUs of one machine from a process that is alone, as a server's training process is."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch.distributed.elastic.utils.distributed import get_free_port
from torch.multiprocessing.spawn import ProcessException, spawn

from rarevoxel.config import AppConfig
from rarevoxel.errors import TrainingError
from rarevoxel.training.distributed import joined
from rarevoxel.training.options import TrainOptions
from rarevoxel.training.places import LabelledCase, Places
from rarevoxel.training.run import train_model
from rarevoxel.training.run_stats import read_stats

logger = logging.getLogger(__name__)


def processes_for(options: TrainOptions) -> int:
    """Return in how many processes to train on this machine: one a GPU, no more than there are patches a step."""
    return max(1, min(torch.cuda.device_count(), options.batch_size))


def train_in_processes(
    count: int,
    config: AppConfig,
    options: TrainOptions,
    cases: Sequence[LabelledCase],
    places: Places,
    *,
    two_stage: str = "",
    user: str = "unknown",
) -> dict[str, Any]:
    """Train one model in several processes of this machine; see `train_model`, which it is with one.

    Args:
        count: processes; with GPUs each has one of its own.
        config: application configuration.
        options: the run's options.
        cases: cases with accepted labels.
        places: where to read and write.
        two_stage: see `rarevoxel.config.ModelConfig`.
        user: who asked for the run.

    Returns:
        The final stats.

    Raises:
        TrainingError: whatever goes wrong in the processes, with what the stats say of it.
    """
    if count < 2:
        return train_model(config, options, cases, places, two_stage=two_stage, user=user)
    logger.info("training in %d processes", count)
    port = get_free_port()  # type: ignore[no-untyped-call]
    arguments = (count, port, config, options, list(cases), places, two_stage, user)
    try:
        spawn(_take_part, arguments, nprocs=count)  # type: ignore[no-untyped-call]
    except ProcessException as error:  # Its text is a traceback; the stats say it better.
        told = read_stats(places.stats).get("error") or {}
        message = str(told.get("message") or f"a training process ended: {error.msg.strip().splitlines()[-1]}")
        raise TrainingError(message, str(told.get("hint") or "see the log of the training")) from error
    return read_stats(places.stats)


def _take_part(
    rank: int,
    count: int,
    port: int,
    config: AppConfig,
    options: TrainOptions,
    cases: Sequence[LabelledCase],
    places: Places,
    two_stage: str,
    user: str,
) -> None:
    tell_place(rank, count, port)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // count))
    with joined():
        train_model(config, options, cases, places, two_stage=two_stage, user=user)


def tell_place(rank: int, count: int, port: int) -> None:
    """Tell this process, as torchrun would, which of `count` processes on this machine it is, and where they meet."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ.update({"MASTER_ADDR": "127.0.0.1", **{key: str(value) for key, value in told.items()}})
