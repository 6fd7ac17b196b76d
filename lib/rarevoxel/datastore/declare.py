"""Saying of labels that are already in a studies folder that they are empty on purpose."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rarevoxel.datastore.history import Record
from rarevoxel.datastore.index import NAME, with_label
from rarevoxel.datastore.store import LabelStore

DECLARED = "declared empty"


def declare_empty(studies: str | Path, cases: Iterable[str], *, tag: str = "final", user: str = "unknown") -> None:
    """Record a version of each label that declares that there is no tumour in it.

    Args:
        studies: the studies folder.
        cases: ids of cases whose label is a `.nii.gz` without a labelled voxel.
        tag: label tag.
        user: who says so.

    Raises:
        UnavailableError: when the folder is locked for too long.
        OSError: when something cannot be read or written.
    """
    store = LabelStore(studies)
    with store.lock:
        for case in cases:
            newest = store.history.newest(case, tag)
            data = store.path(case, tag).read_bytes()
            if newest is not None and newest.empty:
                continue
            record = Record(case, tag, 0, "", user=user, reason=DECLARED, empty=True)
            store.commit(record, data, lambda record: with_label(store.studies / NAME, record))
