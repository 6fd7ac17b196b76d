"""All cells of a comparison: run once each, kept on disk, resumed where they stopped."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rarevoxel.comparison.data import Fold, fold_record
from rarevoxel.comparison.one import run_one
from rarevoxel.comparison.spec import Budget, Method, fingerprint
from rarevoxel.comparison.workers import check_workers, finished, worker_pool
from rarevoxel.errors import RareVoxelError
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
    check_workers(workers)
    paths = [cell.path(folder, budget) for cell in cells]
    open_cells = {path: cell for cell, path in zip(cells, paths, strict=True) if finished(path) is None}
    total = len(set(paths))
    bar = tqdm(total=total, initial=total - len(open_cells), desc="compare", unit="run", disable=None)
    with bar, worker_pool(workers, "run") as pool:
        futures = [pool.submit(_run, cell, path, budget, start) for path, cell in open_cells.items()]
        for future in as_completed(futures):
            future.result()
            bar.update()
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


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
