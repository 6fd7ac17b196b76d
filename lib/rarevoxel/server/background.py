"""The host's background processes (training, scoring, batch inference): they end with their server and give way to it.

The host starts each as `python -m monailabel.interfaces.utils.app`, from a thread of the server, and forgets it when
the server goes. Here the server names itself in the environment, every such process watches it, and a server that is
asked to stop asks them first.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any

import psutil
from monailabel.utils.async_tasks import utils as host_tasks

logger = logging.getLogger(__name__)

SERVER_PID = "RAREVOXEL_SERVER_PID"
"""Environment variable by which background processes know their server."""

NICENESS = 10
"""What background processes add to their niceness, so that serving stays quick."""

GRACE_S = 5.0
"""Seconds background processes have to end by themselves when the server stops."""

_HOST_MODULE = "monailabel.interfaces.utils.app"
_CHECK_S = 0.25
_ORPHAN_GRACE_S = 1.0
_PR_SET_PDEATHSIG = 1


def is_background() -> bool:
    """Return whether this process is one that the host runs in the background."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name == _HOST_MODULE


def follow_server() -> None:
    """Give way to the server and end when it does; does nothing outside a background process of a server.

    To be called as early as possible. A process whose server is gone gets SIGTERM, as from a user, and is ended a
    second later if that was not enough.
    """
    if is_background():
        follow()


def follow() -> None:
    """Do what `follow_server` does in a process that this package starts for its server; nothing without a server."""
    server = os.environ.get(SERVER_PID, "")
    if not server.isdigit():
        return
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    _ask_for_signal()
    threading.Thread(target=_watch, args=(int(server),), name="watch-server", daemon=True).start()


def stop_with_server() -> None:
    """Let background processes know this server, and end them before it ends; for the server's own process.

    SIGTERM and SIGINT reach what handles them now (the host's web server) after the background processes have been
    asked to end; those that have not after `GRACE_S` seconds are killed.
    """
    os.environ[SERVER_PID] = str(os.getpid())
    do_before_stopping(end_background)


def do_before_stopping(action: Callable[[], object]) -> None:
    """Let the first SIGTERM or SIGINT begin something before it reaches what handles it now.

    Does nothing outside the main thread, where signals cannot be handled, and for a signal that nothing handles.

    Args:
        action: done in a thread of its own, once. A signal finds the main thread anywhere, perhaps with a lock that the
            action needs, or within the action itself when a second signal comes at once, as it does from `make` and
            its process group.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    first = iter((True,))
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)
        if callable(before):
            signal.signal(number, partial(_act_first, action, first, before))


def _act_first(
    action: Callable[[], object],
    first: Iterator[bool],
    before: Callable[[int, FrameType | None], Any],
    received: int,
    frame: FrameType | None,
) -> None:
    if next(first, False):
        threading.Thread(target=action, name="before-stopping", daemon=False).start()
    before(received, frame)


def end_background(grace_s: float = GRACE_S) -> None:
    """End the host's background processes and forget what waits to be one.

    Args:
        grace_s: seconds between asking and killing.
    """
    for executor in list(host_tasks.background_executors.values()):
        executor.shutdown(wait=False, cancel_futures=True)
    running = [process for table in list(host_tasks.background_processes.values()) for process in list(table.values())]
    for process in running:
        logger.info("asking background process %d to end", process.pid)
        with contextlib.suppress(OSError):
            process.terminate()
    deadline = time.monotonic() + grace_s
    while any(_is_running(process.pid) for process in running) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in running:
        if _is_running(process.pid):
            logger.warning("background process %d did not end within %.0f s and is killed", process.pid, grace_s)
            with contextlib.suppress(OSError):
                process.kill()


def _is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _watch(server: int) -> None:
    while not _is_orphan(server):
        time.sleep(_CHECK_S)
    logger.warning("the server %d is gone, so this process ends", server)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_ORPHAN_GRACE_S)
    os._exit(128 + signal.SIGTERM)


def _is_orphan(server: int) -> bool:
    # Where processes are given to another parent (POSIX), that is enough; elsewhere the parent's number stays.
    return os.getppid() != server or not psutil.pid_exists(server)


def _ask_for_signal() -> None:
    """Let Linux send SIGTERM when the thread of the server that started this process ends, so with the server."""
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        library: Any = ctypes.CDLL(None)
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
