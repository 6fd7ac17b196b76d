"""The public MONAI Label client with this package's errors: what an annotation tool does, in five calls."""

from __future__ import annotations

import ast
import json
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from monailabel.client import MONAILabelClient
from monailabel.client.client import MONAILabelClientException

from rarevoxel.errors import RareVoxelError
from rarevoxel.labels import CLIENT_LABELS
from rarevoxel.volumes import read_labels, write_labels

_ANSWER = re.compile(r"Status: (\d+); Response: (.*)", re.DOTALL)
_TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class Answer:
    """A mask the server returned.

    Attributes:
        labels: `(H, W, D)` of `CLIENT_LABELS`.
        regions_ml: volume per region.
        seconds: what the server needed.
        round_trip: what the client waited.
        weights: name of the weight file that answered.
    """

    labels: npt.NDArray[np.uint8]
    regions_ml: dict[str, float]
    seconds: float
    round_trip: float
    weights: str


class LabelClient:
    """What 3D Slicer does with a server, without 3D Slicer.

    Args:
        url: of the server.
        folder: receives the masks the server sends.
    """

    def __init__(self, url: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._client = MONAILabelClient(url, tmpdir=str(folder), client_id="rarevoxel")

    def info(self) -> dict[str, Any]:
        """Return what the server offers."""
        with _telling("ask what the server offers"):
            return dict(self._client.info())

    def next_sample(self, strategy: str) -> str:
        """Return the id of the case to label next.

        Raises:
            RareVoxelError: when every case has a label.
        """
        with _telling(f"ask for the next sample ({strategy})"):
            found = self._client.next_sample(strategy, {})
        if not found.get("id"):
            raise RareVoxelError("the server has no case left to label, expected at least one without a final label")
        return str(found["id"])

    def infer(self, model: str, case: str) -> Answer:
        """Have a case segmented.

        Raises:
            RareVoxelError: when the server refuses.
        """
        started = time.perf_counter()
        with _telling(f"segment {case} with {model}"):
            file, params = self._client.infer(model, case, {})
        waited = time.perf_counter() - started
        if file is None:
            raise RareVoxelError(f"the server sent no mask for {case}, only {params}")
        labels = read_labels(file).astype(np.uint8)
        Path(file).unlink()
        return Answer(
            labels=labels,
            regions_ml={name: float(ml) for name, ml in params["regions_ml"].items()},
            seconds=float(params["latencies"]["total"]),
            round_trip=waited,
            weights=str(params["model"]["weights"]),
        )

    def submit(
        self, case: str, labels: npt.NDArray[np.uint8], affine: npt.NDArray[np.float64], segments: Sequence[str]
    ) -> None:
        """Submit a label map the way 3D Slicer does: voxel values are the ranks of the segments in `label_info`.

        Args:
            case: case id.
            labels: `(H, W, D)` of `CLIENT_LABELS`.
            affine: of the display volume.
            segments: names in the client's order, which need not be the server's.

        Raises:
            RareVoxelError: when the server refuses the label.
        """
        ranks = np.zeros_like(labels)
        for rank, name in enumerate(segments, start=1):
            ranks[labels == CLIENT_LABELS[name]] = rank
        file = self.folder / f"submit-{case}.nii.gz"
        write_labels(file, ranks, affine)
        info = [{"name": name, "idx": rank} for rank, name in enumerate(segments, start=1)]
        with _telling(f"submit the label of {case}"):
            self._client.save_label(case, str(file), tag="final", params={"label_info": info})

    def label(self, case: str, tag: str = "final") -> npt.NDArray[np.uint8]:
        """Return the label map the server holds, `(H, W, D)` of `CLIENT_LABELS`."""
        with _telling(f"fetch the label of {case}"):
            file = Path(self._client.download_label(case, tag))
        labels = read_labels(file).astype(np.uint8)
        file.unlink()
        return labels

    def train(
        self,
        model: str,
        options: Mapping[str, Any],
        *,
        on_progress: Callable[[Mapping[str, Any]], None] = lambda stats: None,
        check: Callable[[], None] = lambda: None,
        poll: float = 1.0,
    ) -> dict[str, Any]:
        """Train a model and wait until it is done.

        Args:
            model: its name.
            options: of the run, see the trainer's config in `info`.
            on_progress: called with the trainer's stats at every poll.
            check: called at every poll; may raise to give up.
            poll: seconds between two questions.

        Returns:
            The final stats of the run.

        Raises:
            RareVoxelError: when the server refuses, or the run fails: with its last lines.
        """
        with _telling(f"train {model}"):
            self._client.train_start(model, dict(options))
        while True:
            check()
            with _telling(f"follow the training of {model}"):
                task = self._client.train_status()
            stats = dict(self.info()["train_stats"].get(model, {}))
            on_progress(stats)
            status = str(task.get("status"))
            if status == "DONE":
                return stats
            if status in ("ERROR", "STOPPED"):
                last = "\n".join(str(line) for line in list(task.get("details") or [])[-12:])
                raise RareVoxelError(f"the training of {model} ended with status {status}; its last lines:\n{last}")
            time.sleep(poll)


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """Turn what the public client raises into errors that say which step failed, and never wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)  # the public client offers no timeout of its own
    try:
        yield
    except MONAILabelClientException as error:
        message, hint = _explain(str(error.msg))
        raise RareVoxelError(f"cannot {what}: {message}", hint) from error
    except (OSError, ValueError) as error:
        raise RareVoxelError(f"cannot {what}: {type(error).__name__}: {error}", "is the server still up?") from error
    finally:
        socket.setdefaulttimeout(before)


def _explain(answer: str) -> tuple[str, str]:
    """Return message and hint of the server's JSON error, or the answer as it came."""
    match = _ANSWER.fullmatch(answer)
    if match is None:
        return answer, ""
    status, body = match.groups()
    try:
        # Some calls of the public client put the repr of the bytes into their message.
        text = ast.literal_eval(body).decode() if body.startswith(("b'", 'b"')) else body
        content = json.loads(text)
        problem = content.get("error", content)
        detail = problem.get("message") or problem.get("detail")
        return f"{detail} (HTTP {status})", str(problem.get("hint", ""))
    except (ValueError, SyntaxError, AttributeError):
        return f"HTTP {status}: {body[:500]}", ""
