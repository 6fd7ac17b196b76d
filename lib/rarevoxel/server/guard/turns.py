"""Inferences take turns: one at a time, a few may wait, the rest are told when to come again."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from rarevoxel.errors import BusyError, UnavailableError

_FIRST_GUESS = 5.0
_LONGEST = 600


class QueueFullError(BusyError):
    """More inferences wait than the server lets wait."""

    code = "queue_full"
    retry_after = _FIRST_GUESS


class Turns:
    """A bounded queue in front of one device.

    To be used from one event loop.

    Args:
        depth: how many may wait while one runs.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.waiting = 0
        self.running = 0
        self.closed = False
        self._lock = asyncio.Lock()
        self._seconds: deque[float] = deque(maxlen=20)

    def close(self) -> None:
        """Let nobody in any more: the server is shutting down. Whoever waits is told so when the turn comes."""
        self.closed = True

    def retry_after(self) -> float:
        """Return in how many seconds a new request would find the queue empty, by the median of recent durations."""
        typical = statistics.median(self._seconds) if self._seconds else _FIRST_GUESS
        return float(min(_LONGEST, max(1, math.ceil(typical * (self.waiting + self.running)))))

    @asynccontextmanager
    async def turn(self, left: Callable[[], Awaitable[bool]] | None = None) -> AsyncIterator[None]:
        """Wait for a turn and hold it.

        Args:
            left: says whether whoever asked has hung up meanwhile.

        Raises:
            QueueFullError: when the queue is full; `retry_after` says in how many seconds to come again.
            UnavailableError: when the server is shutting down, or whoever asked has left.
        """
        self._check_open()
        if self._lock.locked() and self.waiting >= self.depth:
            error = QueueFullError(f"{self.waiting} inferences wait already", "come again after Retry-After seconds")
            error.retry_after = self.retry_after()
            raise error
        self.waiting += 1
        try:
            await self._lock.acquire()
        finally:
            self.waiting -= 1
        try:
            self._check_open()
            if left is not None and await left():
                raise UnavailableError("the client has left before its turn came")
            self.running = 1
            started = time.monotonic()
            yield
            self._seconds.append(time.monotonic() - started)
        finally:
            self.running = 0
            self._lock.release()

    def _check_open(self) -> None:
        if self.closed:
            raise UnavailableError("the server is shutting down", "come again when it is up")
