"""Training that starts by itself, after so many corrections or when nobody has worked for a while."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rarevoxel.config import AutoTrainingConfig
from rarevoxel.errors import RareVoxelError
from rarevoxel.volumes import replace_file

logger = logging.getLogger(__name__)

CHECK_S = 2.0
"""Seconds between two looks at whether a training is due."""

USER = "auto-training"


@dataclass
class AutoTrainer:
    """Starts trainings when enough was corrected, one after the other, and never while one is under way.

    Whether what comes out is published is decided by the gate, as for any training.

    Args:
        config: when, and of which models.
        models: those that are offered, in order.
        start: starts the training of a model in the background; raises a `RareVoxelError` when it cannot.
        busy: says whether a training is under way or waiting.
        file: where the corrections that no training has seen yet are counted, so that a restart forgets none.
        clock: seconds, never going back.
    """

    config: AutoTrainingConfig
    models: Sequence[str]
    start: Callable[[str], object]
    busy: Callable[[], bool]
    file: Path
    clock: Callable[[], float] = time.monotonic
    note: str = ""
    _corrections: int = 0
    _tried: int = -1
    _waiting: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        self._last = self.clock()
        self._corrections = _read(self.file)
        wanted = self.config.models or tuple(self.models[:1])
        self.chosen = [name for name in wanted if name in self.models]

    def corrected(self) -> None:
        """Count a label that was accepted."""
        with self._lock:
            self._corrections += 1
            self._last = self.clock()
            self._keep()

    def seen(self) -> None:
        """Begin to count anew, because a training has started that sees every correction so far, whoever started it."""
        with self._lock:
            self._corrections, self._tried = 0, -1
            self._keep()

    def used(self) -> None:
        """Note that somebody works with the server."""
        self._last = self.clock()

    def due(self) -> str:
        """Return why a training is due now, empty when none is."""
        new, after, idle = self._corrections, self.config.after, self.config.idle_minutes
        if new < 1 or new == self._tried:
            return ""
        if 0 < after <= new:
            return f"{new} corrections since the last training, {after} are wanted"
        quiet = (self.clock() - self._last) / 60
        if 0 < idle <= quiet:
            return f"nobody has worked for {quiet:.0f} minutes, {idle:g} are wanted, and {new} corrections are new"
        return ""

    def check(self) -> str:
        """Start a training if one is due and none is under way; return the model's name, empty for none."""
        if self.busy():
            return ""
        with self._lock:
            why = "" if self._waiting else self.due()
            if why:
                self._waiting = list(self.chosen)
                # One that cannot start is tried again after the next correction.
                self._tried = self._corrections
            if not self._waiting:
                return ""
            model = self._waiting.pop(0)
        try:
            self.start(model)
        except RareVoxelError as error:
            self.note = f"training {model} did not start: {error.message}"
            logger.warning("%s", self.note)
            return ""
        self.seen()
        self.note = f"training {model}: {why}" if why else f"training {model}, next in turn"
        logger.info("%s", self.note)
        return model

    def words(self) -> str:
        """Return when the next training is due, and what became of the last one, in a few words."""
        if not self.config.on or not self.chosen:
            return "never"
        due = [f"after {self.config.after} corrections"] if self.config.after else []
        due += [f"when nobody has worked for {self.config.idle_minutes:g} min"] if self.config.idle_minutes else []
        told = f"{', '.join(self.chosen)} {' or '.join(due)}; {self._corrections} so far"
        return f"{told}; last: {self.note}" if self.note else told

    def run(self) -> None:
        """Look again and again in a thread of its own; ends with the process."""
        if self.config.on and self.chosen:
            threading.Thread(target=self._loop, name="auto-training", daemon=True).start()

    def _loop(self) -> None:
        while True:
            time.sleep(CHECK_S)
            try:
                self.check()
            except Exception:
                logger.exception("auto-training could not look whether a training is due")

    def _keep(self) -> None:
        try:
            replace_file(self.file, json.dumps({"corrections": self._corrections}).encode(), durable=False)
        except OSError as error:
            logger.warning("the number of corrections could not be kept: %s", error.strerror or error)


def auto_trainer(app: Any) -> AutoTrainer:
    """Return what starts the trainings of an app; it is not running yet."""

    # The endpoints of the host are needed by servers alone, not by the processes that train for them.
    def start(model: str) -> None:
        from rarevoxel.server.endpoints.tasks import launch_training

        launch_training(app, model, {"client_id": USER})

    def busy() -> bool:
        from rarevoxel.server.endpoints.tasks import waiting

        return bool(waiting("train"))

    file = app.app_folder / "model" / "auto_training.json"
    return AutoTrainer(app.app_config.auto_training, app.chosen, start, busy, file)


def _read(file: Path) -> int:
    try:
        return max(0, int(json.loads(file.read_text(encoding="utf-8"))["corrections"]))
    except (OSError, ValueError, KeyError, TypeError):
        return 0
