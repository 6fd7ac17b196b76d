"""A stand-in for the pool of worker processes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class InProcess:
    """A pool that runs everything at once where it is."""

    def __init__(self, workers: int, **options: Any) -> None:
        self.workers = workers

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def submit(self, call: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(call(*args))
        except BaseException as error:
            future.set_exception(error)
        return future

    def shutdown(self, **options: Any) -> None:
        pass
