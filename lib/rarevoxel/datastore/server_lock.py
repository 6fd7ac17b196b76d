"""One server per studies folder: a lock that the kernel frees when the server dies, however it dies."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rarevoxel.clock import utc_now
from rarevoxel.errors import ConflictError

logger = logging.getLogger(__name__)

NAME = ".server.lock"

_NO_LOCKS = (errno.EROFS, errno.EACCES, errno.EPERM)
_held: dict[Path, FileLock] = {}
_guard = threading.Lock()


def take_server_lock(studies: str | Path, port: int | str = "") -> None:
    """Make this process the one server of a folder until it ends; doing it again changes nothing.

    A folder that cannot be written needs no lock: several may read it.

    Args:
        studies: the studies folder.
        port: where the server listens, for the message that a second one gets.

    Raises:
        ConflictError: naming the server that is there.
    """
    path = Path(studies).resolve() / NAME
    with _guard:
        if path in _held:
            return
        # Not local to a thread, and kept here: the host drops an app, and what it owns, when it is told to reload.
        lock = FileLock(path, thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise _taken(path) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            logger.warning("the studies folder cannot be written, so other servers may use it too")
            return
        _held[path] = lock
        content = {"pid": os.getpid(), "host": socket.gethostname(), "port": str(port), "since": utc_now()}
        try:
            path.write_text(json.dumps(content), encoding="utf-8")
        except OSError as error:
            logger.warning("who serves the studies folder could not be noted: %s", error.strerror)


def check_server_lock(studies: str | Path) -> None:
    """Raise if another process serves a folder, before anything slow is done.

    Raises:
        ConflictError: naming the server that is there.
    """
    path = Path(studies).resolve() / NAME
    if path in _held or not path.exists():
        return
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=False)
        lock.release()
    except Timeout as error:
        raise _taken(path) from error
    except OSError:
        return


def release_server_lock(studies: str | Path) -> None:
    """Let another process serve a folder; without it the lock ends with the process."""
    with _guard:
        lock = _held.pop(Path(studies).resolve() / NAME, None)
        if lock is not None:
            lock.release()


def _taken(path: Path) -> ConflictError:
    about = _read(path)
    who = f"process {about['pid']} on {about.get('host')}, port {about.get('port')}" if "pid" in about else "a process"
    since = f", since {about['since']}" if "since" in about else ""
    hint = "use that server, or stop it first" + (f": kill {about['pid']}" if "pid" in about else "")
    return ConflictError(f"another server uses this studies folder already: {who}{since}", hint)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
