"""What several endpoints ask of a request."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request

from rarevoxel.errors import MalformedError
from rarevoxel.server.guard.middleware import OPEN, USER


def user_of(request: Request) -> str:
    """Return the name of the token a request came with; `""` on a server without tokens."""
    return str(request.scope.get(USER, ""))


def is_open(request: Request) -> bool:
    """Say whether the server needs no tokens, so that only this machine reaches it."""
    return bool(request.scope.get(OPEN, True))


def told(request: Request, values: dict[str, Any]) -> dict[str, Any]:
    """Return what may be told about a case: where it lies on disk only if nobody but this machine asks."""
    return values if is_open(request) else {key: value for key, value in values.items() if key != "path"}


def body_object(body: Any) -> dict[str, Any]:
    """Return a JSON body as an object; nothing counts as an empty one.

    Raises:
        MalformedError: for a list, a text or a number.
    """
    if body is None:
        return {}
    if not isinstance(body, dict):
        raise MalformedError(
            f"the body is of type {type(body).__name__}, expected a JSON object", "send application/json"
        )
    try:
        json.dumps(body)
    except RecursionError as error:
        raise MalformedError("the body is nested too deeply", "send a flat JSON object") from error
    return body
