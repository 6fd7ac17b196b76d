"""The dashboard: plain pages that load nothing from elsewhere and run nothing in the browser."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from html import escape
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import anyio
from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from monailabel.interfaces.utils.app import app_instance

from rarevoxel.errors import RareVoxelError
from rarevoxel.report.dashboard import Turn, content_policy
from rarevoxel.server.dashboard.view import DashboardView

router = APIRouter(prefix="/dashboard", tags=["Dashboard"])

WAIT_S = 20.0
"""Seconds the request for a picture waits for it to be drawn; no thread waits with it."""

_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"

_views: WeakKeyDictionary[Any, DashboardView] = WeakKeyDictionary()
_making = threading.Lock()


@router.get("", summary="See the queue, the models, the sizes, the effort and the findings on a page")
def dashboard(request: Request, queue: int = 1, labels: int = 1) -> Any:
    """Return the page."""
    return _page(_view(request).page(Turn(queue, labels)))


@router.get("/cases/{case}", summary="See a case: picture, score, label versions, effort")
def case_page(request: Request, case: str) -> Any:
    """Return the page of a case."""
    return _page(_view(request).case_page(case))


@router.get("/cases/{case}/picture", summary="Three slices of a case with its outlines")
async def picture(request: Request, case: str) -> Any:
    """Send the picture."""
    return await _picture(request, case, small=False)


@router.get("/cases/{case}/thumbnail", summary="One slice of a case with its outlines")
async def thumbnail(request: Request, case: str) -> Any:
    """Send the small picture."""
    return await _picture(request, case, small=True)


@router.get("/runs/{model}/{run}", summary="See the report of a training run")
def run_report(request: Request, model: str, run: str) -> Any:
    """Send the page that the run left."""
    path = _view(request).report(model, run)
    return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": _REPORT_POLICY})


def _view(request: Request) -> DashboardView:
    instance = app_instance()
    with _making:
        view = _views.get(instance)
        if view is None:
            redactor = request.app.state.redactor()
            view = _views[instance] = DashboardView(instance, redactor.clean)
    return view


async def _picture(request: Request, case: str, *, small: bool) -> Response:
    def find() -> Path | Future[Any]:
        return _view(request).picture(case, small=small)

    found = await anyio.to_thread.run_sync(find)
    if isinstance(found, Future):
        try:
            # Shielded: others may wait for the same picture, and it is wanted next time in any case.
            found = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(found)), WAIT_S)
        except asyncio.TimeoutError:
            return _instead("being drawn: reload the page")
        except RareVoxelError:
            return _instead("no picture: the image cannot be read")
    return FileResponse(str(found), media_type="image/png")


def _page(html: str) -> HTMLResponse:
    return HTMLResponse(html, headers={"Content-Security-Policy": content_policy()})


def _instead(text: str) -> Response:
    """Return a picture that says why there is none; an error would leave a hole in the page."""
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 240 240" width="240" height="240">'
        '<rect width="240" height="240" fill="#222"/><text x="120" y="120" fill="#ccc" font-size="13" '
        f'font-family="sans-serif" text-anchor="middle">{escape(text)}</text></svg>'
    )
    return Response(svg, media_type="image/svg+xml")
