"""The lesion sizes of all labels, measured once per version of each, in the background where there are many."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rarevoxel.errors import RareVoxelError
from rarevoxel.labels import REGIONS
from rarevoxel.statistics import CaseStatistics, case_statistics
from rarevoxel.statistics.cache import ResultCache, seal
from rarevoxel.volumes import read_label_volume

logger = logging.getLogger(__name__)

WAIT_S = 0.1
"""How long a question waits for labels that are being measured before it is answered without them."""


@dataclass(frozen=True)
class Label:
    """One label to measure.

    Args:
        version: changes whenever the label does.
        path: gives its file; asked only when it has to be read.
    """

    version: str
    path: Callable[[], Path]


class LabelledSizes:
    """Measures labels and remembers what it found; any number of threads may ask.

    Args:
        cache: where results are kept over restarts; that of the user when None.
    """

    def __init__(self, cache: ResultCache | None = None) -> None:
        self._cache = ResultCache.of_user() if cache is None else cache
        self._known: dict[str, tuple[str, CaseStatistics | None]] = {}
        self._wanted: dict[str, Label] = {}
        self._in_work: tuple[str, str] | None = None
        self._worker: threading.Thread | None = None
        self._lock = threading.Lock()

    def of(self, labels: Mapping[str, Label], wait_s: float = WAIT_S) -> dict[str, CaseStatistics]:
        """Return the sizes of those labels that have been measured, by case; a label that cannot be read never is.

        Args:
            labels: case -> label, all there are.
            wait_s: how long to wait for those that have not.
        """
        with self._lock:
            self._known = {case: known for case, known in self._known.items() if case in labels}
            self._wanted = {
                case: label
                for case, label in labels.items()
                if self._known.get(case, ("", None))[0] != label.version and (case, label.version) != self._in_work
            }
            if self._wanted and (self._worker is None or not self._worker.is_alive()):
                self._worker = threading.Thread(target=self._measure_all, name="measure-labels", daemon=True)
                self._worker.start()
            worker = self._worker
        if worker is not None:
            worker.join(wait_s)
        with self._lock:
            return {
                case: sizes
                for case, (version, sizes) in self._known.items()
                if sizes is not None and case in labels and labels[case].version == version
            }

    def _measure_all(self) -> None:
        while True:
            with self._lock:
                self._in_work = None
                if not self._wanted:
                    self._worker = None
                    return
                case, label = self._wanted.popitem()
                self._in_work = case, label.version
            found = self._measured(case, label)
            with self._lock:
                self._known[case] = (label.version, found)

    def _measured(self, case: str, label: Label) -> CaseStatistics | None:
        try:
            path = label.path()
            what = f"sizes of client label {case}"
            record = self._cache.recall(what, [path])
            if record is None:
                record, sealed = seal([path], lambda: _measure(case, path))
                self._cache.keep(what, [path], sealed)
            return CaseStatistics.from_dict(record)
        except (OSError, RareVoxelError) as error:
            logger.warning("label of case %s does not count among the sizes: %s", case, error)
            return None


def region_sizes(found: Mapping[str, CaseStatistics]) -> dict[str, tuple[float, ...]]:
    """Return region -> volumes in mm^3 of the lesions in all labels, cases in order of name."""
    return {
        region: tuple(size for case in sorted(found) for size in found[case].regions[region].components)
        for region in REGIONS
    }


def region_volumes(found: Mapping[str, CaseStatistics]) -> dict[str, tuple[float, ...]]:
    """Return region -> its volume in mm^3 in each label, zeros included, cases in order of name."""
    return {region: tuple(found[case].regions[region].volume for case in sorted(found)) for region in REGIONS}


def _measure(case: str, path: Path) -> object:
    volume = read_label_volume(path)
    return case_statistics(volume.array, volume.grid.spacing, case).to_dict()
