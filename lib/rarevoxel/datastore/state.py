"""The state of a studies folder: there or not, writable or not, and what its operator should know."""

from __future__ import annotations

import errno
import logging
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path

from rarevoxel.datastore.index import NAME
from rarevoxel.datastore.staged import SUFFIX
from rarevoxel.errors import UnavailableError

logger = logging.getLogger(__name__)

_NOT_ALLOWED = (errno.EROFS, errno.EACCES, errno.EPERM)


class FolderState:
    """What was last found out about a folder.

    Args:
        studies: the studies folder.
        never_write: treat it as read-only whatever it is.
    """

    def __init__(self, studies: Path, never_write: bool) -> None:
        self.studies = studies
        self.read_only = never_write
        self._never_write = never_write
        self._warnings: dict[str, str] = {}
        self._absent = False
        self._looking = threading.Lock()

    @property
    def warnings(self) -> list[str]:
        """What the operator should know, a sentence each."""
        return list(self._warnings.values())

    def warn(self, key: str, message: str) -> None:
        """Say something until `forget`; it is logged when it is new."""
        if self._warnings.get(key) != message:
            logger.warning("%s", message)
        self._warnings[key] = message

    def forget(self, key: str) -> None:
        """Take a warning back."""
        self._warnings.pop(key, None)

    def writable(self) -> bool:
        """Find out whether the folder can be written, and leave or enter the read-only mode.

        A full disk can be written: that passes.
        """
        if self._never_write:
            return False
        probe = self.studies / f".{uuid.uuid4().hex}{SUFFIX}"
        try:
            probe.touch(exist_ok=False)
            probe.unlink(missing_ok=True)
        except OSError as error:
            if self.refused(error):
                return False
        if self.read_only:
            logger.warning("the studies folder can be written again")
            self.read_only = False
            self.forget("read_only")
        return True

    def refused(self, error: OSError) -> bool:
        """Enter the read-only mode if an error says that nothing may be written; returns whether it does."""
        if error.errno not in _NOT_ALLOWED:
            return False
        self.read_only = True
        self.warn("read_only", f"the studies folder cannot be written ({reason(error)}): labels cannot be saved")
        return True

    def look(self, displays: Mapping[str, str]) -> tuple[bool, bool]:
        """Find out whether the folder is there; an empty one where cases were is the place of a lost mount.

        Args:
            displays: case id -> suffix of its display volume, as known.

        Returns:
            Whether it is there, and whether it was not when last looked for.
        """
        try:
            there = self.studies.is_dir() and (
                not displays
                or (self.studies / NAME).exists()
                or any((self.studies / f"{case}{suffix}").exists() for case, suffix in displays.items())
            )
        except OSError:
            there = False
        with self._looking:
            was_absent, self._absent = self._absent, not there
        if there and was_absent:
            logger.warning("the studies folder is there again")
            self.forget("folder")
        elif not there:
            self.warn("folder", "the studies folder is not there: what is shown is from memory, nothing can be saved")
        return there, there and was_absent

    def check_writable(self, what: str) -> None:
        """Raise in read-only mode, unless the folder can be written by now.

        Raises:
            UnavailableError: naming `what` was to be done.
        """
        if self.read_only and not self.writable():
            raise UnavailableError(f"{what}: the studies folder is read-only", "make it writable, then retry")


def reason(error: BaseException) -> str:
    """Return why something failed, without a path."""
    return getattr(error, "strerror", None) or getattr(error, "message", None) or type(error).__name__
