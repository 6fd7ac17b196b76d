"""The stats of a run as clients read them: running, done, failed or interrupted, however the process ends."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from filelock import FileLock, Timeout

from rarevoxel.errors import BusyError, RareVoxelError, storage_error
from rarevoxel.training.interrupt import interruptible
from rarevoxel.training.json_file import write_json
from rarevoxel.volumes import remove_temporaries

logger = logging.getLogger(__name__)

_SAME_START_S = 5.0
"""Seconds by which two readings of one process's start may differ: it is reckoned from the clock, which may be set."""


class RunStats:
    """Keeps the stats file of a model while a run is under way.

    On leaving the context, the file says how the run ended; what was known before stays in it. SIGTERM and SIGINT
    leave the context by `Interrupted`. A file that cannot be written does not end a run.

    Args:
        path: the stats file.
        known: what is known at the start.

    Raises:
        BusyError: on entering, when another process trains the model.
    """

    def __init__(self, path: Path, known: Mapping[str, Any]) -> None:
        self.path = path
        self.known = dict(known)
        self._leaving = ExitStack()

    def __enter__(self) -> RunStats:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._leaving.enter_context(FileLock(self.path.with_name(".train.lock"), timeout=0, is_singleton=False))
        except Timeout:
            pid = read_stats(self.path).get("pid", "unknown")
            msg = f"a training of {self.path.parent.name} is under way already (process {pid})"
            raise BusyError(msg, "wait for it, or stop it") from None
        remove_temporaries(self.path.parent)
        self._leaving.enter_context(interruptible())
        self.write(self.known)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._leaving:
            if isinstance(error, Exception):
                self._save({**self.known, "status": "failed", "error": error_dict(error)})
            elif error is not None:
                self._save(interrupted(self.known))

    def write(self, content: Mapping[str, Any]) -> None:
        """Replace the stats by those of a run under way."""
        self.known = dict(content)
        started = psutil.Process().create_time()
        self._save({**self.known, "status": "running", "pid": os.getpid(), "process_started": started})

    def done(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the stats by those of a finished run, and return them."""
        final = {**content, "status": "done"}
        self._save(final)
        return final

    def _save(self, content: Mapping[str, Any]) -> None:
        try:
            write_json(self.path, content)
        except OSError as error:
            logger.warning("%s", storage_error(error, f"{self.path.name} could not be written").message)


def read_stats(path: Path) -> dict[str, Any]:
    """Return the stats of the last run.

    A run whose process is gone without a word (`kill -9`, a power cut) is shown as interrupted.

    Args:
        path: the stats file.

    Returns:
        Empty before the first run; a `warning` when the file cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        return {"warning": f"{path.name} cannot be read ({type(error).__name__}); the next training rewrites it"}
    if not isinstance(content, dict):
        return {"warning": f"{path.name} does not hold stats"}
    if content.get("status") == "running" and not _is_alive(content.get("pid"), content.get("process_started")):
        return interrupted(content)
    return content


def interrupted(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stats of an interrupted run from its last ones, with a `note` for people."""
    kept = {key: value for key, value in content.items() if key not in ("pid", "process_started", "status")}
    epoch, total, saved = (kept.get(key, 0) for key in ("epoch", "total_epochs", "checkpoint_epoch"))
    when = f"after epoch {epoch} of {total}" if total else "before its first epoch"
    then = f"goes on after epoch {saved}" if saved else "begins anew"
    return {**kept, "status": "interrupted", "note": f"interrupted {when}; the next training of the same {then}"}


def error_dict(error: Exception) -> dict[str, object]:
    """Return an error as clients see it: code, message and hint; no paths of files that could not be used."""
    if isinstance(error, RareVoxelError):
        return error.to_dict()
    if isinstance(error, OSError):
        return storage_error(error, "training").to_dict()
    if isinstance(error, MemoryError):
        hint = "take a smaller batch_size or patches_per_case, or give the server more memory"
        return {"code": "memory", "message": "training: not enough memory", "hint": hint}
    message = f"training: unexpected {type(error).__name__}"
    return {"code": "internal", "message": message, "hint": "the server log has the details; please report it"}


def _is_alive(pid: Any, started: Any) -> bool:
    if not isinstance(pid, int) or not isinstance(started, (int, float)) or pid <= 0:
        return False
    try:
        process = psutil.Process(pid)
        return bool(process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - started) < _SAME_START_S)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
