"""The statistics of the label maps in a folder, whatever its layout."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from rarevoxel.cases import Case, Refusal, scan
from rarevoxel.errors import ConflictError, RareVoxelError
from rarevoxel.labels import LabelScheme
from rarevoxel.statistics.case import CaseStatistics, case_statistics
from rarevoxel.volumes import read_label_volume


@dataclass(frozen=True)
class FolderStatistics:
    """What was measured in a folder; see `measure_folder`.

    Attributes:
        cases: statistics of every case with a usable label map, sorted by id; at least one.
        refused: cases that could not be measured, with reasons.
        unlabelled: ids of the cases without a label map.
    """

    cases: tuple[CaseStatistics, ...]
    refused: tuple[Refusal, ...]
    unlabelled: tuple[str, ...]


def measure_folder(path: str | Path, *, scheme: LabelScheme | None = None, progress: bool = False) -> FolderStatistics:
    """Measure every label map in a folder, leaving out the cases whose label map cannot be used.

    Args:
        path: a studies folder (its final labels count) or a data set, as `rarevoxel.cases.scan` takes it.
        scheme: what label values mean; found out when None.
        progress: show a bar on stderr when that is a terminal.

    Returns:
        Statistics, refusals and unlabelled cases.

    Raises:
        InputError: if the folder is missing or holds no case.
        ConflictError: if there is no label map, or none can be used; then it names the first reason.
    """
    found = scan(path, scheme=scheme, progress=progress)
    labelled = [case for case in found.cases if case.label is not None]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        bar = tqdm(pool.map(_measure, labelled), total=len(labelled), desc="sizes", disable=None if progress else True)
        results = list(bar)
    measured = tuple(result for result in results if isinstance(result, CaseStatistics))
    refused = (*found.refused, *(result for result in results if isinstance(result, Refusal)))
    unlabelled = tuple(case.id for case in found.cases if case.label is None)
    if not measured:
        counted = f"{path}: none of {len(found.cases) + len(found.refused)} cases has a usable label map"
        why = f"; {refused[0].id}: {refused[0].error.message}" if refused else ""
        hint = refused[0].error.hint if refused else "label a case and submit it, or prepare the data with --labels"
        raise ConflictError(f"{counted}, expected at least one{why}", hint)
    return FolderStatistics(measured, tuple(sorted(refused, key=lambda refusal: refusal.id)), unlabelled)


def _measure(case: Case) -> CaseStatistics | Refusal:
    try:
        return _statistics(case)
    except RareVoxelError as error:
        return Refusal(case.id, error)


def _statistics(case: Case) -> CaseStatistics:
    if case.label is None or case.scheme is None:
        raise ConflictError(f"case {case.id}: no label map with a known scheme", "name the scheme with --scheme")
    volume = read_label_volume(case.label)
    labels = case.scheme.to_client(volume.array, source=str(case.label))
    return case_statistics(labels, volume.grid.spacing, case.id)
