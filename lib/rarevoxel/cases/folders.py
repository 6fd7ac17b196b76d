"""Cases in folders, told apart by file names: BraTS of any year, BIDS-like trees, four plain files, flat folders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rarevoxel.cases.model import SEQUENCES, Case, Refusal
from rarevoxel.cases.names import LABEL, case_id, layout_of, parse_name, patient_of
from rarevoxel.errors import InputError
from rarevoxel.volumes import SUFFIXES

TABLE_NAME = "studies.json"
"""The table in a studies folder; a folder that holds one is never searched as raw data."""

NIFTI = (".nii.gz", ".nii")

_DEPTH = 2
_MOST_FILES_LISTED = 8


@dataclass
class Group:
    """The files of one folder that share a prefix.

    Args:
        folder: where they lie.
        prefix: what their names have in common, `""` for plain names.
        files: kind (sequence or `"label"`) -> files found for it.
    """

    folder: Path
    prefix: str
    files: dict[str, list[Path]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The case's name: the prefix, else the folder's name."""
        return self.prefix or self.folder.resolve().name

    @property
    def sequences(self) -> dict[str, Path]:
        """Sequence -> its one file, in canonical order; those missing or ambiguous are left out."""
        return {kind: self.files[kind][0] for kind in SEQUENCES if len(self.files.get(kind, ())) == 1}

    @property
    def twice(self) -> dict[str, list[Path]]:
        """Kind -> its files, of the kinds with more than one."""
        return {kind: files for kind, files in self.files.items() if len(files) > 1}

    @property
    def has_images(self) -> bool:
        """Whether any sequence was found."""
        return any(kind in self.files for kind in SEQUENCES)


def visible(folder: Path) -> list[Path]:
    """Return a folder's entries sorted by name, without hidden ones and macOS `._` companions.

    Raises:
        InputError: if the folder cannot be listed.
    """
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be listed ({error.strerror})", "check the path and its permissions"
        ) from error


def group_files(folder: Path, suffixes: tuple[str, ...] = NIFTI) -> list[Group]:
    """Group the volumes of one folder by prefix; files whose names say nothing are left out.

    A label map whose prefix differs from that of the only images in its folder is taken as theirs (BraTS 2020 holds
    such a case).

    Raises:
        InputError: if the folder cannot be listed.
    """
    groups: dict[str, Group] = {}
    for path in visible(folder):
        if not path.name.lower().endswith(suffixes) or path.is_dir():
            continue
        prefix, kind = parse_name(path)
        if kind is not None:
            groups.setdefault(prefix, Group(folder, prefix)).files.setdefault(kind, []).append(path)
    images = [group for group in groups.values() if group.has_images]
    lone = [group for group in groups.values() if not group.has_images]
    if len(images) != 1:
        return list(groups.values())
    if len(lone) == 1 and LABEL not in images[0].files:
        images[0].files[LABEL] = lone[0].files[LABEL]
    return images


def walk(root: Path, depth: int = _DEPTH) -> Iterator[Group]:
    """Yield the groups of `root` and of the folders in it, `depth` levels down (and BIDS `anat` below that).

    Raises:
        InputError: if a folder cannot be listed.
    """
    yield from group_files(root)
    for entry in visible(root):
        if entry.is_dir() and (depth > 0 or entry.name == "anat") and not (entry / TABLE_NAME).exists():
            yield from walk(entry, depth - 1)


def case_of(group: Group) -> Case | Refusal:
    """Return the case a group makes, or why it makes none: no sequence at all, or one that is there twice."""
    name = case_id(group.name)
    if group.twice:
        return Refusal(name, more_than_one(f"case {name}", group))
    sequences = group.sequences
    if not sequences:
        return Refusal(name, no_sequences(f"case {name}", group.folder))
    label = group.files.get(LABEL, [None])[0]
    return Case(name, patient_of(name), sequences, label=label, layout=layout_of(group.name))


def more_than_one(what: str, group: Group) -> InputError:
    """Return the error for a group with two files for one sequence, naming them."""
    listed = "; ".join(f"{kind}: {', '.join(p.name for p in files)}" for kind, files in group.twice.items())
    msg = f"{what}: more than one file for a sequence in {group.folder}: {listed}; expected one each"
    return InputError(msg, "keep one of them and move the others away")


def no_sequences(what: str, folder: Path) -> InputError:
    """Return the error for a case of which no sequence was found, naming the files there."""
    seen = [p.name for p in visible(folder) if p.name.lower().endswith(SUFFIXES)] if folder.is_dir() else []
    listed = ", ".join(seen[:_MOST_FILES_LISTED]) + (", ..." if len(seen) > _MOST_FILES_LISTED else "")
    msg = f"{what}: sequence {', '.join(SEQUENCES)} is missing; {folder} holds {listed or 'no volumes'}"
    return InputError(msg, "name the files by their sequence (t1, t1c, t2, flair); the best masks need all four")
