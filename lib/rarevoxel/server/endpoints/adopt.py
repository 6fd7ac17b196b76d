"""The host's own endpoints, which are declared `async` and block: made plain, so that they run in worker threads."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute


def plain(endpoint: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    """Return an `async` endpoint that never waits as a plain function with the same signature.

    Raises:
        RuntimeError: when called, if the endpoint does wait for something.
    """

    def run(**arguments: Any) -> Any:
        coroutine = endpoint(**arguments)
        try:
            coroutine.send(None)
        except StopIteration as done:
            return done.value
        coroutine.close()
        raise RuntimeError(f"{endpoint.__name__} waits for something, which a plain function cannot")

    run.__name__, run.__doc__ = endpoint.__name__, endpoint.__doc__
    # Not functools.wraps: FastAPI looks through its mark and would call this on the event loop after all.
    run.__signature__ = inspect.signature(endpoint)  # type: ignore[attr-defined]
    return run


def pairs(router: APIRouter) -> set[tuple[str, str]]:
    """Return method and path of every route of a router."""
    routes = (route for route in router.routes if isinstance(route, APIRoute))
    return {(method, route.path) for route in routes for method in route.methods or ()}


def adopt(app: FastAPI, router: APIRouter, wanted: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Add routes of a host's router to an application.

    Args:
        app: receives them.
        router: of the host.
        wanted: method and path of the routes to take.

    Returns:
        Those that were found.
    """
    found: set[tuple[str, str]] = set()
    for route in router.routes:
        if not isinstance(route, APIRoute):
            continue
        taken = {(method, route.path) for method in route.methods or ()} & wanted
        for method, path in sorted(taken):
            app.add_api_route(path, plain(route.endpoint), methods=[method], tags=route.tags, summary=route.summary)
        found |= taken
    return found
