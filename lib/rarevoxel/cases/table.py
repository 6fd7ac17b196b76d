"""The table of a studies folder: which files make up each case, and which patient it is of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rarevoxel.cases.folders import TABLE_NAME
from rarevoxel.errors import InputError
from rarevoxel.volumes import replace_file

_VERSION = 1


@dataclass(frozen=True)
class Study:
    """One case of a studies folder; paths are relative to that folder, with `/`.

    Args:
        patient: cases of one patient share it.
        sequences: sequence name -> file.
        display: the file a viewer loads.
        scheme: name of the scheme its label map came in, or None; in the studies folder labels are client labels.
        source: where the case was prepared from.
    """

    patient: str
    sequences: Mapping[str, str]
    display: str
    scheme: str | None
    source: str


def load_table(studies: str | Path) -> dict[str, Study]:
    """Read the table of a studies folder.

    Returns:
        Case id -> study; empty if the folder has no table.

    Raises:
        InputError: if the table is torn, of a newer version, or names files outside the folder.
    """
    path = Path(studies) / TABLE_NAME
    hint = "move the file away and run rarevoxel prepare again"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})", hint) from error
    version = content.get("version") if isinstance(content, dict) else None
    if version != _VERSION:
        raise InputError(f"{path}: table version is {version!r}, expected {_VERSION}", hint)
    try:
        return {str(case): _study(path, entry) for case, entry in content["cases"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: an entry is incomplete ({type(error).__name__}: {error})", hint) from error


def save_table(studies: str | Path, table: Mapping[str, Study]) -> None:
    """Write the table atomically, sorted by case id.

    Raises:
        OSError: if it cannot be written; the old table stays.
    """
    content = {"version": _VERSION, "cases": {case: asdict(table[case]) for case in sorted(table)}}
    replace_file(Path(studies) / TABLE_NAME, (json.dumps(content, indent=1) + "\n").encode())


def patients(studies: str | Path) -> dict[str, str]:
    """Return case id -> patient for every case of a studies folder.

    Raises:
        InputError: as `load_table`.
    """
    return {case: study.patient for case, study in load_table(studies).items()}


def _study(path: Path, entry: Mapping[str, Any]) -> Study:
    study = Study(
        patient=str(entry["patient"]),
        sequences={str(kind): str(file) for kind, file in entry["sequences"].items()},
        display=str(entry["display"]),
        scheme=entry["scheme"],
        source=str(entry["source"]),
    )
    for file in (study.display, *study.sequences.values()):
        if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
            raise InputError(f"{path}: names {file!r}, outside the studies folder", "prepare the folder again")
    return study
