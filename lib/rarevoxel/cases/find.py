"""From the one volume a viewer shows back to the four sequences of its case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rarevoxel.cases.dataset_json import CHANNEL_FILE, DATASET_NAME, channel_names, load_description
from rarevoxel.cases.folders import TABLE_NAME, Group, group_files, missing_sequences
from rarevoxel.cases.model import SEQUENCES
from rarevoxel.cases.names import LABEL, parse_name
from rarevoxel.cases.table import load_table
from rarevoxel.errors import InputError
from rarevoxel.volumes import SUFFIXES, volume_stem


def find_sequences(image_path: str | Path) -> Mapping[str, Path]:
    """Find the four sequences of the case that a display volume belongs to.

    Looks in the studies table beside the file, then for siblings by name next to the file, then next to the file
    that a link resolves to (servers hand over resolved paths).

    Args:
        image_path: a volume in a studies folder or a case folder, or a case folder itself (a session of several
            files is one).

    Returns:
        Sequence name -> file, in the order of `SEQUENCES`. The files are not read.

    Raises:
        InputError: if the file is missing, or a sequence is, or a folder holds more than one case.
    """
    path = Path(image_path)
    if path.is_dir():
        return _in_folder(path)
    if not path.exists():
        raise InputError(f"{path}: file is missing", "check the path, and that the disk it is on is mounted")
    most: Mapping[str, Path] = {}
    for found in _candidates(path):
        if len(found) == len(SEQUENCES):
            return {name: found[name] for name in SEQUENCES}
        most = max(most, found, key=len)
    folder = next(iter(most.values())).parent if most else path.parent
    raise missing_sequences(str(path), most, folder)


def _candidates(path: Path) -> Iterator[Mapping[str, Path]]:
    yield _in_table(path)
    yield _siblings(path)
    resolved = path.resolve()
    if resolved != path.absolute():
        yield _siblings(resolved)


def _in_table(path: Path) -> Mapping[str, Path]:
    studies = path.parent
    if not (studies / TABLE_NAME).exists():
        return {}
    study = next((s for s in load_table(studies).values() if s.display == path.name), None)
    files = {} if study is None else {name: studies / file for name, file in study.sequences.items()}
    return {name: file for name, file in files.items() if file.exists()}


def _siblings(path: Path) -> Mapping[str, Path]:
    if not path.name.lower().endswith(SUFFIXES):
        return {}
    prefix, _ = parse_name(path)
    group = next((g for g in group_files(path.parent, SUFFIXES) if g.prefix == prefix), None)
    return group.sequences if group is not None else _channel_siblings(path)


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
        names = ", ".join(group.name for group in complete[:4])
        raise InputError(
            f"{folder}: holds {len(complete)} cases ({names}), expected one", "name one volume of the case"
        )
    if complete:
        return complete[0].sequences
    # The files of one session need not share a prefix.
    together = Group(folder, "")
    for group in groups:
        for kind, files in group.files.items():
            if kind != LABEL:
                together.files.setdefault(kind, []).extend(files)
    if len(together.sequences) < len(SEQUENCES):
        raise missing_sequences(str(folder), together.sequences, folder)
    return together.sequences
