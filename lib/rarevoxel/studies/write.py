"""Writing a studies folder: one display volume per case, its sequences beside it, and checked labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from rarevoxel.cases import Case, Refusal, assign_schemes, check_geometry, find_sequences
from rarevoxel.cases.table import Study, load_table, save_table
from rarevoxel.errors import ConflictError, InputError, RareVoxelError
from rarevoxel.labels import LabelScheme
from rarevoxel.studies.place import place
from rarevoxel.studies.report import StudiesReport
from rarevoxel.volumes import (
    Grid,
    Volume,
    check_image,
    read_label_volume,
    read_volume,
    volume_suffix,
    write_labels,
    write_volume,
)

_FINAL = Path("labels", "final")
_LABEL_SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd")


@dataclass(frozen=True)
class _Options:
    studies: Path
    labels: bool
    copy: bool
    force: bool
    table: Mapping[str, Study]


@dataclass(frozen=True)
class _Written:
    id: str
    study: Study
    shows: str
    labelled: bool
    kept: bool
    empty: bool


def write_studies(
    cases: Sequence[Case],
    destination: str | Path,
    *,
    labels: bool = False,
    scheme: LabelScheme | None = None,
    copy: bool = False,
    force: bool = False,
    progress: bool = False,
) -> StudiesReport:
    """Check cases and write those that hold into a studies folder.

    Per case: `sequences/<case>/<sequence>.nii.gz` (a link to the source, or a copy; a 4-D volume is split),
    `<case>.nii.gz` (the display volume, a relative link) and, with `labels`, `labels/final/<case>.nii.gz` in client
    labels on the display grid. `studies.json` lists them. A case need not have all four sequences. Doing it twice
    changes nothing, a case that is refused writes nothing, and one bad case does not stop the others.

    Args:
        cases: from `discover` or `scan`.
        destination: the studies folder; made when absent.
        labels: write label maps too. A final label that is already there is kept unless `force`.
        scheme: read every label map by this scheme, whatever `Case.scheme` says.
        copy: copy volumes instead of linking them.
        force: replace a case that came from another source, and final labels.
        progress: show a bar on stderr when that is a terminal.

    Returns:
        What was prepared, refused and assumed.

    Raises:
        InputError: if the destination cannot be a folder, or its table is torn.
    """
    studies = Path(destination)
    try:
        studies.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{studies}: cannot be made a folder ({error.strerror})", "choose another place") from error
    refused: list[Refusal] = []
    usable = list(cases)
    if labels:
        usable, refused = assign_schemes(usable, scheme=scheme, progress=progress)
    table = load_table(studies)
    options = _Options(studies, labels, copy, force, table)
    with ThreadPoolExecutor(2) as pool:
        running = pool.map(lambda case: _try_case(case, options), usable)
        results = list(tqdm(running, total=len(usable), desc="prepare", disable=None if progress else True))
    written = [item for item in results if isinstance(item, _Written)]
    refused += [item for item in results if isinstance(item, Refusal)]
    # The table first, the displays last: a case that a server can see is complete.
    merged = {**table, **{item.id: item.study for item in written}}
    if merged != table:
        save_table(studies, merged)
    shown = [_try_show(studies, item, table.get(item.id)) for item in written]
    refused += [item for item in shown if isinstance(item, Refusal)]
    written = [item for item in shown if isinstance(item, _Written)]
    ids = {item.id for item in written}
    return StudiesReport(
        prepared=tuple(item.id for item in written),
        labelled=tuple(item.id for item in written if item.labelled),
        empty=tuple(item.id for item in written if item.empty),
        kept=tuple(item.id for item in written if item.kept),
        refused=tuple(sorted(refused, key=lambda refusal: refusal.id)),
        incomplete={case.id: case.missing for case in usable if case.missing and case.id in ids},
        warnings=tuple(warning for case in usable if labels and case.id in ids for warning in case.warnings),
    )


def _try_case(case: Case, options: _Options) -> _Written | Refusal:
    try:
        return _write_case(case, options)
    except RareVoxelError as error:
        return Refusal(case.id, error)
    except OSError as error:
        return _unwritable(case.id, options.studies, error)


def _unwritable(case: str, studies: Path, error: OSError) -> Refusal:
    msg = f"case {case}: cannot be written to {studies} ({error.strerror or error})"
    return Refusal(case, InputError(msg, "check free space and permissions of the studies folder"))


def _write_case(case: Case, options: _Options) -> _Written:
    _check_place(case, options)
    grid = check_geometry(case)
    volume = _check_images(case)
    labels = _client_labels(case, options)
    sequences = _write_sequences(case, volume, grid, options)
    display = sequences[case.display]
    study = Study(
        patient=case.patient,
        sequences=sequences,
        display=case.id + volume_suffix(display),
        scheme=case.scheme.name if case.scheme else getattr(options.table.get(case.id), "scheme", None),
        source=str(case.source),
    )
    final = options.studies / _FINAL
    kept = any((final / f"{case.id}{suffix}").exists() for suffix in _LABEL_SUFFIXES) and not options.force
    if labels is not None and not kept:
        write_labels(final / f"{case.id}.nii.gz", labels, grid.affine)
    new = labels is not None and not kept
    empty = labels is not None and not kept and not labels.any()
    return _Written(case.id, study, display, labelled=new, kept=labels is not None and kept, empty=empty)


def _check_place(case: Case, options: _Options) -> None:
    studies = options.studies.resolve()
    if any(studies in (path.parent.resolve(), *path.parent.resolve().parents) for path in case.sequences.values()):
        msg = f"case {case.id}: its files lie in the studies folder {options.studies} itself, expected another place"
        raise InputError(msg, "prepare into a new folder")
    old = options.table.get(case.id)
    gone = [] if old is None or options.force else [name for name in case.missing if name in old.sequences]
    if old is not None and gone:
        msg = f"case {case.id}: was prepared with {', '.join(gone)}, not found any more beside {case.source}"
        raise ConflictError(msg, "put the files back, or prepare the case without them with --force")
    # With a sequence that came later the case may show another one than before.
    own = {str(case.source), *(str(path.resolve()) for path in case.sequences.values())}
    if old is not None and old.source not in own and not options.force:
        msg = f"case {case.id}: is already in {options.studies}, prepared from {old.source}, not from {case.source}"
        raise ConflictError(msg, "rename one of the two, or replace the old one with --force")
    if old is None and not options.force:
        taken = [options.studies / f"{case.id}{suffix}" for suffix in (".nii.gz", ".nii")]
        found = [path for path in taken if path.exists() and not path.is_symlink()]
        if found:
            msg = f"case {case.id}: {found[0]} is there already and was not prepared from this data"
            raise ConflictError(msg, "rename one of the two, or replace the old one with --force")


def _check_images(case: Case) -> Volume | None:
    if case.volume_4d is not None:
        volume = read_volume(case.volume_4d, allow_4d=True)
        check_image(volume, case.volume_4d)
        return volume
    for path in case.sequences.values():
        check_image(read_volume(path), path)
    return None


def _client_labels(case: Case, options: _Options) -> npt.NDArray[np.uint8] | None:
    if not options.labels or case.label is None or case.scheme is None:
        return None
    return case.scheme.to_client(read_label_volume(case.label).array, source=str(case.label))


def _write_sequences(case: Case, volume: Volume | None, grid: Grid, options: _Options) -> dict[str, str]:
    """Link, copy or split; returns sequence -> path relative to the studies folder."""
    folder = options.studies / "sequences" / case.id
    if volume is not None:
        files = {name: folder / f"{name}.nii.gz" for name in case.sequences}
        newest = case.source.stat().st_mtime_ns
        if options.force or not all(f.is_file() and f.stat().st_mtime_ns > newest for f in files.values()):
            for name, file in files.items():
                write_volume(file, volume.array[..., case.channels.index(name)], grid.affine)
    else:
        files = {name: folder / f"{name}{volume_suffix(path)}" for name, path in case.sequences.items()}
        copy = options.copy or not _traceable(case)
        for name, path in case.sequences.items():
            place(path, files[name], copy=copy)
    for stale in set(folder.iterdir()) - set(files.values()):
        stale.unlink()
    return {name: path.relative_to(options.studies).as_posix() for name, path in files.items()}


def _traceable(case: Case) -> bool:
    """Whether the siblings can be found from the file that a link to the display volume resolves to.

    Servers resolve links before they hand a path over; where the source is itself a link into a content-addressed
    store, its siblings are not beside it, and only a copy keeps the case together.
    """
    try:
        found = find_sequences(case.source)
    except RareVoxelError:
        return False
    same = set(found) == set(case.sequences)
    return same and all(found[name].samefile(path) for name, path in case.sequences.items())


def _try_show(studies: Path, item: _Written, old: Study | None) -> _Written | Refusal:
    try:
        place(studies / item.shows, studies / item.study.display, copy=False, relative=True)
        if old is not None and old.display != item.study.display:
            (studies / old.display).unlink(missing_ok=True)
    except OSError as error:
        return _unwritable(item.id, studies, error)
    return item
