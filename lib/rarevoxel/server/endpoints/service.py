"""About the server itself: health, figures, log, documentation, and model files that no client replaces."""

from __future__ import annotations

from collections import deque
from html import escape
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse
from monailabel.config import settings
from monailabel.interfaces.utils.app import app_instance, clear_cache

from rarevoxel import __version__
from rarevoxel.errors import ForbiddenError, NotFoundError
from rarevoxel.server.endpoints.context import is_open
from rarevoxel.server.guard.routes import RULES

router = APIRouter(tags=["Server"])

_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3em .8em .3em 0;"
    "border-bottom:1px solid #ddd;vertical-align:top}code{font-family:monospace}"
)


@router.get("/health", summary="Say whether the server is up; open to everybody")
def health(request: Request) -> Any:
    """Answer 200 as long as the process lives."""
    scoring = "unknown"
    try:
        status = app_instance().datastore().status()
        scoring = app_instance().scorer.status()["state"]
    except Exception as error:  # Whatever is wrong with the studies, the process is alive and says so.
        status = {"warnings": [f"the studies cannot be read ({type(error).__name__})"]}
    warnings = request.app.state.redactor().clean_deep(list(status.get("warnings", [])))
    return {
        "status": "warning" if warnings else "ok",
        "ready": not request.app.state.turns.closed,
        "version": __version__,
        "scoring": scoring,
        "read_only": bool(status.get("read_only", False)),
        # What is wrong in detail is for those who may come in.
        "warnings": warnings if is_open(request) else len(warnings),
    }


@router.get("/metrics", summary="Figures in Prometheus's text format")
def metrics(request: Request) -> Any:
    """Return the figures."""
    return Response(request.app.state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/logs/", summary="Read the end of the log")
def logs(lines: int = 300, html: bool = False, text: bool = True, refresh: int = 0) -> Any:
    """Return the last lines as plain text."""
    path = Path(settings.MONAI_LABEL_APP_DIR) / "logs" / "app.log"
    if not path.is_file():
        raise NotFoundError("there is no log yet")
    with path.open(encoding="utf-8", errors="replace") as stream:
        return PlainTextResponse("".join(deque(stream, lines)))


@router.get("/model/{model}", tags=["Model"], summary="Download the weights in service")
def download_model(model: str) -> Any:
    """Send the file a site has published; the starter weights come with the package."""
    instance = app_instance()
    instance.check_model(model)
    found = instance._infers[model].get_path()
    if not found:
        raise NotFoundError(f"{model} has no weights of its own yet", "train it; until then the starter weights serve")
    return FileResponse(found, media_type="application/octet-stream", filename=Path(found).name)


@router.put("/model/{model}", tags=["Model"], summary="Refused: weights a client sends are never loaded")
@router.delete("/model/{model}", tags=["Model"], summary="Refused: an earlier version is put back instead")
def change_model(model: str) -> Any:
    """Refuse."""
    msg = f"the weights of {model} cannot be replaced or removed over the network"
    raise ForbiddenError(msg, f"publish by training, or put an earlier version back: rarevoxel rollback {model}")


@router.post("/reload", include_in_schema=False)
def reload() -> Any:
    """Read app.toml and the studies again at the next request."""
    clear_cache()
    return {}


@router.get("/docs", include_in_schema=False)
@router.get("/", include_in_schema=False)
def docs(request: Request) -> Any:
    """List the requests on a page that loads nothing from elsewhere."""
    summaries = {
        (method.upper(), path): entry.get("summary", "")
        for path, methods in request.app.openapi()["paths"].items()
        for method, entry in methods.items()
    }
    rows = [
        f"<tr><td>{rule.method}</td><td><code>{escape(rule.path)}</code></td>"
        f"<td>{rule.role.name.lower() if rule.role else 'open'}</td><td>{escape(', '.join(sorted(rule.query)))}</td>"
        f"<td>{escape(summaries.get((rule.method, rule.path), ''))}</td></tr>"
        for rule in RULES
        if (rule.method, rule.path) in summaries or rule.role is None
    ]
    head = "<tr><th>method</th><th>path</th><th>role</th><th>query</th><th>what it does</th></tr>"
    return HTMLResponse(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(request.app.title)}</title>"
        f"<style>{_STYLE}</style><h1>{escape(request.app.title)}</h1>"
        f"<p>Machine-readable: <a href=/openapi.json>/openapi.json</a>. Errors are JSON: "
        f"<code>{{&quot;error&quot;: {{&quot;code&quot;, &quot;message&quot;, &quot;hint&quot;}}}}</code>.</p>"
        f"<table>{head}{''.join(rows)}</table></html>"
    )
