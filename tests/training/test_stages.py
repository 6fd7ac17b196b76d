"""Two-stage training: two networks, one file, one threshold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rarevoxel.config import AppConfig, NetworkConfig
from rarevoxel.inference import Engine, two_stage
from rarevoxel.networks import (
    SecondStage,
    TwoStage,
    TwoStageNetwork,
    binary_from_regions,
    build_network,
    load_weights,
    save_weights,
)
from rarevoxel.training import LabelledCase, Places, TrainOptions, in_holdout, stages, train_model
from rarevoxel.training.fitting import History
from rarevoxel.training.plan import Plan, make_plan
from rarevoxel.training.stages import train_networks

NOTHING = 1e-12
"""A learning rate at which next to nothing is learned."""


@pytest.fixture
def labelled(phantom_folders: Path) -> list[LabelledCase]:
    """Two cases that train and one that judges."""
    names = [f"patient-{i}" for i in range(100)]
    train, held = ([name for name in names if in_holdout(name, 0.25) is side] for side in (False, True))
    patients = {1: train[0], 2: train[1], 5: held[0]}
    return [
        LabelledCase(f"case-{n}", patient, folder / "t1c.nii.gz", folder / "seg.nii.gz")
        for n, patient in patients.items()
        for folder in [phantom_folders / f"phantom-00{n}"]
    ]


@pytest.fixture
def entries(labelled: list[LabelledCase]) -> list[dict[str, Any]]:
    return [dict(case.entry()) for case in labelled]


def options(config: AppConfig, **request: Any) -> TrainOptions:
    return TrainOptions.from_request({"max_epochs": 1, "loss": "dice_ce", **request}, config, "auto")


def plan_of(config: AppConfig, asked: TrainOptions, train: list[dict[str, Any]]) -> Plan:
    return make_plan(config, asked, train, {})


def network(config: AppConfig, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_network(config.network)


def state(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().clone() for key, value in network.state_dict().items()}


def differ(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float = 1e-6) -> bool:
    assert one.keys() == other.keys()
    return any(not torch.allclose(one[key], other[key], rtol=0, atol=tolerance) for key in one)


@pytest.mark.parametrize("form", ["hard", "soft"])
def test_from_labels_to_a_served_two_stage_model(
    config: AppConfig, tmp_path: Path, labelled: list[LabelledCase], form: str
) -> None:
    places = Places.of(tmp_path, "two_stage", "first")
    stats = train_model(config, options(config), labelled, places, two_stage=form)
    second = stats["second_stage"]
    assert second["form"] == form
    assert sorted(second["tuning"]) == [f"{step / 20:.2f}" for step in range(1, 20)]
    assert second["tuning"][f"{second['threshold']:.2f}"] == max(second["tuning"].values())
    assert json.loads(places.stats.read_text())["second_stage"] == second
    assert json.loads((places.run / "lineage.json").read_text())["second_stage"] == second
    assert (stats["epoch"], len(stats["train"]["loss"])) == (1, 1)
    assert stats["gate"]["publish"] is True
    trained, *_ = load_weights(places.published)
    assert isinstance(trained, TwoStageNetwork)
    assert trained.settings == TwoStage(second["threshold"], form)
    assert trained.foreground_config == config.network
    prediction = Engine(config, [places.published], device="cpu").predict(labelled[2].image)
    assert prediction.model["two_stage"] == {"threshold": second["threshold"], "form": form}


def test_one_stage_has_none(config: AppConfig, tmp_path: Path, labelled: list[LabelledCase]) -> None:
    places = Places.of(tmp_path, "calf", "run")
    both = TwoStageNetwork(network(config), SecondStage(network(config), config.network))
    one = network(config, 1)
    both.foreground = binary_from_regions(one, config.network)
    save_weights(places.starter, both, config.network, config.preprocessing, {})
    stats = train_model(config, options(config), labelled, places)
    assert "second_stage" not in stats
    assert stats["start"] == "starter.pt"
    found, *_ = load_weights(places.run / "candidate.pt")
    assert not isinstance(found, TwoStageNetwork), "a model of one stage leaves the binary network of its start behind"


def two_stage_start(config: AppConfig) -> TwoStageNetwork:
    """Two networks that have nothing to do with each other."""
    second = SecondStage(
        binary_from_regions(network(config, 1), config.network), config.network, TwoStage(0.95, "soft")
    )
    return TwoStageNetwork(network(config, 0), second)


@pytest.mark.parametrize("rate", [0.01, NOTHING])
def test_going_on_from_a_two_stage_file_trains_both(
    config: AppConfig, tmp_path: Path, labelled: list[LabelledCase], rate: float
) -> None:
    places = Places.of(tmp_path, "two_stage", "run")
    start = two_stage_start(config)
    save_weights(places.published, start, config.network, config.preprocessing, {})
    stats = train_model(config, options(config, learning_rate=rate), labelled, places, two_stage="hard")
    assert stats["start"] == "two_stage.pt"
    found, *_ = load_weights(places.run / "candidate.pt")
    assert isinstance(found, TwoStageNetwork)
    assert differ(state(found.regions), state(start.regions)) is (rate > NOTHING)
    assert differ(state(found.foreground), state(start.foreground)) is (rate > NOTHING)
    assert found.settings.form == "hard", "the form is the model's, not that of the weights it starts from"
    assert found.settings.threshold == stats["second_stage"]["threshold"]


def test_the_binary_network_starts_as_the_trained_regions_whole_tumour(
    config: AppConfig, entries: list[dict[str, Any]]
) -> None:
    start = network(config)
    whole = binary_from_regions(start, config.network)
    asked = options(config, learning_rate=NOTHING)
    trained = train_networks(start, plan_of(config, asked, entries[:1]), asked, (), form="hard")
    assert isinstance(trained.network, TwoStageNetwork)
    assert not differ(state(trained.network.foreground), state(whole))
    assert trained.network.regions is start


def test_what_each_network_is_trained_on(
    config: AppConfig, entries: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []
    fit = stages.fit

    def listen(network: nn.Module, loss: nn.Module, *rest: Any, **named: Any) -> Any:
        calls.append({"loss": loss, "options": rest[1], "train": rest[2], "holdout": rest[3], **named})
        return fit(network, loss, *rest, **named)

    monkeypatch.setattr(stages, "fit", listen)
    asked = options(config, sampler="square_root", seed=7)
    plan = plan_of(config, asked, entries[:1])
    seen: list[int] = []
    trained = train_networks(
        network(config), plan, asked, entries[2:], form="soft", on_epoch=lambda epoch, history: seen.append(epoch)
    )
    regions, binary = calls
    assert regions["loss"] is plan.choice.loss
    assert binary["loss"] is not plan.choice.loss
    assert binary["regions"] == ("WT",)
    assert (regions["options"].seed, binary["options"].seed) == (7, 8)
    for call in calls:
        assert call["options"].sampler == "square_root"
        assert [entry["id"] for entry in call["train"]] == ["case-1"]
        assert [entry["id"] for entry in call["holdout"]] == ["case-5"]
    assert seen == [1], "clients see the epochs of the regions only"
    assert set(trained.history.dice[1]) == {"WT", "TC", "ET"}


@pytest.mark.parametrize(
    ("held", "tune", "expected"),
    [((2,), (1,), ["case-2"]), ((2,), None, ["case-5"]), ((), None, ["case-1"]), ((), (1,), ["case-2"])],
)
def test_the_threshold_is_tuned_where_it_should_be(
    config: AppConfig,
    entries: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    held: tuple[int, ...],
    tune: tuple[int, ...] | None,
    expected: list[str],
) -> None:
    read: list[str] = []
    predicted = stages._predicted

    def listen(network: nn.Module, config: AppConfig, cases: Any) -> Any:
        read.extend(case["id"] for case in cases)
        return predicted(network, config, cases)

    monkeypatch.setattr(stages, "_predicted", listen)
    asked = options(config)
    trained = train_networks(
        network(config),
        plan_of(config, asked, entries[:1]),
        asked,
        [entries[i] for i in held],
        tune=None if tune is None else [entries[i] for i in tune],
        form="hard",
    )
    assert read == expected
    assert tuple(trained.tuning) == two_stage.CANDIDATES
    assert trained.second_stage is not None
    assert trained.tuning[trained.second_stage.threshold] == max(trained.tuning.values())


def test_a_deeper_binary_network_is_trained_as_it_is(config: AppConfig, entries: list[dict[str, Any]]) -> None:
    """Its sizes are multiples of 16, the regions' of 4."""
    deep = NetworkConfig(filters=(2, 2, 2, 2, 2))
    config = replace(config, training=replace(config.training, patch_size=(32, 32, 32)))
    start = TwoStageNetwork(network(config), SecondStage(build_network(deep, out_channels=1), deep))
    asked = options(config)
    trained = train_networks(start, plan_of(config, asked, entries[:1]), asked, entries[2:], form="hard")
    assert isinstance(trained.network, TwoStageNetwork)
    assert trained.network.foreground_config == deep


@pytest.mark.parametrize("form", [None, "soft"])
def test_the_peak_is_chosen_from_that_of_the_weights_it_starts_from(
    config: AppConfig, labelled: list[LabelledCase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str | None
) -> None:
    starter = tmp_path / "starter.pt"
    save_weights(starter, network(config), config.network, config.preprocessing, {"name": "starter", "peak": 0.9})
    asked: list[dict[str, Any]] = []

    def choose(cases: Any, spacing: Any, **named: Any) -> float:
        asked.append({"cases": list(cases), "spacing": tuple(spacing), **named})
        return 0.77

    monkeypatch.setattr(stages, "choose_peak", choose)
    published = tmp_path / "model" / "calf.pt"
    places = Places(tmp_path / "run", published, starter, tmp_path / "stats.json")
    stats = train_model(config, options(config), labelled, places, two_stage=form or "")
    assert stats["peak"] == 0.77
    (one,) = asked
    assert (one["known"], one["threshold"], one["spacing"]) == (0.9, 0.5, config.preprocessing.spacing)
    assert len(one["cases"]) == 2, "those it was trained on, as none selects"
    for whole, truth in one["cases"]:
        assert whole.shape == truth.shape
        assert truth.dtype == bool
        assert truth.any()
        assert 0 <= whole.min() <= whole.max() <= 1
    assert load_weights(tmp_path / "run" / "candidate.pt")[3]["peak"] == 0.77


def test_of_many_cases_every_nth_chooses_the_peak(config: AppConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(stages, "_predicted", lambda network, config, cases: read.extend(c["id"] for c in cases) or ())
    trained = stages.Trained(network(config), History())
    trained.history.skipped["case-2"] = "torn"
    cases = [{"id": f"case-{n}"} for n in range(41)]
    assert stages.settle_peak(trained, config, cases, 0.3) == 0.3, "without cases what is known holds"
    assert read == [f"case-{n}" for n in (0, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 34, 37, 40)]
    read.clear()
    stages.settle_peak(trained, config, cases[:3], 0.0)
    assert read == ["case-0", "case-1"]
    stages.settle_peak(trained, config, (), 0.0)
