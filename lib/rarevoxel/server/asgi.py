"""The ASGI application `rarevoxel serve` runs: the host's requests, in worker threads, behind the guard.

It is imported once the host's settings stand. The host's own application is not used: it allows every web page to
call it, has routes nobody here needs (a proxy among them), and blocks its event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from monailabel.config import settings
from monailabel.endpoints import datastore, info, model
from monailabel.interfaces.utils.app import app_instance

from rarevoxel import __version__
from rarevoxel.server.background import do_before_stopping
from rarevoxel.server.endpoints import cases, dashboard, inference, service, sessions, tasks
from rarevoxel.server.endpoints.adopt import adopt, pairs
from rarevoxel.server.guard.config import GuardConfig
from rarevoxel.server.guard.middleware import Guard
from rarevoxel.server.guard.redact import Redactor
from rarevoxel.server.guard.routes import RULES
from rarevoxel.server.guard.turns import Turns
from rarevoxel.server.handlers import add_handlers


def build(config: GuardConfig) -> Guard:
    """Return the application for a configuration of the guard."""
    turns = Turns(config.queue)
    app = FastAPI(
        title="rarevoxel",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        description="Segmentation of brain tumours for MONAI Label clients.",
    )
    app.state.turns = turns
    app.state.redactor = lambda: Redactor.of(
        config, app=settings.MONAI_LABEL_APP_DIR, studies=config.studies or settings.MONAI_LABEL_STUDIES
    )
    own = (inference.router, cases.router, tasks.router, sessions.router, service.router, dashboard.router)
    for router in own:
        app.include_router(router)
    offered = {(rule.method, rule.path) for rule in RULES}
    taken = {pair for router in own for pair in pairs(router)}
    for router in (info.router, datastore.router, model.router):
        taken |= adopt(app, router, offered - taken)
    add_handlers(app)
    guard = Guard(app, config, turns)
    app.state.metrics = guard.metrics
    return guard


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    instance = app_instance()
    instance.server_mode(True)
    instance.on_init_complete()
    # Waiting inferences are turned away as soon as the server is told to stop.
    do_before_stopping(app.state.turns.close)
    yield


app = build(GuardConfig.from_environment())
