"""A guard around a small application that tells what reached it, and a client for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import httpx

from rarevoxel.server.guard.config import GuardConfig
from rarevoxel.server.guard.middleware import USER, Guard

HOST = "127.0.0.1:8000"


class Echo:
    """Reads the body, remembers what it was given, and answers 200."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.bytes = 0
        self.user = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        self.user = scope.get(USER, "")
        more = True
        while more:
            message = await receive()
            self.bytes += len(message.get("body", b""))
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"inside"})


class Guarded:
    """Sends requests through a guard without a server."""

    def __init__(self, inner: Any = None, client: str = "127.0.0.1", **settings: Any) -> None:
        self.inner = inner or Echo()
        self.guard = Guard(self.inner, GuardConfig(**settings))
        self.address = client

    def __call__(self, method: str, path: str, *, host: str = HOST, **kwargs: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.guard, client=(self.address, 5000), raise_app_exceptions=True)
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
                return await client.request(method, path, **kwargs)

        return asyncio.run(send())


async def drive(guard: Guard, method: str, path: str, messages: Iterable[Any], headers: Any = ()) -> list[Any]:
    """Send the messages of one request by hand; an item that is a number is a pause in seconds."""
    sent: list[Any] = []
    queue = iter(messages)

    async def receive() -> Any:
        for item in queue:
            if isinstance(item, (int, float)):
                await asyncio.sleep(item)
                continue
            return item
        await asyncio.sleep(60)
        return None

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "scheme": "http",
        "headers": [(b"host", HOST.encode()), *headers],
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 8000),
    }
    await guard(scope, receive, send)
    return sent


def chunk(content: bytes, more: bool = True) -> dict[str, Any]:
    """One piece of a body."""
    return {"type": "http.request", "body": content, "more_body": more}


def refused(response: httpx.Response, status: int, *words: str, code: str = "") -> dict[str, Any]:
    """Check the form of an error and return it."""
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    error = dict(response.json()["error"])
    assert set(error) == {"code", "message", "hint"}
    assert not code or error["code"] == code
    for word in words:
        assert word in f"{error['message']} {error['hint']}", error
    return error


def records(caplog: Any) -> str:
    """Everything that was logged."""
    return "\n".join(logging.Formatter("%(levelname)s %(message)s").format(record) for record in caplog.records)
