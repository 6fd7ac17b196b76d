"""The clients of the load run: threads that ask as people and 3D Slicer do, and note every answer."""

from __future__ import annotations

import gzip
import hashlib
import io
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import requests

TIMEOUT_S = 300.0
LONGEST_WAIT_S = 5.0
BAD_SHARE = 10
"""Every tenth label is bad."""


@dataclass(frozen=True)
class Reply:
    """One answer: route, status, seconds it took, when it came, and whether the request was meant to be refused."""

    route: str
    status: int
    seconds: float
    at: float
    bad: bool = False
    retry_after: bool = False


@dataclass(frozen=True)
class Acknowledged:
    """A label the server answered with 200."""

    case: str
    sent_sha256: str
    reply_sha256: str
    at: float


@dataclass
class Notes:
    """What all clients note together."""

    replies: list[Reply] = field(default_factory=list)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    unanswered: list[tuple[str, float, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, reply: Reply) -> None:
        """Note an answer."""
        with self.lock:
            self.replies.append(reply)


class Client(threading.Thread):
    """One client: repeats its turn until told to stop.

    Args:
        name: of the thread.
        url: returns where the server is now (it may come back on another port).
        notes: receives every answer.
        stop: ends the client.
        every: seconds between the starts of two turns; 0 asks again at once.
    """

    def __init__(self, name: str, url: Callable[[], str], notes: Notes, stop: threading.Event, every: float) -> None:
        super().__init__(name=name, daemon=True)
        self.url, self.notes, self.stopped, self.every = url, notes, stop, every
        self.session = requests.Session()

    def run(self) -> None:
        """Take turns; a server that is away is asked again after a moment."""
        while not self.stopped.is_set():
            started = time.monotonic()
            try:
                self.turn()
            except requests.RequestException as error:
                with self.notes.lock:
                    self.notes.unanswered.append((self.name, time.monotonic(), type(error).__name__))
                self.stopped.wait(0.5)
            self.stopped.wait(max(0.0, self.every - (time.monotonic() - started)))

    def turn(self) -> None:
        """Ask once."""
        raise NotImplementedError

    def ask(self, method: str, route: str, path: str = "", bad: bool = False, **kwargs: Any) -> requests.Response:
        """Send a request, note the answer, and wait as long as a busy server asks to."""
        started = time.monotonic()
        response = self.session.request(method, self.url() + (path or route), timeout=TIMEOUT_S, **kwargs)
        now = time.monotonic()
        wait = response.headers.get("Retry-After")
        self.notes.add(Reply(f"{method} {route}", response.status_code, now - started, now, bad, wait is not None))
        if wait is not None:
            self.stopped.wait(min(float(wait), LONGEST_WAIT_S))
        return response


class InferClient(Client):
    """Asks for one mask after the other."""

    def __init__(self, *args: Any, cases: list[str], model: str = "calf") -> None:
        super().__init__(*args, every=0.0)
        self.cases, self.model, self.next = cases, model, 0

    def turn(self) -> None:
        """Have the next case segmented, as 3D Slicer asks for it."""
        case = self.cases[self.next % len(self.cases)]
        self.next += 1
        params = '{"result_extension": ".nrrd", "result_dtype": "uint8", "client_id": "load"}'
        query = {"image": case}
        self.ask("POST", "/infer/{model}", f"/infer/{self.model}", params=query, data={"params": params})


class LabelClient(Client):
    """Submits a new label of its own case every second; every tenth is bad."""

    def __init__(self, *args: Any, case: str, labels: npt.NDArray[np.uint8], affine: Any, seed: int) -> None:
        super().__init__(*args, every=1.0)
        self.case, self.labels, self.affine = case, labels, affine
        self.random = np.random.default_rng(seed)
        self.turns, self.bad = 0, _bad_labels(labels, affine)

    def turn(self) -> None:
        """Submit once."""
        self.turns += 1
        bad = self.turns % BAD_SHARE == 0
        data = next(self.bad) if bad else encode(self._corrected(), self.affine)
        response = self.ask(
            "PUT",
            "/datastore/label",
            bad=bad,
            params={"image": self.case, "tag": "final"},
            data={"params": '{"client_id": "%s"}' % self.name},  # noqa: UP031
            files={"label": ("label.nii.gz", data)},
        )
        if response.status_code == 200:
            body = response.json()
            answered = str(body.get("received_sha256") or (body.get("receipt") or {}).get("received_sha256") or "")
            sent = hashlib.sha256(data).hexdigest()
            with self.notes.lock:
                self.notes.acknowledged.append(Acknowledged(self.case, sent, answered, time.monotonic()))

    def _corrected(self) -> npt.NDArray[np.uint8]:
        """Return the label with a small brush stroke somewhere in the tumour: no two are alike."""
        labels = self.labels.copy()
        tumour = np.argwhere(labels)
        i, j, k = tumour[self.random.integers(len(tumour))]
        labels[i : i + 3, j : j + 3, k : k + 3] = 1 + self.random.integers(3)
        flat = labels.reshape(-1)
        chosen = self.random.choice(np.flatnonzero(flat), 5, replace=False)
        flat[chosen] = 1 + self.random.integers(0, 3, 5)
        return labels


class Poller(Client):
    """What 3D Slicer asks every second while somebody works: what there is, what is next, how training goes."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args, every=1.0)

    def turn(self) -> None:
        """Ask all three."""
        self.ask("GET", "/info/")
        self.ask("POST", "/activelearning/{strategy}", "/activelearning/random", json={"client_id": "load"})
        self.ask("GET", "/train/")


def encode(labels: npt.NDArray[Any], affine: Any) -> bytes:
    """Return a label map as the bytes of a `.nii.gz`."""
    image = nib.Nifti1Image(labels, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1, mtime=0) as stream:
        stream.write(image.to_bytes())
    return buffer.getvalue()


def _bad_labels(labels: npt.NDArray[np.uint8], affine: Any) -> Iterator[bytes]:
    """Yield labels that must be refused: garbage, cut short, of another shape, moved, of a foreign value."""
    whole = encode(labels, affine)
    moved = np.array(affine)
    moved[0, 3] += 3.0
    foreign = labels.copy()
    foreign[0, 0, 0] = 9
    while True:
        yield b"this is no volume"
        yield whole[: len(whole) // 2]
        yield encode(labels[:-1], affine)
        yield encode(labels, moved)
        yield encode(foreign, affine)
