"""Request bodies: counted while they stream in, and not waited for without end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from rarevoxel.errors import MalformedError, RareVoxelError, TooLargeError
from rarevoxel.server.guard.config import MIB, GuardConfig

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

SMALL = MIB
"""Largest body of JSON and of plain forms, in bytes."""
HEADERS = 32 * 1024
"""Largest sum of all header names and values, in bytes."""
GRACE = 60.0
"""Seconds after which a body has to have arrived at `SLOWEST` bytes a second on average."""
SLOWEST = 1024
DRAINED = 32 * MIB
"""Most bytes, and `DRAIN_SECONDS` the most seconds, that are still taken from a client that is refused."""
DRAIN_SECONDS = 10.0


class SlowClientError(RareVoxelError):
    """A client that stopped sending in the middle of a body."""

    code = "timeout"
    status = 408


def body_limit(kind: str, config: GuardConfig) -> int:
    """Return the largest body of a kind of request in bytes; uploads have room for the form around the file."""
    return {"label": config.label_mib * MIB + SMALL, "image": config.image_mib * MIB + SMALL}.get(kind, SMALL)


class Body:
    """The `receive` of an ASGI request with a limit on bytes and on patience.

    Args:
        receive: the server's own.
        limit: bytes.
        idle: seconds without a byte.

    Attributes:
        error: why the body was not taken; the inner application sees an exception it may take for something else.
        gone: whether the client has hung up.
    """

    def __init__(self, receive: Receive, limit: int, idle: float) -> None:
        self._receive, self._limit, self._idle = receive, limit, idle
        self._count = 0
        self._started = time.monotonic()
        self.done = False
        self.gone = False
        self.error: RareVoxelError | None = None

    def check_length(self, header: str) -> None:
        """Raise at once if the `Content-Length` is more than the limit.

        Raises:
            TooLargeError: with both sizes.
            MalformedError: for what is no length.
        """
        if header and not (header.isascii() and header.isdigit() and len(header) <= 18):
            raise MalformedError("Content-Length is not a number")
        if header and int(header) > self._limit:
            raise self._too_large(int(header))

    async def receive(self) -> Message:
        """Return the next message.

        Raises:
            TooLargeError: when more bytes have come than the limit.
            SlowClientError: when none came for too long, or too few.
        """
        if self.done or self.gone:
            return await self._receive()
        if self.error is not None:
            raise self.error
        try:
            message = await asyncio.wait_for(self._receive(), self._idle)
        except asyncio.TimeoutError:
            raise self._slow(f"nothing came for {self._idle:g} s in the middle of the request body") from None
        if message["type"] == "http.disconnect":
            self.gone = True
            return message
        self._count += len(message.get("body", b""))
        self.done = not message.get("more_body", False)
        if self._count > self._limit:
            raise self._too_large(None)
        elapsed = time.monotonic() - self._started
        if not self.done and elapsed > GRACE and self._count < elapsed * SLOWEST:
            raise self._slow(f"the request body came at less than {SLOWEST} bytes a second")
        return message

    async def drain(self, length: str) -> bool:
        """Take and forget what is left of a body, so that the client gets to read why it is refused.

        Many clients read nothing before they have sent everything, and over TLS an early answer even breaks the
        connection.

        Args:
            length: the `Content-Length`; a body that will be too much in any case is not begun with.

        Returns:
            Whether the body is at its end, so that the connection can go on.
        """
        more = int(length) - self._count if length.isdigit() else 0
        if isinstance(self.error, SlowClientError) or more > DRAINED:
            return False
        left, until = DRAINED, time.monotonic() + DRAIN_SECONDS
        while not self.done and not self.gone:
            patience = min(self._idle, until - time.monotonic())
            if left <= 0 or patience <= 0:
                return False
            try:
                message = await asyncio.wait_for(self._receive(), patience)
            except asyncio.TimeoutError:
                return False
            left -= len(message.get("body", b""))
            self.gone = message["type"] == "http.disconnect"
            self.done = not message.get("more_body", False)
        return not self.gone

    def _too_large(self, size: int | None) -> TooLargeError:
        found = f"has {size} bytes" if size is not None else f"has more than {self._limit} bytes"
        self.error = TooLargeError(
            f"the request body {found}, expected at most {self._limit}",
            "compress the volume, or raise --limit-label or --limit-image of the server",
        )
        return self.error

    def _slow(self, message: str) -> SlowClientError:
        self.error = SlowClientError(message, "send it again; for slow networks raise --limit-idle of the server")
        return self.error
