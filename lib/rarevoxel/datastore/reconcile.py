"""What a studies folder holds, and the index that says so."""

from __future__ import annotations

import fnmatch
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from monailabel.datastore.local import DataModel, ImageLabelModel

from rarevoxel.datastore.history import Record, index_info

logger = logging.getLogger(__name__)


class Listing(NamedTuple):
    """Volumes by the case they are of.

    Attributes:
        images: case id -> suffix of the display volume.
        labels: tag -> case id -> suffix of the label.
        times: of labels, `(case, tag)` -> modification time in s.
    """

    images: Mapping[str, str]
    labels: Mapping[str, Mapping[str, str]]
    times: Mapping[tuple[str, str], int]


def list_folder(studies: Path, labels: str, patterns: Sequence[str]) -> Listing:
    """List the volumes of a studies folder; links that lead nowhere are left out.

    Args:
        studies: the studies folder.
        labels: name of the folder of labels in it.
        patterns: of file names; where a case has several files, the earliest pattern wins.

    Raises:
        OSError: when a folder cannot be listed.
    """
    root = studies / labels
    tags = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    found = {tag.name: _volumes(tag, patterns) for tag in tags}
    times = {
        (case, tag): int((root / tag / f"{case}{suffix}").stat().st_mtime)
        for tag, cases in found.items()
        for case, suffix in cases.items()
    }
    return Listing(_volumes(studies, patterns), found, times)


def reconciled(
    objects: Mapping[str, ImageLabelModel], listing: Listing, settled: Mapping[tuple[str, str], Record]
) -> dict[str, ImageLabelModel]:
    """Return what the index should say.

    Args:
        objects: what it says.
        listing: what there is.
        settled: the valid versions of labels that were looked at.
    """
    cases = [case for case in objects if case in listing.images]
    cases += sorted(set(listing.images) - set(cases))
    result: dict[str, ImageLabelModel] = {}
    for case in cases:
        entry, suffix = objects.get(case), listing.images[case]
        image = DataModel(info={"ts": int(time.time()), "name": f"{case}{suffix}"}, ext=suffix)
        if entry is not None and entry.image.ext == suffix:
            image = entry.image
        labels: dict[str, DataModel] = {}
        for tag, found in listing.labels.items():
            if case in found:
                old = entry.labels.get(tag) if entry else None
                labels[tag] = _label(case, found[case], old, settled.get((case, tag)), listing.times[case, tag])
        order = [*(entry.labels if entry else ()), *labels]
        result[case] = ImageLabelModel(image=image, labels={tag: labels[tag] for tag in order if tag in labels})
    strays = {case for found in listing.labels.values() for case in found} - set(result)
    if strays:
        logger.debug("%d labels belong to no case", len(strays))
    return result


def _label(case: str, suffix: str, old: DataModel | None, record: Record | None, seconds: int) -> DataModel:
    name = f"{case}{suffix}"
    if record is not None and (old is None or old.info.get("sha256") != record.sha256):
        return DataModel(info={**index_info(record), "name": name}, ext=suffix)
    if old is not None and old.ext == suffix:
        if record is None or old.info.get("version") == record.version:
            return old
        return DataModel(info={**old.info, "version": record.version}, ext=suffix)
    return DataModel(info={"ts": seconds, "name": name}, ext=suffix)


def _volumes(folder: Path, patterns: Sequence[str]) -> dict[str, str]:
    suffixes = [pattern.lstrip("*") for pattern in patterns]
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
    found: dict[str, str] = {}
    for pattern, suffix in zip(patterns, suffixes, strict=True):
        for name in fnmatch.filter(names, pattern):
            # A later pattern may match more of the names that an earlier one has matched (*.nii.gz and *.gz).
            longest = max((s for s in suffixes if name.endswith(s)), key=len, default=suffix)
            if longest == suffix:
                found.setdefault(name.removesuffix(suffix), suffix)
    return found
