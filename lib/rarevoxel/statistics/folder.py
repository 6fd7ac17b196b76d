"""The statistics of the cases in a folder, whatever its layout."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tqdm import tqdm

from rarevoxel.cases import Case, Discovery, Refusal, label_values, scan
from rarevoxel.errors import ConflictError, InputError, RareVoxelError, storage_error
from rarevoxel.labels import LabelScheme
from rarevoxel.statistics.cache import ResultCache, seal
from rarevoxel.statistics.case import CaseStatistics
from rarevoxel.statistics.case_intensity import SequenceIntensities
from rarevoxel.statistics.measure_case import CaseMeasurement, files_of, measure_case

Result = tuple[CaseMeasurement | Refusal, bytes | None]


@dataclass(frozen=True)
class FolderStatistics:
    """What was measured in a folder; see `measure_folder`.

    Attributes:
        cases: statistics of every case with a usable label map, sorted by id; at least one.
        refused: cases that could not be measured, with reasons.
        unlabelled: ids of the cases without a label map.
        intensities: case id -> sequence name -> intensities, of `cases`; empty when only sizes were measured.
    """

    cases: tuple[CaseStatistics, ...]
    refused: tuple[Refusal, ...]
    unlabelled: tuple[str, ...]
    intensities: dict[str, dict[str, SequenceIntensities]] = field(default_factory=dict)


def measure_folder(
    path: str | Path,
    *,
    scheme: LabelScheme | None = None,
    progress: bool = False,
    intensities: bool = False,
    threads: int | None = None,
    cache: ResultCache | None = None,
    scheduler: str | None = None,
) -> FolderStatistics:
    """Measure every labelled case in a folder, leaving out the cases whose files cannot be used.

    Args:
        path: a studies folder (its final labels count) or a data set, as `rarevoxel.cases.scan` takes it.
        scheme: what label values mean; found out when None.
        progress: show a bar on stderr when that is a terminal.
        intensities: read the sequences of the labelled cases too.
        threads: cases that are read at a time; as many as there are cores when None. Fewer cases than that are read
            several sequences at a time.
        cache: where results are looked for and kept; nowhere when None.
        scheduler: address of a Dask scheduler whose workers see the same paths; measured in threads here when None.

    Returns:
        Statistics, refusals and unlabelled cases; the same whatever `threads`, `cache` and `scheduler` are.

    Raises:
        InputError: if the folder is missing or holds no case, or `threads` is below 1.
        ConflictError: if there is no label map, or none can be used; then it names the first reason. Or if
            `scheduler` cannot be reached.
        ConfigError: if `scheduler` is given and `distributed` is not installed.
    """
    if threads is not None and threads < 1:
        raise InputError(f"threads ({threads}) must be >= 1")
    values_of = label_values if cache is None else partial(_remembered_values, cache)
    found = scan(path, scheme=scheme, progress=progress, values_of=values_of)
    labelled = [case for case in found.cases if case.label is not None]
    results = dict(_recalled(labelled, cache, intensities))
    missing = [case for case in labelled if case.id not in results]
    measure = partial(measure_and_seal, intensities=intensities, sealing=cache is not None)
    measured: Iterator[tuple[Case, Result | Refusal]] = _in_threads(missing, measure, threads)
    if scheduler is not None and missing:
        from rarevoxel.statistics.cluster import on_cluster

        measured = on_cluster(missing, measure, scheduler)
    bar = tqdm(measured, total=len(missing), desc="cases", disable=None if progress else True)
    for case, done in bar:
        result, sealed = (done, None) if isinstance(done, Refusal) else done
        results[case.id] = result
        if cache is not None:
            cache.keep(_what(case, intensities), files_of(case, intensities=intensities), sealed)
    return _gathered(path, found, [results[case.id] for case in labelled])


def measure_and_seal(case: Case, intensities: bool, sealing: bool, threads: int = 1) -> Result:
    """Measure one case, and with `sealing` return what a cache keeps of it too; errors become a refusal."""
    try:
        if not sealing:
            return measure_case(case, intensities=intensities, threads=threads), None
        found: list[CaseMeasurement] = []

        def compute() -> object:
            found.append(measure_case(case, intensities=intensities, threads=threads))
            return found[0].to_dict()

        _, sealed = seal(files_of(case, intensities=intensities), compute)
        return found[0], sealed
    except RareVoxelError as error:
        return Refusal(case.id, error), None
    except OSError as error:
        return Refusal(case.id, storage_error(error, f"case {case.id} could not be read")), None


def _in_threads(
    cases: Sequence[Case], measure: Callable[..., Result], threads: int | None
) -> Iterator[tuple[Case, Result]]:
    at_once = threads or os.cpu_count() or 1
    within = max(1, at_once // max(1, len(cases)))
    with ThreadPoolExecutor(at_once) as pool:
        yield from zip(cases, pool.map(partial(measure, threads=within), cases), strict=True)


def _recalled(
    cases: Iterable[Case], cache: ResultCache | None, intensities: bool
) -> Iterator[tuple[str, CaseMeasurement | Refusal]]:
    for case in cases if cache is not None else ():
        record = cache.recall(_what(case, intensities), files_of(case, intensities=intensities)) if cache else None
        if record is None:
            continue
        try:
            yield case.id, CaseMeasurement.from_dict(record)
        except InputError:
            continue


def _what(case: Case, intensities: bool) -> str:
    """Return all that a measurement depends on besides the files."""
    values = sorted(case.scheme.values.items()) if case.scheme else None
    images = [(name, str(path)) for name, path in case.sequences.items()] if intensities else None
    return repr(("case", case.id, values, images, case.channels if intensities else None))


def _remembered_values(cache: ResultCache, path: Path) -> set[int]:
    found = cache.recall("label values", [path])
    if not isinstance(found, list):
        found, sealed = seal([path], lambda: sorted(label_values(path)))
        cache.keep("label values", [path], sealed)
    return {int(value) for value in found}


def _gathered(path: str | Path, found: Discovery, results: Sequence[CaseMeasurement | Refusal]) -> FolderStatistics:
    measured = [result for result in results if isinstance(result, CaseMeasurement)]
    refused = (*found.refused, *(result for result in results if isinstance(result, Refusal)))
    unlabelled = tuple(case.id for case in found.cases if case.label is None)
    if not measured:
        counted = f"{path}: none of {len(found.cases) + len(found.refused)} cases has a usable label map"
        why = f"; {refused[0].id}: {refused[0].error.message}" if refused else ""
        hint = refused[0].error.hint if refused else "label a case and submit it, or prepare the data with --labels"
        raise ConflictError(f"{counted}, expected at least one{why}", hint)
    return FolderStatistics(
        tuple(result.sizes for result in measured),
        tuple(sorted(refused, key=lambda refusal: refusal.id)),
        unlabelled,
        {result.sizes.case_id: result.intensities for result in measured if result.intensities},
    )
