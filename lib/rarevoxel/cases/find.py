"""From the one volume a viewer shows back to the sequences of its case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rarevoxel.cases.dataset_json import CHANNEL_FILE, DATASET_NAME, channel_names, load_description
from rarevoxel.cases.folders import TABLE_NAME, Group, group_files, more_than_one, no_sequences
from rarevoxel.cases.model import SEQUENCES
from rarevoxel.cases.names import LABEL, parse_name
from rarevoxel.cases.table import load_table
from rarevoxel.errors import InputError
from rarevoxel.volumes import SUFFIXES, volume_stem


def find_sequences(image_path: str | Path) -> Mapping[str, Path]:
    """Find the sequences of the case that a display volume belongs to: all four, or as many as there are.

    Looks in the studies table beside the file, then for siblings by name next to the file, then next to the file
    that a link resolves to (servers hand over resolved paths). The first place with all four wins. Where none has,
    the table decides, and every file it lists must be there: one that is lost (a disk that is not mounted) is a
    fault, one that the case was prepared without is not. A file that is in no table is taken with what lies beside it.

    Args:
        image_path: a volume in a studies folder or a case folder, or a case folder itself (a session of several
            files is one).

    Returns:
        Sequence name -> file, at least one, in the order of `SEQUENCES`. The files are not read.

    Raises:
        InputError: if the file is missing, a listed sequence is, no sequence is found, one is there twice, or a folder
            holds more than one case.
    """
    path = Path(image_path)
    if path.is_dir():
        return _in_folder(path)
    if not path.exists():
        raise InputError(f"{path}: file is missing", "check the path, and that the disk it is on is mounted")
    listed = _in_table(path)
    if listed and all(file.exists() for file in listed.values()):
        return listed
    most: Mapping[str, Path] = {}
    for found in _beside(path):
        if len(found) == len(SEQUENCES):
            return {name: found[name] for name in SEQUENCES}
        most = max(most, found, key=len)
    if listed:
        raise _lost(path, listed)
    if not most:
        raise no_sequences(str(path), path.parent)
    return {name: most[name] for name in SEQUENCES if name in most}


def _in_table(path: Path) -> Mapping[str, Path]:
    studies = path.parent
    if not (studies / TABLE_NAME).exists():
        return {}
    study = next((s for s in load_table(studies).values() if s.display == path.name), None)
    if study is None:
        return {}
    return {name: studies / study.sequences[name] for name in SEQUENCES if name in study.sequences}


def _lost(path: Path, listed: Mapping[str, Path]) -> InputError:
    gone = {name: file for name, file in listed.items() if not file.exists()}
    files = ", ".join(f"{file.parent.name}/{file.name}" for file in gone.values())
    msg = f"{path}: sequence {', '.join(gone)} is missing; {TABLE_NAME} lists {files}, which cannot be found"
    return InputError(msg, "mount the disk it is on, or run rarevoxel prepare again with --force to go without it")


def _beside(path: Path) -> Iterator[Mapping[str, Path]]:
    yield _siblings(path)
    resolved = path.resolve()
    if resolved != path.absolute():
        yield _siblings(resolved)


def _siblings(path: Path) -> Mapping[str, Path]:
    if not path.name.lower().endswith(SUFFIXES):
        return {}
    prefix, _ = parse_name(path)
    group = next((g for g in group_files(path.parent, SUFFIXES) if g.prefix == prefix), None)
    if group is None:
        return _channel_siblings(path)
    return _sequences(group, str(path))


def _sequences(group: Group, what: str) -> Mapping[str, Path]:
    # Of two files for a sequence neither may be left out in silence now that a case need not be complete.
    if set(group.twice) & set(SEQUENCES):
        raise more_than_one(what, group)
    return group.sequences


def _channel_siblings(path: Path) -> Mapping[str, Path]:
    match = CHANNEL_FILE.match(volume_stem(path))
    root = path.parent.parent
    if match is None or not (root / DATASET_NAME).is_file():
        return {}
    suffix = path.name[len(volume_stem(path)) :]
    channels = channel_names(load_description(root), root)
    files = {name: path.with_name(f"{match['case']}_{i:04d}{suffix}") for i, name in enumerate(channels) if name}
    return {name: file for name, file in files.items() if file.exists()}


def _in_folder(folder: Path) -> Mapping[str, Path]:
    groups = [group for group in group_files(folder, SUFFIXES) if group.has_images]
    complete = [group for group in groups if len(group.sequences) == len(SEQUENCES)]
    if len(complete) > 1:
        raise _many(folder, complete)
    if complete:
        return complete[0].sequences
    # The files of one session need not share a prefix.
    together = Group(folder, "")
    for group in groups:
        for kind, files in group.files.items():
            if kind != LABEL:
                together.files.setdefault(kind, []).extend(files)
    if len(together.sequences) == len(SEQUENCES):
        return together.sequences
    if not groups:
        raise no_sequences(str(folder), folder)
    if len(groups) > 1:  # Files of two patients must never be taken for one case with gaps.
        raise _many(folder, groups)
    return _sequences(groups[0], str(folder))


def _many(folder: Path, groups: list[Group]) -> InputError:
    names = ", ".join(group.name for group in groups[:4])
    return InputError(f"{folder}: holds {len(groups)} cases ({names}), expected one", "name one volume of the case")
