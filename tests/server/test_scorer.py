"""When the server has cases scored, and what it says of it; the process is a stand-in that needs no time."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from rarevoxel.cases.folders import TABLE_NAME
from rarevoxel.config import ActiveConfig, AppConfig
from rarevoxel.errors import ConfigError, ModelError
from rarevoxel.learning.pool import CaseScore
from rarevoxel.learning.pool.cases import pool_cases
from rarevoxel.learning.pool.store import store_of
from rarevoxel.server import scorer as scorer_module
from rarevoxel.server.conf import with_conf
from rarevoxel.server.score_process import MODULE, Order
from rarevoxel.server.scorer import Scorer

WAITS = "import time; time.sleep(60)"
DOES_NOTHING = "pass"


@dataclass(frozen=True)
class StandIn(Order):
    """An order that is another program's."""

    body: str = WAITS

    def command(self) -> list[str]:
        return [sys.executable, "-c", self.body]


class Weights:
    """What a scorer asks of an engine."""

    def __init__(self, sha256: str = "a" * 64) -> None:
        self.sha256 = sha256
        self.asked = 0

    def model(self) -> dict[str, Any]:
        self.asked += 1
        if not self.sha256:
            raise ModelError("no trained weights", "train")
        return {"sha256": self.sha256}


class Bench:
    """A scorer that is turned by hand."""

    def __init__(self, studies: Path, body: str, **settings: Any) -> None:
        self.studies, self.weights, self.trains = studies, Weights(), False
        self.order = StandIn("app", str(studies), ("calf",), {}, body)
        active = ActiveConfig(**{"idle_s": 0.0, "method": "none", **settings})
        engines: Any = {"calf": self.weights}
        self.scorer = Scorer(engines, self.order, active, training=lambda: self.trains)

    def turn(self) -> str:
        self.scorer._turn()
        return str(self.scorer.status()["state"])

    def until(self, state: str) -> None:
        deadline = time.monotonic() + 20
        while self.turn() != state:
            assert time.monotonic() < deadline, self.scorer.status()
            time.sleep(0.05)

    def counts(self) -> tuple[int, int, int]:
        found = self.scorer.status()["models"]["calf"]
        return found["scored"], found["waiting"], found["failed"]

    def score(self, names: Callable[[str], bool] = lambda name: True, error: str = "") -> None:
        for case in pool_cases(self.studies):
            if names(case.id):
                score = CaseScore(case.id, case.stamp, self.weights.sha256, "none", error=error)
                store_of(self.studies, "calf").write(score)

    @property
    def pid(self) -> int | None:
        process = self.scorer._process
        return process.pid if process else None


@pytest.fixture
def bench(studies: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(body: str = WAITS, **settings: Any) -> Bench:
        made.append(Bench(studies, body, **settings))
        return made[-1]

    yield make
    for one in made:
        process = one.scorer._process
        one.scorer.stop()
        if process is not None:
            process.wait(10)


def test_it_runs_until_all_is_scored_and_again_after_a_change(bench: Callable[..., Bench]) -> None:
    served = bench()
    assert served.turn() == "running"
    assert served.counts() == (0, 6, 0)
    first = served.pid
    assert served.turn() == "running"
    assert served.pid == first, "one process at a time"
    served.score()
    served.scorer._end()
    served.until("idle")
    assert served.counts() == (6, 0, 0)
    os.utime(served.studies / "sequences" / "phantom-004" / "t2w.nii.gz", (1, 1))
    assert served.turn() == "running"
    assert served.counts() == (5, 1, 0)
    served.score(lambda name: name == "phantom-004", error="torn")
    served.scorer._end()
    served.until("idle")
    assert served.counts() == (5, 0, 1), "it is not tried again"
    served.weights.sha256 = "b" * 64
    assert served.turn() == "running", "other weights were published"
    assert served.counts() == (0, 5, 1)


def test_a_training_comes_first(bench: Callable[..., Bench]) -> None:
    served = bench()
    served.trains = True
    assert served.turn() == "paused"
    assert served.pid is None
    served.trains = False
    assert served.turn() == "running"
    process = psutil.Process(served.pid)
    served.trains = True
    assert served.turn() == "paused"
    process.wait(10)
    assert served.turn() == "paused"
    served.trains = False
    assert served.turn() == "running", "it goes on at once"


def test_it_waits_until_nobody_clicks(bench: Callable[..., Bench]) -> None:
    served = bench(idle_s=0.4)
    assert served.turn() == "waiting"
    time.sleep(0.5)
    served.scorer.touch()
    assert served.turn() == "waiting"
    time.sleep(0.5)
    assert served.turn() == "running"


def test_what_is_left_undone_is_tried_again_later(bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer_module, "RETRY_S", 0.8)
    served = bench(DOES_NOTHING)
    assert served.turn() == "running"
    served.until("failed")
    assert "tried again" in served.scorer.status()["note"]
    assert served.pid is None
    served.until("running")


def test_without_weights_it_says_so_and_does_not_ask_all_the_time(bench: Callable[..., Bench]) -> None:
    served = bench()
    served.weights.sha256 = ""
    for _ in range(3):
        assert served.turn() == "failed"
    assert served.scorer.status()["note"] == "calf: no trained weights"
    assert served.weights.asked == 1
    assert served.pid is None


def test_the_thread_survives_a_torn_folder_and_stops_its_process(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorer_module, "POLL_S", 0.02)
    served = bench()
    table = served.studies / TABLE_NAME
    whole = table.read_bytes()
    table.write_bytes(b"{")
    served.scorer.start()

    def wait_for(state: str) -> None:
        deadline = time.monotonic() + 20
        while served.scorer.status()["state"] != state:
            assert time.monotonic() < deadline, served.scorer.status()
            time.sleep(0.02)

    wait_for("failed")
    table.write_bytes(whole)
    wait_for("running")
    process = psutil.Process(served.pid)
    served.scorer.stop()
    process.wait(10)


def test_off_is_off(studies: Path, config: AppConfig) -> None:
    engines: Any = {"calf": Weights()}
    scorer = Scorer.of(config, StandIn("app", str(studies), ("calf",), {}), engines, {}, enabled=True)
    scorer.start()
    assert scorer.status() == {"state": "off", "note": "scoring is switched off", "models": {}}
    scorer.stop()


def test_the_command_line_takes_an_order_there(tmp_path: Path) -> None:
    order = Order(str(tmp_path), "/studies", ("calf", "two"), {"scoring": "on"})
    assert order.command()[:3] == [sys.executable, "-m", MODULE]
    assert Order.from_json(order.command()[3]) == order


def test_configuration(config: AppConfig) -> None:
    assert with_conf(config, {"scoring": "on"}).active.scoring
    assert not with_conf(AppConfig(), {"scoring": "off"}).active.scoring
    with pytest.raises(ConfigError, match="--conf scoring 'yes': expected 'on' or 'off'"):
        with_conf(config, {"scoring": "yes"})
    with pytest.raises(ConfigError, match=r"method \('magic'\) must be one of"):
        ActiveConfig(method="magic")
    with pytest.raises(ConfigError, match=r"idle_s \(-1\) must lie between 0 and 86400"):
        ActiveConfig(idle_s=-1)
