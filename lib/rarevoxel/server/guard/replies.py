"""What goes back: one form of error, and headers that keep browsers from guessing, framing and storing."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from rarevoxel.errors import RareVoxelError, UnauthorizedError

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

SECURITY: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
]


def error_headers(error: Exception) -> dict[str, str]:
    """Return the headers that belong to an error: how to authenticate, when to come again."""
    found = {}
    if isinstance(error, UnauthorizedError):
        found["WWW-Authenticate"] = "Bearer"
    retry = getattr(error, "retry_after", None)
    if retry is None and getattr(error, "status", 0) in (503, 507):
        retry = 10.0
    if retry is not None:
        found["Retry-After"] = str(int(retry))
    return found


def json_reply(status: int, content: object, more: dict[str, str] | None = None) -> tuple[Message, Message]:
    """Return the two ASGI messages of a JSON reply."""
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode("latin-1")) for name, value in (more or {}).items()]
    return (
        {"type": "http.response.start", "status": status, "headers": headers},
        {"type": "http.response.body", "body": body},
    )


def error_reply(
    error: RareVoxelError, clean: Callable[[Any], Any], more: dict[str, str] | None = None
) -> tuple[Message, Message]:
    """Return the two ASGI messages of an error.

    Args:
        error: what happened.
        clean: takes paths out of its words.
        more: further headers.
    """
    return json_reply(error.status, {"error": clean(error.to_dict())}, {**error_headers(error), **(more or {})})
