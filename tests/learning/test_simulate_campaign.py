"""A tiny campaign with real networks: choosing, labelling, training, testing, and taking up again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from comparison.in_process import InProcess
from rarevoxel.comparison import workers as pools
from rarevoxel.comparison.data import Fold, PhantomSet, phantom_fold
from rarevoxel.comparison.spec import Budget
from rarevoxel.comparison.workers import finished
from rarevoxel.errors import ConflictError, RequestError, TrainingError
from rarevoxel.learning.effort import Effort
from rarevoxel.learning.simulate import run
from rarevoxel.learning.simulate.campaign import Place
from rarevoxel.learning.simulate.run import run_campaigns
from rarevoxel.learning.simulate.spec import Arm, Campaign, Schedule, data_key, usable_strategies

BUDGET = Budget(network=(4, 4, 4), patch=16, epochs=1, patches_per_case=1, spacing=6.0, pretraining=0)
SCHEDULE = Schedule(start=2, per_round=1, rounds=2, steps=3)


def told(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "took"}


@pytest.fixture(scope="module")
def fold(tmp_path_factory: pytest.TempPathFactory) -> Fold:
    folder = tmp_path_factory.mktemp("cases")
    return phantom_fold("multifocal", folder, PhantomSet(5, 0, 2, (26, 32, 26), 6.0))


def a_campaign(fold: Fold, strategy: str = "combined", seed: int = 0, schedule: Schedule = SCHEDULE) -> Campaign:
    return Campaign(fold, data_key(fold), Arm(strategy, "dice_ce"), seed, schedule, BUDGET)


@pytest.fixture(scope="module")
def done(fold: Fold, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A whole campaign; read only."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pools, "ProcessPoolExecutor", InProcess)
        patch.setattr("os.fsync", lambda descriptor: None)
        (records,) = run_campaigns([a_campaign(fold)], Place(folder))
    return folder, records


def test_every_round_labels_what_it_should(fold: Fold, done: tuple[Path, list[dict[str, Any]]]) -> None:
    _, records = done
    assert [record["labelled"] for record in records] == [2, 3, 4]
    chosen = [one["case"] for record in records for one in record["chosen"]]
    assert len(set(chosen)) == len(chosen) == 4
    assert set(chosen) <= {entry.id for entry in fold.train}
    assert chosen[:2] == a_campaign(fold, "random").first_cases()
    assert [case["case"] for case in records[0]["cases"]] == [entry.id for entry in fold.test]
    assert "uncertainty above" in " ".join(records[1]["chosen"][0]["reasons"])
    assert {"WT", "TC", "ET"} == records[2]["cases"][0]["dice"].keys() == records[2]["cases"][0]["lesions"].keys()


def test_no_effort_is_above_drawing_everything(done: tuple[Path, list[dict[str, Any]]]) -> None:
    _, records = done
    efforts = [Effort.from_dict(one["effort"]) for record in records for one in record["chosen"]]
    assert [effort.proposed for effort in efforts[:2]] == [False, False]
    for effort in efforts:
        assert 30 < effort.seconds < 3600


def test_a_campaign_taken_up_again_ends_as_one_that_was_not_interrupted(
    fold: Fold, done: tuple[Path, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, records = done
    monkeypatch.setattr(pools, "ProcessPoolExecutor", InProcess)
    shutil.copytree(folder, tmp_path / "again")
    campaign, place = a_campaign(fold), Place(tmp_path / "again")
    # The last round is torn and its weights are lost, as are those of the round before, which are taken away in time.
    campaign.record(place.folder, 2).write_text('{"round": 2, "ca')
    campaign.weights(place.folder, 2).unlink()
    assert not campaign.weights(place.folder, 1).exists()
    (again,) = run_campaigns([campaign], place)
    assert [told(record) for record in again] == [told(record) for record in records]
    # What is finished is not run again.
    monkeypatch.setattr(run, "run_round", None)
    assert run_campaigns([campaign], place) == [again]


def test_the_first_round_is_shared_by_strategies_and_by_nothing_else(fold: Fold) -> None:
    first = a_campaign(fold, "random")
    assert first.key(0) == a_campaign(fold, "combined").key(0)
    assert first.key(1) != a_campaign(fold, "combined").key(1)
    assert first.key(0) != a_campaign(fold, "random", seed=1).key(0)
    longer = Schedule(start=2, per_round=1, rounds=4, steps=3)
    assert first.key(1) == a_campaign(fold, "random", schedule=longer).key(1)
    other = Schedule(start=2, per_round=1, rounds=2, steps=4)
    assert first.key(0) != a_campaign(fold, "random", schedule=other).key(0)
    assert first.first_cases() != a_campaign(fold, "random", seed=1).first_cases()


def test_another_label_is_another_study(fold: Fold, tmp_path: Path) -> None:
    shutil.copytree(Path(fold.train[0].image).parents[1], tmp_path / "cases")
    moved = phantom_fold("multifocal", tmp_path / "none", PhantomSet(1, 0, 1, (26, 32, 26), 6.0))
    before = data_key(moved)
    shutil.copy(moved.test[0].label, moved.train[0].label)
    assert data_key(moved) != before


class Rounds:
    """Stands for `run_round`: keeps what was asked for, and fails where told to."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int, int]] = []
        self.fails: dict[tuple[str, int], BaseException] = {}

    def __call__(self, campaign: Campaign, number: int, place: Place) -> dict[str, Any]:
        key = (campaign.arm.strategy, number)
        if key in self.fails:
            raise self.fails[key]
        self.done.append((campaign.arm.strategy, campaign.seed, number))
        record = {"round": number, "seed": campaign.seed, "cases": []}
        path = campaign.record(place.folder, number)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(record))
        return record


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Rounds:
    one = Rounds()
    monkeypatch.setattr(run, "run_round", one)
    monkeypatch.setattr(pools, "ProcessPoolExecutor", InProcess)
    return one


def test_rounds_of_all_campaigns_run_once_each(fold: Fold, fake: Rounds, tmp_path: Path) -> None:
    campaigns = [a_campaign(fold, strategy, seed) for seed in (0, 1) for strategy in ("random", "rare")]
    records = run_campaigns(campaigns, Place(tmp_path))
    assert len(fake.done) == len(set(fake.done)) == 2 * (1 + 2 * 2)
    assert [[record["round"] for record in one] for one in records] == [[0, 1, 2]] * 4
    assert [one[0]["seed"] for one in records] == [0, 0, 1, 1]


def test_a_round_that_fails_ends_its_campaign_alone_and_is_tried_again(
    fold: Fold, fake: Rounds, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake.fails = {("rare", 1): TrainingError("the loss became nan", "lower it"), ("random", 2): ValueError("odd")}
    campaigns = [a_campaign(fold, strategy) for strategy in ("random", "rare", "combined")]
    random, rare, combined = run_campaigns(campaigns, Place(tmp_path))
    assert (len(random), len(rare), len(combined)) == (3, 2, 3)
    assert rare[1]["error"]["message"] == "the loss became nan"
    assert random[2]["error"]["message"] == "ValueError: odd"
    assert "unexpectedly" in caplog.text
    fake.fails.clear()
    fake.done.clear()
    records = run_campaigns(campaigns, Place(tmp_path))
    assert sorted(fake.done) == [("random", 0, 2), ("rare", 0, 1), ("rare", 0, 2)]
    assert not any("error" in record for one in records for record in one)


def test_a_full_disk_ends_everything(fold: Fold, fake: Rounds, tmp_path: Path) -> None:
    fake.fails = {("random", 0): OSError(28, "No space left on device")}
    with pytest.raises(OSError, match="No space"):
        run_campaigns([a_campaign(fold, "random")], Place(tmp_path))


def test_no_workers(fold: Fold, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"workers \(0\) must be >= 1"):
        run_campaigns([a_campaign(fold)], Place(tmp_path), 0)


def test_torn_records_count_as_none(tmp_path: Path) -> None:
    for content in ("", "[]", '{"error": {}}', '{"ca'):
        (tmp_path / "a.json").write_text(content)
        assert finished(tmp_path / "a.json") is None
    assert finished(tmp_path / "none.json") is None


def test_what_cannot_be_replayed_is_refused(fold: Fold) -> None:
    assert "review" not in usable_strategies()
    with pytest.raises(RequestError, match="unknown strategy 'review'"):
        Arm("review", "auto")
    with pytest.raises(RequestError, match="dise_ce"):
        Arm("random", "dise_ce")
    with pytest.raises(RequestError, match=r"steps \(0\) must be >= 1"):
        Schedule(steps=0)
    with pytest.raises(RequestError, match=r"noise \(1.5\) must lie between 0 and 1"):
        Schedule(noise=1.5)
    with pytest.raises(RequestError, match="unknown samples 'guess'"):
        Schedule(samples="guess")
    with pytest.raises(ConflictError, match=r"5 cases to choose from, expected at least 12 \(2 \+ 2 rounds of 5\)"):
        Schedule(start=2, per_round=5, rounds=2).check(fold)
