"""A headless Chromium, driven over a pipe: for pictures of pages, and for what a browser has to say about them."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rarevoxel.errors import RareVoxelError, UnavailableError

VARIABLE = "RAREVOXEL_CHROMIUM"
"""Environment variable that names the program where it is not found by itself."""

WAIT_S = 120.0
"""Seconds to wait for the browser to answer."""

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--disable-dev-shm-usage", "--remote-debugging-pipe", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
# The browser expects its pipes at the numbers 3 and 4.
_START = (
    "import os,sys;r,w=(os.dup(int(n)) for n in sys.argv[1:3]);r,w=os.dup2(r,90),os.dup2(w,91);"
    "os.dup2(r,3);os.dup2(w,4);os.execv(sys.argv[3],sys.argv[3:])"
)
_LOADED = "document.readyState === 'complete'"
_DRAWN = "Array.from(document.images).every(image => image.complete)"
_SIZE = "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"


@dataclass(frozen=True)
class Visit:
    """What came of opening a page.

    Args:
        png: the whole page.
        width: of the window in pixels.
        scroll_width: of the page in pixels; more than `width` if something sticks out.
        height: of the page in pixels.
        requests: addresses the page asked for, itself among them.
        errors: what the browser's console shows as an error or warning, and requests that failed.
    """

    png: bytes
    width: int
    scroll_width: int
    height: int
    requests: tuple[str, ...]
    errors: tuple[str, ...]


def find_chromium() -> Path | None:
    """Return the browser on this machine, None when there is none."""
    named = os.environ.get(VARIABLE)
    found = named if named and Path(named).is_file() else next(filter(None, map(shutil.which, _NAMES)), None)
    return Path(found) if found else None


def need_chromium() -> Path:
    """Return the browser on this machine.

    Raises:
        UnavailableError: when there is none, or it cannot be driven over a pipe (Windows).
    """
    found = find_chromium()
    if found is None or sys.platform == "win32":
        msg = f"no Chromium found, looked for {', '.join(_NAMES)}"
        raise UnavailableError(msg, f"install it (apt-get install chromium), or name it in {VARIABLE}")
    return found


@contextmanager
def chromium(program: Path | None = None) -> Iterator[Browser]:
    """Start a browser with an empty profile, and end it afterwards.

    Args:
        program: the browser; found when None.

    Raises:
        UnavailableError: as `need_chromium`.
    """
    program = program or need_chromium()
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    passed = (theirs_in, theirs_out)
    with tempfile.TemporaryDirectory(prefix="rarevoxel-chromium-", ignore_cleanup_errors=True) as profile:
        command = [sys.executable, "-c", _START, *map(str, passed), str(program), *_FLAGS]
        process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}"],
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for number in passed:
            os.close(number)
        try:
            yield Browser(ours_in, ours_out)
        finally:
            for number in (ours_in, ours_out):
                os.close(number)
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


class Browser:
    """A running browser; see `chromium`.

    Args:
        read: file descriptor of its answers.
        write: file descriptor of its commands.
    """

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._numbers = itertools.count(1)
        self._rest = b""
        self._events: list[dict[str, Any]] = []

    def visit(self, url: str, width: int, height: int, *, dark: bool = False) -> Visit:
        """Open a page in a window of so many pixels, and wait until all its pictures are there.

        Args:
            url: its address.
            width: of the window.
            height: of the window; the picture is of the whole page all the same.
            dark: whether the reader prefers dark pages.

        Raises:
            RareVoxelError: if the browser does not answer in time.
        """
        self._events.clear()
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self._call(f"{domain}.enable", {}, session)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._call("Emulation.setEmulatedMedia", {"features": scheme}, session)
        self._resize(session, width, height)
        self._call("Page.navigate", {"url": url}, session)
        self._until(session, _LOADED)
        # Pictures further down are fetched only once they come into view.
        self._resize(session, width, max(height, self._value(session, _SIZE)[1]))
        self._until(session, _DRAWN)
        scroll_width, tall = self._value(session, _SIZE)
        shot = self._call("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True}, session)
        self._call("Target.closeTarget", {"targetId": target})
        requests, errors = _noticed(self._events)
        return Visit(base64.b64decode(shot["data"]), width, int(scroll_width), int(tall), requests, errors)

    def _resize(self, session: str, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", size, session)

    def _until(self, session: str, expression: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not self._value(session, expression):
            if time.monotonic() > deadline:
                raise RareVoxelError(f"a page was not complete within {WAIT_S:.0f} s")
            time.sleep(0.1)

    def _value(self, session: str, expression: str) -> Any:
        done = self._call("Runtime.evaluate", {"expression": expression, "returnByValue": True}, session)
        return done["result"].get("value")

    def _call(self, method: str, params: dict[str, Any], session: str = "") -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + WAIT_S
        while True:
            answer = self._next(deadline - time.monotonic())
            if answer.get("id") == number:
                if "error" in answer:
                    raise RareVoxelError(f"the browser refused {method}: {answer['error'].get('message')}")
                result: dict[str, Any] = answer["result"]
                return result
            self._events.append(answer)

    def _next(self, seconds: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(seconds, 0.0))
            part = os.read(self._read, 1 << 16) if ready else b""
            if not part:
                raise RareVoxelError("the browser ended, or did not answer in time", "see that Chromium runs at all")
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _noticed(events: list[dict[str, Any]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the addresses asked for, and what went wrong."""
    requests, errors = [], []
    for event in events:
        method, params = event.get("method", ""), event.get("params", {})
        if method == "Network.requestWillBeSent":
            requests.append(str(params["request"]["url"]))
        elif method == "Network.loadingFailed" and not params.get("canceled"):
            errors.append(f"request failed: {params.get('errorText')}")
        elif method == "Network.responseReceived" and int(params["response"]["status"]) >= 400:
            errors.append(f"{params['response']['status']} for {params['response']['url']}")
        elif method == "Log.entryAdded" and params["entry"].get("level") in ("error", "warning"):
            errors.append(str(params["entry"].get("text")))
        elif method == "Runtime.consoleAPICalled" and params.get("type") in ("error", "warning"):
            errors.append(str(params.get("args")))
        elif method == "Runtime.exceptionThrown":
            errors.append(str(params.get("exceptionDetails")))
    return tuple(requests), tuple(errors)
