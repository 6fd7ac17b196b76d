"""Training that starts by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rarevoxel.config import AppConfig, AutoTrainingConfig, ModelConfig
from rarevoxel.errors import ConfigError, ConflictError
from rarevoxel.server.auto_training import AutoTrainer
from rarevoxel.server.conf import with_conf

MODELS = ("calf", "dice_focal")


class World:
    """A clock, and trainings that run until they are told to end."""

    def __init__(self, folder: Path, *models: str, after: int = 0, idle: float = 0.0) -> None:
        self.now, self.running, self.started = 0.0, False, list[str]()
        self.refuse = False
        self.folder = folder
        self.config = AutoTrainingConfig(after, idle, models)
        self.trainer = self.make()

    def make(self) -> AutoTrainer:
        file = self.folder / "auto.json"
        return AutoTrainer(self.config, MODELS, self.start, lambda: self.running, file, lambda: self.now)

    def start(self, model: str) -> None:
        if self.refuse:
            raise ConflictError("2 labelled cases of 2 patients, expected at least 4 patients")
        self.started.append(model)
        self.running = True

    def correct(self, times: int = 1) -> None:
        for _ in range(times):
            self.trainer.corrected()

    def end(self) -> str:
        self.running = False
        return self.trainer.check()


def test_off_by_default(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.correct(100)
    world.now += 1e6
    assert world.trainer.check() == ""
    assert world.trainer.words() == "never"
    assert not AppConfig().auto_training.on


def test_it_starts_after_so_many_corrections_and_counts_anew(tmp_path: Path) -> None:
    world = World(tmp_path, after=3)
    world.correct(2)
    assert world.trainer.check() == ""
    world.correct()
    assert world.trainer.check() == "calf"
    assert "3 corrections" in world.trainer.note
    assert world.end() == ""
    world.correct(2)
    assert world.trainer.check() == ""
    world.correct()
    assert world.trainer.check() == "calf"


def test_never_while_one_is_under_way_and_nothing_is_forgotten_meanwhile(tmp_path: Path) -> None:
    world = World(tmp_path, after=2)
    world.running = True
    world.correct(2)
    assert world.trainer.check() == ""
    assert world.end() == "calf"
    world.correct(2)
    assert world.trainer.check() == ""
    assert world.started == ["calf"]
    assert world.end() == "calf"


def test_it_starts_when_nobody_works_and_something_is_new(tmp_path: Path) -> None:
    world = World(tmp_path, idle=10.0)
    world.now += 3600
    assert world.trainer.check() == ""
    world.correct()
    world.now += 599
    assert world.trainer.check() == ""
    world.trainer.used()
    world.now += 599
    assert world.trainer.check() == ""
    world.now += 1
    assert world.trainer.check() == "calf"
    world.end()
    world.now += 3600
    assert world.trainer.check() == ""


def test_several_models_are_trained_one_after_the_other(tmp_path: Path) -> None:
    world = World(tmp_path, "dice_focal", "calf", after=1)
    world.correct()
    assert world.trainer.check() == "dice_focal"
    assert world.trainer.check() == ""
    assert world.end() == "calf"
    assert world.end() == ""


def test_one_that_cannot_start_is_tried_again_after_the_next_correction(tmp_path: Path) -> None:
    world = World(tmp_path, after=2)
    world.refuse = True
    world.correct(2)
    assert world.trainer.check() == ""
    assert "expected at least 4 patients" in world.trainer.note
    world.refuse = False
    assert world.trainer.check() == ""
    world.correct()
    assert world.trainer.check() == "calf"
    assert "; 0 so far" in world.trainer.words()


def test_it_says_in_words_when_it_trains_and_what_became_of_it(tmp_path: Path) -> None:
    world = World(tmp_path, after=3)
    world.correct(2)
    assert world.trainer.words() == "calf after 3 corrections; 2 so far"
    world.correct()
    world.trainer.check()
    assert world.trainer.words().startswith("calf after 3 corrections; 0 so far; last: training calf: 3 corrections")


def test_a_restart_forgets_no_correction(tmp_path: Path) -> None:
    world = World(tmp_path, after=3)
    world.correct(2)
    world.trainer = world.make()
    world.correct()
    assert world.trainer.check() == "calf"
    world.trainer = world.make()
    assert "; 0 so far" in world.trainer.words()
    (tmp_path / "auto.json").write_text("{")
    assert "; 0 so far" in world.make().words()


def test_conf_sets_it_and_says_what_is_wrong() -> None:
    config = AppConfig(models={"calf": ModelConfig("auto", "")})
    found = with_conf(config, {"train_after": "5", "train_idle": "2.5"}).auto_training
    assert (found.after, found.idle_minutes, found.on) == (5, 2.5, True)
    with pytest.raises(ConfigError, match="train_after 'soon': expected a whole number"):
        with_conf(config, {"train_after": "soon"})
    with pytest.raises(ConfigError, match="idle_minutes"):
        with_conf(config, {"train_idle": "-1"})
    with pytest.raises(ConfigError, match=r"auto_training names models \['other'\]"):
        replace(config, auto_training=AutoTrainingConfig(1, 0, ("other",)))
