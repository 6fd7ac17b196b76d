"""Inference: uploads under names of our own, one at a time, and never on the event loop."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, BackgroundTasks, File, Form, Request, UploadFile
from monailabel.endpoints import infer as host_infer
from monailabel.interfaces.utils.app import app_instance

from rarevoxel.errors import MalformedError, NotFoundError, RequestError
from rarevoxel.server.guard.params import check_infer, parse_object
from rarevoxel.server.guard.turns import Turns
from rarevoxel.server.guard.uploads import IMAGE_VOXELS, stored
from rarevoxel.server.memory import give_back

router = APIRouter(tags=["Infer"])


@router.post("/infer/{model}", summary="Segment a case, an upload of four sequences, or a session")
async def run_inference(
    request: Request,
    background_tasks: BackgroundTasks,
    model: str,
    image: str = "",
    session_id: str = "",
    params: str = Form("{}"),
    file: UploadFile = File(None),
    output: str = "",
) -> Any:
    """Check what was asked, wait for a turn, and run in a worker thread."""
    checked = await anyio.to_thread.run_sync(_checked, model, params)
    if not file and not image and not session_id:
        raise RequestError("no image, file or session_id in the request", "name a case: POST /infer/MODEL?image=CASE")
    turns: Turns = request.app.state.turns
    async with turns.turn(request.is_disconnected):
        return await anyio.to_thread.run_sync(
            _infer, background_tasks, {**checked, "model": model, "image": image}, session_id, file, output or None
        )


def _checked(model: str, params: str) -> dict[str, Any]:
    values = parse_object(params)
    instance = app_instance()
    instance.check_model(model)
    check_infer(values, instance._infers[model].config())
    return values


def _infer(
    background_tasks: BackgroundTasks,
    asked: dict[str, Any],
    session_id: str,
    file: UploadFile | None,
    output: str | None,
) -> Any:
    instance = app_instance()
    with ExitStack() as stack:
        stack.callback(give_back)
        if session_id:
            sessions = instance.sessions()
            session = sessions.get_session(session_id) if sessions is not None else None
            if session is None:
                raise NotFoundError("no such session", "sessions end after an hour; make a new one: PUT /session/")
            asked |= {"image": session.image, "session": session.to_json()}
        elif file:
            if file.size == 0:
                raise MalformedError("the uploaded file is empty", "send the volume as the form field 'file'")
            upload = stored(file.file, file.filename or "", IMAGE_VOXELS, "uploaded image")
            asked |= {"image": str(stack.enter_context(upload))}
        result = instance.infer(asked)
        try:
            return host_infer.send_response(instance.datastore(), result, output, background_tasks)
        except Exception:
            for task in background_tasks.tasks:
                task.func(*task.args, **task.kwargs)
            raise
