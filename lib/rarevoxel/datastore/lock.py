"""One lock over a studies folder, for the threads of a process and for all processes alike."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from types import TracebackType

from filelock import BaseFileLock, FileLock, Timeout

from rarevoxel.errors import UnavailableError

NAME = ".lock"
"""The file that is locked; the host's own datastore locks the same one."""

_TIMEOUT_S = 30.0
_POLL_S = 0.005


class FolderLock:
    """Reentrant: a thread that holds it may take it again. The kernel frees it when a process dies.

    Args:
        folder: the studies folder.
        timeout: seconds to wait for another process or thread.
    """

    def __init__(self, folder: str | Path, timeout: float = _TIMEOUT_S) -> None:
        self._folder = Path(folder)
        self._timeout = timeout
        self._threads = threading.RLock()
        self._depth = 0
        self._file: BaseFileLock | None = None

    def __enter__(self) -> FolderLock:
        """Wait for the lock.

        Raises:
            UnavailableError: when somebody else keeps it for longer than the timeout.
            OSError: when the folder is missing or its lock file cannot be opened.
        """
        if not self._threads.acquire(timeout=self._timeout):
            raise _taken(self._timeout)
        try:
            if self._depth == 0:
                self._acquire()
            self._depth += 1
        except BaseException:
            self._threads.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._depth -= 1
            if self._depth == 0 and self._file is not None:
                self._file.release()
        finally:
            self._threads.release()

    def _acquire(self) -> None:
        if not self._folder.is_dir():
            # Without this check the lock would make the folder anew, on the disk below a lost mount.
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._folder))
        # Made anew each time, because one that was made before a fork cannot be used after it. It is only touched by
        # the thread that holds the other lock.
        self._file = FileLock(self._folder / NAME, timeout=self._timeout, thread_local=False, poll_interval=_POLL_S)
        try:
            self._file.acquire()
        except Timeout as error:
            raise _taken(self._timeout) from error


def _taken(seconds: float) -> UnavailableError:
    msg = f"the studies folder has been locked by another process for {seconds:g} s"
    return UnavailableError(msg, "try again; if it lasts, look for a stopped process that uses the folder")
