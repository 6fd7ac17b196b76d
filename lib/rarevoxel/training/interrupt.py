"""Requests to stop, turned into an exception, so that a run can say where it was before it ends."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)

GRACE_S = 3.0
"""Seconds a run has to clean up after a request to stop; then the process ends where it is."""


class Interrupted(SystemExit):
    """The process was asked to stop; not caught, it ends the process with 128 + the signal's number, as shells have it.

    Args:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


@contextmanager
def interruptible(grace_s: float = GRACE_S) -> Iterator[None]:
    """Let SIGTERM and SIGINT raise `Interrupted` in the block; does nothing outside the main thread.

    Args:
        grace_s: seconds until the process is ended if the block has not been left.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    timers: list[threading.Timer] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if timers:
            return
        timers.append(threading.Timer(grace_s, os._exit, (128 + number,)))
        timers[0].daemon = True
        timers[0].start()
        raise Interrupted(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        for timer in timers:
            timer.cancel()
