"""Weights that are held near those a training starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rarevoxel.config import AppConfig, TrainingConfig
from rarevoxel.errors import ConfigError, RequestError
from rarevoxel.lineage import Lineage
from rarevoxel.losses import build_loss
from rarevoxel.networks import build_network, load_weights
from rarevoxel.training import LabelledCase, Places, TrainOptions, fit, in_holdout, tolerant, train_model
from rarevoxel.training.anchor import Anchor

Weights = dict[str, torch.Tensor]


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0]))


@pytest.fixture(autouse=True, scope="module")
def read_once() -> Iterator[None]:
    """Keep the cases that were read for one fit for the next."""
    made: dict[str, Any] = {}

    def cached(cases: Any, chain: Any, *most: int) -> Any:
        key = str([[entry["image"] for entry in cases], len(chain.transforms)])
        if key not in made:
            made[key] = tolerant.cached_cases(cases, chain)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rarevoxel.training.patches.cached_cases", cached)
        yield


def train(
    config: AppConfig, folder: Path, anchor: float | None, stop: Callable[..., None] | None = None, **settings: Any
) -> tuple[Weights, Weights]:
    """The weights a fit was given, and those it gave back; without an anchor the option is not named at all."""
    config = replace(config, training=replace(config.training, patch_size=(16, 16, 16)))
    request: dict[str, Any] = {
        "max_epochs": 2,
        "patches_per_case": 1,
        "batch_size": 1,
        "learning_rate": 0.02,
        "sampler": "pos_neg",
    }
    request |= {} if anchor is None else {"anchor": anchor}
    options = TrainOptions.from_request(request, config, "dice_ce")
    cases = [
        {"id": name, "image": str(folder / name / "t1c.nii.gz"), "label": str(folder / name / "seg.nii.gz")}
        for name in ("phantom-001", "phantom-002")
    ]
    torch.manual_seed(5)
    network = build_network(config.network)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    on_epoch = stop or (lambda epoch, history: None)
    return before, fit(network, build_loss("dice_ce").loss, config, options, cases, on_epoch=on_epoch, **settings)[0]


def same(a: Weights, b: Weights) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def moved(before: Weights, after: Weights) -> float:
    return sum(float((after[key] - before[key]).square().sum()) for key in before) ** 0.5


def test_one_pull_by_hand() -> None:
    network = Two()
    anchor = Anchor(network, 2.0)
    with torch.no_grad():
        network.weight += torch.tensor([0.5, 1.0])
    anchor.pull(0.1)  # a fifth of the way from (1.5, -1) to (1, -2)
    assert network.weight.tolist() == pytest.approx([1.4, -1.2])
    anchor.pull(0.3)  # three fifths of the rest
    assert network.weight.tolist() == pytest.approx([1.16, -1.68])


def test_a_strong_anchor_undoes_a_step_and_does_not_overshoot() -> None:
    network = Two()
    anchor = Anchor(network, 1e6)
    with torch.no_grad():
        network.weight.mul_(3)
    anchor.pull(0.1)
    assert network.weight.tolist() == [1.0, -2.0]


def test_without_strength_nothing_moves_and_nothing_is_kept() -> None:
    network = Two()
    anchor = Anchor(network, 0.0)
    with torch.no_grad():
        network.weight.mul_(3)
    anchor.pull(1.0)
    assert network.weight.tolist() == [3.0, -6.0]
    assert anchor.start == []


def test_the_gradient_does_not_see_it() -> None:
    network = Two()
    anchor = Anchor(network, 1.0)
    network.weight.sum().backward()
    anchor.pull(0.5)
    assert network.weight.grad is not None
    assert network.weight.grad.tolist() == [1.0, 1.0]
    assert network.weight.requires_grad


def test_a_fit_held_fast_gives_its_weights_back(config: AppConfig, phantom_folders: Path) -> None:
    before, after = train(config, phantom_folders, 1_000_000)
    assert same(before, after)


def test_the_stronger_the_nearer(config: AppConfig, phantom_folders: Path) -> None:
    ways = [moved(*train(config, phantom_folders, anchor)) for anchor in (0, 10, 300)]
    assert all(further > nearer for further, nearer in pairwise(ways)), ways
    assert ways[-1] > 0


def test_none_is_as_if_there_were_no_such_thing(
    config: AppConfig, phantom_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, by_default = train(config, phantom_folders, None)
    _, zero = train(config, phantom_folders, 0)
    monkeypatch.setattr(Anchor, "pull", lambda self, learning_rate: None)
    _, without = train(config, phantom_folders, 0)
    assert same(by_default, zero)
    assert same(zero, without)


def test_it_pulls_after_every_step_at_its_learning_rate(
    config: AppConfig, phantom_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    monkeypatch.setattr(Anchor, "pull", lambda self, learning_rate: rates.append(learning_rate))
    train(config, phantom_folders, 1)
    steps = 2 * 2  # 2 epochs of 2 cases with a patch each
    optimizer = torch.optim.AdamW(Two().parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, steps + 1, pct_start=0.1)
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx(expected)


class Stopped(Exception):
    """In the place of a process that ends."""


def test_a_resumed_fit_holds_on_to_the_first_weights(config: AppConfig, phantom_folders: Path, tmp_path: Path) -> None:
    def stop(epoch: int, history: Any) -> None:
        if epoch == 1:
            raise Stopped

    _, whole = train(config, phantom_folders, 40)
    saving: dict[str, Any] = {"checkpoint": tmp_path / "fit.ckpt", "save_interval_s": 0.0}
    with pytest.raises(Stopped):
        train(config, phantom_folders, 40, stop, **saving)
    _, resumed = train(config, phantom_folders, 40, **saving)
    assert same(whole, resumed)
    _, other = train(config, phantom_folders, 41, **saving)
    assert not same(whole, other), "another anchor is another fit"


@pytest.mark.parametrize("value", [-1, 2_000_000, float("nan"), float("inf")])
def test_an_impossible_strength_is_refused(config: AppConfig, value: float) -> None:
    with pytest.raises(RequestError, match=r"anchor: found .*, expected a number from 0 to 1e\+06"):
        TrainOptions.from_request({"anchor": value}, config, "auto")
    with pytest.raises(ConfigError, match=r"anchor \(.*\) must lie between 0 and 1000000"):
        TrainingConfig(anchor=value)


def test_a_client_sees_it_where_the_app_has_one(config: AppConfig) -> None:
    anchored = replace(config, training=replace(config.training, anchor=120.0))
    assert TrainOptions.choices(anchored, "auto")["anchor"] == 120.0
    assert TrainOptions.from_request({}, anchored, "auto").anchor == 120.0
    assert TrainOptions.from_request({"anchor": 0}, anchored, "auto").anchor == 0.0
    assert "anchor" not in TrainOptions.choices(config, "auto"), "a client shows 0 as an empty field"


def labelled(folder: Path) -> list[LabelledCase]:
    names = [f"patient-{i}" for i in range(200)]
    learn = [name for name in names if not in_holdout(name, 0.4)][:2]
    held = [name for name in names if in_holdout(name, 0.25)][:1]
    return [
        LabelledCase(name, patient, folder / name / "t1c.nii.gz", folder / name / "seg.nii.gz")
        for name, patient in zip(("phantom-001", "phantom-002", "phantom-004"), learn + held, strict=True)
    ]


@pytest.mark.parametrize("pretrained", [True, False])
def test_a_run_records_it_and_from_random_weights_there_is_none(
    config: AppConfig, tmp_path: Path, phantom_folders: Path, save_tiny: Callable[..., Path], pretrained: bool
) -> None:
    places = Places.of(tmp_path, "calf", "run")
    places.starter.parent.mkdir(parents=True)
    save_tiny(places.starter)
    request = {"anchor": 1_000_000, "pretrained": pretrained, "max_epochs": 1}
    stats = train_model(
        config, TrainOptions.from_request(request, config, "dice_ce"), labelled(phantom_folders), places
    )
    expected = 1_000_000 if pretrained else 0
    assert stats["options"]["anchor"] == expected
    assert Lineage.load(places.run / "lineage.json").options["anchor"] == expected
    start, candidate = (load_weights(path)[0].state_dict() for path in (places.starter, places.run / "candidate.pt"))
    assert same(start, candidate) is pretrained
