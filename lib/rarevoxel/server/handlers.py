"""Every error of an endpoint as JSON with a code, a message and a hint, and without a path."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException, MONAILabelException
from starlette.exceptions import HTTPException

from rarevoxel.errors import (
    MalformedError,
    NotFoundError,
    RareVoxelError,
    RequestError,
    UnavailableError,
    storage_error,
)
from rarevoxel.server.guard.replies import error_headers
from rarevoxel.server.http import HttpError

logger = logging.getLogger(__name__)


class _HttpStatusError(RareVoxelError):
    """A status the host answers with, and its words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, f"http_{status}"


class _HostError(RequestError):
    """What the host refuses."""

    code = "host"


class _InternalError(RareVoxelError):
    """What nobody foresaw."""

    code = "internal"


def add_handlers(app: FastAPI) -> None:
    """Have an application answer every error in our form."""
    for kind, handler in (
        (HTTPException, _on_http_error),
        (RequestValidationError, _on_invalid),
        (RareVoxelError, _on_own_error),
        (MONAILabelException, _on_host_error),
        (OSError, _on_system_error),
        (MemoryError, _on_memory_error),
        (Exception, _on_any_error),
    ):
        app.add_exception_handler(kind, handler)


def _answer(request: Request, error: RareVoxelError) -> JSONResponse:
    content = {"error": request.app.state.redactor().clean_deep(error.to_dict())}
    return JSONResponse(content, status_code=error.status, headers=error_headers(error))


async def _on_own_error(request: Request, error: Any) -> JSONResponse:
    return _answer(request, error)


async def _on_http_error(request: Request, error: Any) -> JSONResponse:
    if isinstance(error, HttpError):
        return _answer(request, error.error)
    if error.status_code == 400:
        return _answer(request, MalformedError(str(error.detail)))
    return _answer(request, _HttpStatusError(error.status_code, str(error.detail)))


async def _on_invalid(request: Request, error: Any) -> JSONResponse:
    problems = error.errors()
    listed = "; ".join(f"{'.'.join(str(part) for part in p['loc'])}: {p['msg']}" for p in problems)
    kind = MalformedError if any(p["type"] == "json_invalid" for p in problems) else RequestError
    return _answer(request, kind(f"the request does not fit {_route(request)}: {listed}", "see GET /docs"))


async def _on_host_error(request: Request, error: Any) -> JSONResponse:
    message = str(getattr(error, "msg", "") or error)
    if isinstance(error, (ImageNotFoundException, LabelNotFoundException)):
        return _answer(request, NotFoundError(message, "GET /datastore/?output=all lists the cases"))
    return _answer(request, _HostError(message))


async def _on_system_error(request: Request, error: Any) -> JSONResponse:
    logger.error("%s failed", _route(request), exc_info=error)
    return _answer(request, storage_error(error, f"answering {_route(request)}"))


async def _on_memory_error(request: Request, error: Any) -> JSONResponse:
    logger.error("out of memory in %s", _route(request))
    msg = f"the server has not enough memory to answer {_route(request)}"
    return _answer(request, UnavailableError(msg, "try again later, or with a smaller volume"))


async def _on_any_error(request: Request, error: Any) -> JSONResponse:
    logger.error("unexpected error in %s", _route(request), exc_info=error)
    msg = f"unexpected {type(error).__name__} while answering {_route(request)}"
    return _answer(request, _InternalError(msg, "the server log has the details; please report it"))


def _route(request: Request) -> str:
    """Return method and template; the path itself may hold what belongs in no log."""
    path = getattr(request.scope.get("route"), "path", request.url.path)
    return f"{request.method} {path}"
