"""Processes that train for a study, and the records by which an interrupted study goes on."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from rarevoxel.errors import RequestError, TrainingError


def check_workers(workers: int) -> None:
    """Raise for a number of processes that does nothing.

    Raises:
        RequestError: for less than one worker.
    """
    if workers < 1:
        raise RequestError(f"workers ({workers}) must be >= 1")


@contextmanager
def worker_pool(workers: int, what: str) -> Iterator[ProcessPoolExecutor]:
    """Give a pool of processes, each with its share of the cores; what waits is dropped when the block fails.

    Args:
        workers: processes.
        what: one piece of work, for errors: `run` or `round`.

    Raises:
        TrainingError: if a worker was killed, most likely for its memory.
    """
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(threads,)) as pool:
        try:
            yield pool
        except BrokenProcessPool as error:
            msg = f"a worker process ended before its {what} did; the {what}s that were finished are kept"
            raise TrainingError(msg, "free memory or use fewer workers, and run the same command again") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def finished(path: Path) -> dict[str, Any] | None:
    """Return the record at a path; None if there is none, or a torn one, or that of a failure."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "cases" in record else None


def _begin(threads: int) -> None:
    """Prepare a worker: its share of the cores, and no bars of its own among those of the others."""
    torch.set_num_threads(threads)
    sys.stderr.isatty = lambda: False  # type: ignore[method-assign]
