"""Display volumes that come and go: what is replaced or removed stays in the history."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rarevoxel.cases import SEQUENCES
from rarevoxel.cases.table import load_table, save_table
from rarevoxel.datastore.history import IMAGE, History, Record
from rarevoxel.datastore.staged import Staged, make_folder
from rarevoxel.volumes import file_sha256, volume_suffix

UPLOADED = "uploaded"


def keep_image(history: History, case: str, image: Path, reason: str, user: str) -> None:
    """Give a display volume a second name in the history; of a link, what it points to is written down.

    Raises:
        OSError: when it cannot be kept.
    """
    number = history.next_number(case, IMAGE)
    link = str(image.readlink()) if image.is_symlink() else ""
    kept = history.folder(case, IMAGE) / f"{number:06d}{volume_suffix(image)}"
    make_folder(kept.parent)
    if not link:
        try:
            os.link(image, kept)
        except OSError:
            shutil.copyfile(image, kept)  # A file system without links.
    sha = "" if link else file_sha256(kept)
    record = Record(case, IMAGE, number, sha, user=user, reason=reason, info={"link": link} if link else {})
    with Staged() as staged:
        staged.replace(history.record_file(case, IMAGE, number), record.to_json())
        staged.commit()


@contextmanager
def copied(source: Path, target: Path) -> Iterator[Path]:
    """Copy a large file beside its target before the lock is taken; the copy is gone afterwards unless it was used."""
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with source.open("rb") as read, temporary.open("xb") as write:
            shutil.copyfileobj(read, write, 1 << 20)
            write.flush()
            os.fsync(write.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def enter_upload(studies: Path, case: str, display: str) -> None:
    """Let the table of prepared cases name the uploaded volume, so that nobody takes the old sequences for this case.

    Raises:
        InputError: when the table is torn.
        OSError: when it cannot be written.
    """
    table = load_table(studies)
    if case in table:
        sequences = dict.fromkeys(SEQUENCES, display)
        save_table(
            studies, {**table, case: replace(table[case], sequences=sequences, display=display, source=UPLOADED)}
        )
