"""How this package's errors reach a client: a status and a JSON body instead of a bare 500."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from fastapi import HTTPException

from rarevoxel.errors import RareVoxelError

P = ParamSpec("P")
R = TypeVar("R")


class HttpError(HTTPException):
    """A `RareVoxelError` on its way to a client.

    Args:
        error: what happened; its code, message and hint become the body.
    """

    def __init__(self, error: RareVoxelError) -> None:
        super().__init__(status_code=error.status, detail=error.to_dict())
        self.error = error

    def __str__(self) -> str:
        return str(self.error)


def answering(function: Callable[P, R]) -> Callable[P, R]:
    """Wrap a function the server calls, so that a `RareVoxelError` leaves it as an `HttpError`."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except RareVoxelError as error:
            raise HttpError(error) from error

    return wrapper


def answering_class(cls: type[Any], *methods: str) -> type[Any]:
    """Return a subclass of `cls` whose named methods are `answering`."""
    wrapped = {name: answering(getattr(cls, name)) for name in methods}
    return type(cls.__name__, (cls,), wrapped)
