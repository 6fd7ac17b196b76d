"""The host's ASGI application with blocking inference moved off its event loop and errors a client can read.

`rarevoxel serve` passes `rarevoxel.server.asgi:app` to the host's launcher, which imports it once its settings stand.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import BackgroundTasks, Depends, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from monailabel.app import app
from monailabel.config import settings
from monailabel.endpoints import datastore as host_datastore
from monailabel.endpoints import infer as host_infer
from monailabel.endpoints import train as host_train
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException, MONAILabelException
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.async_tasks.utils import tasks
from starlette.exceptions import HTTPException

from rarevoxel.errors import BusyError, RareVoxelError, RequestError
from rarevoxel.server.http import HttpError, answering

logger = logging.getLogger(__name__)

_USER = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))
_ANNOTATOR = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))
_ADMIN = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))


@answering
def run_inference(
    background_tasks: BackgroundTasks,
    model: str,
    image: str = "",
    session_id: str = "",
    params: str = Form("{}"),
    file: UploadFile = File(None),
    label: UploadFile = File(None),
    output: host_infer.ResultType | None = None,
    user: User = _USER,
) -> Any:
    """Run inference in a worker thread (a plain function, so the event loop stays free for everybody else)."""
    _check_params(params)
    if not file and not image and not session_id:
        raise RequestError("no image, file or session_id in the request", "name a case: POST /infer/MODEL?image=CASE")
    with _cleaning(background_tasks):
        return host_infer.run_inference(background_tasks, model, image, session_id, params, file, label, output)


async def save_label(
    background_tasks: BackgroundTasks,
    image: str,
    params: str = Form("{}"),
    tag: str = DefaultLabelTag.FINAL.value,
    label: UploadFile = File(...),
    user: User = _ANNOTATOR,
) -> Any:
    """Check and keep a label; on the event loop like all else that changes the datastore, which knows no threads."""
    answering(_check_params)(params)
    with _cleaning(background_tasks):
        return host_datastore.save_label(background_tasks, image, params, tag, label, user.username)


@answering
def run_training(
    model: str,
    params: dict[str, Any] | None = None,
    run_sync: bool = False,
    enqueue: bool = False,
    user: User = _ADMIN,
) -> Any:
    """Start training once its options have been checked, so that a mistake is told now and not in a log."""
    app_instance().check_training({**(params or {}), "model": model})
    waiting = [task for task in tasks("train") if task["status"] in ("SUBMITTED", "RUNNING")]
    if waiting and not enqueue:
        # The host itself notices only once the process has started.
        raise BusyError(f"training {waiting[-1]['id']} is under way", "wait for it, or stop it: DELETE /train/")
    return host_train.run_model(model, params, run_sync, enqueue)


@contextmanager
def _cleaning(background_tasks: BackgroundTasks) -> Iterator[None]:
    """Remove uploads when a request fails: the host's own cleaning up runs only after an answer."""
    try:
        yield
    except Exception:
        for task in background_tasks.tasks:
            task.func(*task.args, **task.kwargs)
        raise


def _check_params(params: str) -> None:
    try:
        value = json.loads(params) if params else {}
    except (ValueError, RecursionError) as error:
        raise RequestError(f"params is not JSON: {error}", "send a JSON object") from error
    if not isinstance(value, dict):
        raise RequestError(f"params is a JSON {type(value).__name__}, expected an object", "send a JSON object")


def _error(status: int, code: str, message: str, hint: str = "") -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message, "hint": hint}}, status_code=status)


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, HttpError):
        return JSONResponse({"error": error.error.to_dict()}, status_code=error.status_code)
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else error
    return _error(status, f"http_{status}", str(detail))


async def _on_own_error(request: Request, error: Exception) -> JSONResponse:
    body = error.to_dict() if isinstance(error, RareVoxelError) else {}
    return JSONResponse({"error": body}, status_code=getattr(error, "status", 500))


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    listed = "; ".join(f"{'.'.join(str(part) for part in p['loc'])}: {p['msg']}" for p in problems)
    return _error(422, "invalid_request", f"the request does not fit {request.url.path}: {listed}", "see GET /docs")


async def _on_host_error(request: Request, error: Exception) -> JSONResponse:
    message = str(getattr(error, "msg", "") or error)
    if isinstance(error, (ImageNotFoundException, LabelNotFoundException)):
        return _error(404, "not_found", message, "GET /datastore/?output=all lists the cases")
    return _error(422, "host", message)


async def _on_any_error(request: Request, error: Exception) -> JSONResponse:
    logger.error("unexpected error in %s %s", request.method, request.url.path, exc_info=error)
    message = f"unexpected {type(error).__name__} while answering {request.method} {request.url.path}"
    return _error(500, "internal", message, "the server log has the details; please report it")


def _install() -> None:
    app.add_api_route("/infer/{model}", run_inference, methods=["POST"], tags=["Infer"])
    app.add_api_route("/train/{model}", run_training, methods=["POST"], tags=["Train"])
    app.add_api_route("/datastore/label", save_label, methods=["PUT"], tags=["Datastore"])
    own = app.router.routes[-3:]
    del app.router.routes[-3:]
    app.router.routes[:0] = own
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(RareVoxelError, _on_own_error)
    app.add_exception_handler(MONAILabelException, _on_host_error)
    app.add_exception_handler(Exception, _on_any_error)


_install()
