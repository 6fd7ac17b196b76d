"""What runs in processes of its own (training, scoring, batch inference), and the choice of the next sample."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import anyio.to_thread
import psutil
from fastapi import APIRouter, Body, Request
from monailabel.endpoints import batch_infer as host_batch
from monailabel.endpoints import scoring as host_scoring
from monailabel.endpoints import train as host_train
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.async_tasks.utils import tasks

from rarevoxel.errors import BusyError, MalformedError, NotFoundError
from rarevoxel.server.endpoints.context import body_object, told, user_of
from rarevoxel.server.guard.params import COMMON, check_batch, check_keys, check_training
from rarevoxel.server.guard.turns import Turns
from rarevoxel.server.sampling import note_served

router = APIRouter()
_starting = threading.Lock()
_BODY = Body(None)


@router.post("/activelearning/{strategy}", tags=["ActiveLearning"], summary="Get the next case to label")
def next_sample(request: Request, strategy: str, params: Any = _BODY) -> Any:
    """Pick the next case; where it lies on disk is told only on a server that nobody else reaches."""
    values = body_object(params)
    instance = app_instance()
    known = instance._strategies.get(strategy)
    check_keys(values, (*COMMON, *(known.options if known else ())), "the body")
    if user_of(request):
        values["client_id"] = user_of(request)
    chosen = instance.choose_sample({**values, "strategy": strategy})
    if chosen.get("id"):
        client = str(values.get("client_id") or "")
        # What the answer says by itself comes last, so that no note about the image can stand in its place.
        chosen = {**note_served(instance.datastore(), chosen["id"], strategy, client), **chosen}
    told_why = {key: chosen[key] for key in ("reasons", "left_out") if key in chosen}
    return told(request, {**chosen, **request.app.state.redactor().clean_deep(told_why)})


@router.post("/train/{model}", tags=["Train"], summary="Start training a model")
def start_training(
    request: Request, model: str, params: Any = _BODY, run_sync: bool = False, enqueue: bool = False
) -> Any:
    """Start training once its options have been checked, so that a mistake is told now and not in a log."""
    values = body_object(params)
    _check_apart(run_sync)
    if user_of(request):
        values["client_id"] = user_of(request)
    return launch_training(app_instance(), model, values, enqueue=enqueue)


def launch_training(instance: Any, model: str, values: dict[str, Any], *, enqueue: bool = False) -> Any:
    """Start training in the background once its options have been checked.

    Args:
        instance: the app.
        model: its name.
        values: options, and `client_id`.
        enqueue: wait for what is under way instead of being refused.

    Raises:
        NotFoundError: for an unknown model.
        RequestError: for an unknown or impossible option.
        ConflictError: with too few labelled patients.
        BusyError: when a training is under way.
    """
    instance.check_model(model)
    check_training(values, instance._trainers[model].config())
    instance.check_training({**values, "model": model})
    with _starting:
        _check_idle("train", enqueue)
        started = host_train.run_model(model, values, False, enqueue)
    instance.auto_training.seen()
    return started


@router.post("/scoring/{method}", tags=["Scoring"], summary="Score a model on the submitted labels")
async def start_scoring(request: Request, method: str, params: Any = _BODY, run_sync: bool = False) -> Any:
    """Start scoring; with `run_sync` it takes its turn among the inferences and the reply is the score."""
    turns: Turns = request.app.state.turns
    async with turns.turn(request.is_disconnected) if run_sync else contextlib.nullcontext():
        return await anyio.to_thread.run_sync(_score, method, params, run_sync)


def _score(method: str, params: Any, run_sync: bool) -> Any:
    check_keys(body_object(params), COMMON, "the body")
    known = app_instance()._scoring_methods
    if method not in known:
        raise NotFoundError(f"no scoring method {method!r}, expected one of {sorted(known)}", "GET /info/ lists them")
    with contextlib.nullcontext() if run_sync else _starting:
        if not run_sync:
            _check_idle("scoring", False)
        return host_scoring.run_method(method, {}, run_sync)


@router.post("/batch/infer/{model}", tags=["Infer"], summary="Segment many cases in the background")
def start_batch(model: str, images: str = "all", params: Any = _BODY, run_sync: bool = False) -> Any:
    """Start a batch inference; its masks become labels with the tag `original`."""
    _check_apart(run_sync)
    values = {"save_label": True, "label_tag": "original", **body_object(params)}
    check_batch(values)
    app_instance().check_model(model)
    with _starting:
        _check_idle("batch_infer", False)
        return host_batch.run(model, host_batch.BatchInferImageType(images), values, False)


def _stopping(stop: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        # The process may end by itself while it is being stopped.
        with contextlib.suppress(psutil.NoSuchProcess, StopIteration, KeyError):
            return stop()
        return None

    return run


for _path, _host, _tag in (("/train/", host_train, "Train"), ("/scoring/", host_scoring, "Scoring")):
    router.add_api_route(_path, _stopping(_host.stop), methods=["DELETE"], tags=[_tag], summary="Stop it")
router.add_api_route("/batch/infer", _stopping(host_batch.stop), methods=["DELETE"], tags=["Infer"], summary="Stop it")


def _status(host: Any) -> Callable[..., Any]:
    def status(request: Request, all: bool = False, check_if_running: bool = False) -> Any:
        # The last lines of the process and its request go to whoever may look, so they are cleaned like a log.
        return request.app.state.redactor().clean_deep(host.status(all, check_if_running))

    return status


for _path, _host, _tag in (
    ("/train/", host_train, "Train"),
    ("/scoring/", host_scoring, "Scoring"),
    ("/batch/infer", host_batch, "Infer"),
):
    router.add_api_route(_path, _status(_host), methods=["GET"], tags=[_tag], summary="See how far it is")


def _check_apart(run_sync: bool) -> None:
    if run_sync:
        raise MalformedError(
            "run_sync would occupy the server for hours", "leave it out, and ask with GET how far it is"
        )


def waiting(kind: str) -> list[dict[str, Any]]:
    """Return the host's tasks of a kind that run or wait to; the host itself sees only those that have started."""
    return [task for task in tasks(kind) if task["status"] in ("SUBMITTED", "RUNNING")]


def _check_idle(kind: str, enqueue: bool) -> None:
    under_way = waiting(kind)
    if under_way and not enqueue:
        name = {"train": "training", "batch_infer": "batch inference"}.get(kind, kind)
        raise BusyError(f"{name} {under_way[-1]['id']} is under way", "wait for it, or stop it with DELETE")
