"""Keeps the scores of all cases up to date beside a server, in a process that gives way to it."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rarevoxel.config import ActiveConfig, AppConfig
from rarevoxel.errors import RareVoxelError
from rarevoxel.inference.engine import Engine
from rarevoxel.learning.pool.cases import pool_cases
from rarevoxel.learning.pool.plan import Plan, make_plan
from rarevoxel.learning.pool.store import ScoreStore, store_of
from rarevoxel.server.score_process import Order

logger = logging.getLogger(__name__)

OFF, IDLE, WAITING, RUNNING, PAUSED, FAILED = "off", "idle", "waiting", "running", "paused", "failed"
"""Not to be done; nothing to do; about to start; at work; held up by a training; stopped by something to be mended."""

POLL_S = 2.0
"""Seconds between two looks at what has changed."""

RETRY_S = 60.0
"""Seconds until it is tried again when a process has left work undone."""

_LOOK_SHARE = 0.02
"""Largest share of the time spent on looking: a slow folder is looked at less often."""


@dataclass(frozen=True)
class Counts:
    """Cases by what is known of them, for one model.

    Args:
        scored: with a score of the weights in service and of its files as they are.
        waiting: without.
        failed: that could not be read, and have not changed since.
    """

    scored: int
    waiting: int
    failed: int


class Scorer:
    """Looks what has to be scored and lets a process do it; see `rarevoxel.server.score_process`.

    A process is started when something has changed (images, weights in service, labels), nobody has asked for a
    prediction for a while and no training is on; it is stopped when one begins. The server itself only looks at names
    and times of files.

    Args:
        engines: model -> its engine in this server, which knows what is in service.
        order: what the process is told.
        settings: how, and after how much quiet.
        training: says whether a training is on.
        enabled: False for a scorer that does nothing and says so.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        order: Order,
        settings: ActiveConfig,
        *,
        training: Callable[[], bool],
        enabled: bool = True,
    ) -> None:
        self._studies, self._engines, self._order = Path(order.studies), engines, order
        self._settings, self._training = settings, training
        self._stores: dict[str, ScoreStore] = {model: store_of(self._studies, model) for model in engines}
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._quiet_since = time.monotonic()
        self._tried: object = None
        self._retry_at = 0.0
        self._counts: dict[str, Counts] = {}
        self._unusable: dict[str, tuple[float, str]] = {}
        self._state, self._note = (WAITING, "") if enabled else (OFF, "scoring is switched off")
        self._enabled = enabled

    @classmethod
    def of(
        cls, config: AppConfig, order: Order, engines: Mapping[str, Engine], trainers: Mapping[str, Any], enabled: bool
    ) -> Scorer:
        """Return the scorer of an app.

        Args:
            config: of the app.
            order: what the process is told.
            engines: of the models.
            trainers: whose `stats()` say when a training is on.
            enabled: whether it could score; the configuration decides whether it does.
        """

        def training() -> bool:
            return any(trainer.stats().get("status") == "running" for trainer in trainers.values())

        return cls(engines, order, config.active, training=training, enabled=enabled and config.active.scoring)

    def start(self) -> None:
        """Begin, in a thread of its own; does nothing when scoring is off."""
        if self._enabled:
            threading.Thread(target=self._work, name="scorer", daemon=True).start()

    def stop(self) -> None:
        """End the process and start no other; returns at once."""
        self._stopping.set()
        self._end()

    def touch(self) -> None:
        """Note that somebody asked for a prediction."""
        self._quiet_since = time.monotonic()

    def status(self) -> dict[str, Any]:
        """Return `state`, a `note` that says why where there is something to say, and `models`: counts of cases.

        Only remembers what the last look found, so it never waits.
        """
        models = {name: asdict(counts) for name, counts in self._counts.items()}
        return {"state": self._state, "note": self._note, "models": models}

    def _work(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            began = time.monotonic()
            try:
                self._turn()
            except (OSError, RareVoxelError) as error:
                self._tell(FAILED, str(error))
            except Exception as error:
                logger.exception("the scorer met something unforeseen")
                self._tell(FAILED, type(error).__name__)
            pause = max(POLL_S, (time.monotonic() - began) / _LOOK_SHARE)

    def _turn(self) -> None:
        if self._process is not None and (code := self._process.poll()) is not None:
            self._process = None
            self._retry_at = time.monotonic() + RETRY_S
            if code < 0:
                logger.info("the scoring process was ended by signal %d", -code)
        if self._training():
            self._end()
            self._tried = None
            self._tell(PAUSED, "a training is on")
            return
        wanted, without = self._look()
        if self._process is not None:
            self._tell(RUNNING)
        elif not wanted:
            self._tell(FAILED if without else IDLE, "; ".join(without))
        elif wanted == self._tried and time.monotonic() < self._retry_at:
            self._tell(FAILED, "some cases could not be scored for now; it is tried again soon")
        elif time.monotonic() - self._quiet_since < self._settings.idle_s:
            self._tell(WAITING, "until nobody has asked for a prediction for a while")
        else:
            self._tried = wanted
            self._begin()
            self._tell(RUNNING)

    def _look(self) -> tuple[frozenset[tuple[str, str, str, str]], list[str]]:
        """What waits (model, weights, case, stamp), and which models have no weights and why."""
        cases = pool_cases(self._studies)
        wanted: set[tuple[str, str, str, str]] = set()
        without: list[str] = []
        for model, engine in self._engines.items():
            weights, why = self._weights(model, engine)
            if not weights:
                without.append(f"{model}: {why}")
                self._counts[model] = Counts(0, len(cases), 0)
                continue
            plan = make_plan(cases, self._stores[model].read(), weights, self._settings.method)
            self._counts[model] = _counts(plan)
            wanted |= {(model, weights, case.id, case.stamp) for case in plan.waiting}
        return frozenset(wanted), without

    def _weights(self, model: str, engine: Engine) -> tuple[str, str]:
        """The checksum of the weights in service, or empty and why there are none; that is asked now and then."""
        until, why = self._unusable.get(model, (0.0, ""))
        if time.monotonic() < until:
            return "", why
        try:
            return str(engine.model()["sha256"]), ""
        except RareVoxelError as error:
            self._unusable[model] = (time.monotonic() + RETRY_S, error.message)
            return "", error.message

    def _begin(self) -> None:
        logger.info("scoring cases: %s", ", ".join(f"{c.waiting} with {name}" for name, c in self._counts.items()))
        process = subprocess.Popen(self._order.command(), stdin=subprocess.DEVNULL)
        self._process = process
        if self._stopping.is_set():
            process.terminate()

    def _end(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()

    def _tell(self, state: str, note: str = "") -> None:
        if state == FAILED and (state, note) != (self._state, self._note):
            logger.warning("scoring: %s", note)
        self._state, self._note = state, note


def _counts(plan: Plan) -> Counts:
    return Counts(plan.scored, len(plan.waiting), plan.failed)
