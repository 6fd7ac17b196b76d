"""A dashboard with something on it: sample cases, labels submitted over HTTP, a training, and pictures of the pages."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import numpy.typing as npt
from PIL import Image

from rarevoxel.errors import RareVoxelError
from rarevoxel.report.dashboard.words import HOME, case_page
from rarevoxel.server.client import LabelClient
from rarevoxel.server.dashboard.chromium import chromium, need_chromium
from rarevoxel.server.demo import MODEL, SEGMENTS, START_SECONDS
from rarevoxel.server.process import ServerProcess
from rarevoxel.server.sample import prepare_samples, true_labels
from rarevoxel.volumes import read_volume

DESKTOP, PHONE = (1280, 900), (390, 844)
"""Width and height of the windows, in pixels."""

SHOWN = {DESKTOP: 1900, PHONE: 2400}
"""Pixels of height kept of a picture of the first page: what fits into a document."""

_SETTLE_S = 300.0
_MEASURING = "being measured"
_SCORING = ("No case has been scored yet", "to go")

Say = Callable[[str, str], None]


def take_pictures(
    work: Path,
    out: Path,
    *,
    labels: int,
    epochs: int,
    scores_s: float = 0.0,
    program: Path | None = None,
    say: Say = lambda step, text: None,
) -> dict[str, Any]:
    """Serve the sample cases, correct some, train, and write pictures of the dashboard.

    The truth of the phantoms plays the clinician, who misses nothing but draws the edges of every second case one
    voxel off.

    Args:
        work: an empty folder for studies, models and the server's log.
        out: receives `dashboard.png`, `dashboard_phone.png` and `dashboard_case.png`.
        labels: cases that are labelled over HTTP.
        epochs: of the training; 0 for none.
        scores_s: seconds to wait for the server to have scored the waiting cases, if it does.
        program: the browser; found when None.
        say: called with the name of a step and what came of it.

    Returns:
        The pictures by name, and what the browser noticed: errors, addresses outside, pixels that stick out.

    Raises:
        UnavailableError: without a browser, before anything is started.
        RareVoxelError: naming the step that failed.
    """
    program = program or need_chromium()
    studies, log = work / "studies", work / "server.log"
    prepare_samples(work)
    options = ("--conf", "models", MODEL, "--conf", "too_few", "publish_if_better")
    with ServerProcess(studies, home=work / "home", log=log, options=options) as server:
        server.wait_until_ready(START_SECONDS)
        client = LabelClient(server.url, work / "client")
        last = _history(client, studies, labels, say)
        if epochs:
            stats = client.train(MODEL, {"loss": "auto", "max_epochs": epochs, "seed": 0}, check=server.check)
            say("train", str(stats.get("gate", {}).get("reason", stats.get("status"))))
        _settle(f"{server.url}{HOME}", (_MEASURING,), _SETTLE_S)
        if scores_s:
            _settle(f"{server.url}{HOME}", _SCORING, scores_s)
        return _visit(server.url, out, last, program, say)


def _history(client: LabelClient, studies: Path, labels: int, say: Say) -> str:
    """Have cases segmented, correct them and submit them; returns the last one."""
    case = ""
    for number in range(labels):
        case = client.next_sample("first")
        client.infer(MODEL, case)
        truth = true_labels(studies, case)
        corrected = _one_off(truth) if number % 2 else truth
        client.submit(case, corrected, read_volume(studies / f"{case}.nii.gz").grid.affine, SEGMENTS)
        say("label", case)
    waiting = client.next_sample("first")
    client.infer(MODEL, waiting)
    return case or waiting


def _one_off(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.roll(labels, 1, axis=0)


def _settle(url: str, while_it_says: Sequence[str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with urlopen(url, timeout=60) as reply:
            html = reply.read().decode("utf-8")
        if not any(words in html for words in while_it_says):
            return
        time.sleep(1.0)


def _visit(url: str, out: Path, case: str, program: Path, say: Say) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    pages = {
        "dashboard": (f"{url}{HOME}", DESKTOP),
        "dashboard_phone": (f"{url}{HOME}", PHONE),
        "dashboard_case": (f"{url}{case_page(case)}", DESKTOP),
    }
    pictures, noticed = {}, []
    with chromium(program) as browser:
        for name, (address, (width, height)) in pages.items():
            found = browser.visit(address, width, height)
            noticed += [f"{name}: {error}" for error in found.errors]
            noticed += [f"{name}: asked for {other}" for other in found.requests if not _ours(other, url)]
            if found.scroll_width > width:
                noticed.append(f"{name}: {found.scroll_width - width} pixels stick out at a width of {width}")
            file = out / f"{name}.png"
            file.write_bytes(_top(found.png, SHOWN[width, height]))
            pictures[name] = str(file)
            say("picture", f"{file} ({width} pixels wide, page of {found.height})")
    return {"pictures": pictures, "noticed": noticed}


def _ours(address: str, url: str) -> bool:
    return address.startswith((url, "data:", "about:"))


def _top(png: bytes, height: int) -> bytes:
    """Return the upper part of a picture, with as few colours as it needs."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image = image.crop((0, 0, image.width, min(image.height, height)))
    if image.height < 1:
        raise RareVoxelError("the browser sent an empty picture")
    buffer = io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    return buffer.getvalue()
