"""One optimisation step, and whose fault it is when it cannot be taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rarevoxel.config import AppConfig
from rarevoxel.errors import TrainingError
from rarevoxel.losses import build_loss
from rarevoxel.networks import build_network
from rarevoxel.training import TrainOptions, fit
from rarevoxel.training import step as step_module
from rarevoxel.training.patches import PatchBatches
from rarevoxel.training.step import Part, follow, optimize


class Poisoned(nn.Module):
    """A squared error that is `value` as soon as one target is -1, or, by its gradient, where one is -2."""

    def __init__(self, value: float = float("nan")) -> None:
        super().__init__()
        self.value = value

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        loss = ((logits - target) ** 2).mean()
        if bool((target == -1).any()):
            return loss * self.value
        if bool((target == -2).any()):
            return loss + (logits * 0).abs().sqrt().sum()  # 0 itself, with an infinite slope.
        return loss


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv3d(1, 1, 1)


def batch(**targets: float) -> tuple[torch.Tensor, torch.Tensor, list[Part]]:
    parts = [(name, torch.ones(1, 2, 2, 2), torch.full((1, 2, 2, 2), value)) for name, value in targets.items()]
    image, target = (torch.stack([part[i] for part in parts]) for i in (1, 2))
    return image, target, parts


def step(net: nn.Module, optimizer: torch.optim.Optimizer, loss: nn.Module, **targets: float) -> float:
    return optimize(net, loss, optimizer, *batch(**targets))


def test_a_step_lowers_the_loss_and_returns_it() -> None:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    values = [step(net, optimizer, Poisoned(), a=1.0, b=1.0) for _ in range(3)]
    before = network()
    assert values[0] == pytest.approx(float(((before(torch.ones(1, 1, 2, 2, 2)) - 1) ** 2).mean().detach()), rel=0.02)
    assert values[2] < values[1] < values[0]


BAD: list[tuple[dict[str, float], str]] = [
    (
        {"a": 0.0, "bad": -1.0, "c": 1.0},
        r"the loss became {} on patches of \['bad'\] \(check the image and label",
    ),
    (
        {"a": -1.0, "b": -1.0},
        r"the loss became {} on patches of \['a', 'b'\], each by itself \(lower the",
    ),
    ({"a": -1.0}, r"the loss became {} on patches of \['a'\] \(check"),
]


@pytest.mark.fault(39)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("targets", "message"), BAD)
def test_the_case_to_blame_is_named_and_nothing_is_learned(
    value: float, targets: dict[str, float], message: str
) -> None:
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), 0.1)
    step(net, optimizer, Poisoned(), a=1.0)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    with pytest.raises(TrainingError, match=message.format(value)):
        step(net, optimizer, Poisoned(value), **targets)
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())
    step(net, optimizer, Poisoned(), a=1.0)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in net.state_dict().values())


@pytest.mark.fault(39)
def test_a_gradient_that_is_not_finite_stops_the_run_before_the_weights_are_lost() -> None:
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), 0.1)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    with pytest.raises(TrainingError, match=r"the gradient became nan on patches of \['bad'\] \(check the image"):
        step(net, optimizer, Poisoned(), a=1.0, bad=-2.0, c=0.0)
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())


class TooMany(nn.Module):
    """Not finite for a batch of more than one."""

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (logits * (float("nan") if len(target) > 1 else 1.0)).mean()


def test_a_fault_of_nobody_alone_is_said_to_be_of_all() -> None:
    net = network()
    with pytest.raises(TrainingError, match=r"the loss became nan on patches of \['a', 'b'\] together"):
        step(net, torch.optim.SGD(net.parameters(), 0.1), TooMany(), b=1.0, a=1.0)


class Telling(nn.Module):
    """A network that notes the precision it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen: list[bool] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen.append(torch.is_autocast_enabled("cpu"))
        return image * self.weight


@pytest.mark.parametrize(("shape", "fast"), [((64, 64, 64), True), ((32, 64, 64), False), ((64, 64, 48), False)])
def test_small_patches_are_computed_in_single_precision_on_a_cpu(
    shape: tuple[int, ...], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_module, "fast_dtype", lambda device: torch.bfloat16)
    net = Telling()
    image = torch.zeros(1, 1, *shape)
    optimize(net, nn.MSELoss(), torch.optim.SGD(net.parameters(), 0.1), image, image, [])
    assert net.seen == [fast]


def test_the_average_follows() -> None:
    average, net = network(), network()
    with torch.no_grad():
        net.weight.fill_(1.0)
        average.weight.fill_(0.0)
    follow(average, net, 0.75)
    assert average.weight.item() == pytest.approx(0.25)


@pytest.mark.fault(39)
@pytest.mark.parametrize("mixed", [False, True])
def test_poison_in_one_of_three_cases_ends_a_fit_with_its_name(
    config: AppConfig, phantom_folders: Path, mixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when its patches were mixed with others, which are not named."""
    draw = PatchBatches._patches

    def poison(self: PatchBatches, chain: Any, case: int, stream: int) -> list[dict[str, Any]]:
        patches = draw(self, chain, case, stream)
        for patch in patches:
            if patch["id"] == "phantom-002":
                patch["image"] = patch["image"] * float("inf")
        return patches

    monkeypatch.setattr(PatchBatches, "_patches", poison)
    folders = [phantom_folders / f"phantom-00{number}" for number in (1, 2, 4)]
    cases = [{"id": f.name, "image": str(f / "t1c.nii.gz"), "label": str(f / "seg.nii.gz")} for f in folders]
    options = replace(
        TrainOptions.from_request({}, config, "dice_ce"),
        sampler="balanced_mixup" if mixed else "pos_neg",
        batch_size=6,
    )
    torch.manual_seed(0)
    with pytest.raises(TrainingError, match=r"the loss became nan on patches of \['phantom-002'\] \("):
        fit(build_network(config.network), build_loss("dice_ce").loss, config, options, cases)
