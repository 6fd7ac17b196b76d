"""The cases of a studies folder as the scoring sees them: what each is made of, and whether it is labelled."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rarevoxel.cases.table import Study, load_table
from rarevoxel.volumes import SUFFIXES, volume_stem

_MOST_SIBLINGS = 16
"""A folder of more volumes is not one case's."""


@dataclass(frozen=True)
class PoolCase:
    """A case that can be scored.

    Args:
        id: its id.
        image: display volume.
        stamp: changes when one of its files does.
        labelled: whether there is a final label.
    """

    id: str
    image: Path
    stamp: str
    labelled: bool


def pool_cases(studies: Path) -> list[PoolCase]:
    """Return the cases of a studies folder, by id; voxels and headers are not read.

    Args:
        studies: the folder. Every volume in it is the display volume of a case, in the table or not.

    Raises:
        InputError: as `load_table`.
        OSError: if the folder cannot be listed.
    """
    table = load_table(studies)
    final = studies / "labels" / "final"
    labelled = {volume_stem(name) for name in _volumes(final)} if final.is_dir() else set()
    found = {volume_stem(name): studies / name for name in _volumes(studies)}
    return [
        PoolCase(case, found[case], _stamp(_files(found[case], table.get(case))), case in labelled)
        for case in sorted(found)
    ]


def _volumes(folder: Path) -> list[str]:
    return [
        entry.name
        for entry in os.scandir(folder)
        if not entry.name.startswith(".") and entry.name.lower().endswith(SUFFIXES) and not entry.is_dir()
    ]


def _files(image: Path, study: Study | None) -> Mapping[str, Path]:
    """The files that a case is read from, as far as can be told without reading any."""
    if study is not None and study.display == image.name:
        return {name: image.parent / file for name, file in study.sequences.items()}
    home = image.resolve().parent
    siblings = _volumes(home) if home != image.parent.resolve() and home.is_dir() else []
    return {"": image, **({name: home / name for name in siblings} if len(siblings) <= _MOST_SIBLINGS else {})}


def _stamp(files: Mapping[str, Path]) -> str:
    return hashlib.sha256("\n".join(_states(files)).encode()).hexdigest()[:16]


def _states(files: Mapping[str, Path]) -> Iterable[str]:
    for name, file in sorted(files.items()):
        try:
            status = file.stat()
            yield f"{name} {file.name} {status.st_size} {status.st_mtime_ns}"
        except OSError:
            yield f"{name} {file.name} is not there"
