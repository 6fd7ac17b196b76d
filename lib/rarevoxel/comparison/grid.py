"""All cells of a comparison: run once each, kept on disk, resumed where they stopped."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from rarevoxel.comparison.data import Fold, fold_record
from rarevoxel.comparison.one import run_one
from rarevoxel.comparison.spec import Budget, Method, fingerprint
from rarevoxel.errors import RareVoxelError, RequestError, TrainingError
from rarevoxel.volumes import replace_file

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cell:
    """One training of the comparison.

    Args:
        method: how.
        fold: on what.
        seed: of weights, draws and augmentation.
    """

    method: Method
    fold: Fold
    seed: int

    def path(self, folder: Path, budget: Budget) -> Path:
        """Return where its record lies; another budget or other cases, told apart by their ids, give another file."""
        key = fingerprint([self.method.name, fold_record(self.fold), self.seed, budget.to_dict()])
        return folder / "runs" / f"{self.fold.name}-{self.seed}-{key}.json"


def run_cells(
    cells: Sequence[Cell], folder: Path, budget: Budget, workers: int = 1, start: Path | None = None
) -> list[dict[str, Any]]:
    """Run every cell that has no record yet, and return all records in the order of `cells`.

    A cell that fails leaves a record with its error, which is tried again the next time; the others go on.

    Args:
        cells: what to run.
        folder: of the records.
        budget: shared by all.
        workers: processes; each trains with its share of the cores.
        start: weight file that all methods start from; None for random weights.

    Raises:
        RequestError: for less than one worker.
        TrainingError: if a worker was killed, most likely for its memory; the records so far are kept.
        OSError: if a record cannot be written.
    """
    if workers < 1:
        raise RequestError(f"workers ({workers}) must be >= 1")
    paths = [cell.path(folder, budget) for cell in cells]
    open_cells = {path: cell for cell, path in zip(cells, paths, strict=True) if not _finished(path)}
    total = len(set(paths))
    bar = tqdm(total=total, initial=total - len(open_cells), desc="compare", unit="run", disable=None)
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = multiprocessing.get_context("spawn")
    with bar, ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(threads,)) as pool:
        futures = [pool.submit(_run, cell, path, budget, start) for path, cell in open_cells.items()]
        try:
            for future in as_completed(futures):
                future.result()
                bar.update()
        except BrokenProcessPool as error:
            msg = "a worker process ended before its run did; the runs that were finished are kept"
            raise TrainingError(msg, "free memory or use fewer workers, and run the same command again") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def _finished(path: Path) -> bool:
    """Whether a cell has a record that is neither torn nor that of a failure."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and "cases" in record


def _start(threads: int) -> None:
    """Prepare a worker: its share of the cores, and no bars of its own among those of the others."""
    torch.set_num_threads(threads)
    sys.stderr.isatty = lambda: False  # type: ignore[method-assign]


def _run(cell: Cell, path: Path, budget: Budget, start: Path | None) -> None:
    try:
        record = run_one(cell.method, cell.fold, budget, cell.seed, start)
    except Exception as error:
        # Whatever a method dies of, the others go on; what it was stays in the record.
        record = {"method": cell.method.name, "fold": cell.fold.name, "seed": cell.seed, "error": _error(error)}
    replace_file(path, json.dumps(record).encode())


def _error(error: Exception) -> dict[str, object]:
    if isinstance(error, RareVoxelError):
        return error.to_dict()
    logger.error("a run failed unexpectedly", exc_info=error)
    return RareVoxelError(f"{type(error).__name__}: {error}").to_dict()
