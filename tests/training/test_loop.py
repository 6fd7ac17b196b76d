"""The training loop on a few phantoms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rarevoxel.config import AppConfig
from rarevoxel.errors import TrainingError
from rarevoxel.losses import build_loss
from rarevoxel.networks import build_network
from rarevoxel.sampling import MixedTarget
from rarevoxel.training import History, TrainOptions, fit, loop
from rarevoxel.training.patches import PatchBatches


def entries(folder: Path, *numbers: int) -> list[dict[str, str]]:
    cases = [f"phantom-00{number}" for number in numbers]
    return [
        {"id": case, "image": str(folder / case / "t1c.nii.gz"), "label": str(folder / case / "seg.nii.gz")}
        for case in cases
    ]


def options(config: AppConfig, **changes: Any) -> TrainOptions:
    return replace(TrainOptions.from_request({}, config, "dice_ce"), **changes)


def network(config: AppConfig, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_network(config.network)


def test_it_learns_and_keeps_the_best_epoch(config: AppConfig, phantom_folders: Path) -> None:
    quiet = replace(config, training=replace(config.training, val_interval=2, patches_per_case=4))
    seen: list[int] = []
    net = network(config)
    best, history = fit(
        net,
        build_loss("dice_ce").loss,
        quiet,
        options(config, max_epochs=8, learning_rate=0.03, patches_per_case=4),
        entries(phantom_folders, 1, 2),
        entries(phantom_folders, 4),
        on_epoch=lambda epoch, history: seen.append(epoch),
    )
    assert seen == list(range(1, 9))
    assert len(history.loss) == 8
    assert np.mean(history.loss[-2:]) < 0.8 * history.loss[0]
    assert sorted(history.dice) == [2, 4, 6, 8]
    means = {epoch: float(np.mean(list(scores.values()))) for epoch, scores in history.dice.items()}
    assert history.best_dice == pytest.approx(max(means.values()))
    assert means[history.best_epoch] == history.best_dice
    assert best.keys() == net.state_dict().keys()


@pytest.mark.parametrize(
    ("last", "interval", "judged"),
    [
        (8, 2, [2, 4, 6, 8]),
        (6, 5, [6]),
        (8, 5, [5, 8]),
        (30, 5, [5, 10, 15, 20, 25, 30]),
        (3, 1, [1, 2, 3]),
        (1, 5, [1]),
    ],
)
def test_when_epochs_are_judged(last: int, interval: int, judged: list[int]) -> None:
    assert [epoch for epoch in range(1, last + 1) if loop._is_judged(epoch, last, interval)] == judged


def test_a_later_and_worse_epoch_is_not_the_best(
    config: AppConfig, phantom_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.2, 0.9, 0.5])
    weights: list[dict[str, torch.Tensor]] = []

    def validate(network: nn.Module, *rest: Any) -> dict[str, float]:
        weights.append({key: value.clone() for key, value in network.state_dict().items()})
        return dict.fromkeys(("WT", "TC", "ET"), next(scores))

    monkeypatch.setattr(loop, "_validate", validate)
    best, history = fit(
        network(config),
        build_loss("dice_ce").loss,
        config,
        options(config, max_epochs=3),
        entries(phantom_folders, 1),
        entries(phantom_folders, 4),
    )
    assert (history.best_epoch, history.best_dice) == (2, pytest.approx(0.9))
    assert all(torch.equal(best[key], weights[1][key]) for key in best)
    assert any(not torch.equal(best[key], weights[2][key]) for key in best)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(config: AppConfig, phantom_folders: Path) -> None:
    def run(seed: int) -> tuple[dict[str, torch.Tensor], History]:
        return fit(
            network(config),
            build_loss("dice_ce").loss,
            config,
            options(config, seed=seed),
            entries(phantom_folders, 1, 2),
            entries(phantom_folders, 4),
        )

    (first, history), (again, same), (other, _) = run(1), run(1), run(2)
    assert history == same
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


class GoesWrong(nn.Module):
    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return logits.mean() * float("nan")


def test_a_loss_that_is_no_number_names_the_cases(config: AppConfig, phantom_folders: Path) -> None:
    net = network(config)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(TrainingError, match=r"the loss became nan on patches of \['phantom-002'\]"):
        fit(net, GoesWrong(), config, options(config), entries(phantom_folders, 2), entries(phantom_folders, 4))
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_every_case_is_met_in_every_epoch(config: AppConfig, phantom_folders: Path) -> None:
    met: list[int] = []

    class Counts(nn.Module):
        def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            met.append(len(target))
            return (logits**2).mean()

    fit(
        network(config),
        Counts(),
        config,
        options(config, max_epochs=2, batch_size=4),
        entries(phantom_folders, 1, 2, 4),
        entries(phantom_folders, 5),
    )
    assert met == [4, 2, 4, 2]  # 3 cases of 2 patches, in batches of 4.


def test_without_a_hold_out_the_last_average_is_the_best(
    config: AppConfig, phantom_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    averages: list[nn.Module] = []
    follow = loop.follow

    def listen(average: nn.Module, network: nn.Module, decay: float) -> None:
        averages.append(average)
        follow(average, network, decay)

    monkeypatch.setattr(loop, "follow", listen)
    net = network(config)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    seen: list[int] = []
    best, history = fit(
        net,
        build_loss("dice_ce").loss,
        config,
        options(config, max_epochs=3),
        entries(phantom_folders, 1),
        on_epoch=lambda epoch, history: seen.append(history.best_epoch),
    )
    assert seen == [0, 0, 3]
    assert (history.best_epoch, history.best_dice, history.dice) == (3, -1.0, {})
    average = averages[-1].state_dict()
    assert all(torch.equal(best[key], average[key]) for key in best)
    for others in (before, net.state_dict()):
        assert any(not torch.equal(best[key], others[key]) for key in best)


class Listens(nn.Module):
    """Binary cross-entropy that keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        assert logits.shape == target.shape
        self.seen.append(target)
        return nn.functional.binary_cross_entropy_with_logits(logits, target)


@pytest.mark.parametrize("sampler", ["balanced", "balanced_mixup"])
def test_a_network_of_one_channel_learns_the_whole_tumour(
    config: AppConfig, phantom_folders: Path, sampler: str
) -> None:
    asked = options(config, max_epochs=1, sampler=sampler, seed=5, patches_per_case=3)
    cases, loss = entries(phantom_folders, 1, 2), Listens()
    torch.manual_seed(0)
    net = build_network(config.network, out_channels=1)
    best, history = fit(net, loss, config, asked, cases, entries(phantom_folders, 4), regions=("WT",))
    assert list(history.dice[1]) == ["WT"]
    assert best.keys() == net.state_dict().keys()
    many = replace(config, training=replace(config.training, patches_per_case=3))
    drawn = [target for _, target, _ in PatchBatches(many, cases, sampler, 5).epoch(2)]
    whole = [target.soft if isinstance(target, MixedTarget) else target for target in drawn]
    # The loss is probed for soft targets, one item at a time, before the first mixed batch.
    given = [target for target in loss.seen if len(target) == 2]
    assert len(given) == 3
    assert all(torch.equal(target, expected[:, :1]) for target, expected in zip(given, whole, strict=True))
    assert any(bool(((target > 0) & (target < 1)).any()) for target in given) is (sampler == "balanced_mixup")


def test_a_loss_that_is_wrong_for_soft_targets_is_mixed_itself(config: AppConfig, phantom_folders: Path) -> None:
    class Hard(Listens):
        def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            if bool(((target > 0) & (target < 1)).any()):
                raise ValueError("masks only")
            return super().forward(logits, target)

    loss = Hard()
    asked = options(config, max_epochs=1, sampler="balanced_mixup")
    fit(network(config), loss, config, asked, entries(phantom_folders, 1, 2))
    assert len(loss.seen) == 2 * 2, "once for each side of the two batches"


def test_the_sampler_auto_is_what_a_named_loss_would_take(config: AppConfig, phantom_folders: Path) -> None:
    def run(sampler: str) -> list[torch.Tensor]:
        loss = Listens()
        fit(network(config), loss, config, options(config, max_epochs=1, sampler=sampler), entries(phantom_folders, 1))
        return loss.seen

    assert build_loss("dice_ce").sampler == "pos_neg"
    (auto,), (named,), (other,) = run("auto"), run("pos_neg"), run("balanced")
    assert torch.equal(auto, named)
    assert not torch.equal(auto, other)


def test_the_number_of_patches_is_the_request_s(config: AppConfig, phantom_folders: Path) -> None:
    loss = Listens()
    asked = options(config, max_epochs=1, patches_per_case=5, batch_size=4)
    fit(network(config), loss, config, asked, entries(phantom_folders, 1))
    assert [len(target) for target in loss.seen] == [4, 1]
