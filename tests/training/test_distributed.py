"""Two processes train as one: the same curve, the same weights, and errors that all of them hear of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.multiprocessing.spawn import ProcessRaisedException
from two_processes import in_processes

from rarevoxel.config import AppConfig
from rarevoxel.errors import RequestError, TrainingError
from rarevoxel.losses import TERM_NAMES, Branch, CompoundLoss, TermOptions, build_loss
from rarevoxel.networks import build_network
from rarevoxel.sampling import MixedTarget
from rarevoxel.training import LabelledCase, Places
from rarevoxel.training.checkpoint import CheckpointFile
from rarevoxel.training.distributed import Group, current_group, joined
from rarevoxel.training.launch import train_in_processes
from rarevoxel.training.loop import fit
from rarevoxel.training.options import TrainOptions
from rarevoxel.training.patches import PatchBatches
from rarevoxel.training.step import optimize


def cases(folders: Path, *numbers: int) -> list[dict[str, str]]:
    found = [folders / f"phantom-00{number}" for number in numbers]
    return [{"id": f.name, "image": str(f / "t1c.nii.gz"), "label": str(f / "seg.nii.gz")} for f in found]


def fitted(config: AppConfig, options: TrainOptions, folders: Path, **settings: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    network, loss = build_network(config.network), build_loss("dice_ce").loss
    weights, history = fit(network, loss, config, options, cases(folders, 1, 2, 4), cases(folders, 1, 4), **settings)
    return weights, (history.loss, history.dice, history.best_epoch, history.skipped, history.resumed_from)


def asked(config: AppConfig, **changes: Any) -> TrainOptions:
    return replace(TrainOptions.from_request({}, config, "dice_ce"), **{"batch_size": 4, "max_epochs": 2, **changes})


def agree(one: Any, other: Any) -> None:
    (weights, (loss, dice, best, skipped, _)), (same, (same_loss, same_dice, same_best, same_skipped, _)) = one, other
    assert loss == pytest.approx(same_loss, rel=1e-4)
    assert dice.keys() == same_dice.keys()
    for epoch, found in dice.items():
        assert found == pytest.approx(same_dice[epoch], abs=5e-3)
    assert (best, skipped) == (same_best, same_skipped)
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, same[name], rtol=2e-3, atol=2e-4)


def test_two_processes_give_the_curve_of_one_with_the_doubled_batch(
    config: AppConfig, phantom_folders: Path, tmp_path: Path
) -> None:
    """Three cases of two patches: with batches of 4 the second one of an epoch is a patch for each."""
    alone = fitted(config, asked(config), phantom_folders)
    first, second = in_processes(2, fitted, tmp_path, config, asked(config), phantom_folders)
    agree(first, alone)
    agree(second, first)
    assert len(alone[1][0]) == 2


def test_a_process_without_a_part_keeps_company_and_mixup_draws_one_lambda(
    config: AppConfig, phantom_folders: Path, tmp_path: Path
) -> None:
    """Six patches in batches of 5: the last one is a single patch, and one process has none of it."""
    options = asked(config, batch_size=5, sampler="balanced_mixup", max_epochs=1, accumulate=2)
    alone = fitted(config, options, phantom_folders)
    agree(in_processes(2, fitted, tmp_path, config, options, phantom_folders)[0], alone)


def test_one_process_goes_on_where_two_stopped(config: AppConfig, phantom_folders: Path, tmp_path: Path) -> None:
    file = tmp_path / "fit.ckpt"
    whole = fitted(config, asked(config, max_epochs=3), phantom_folders)
    in_processes(2, stopped_after_two, tmp_path, config, asked(config, max_epochs=3), phantom_folders, file)
    rest = fitted(config, asked(config, max_epochs=3), phantom_folders, checkpoint=file)
    assert rest[1][-1] == 2, "the epoch it went on from"
    agree(rest, whole)


class Stop(Exception):
    """Ends a fit from outside."""


def stopped_after_two(config: AppConfig, options: TrainOptions, folders: Path, file: Path) -> None:
    def stop(epoch: int, history: Any) -> None:
        if epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        fitted(config, options, folders, checkpoint=file, save_interval_s=0.0, on_epoch=stop)


class GoesWrong(nn.Module):
    """A loss that is not a number in one process."""

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return logits.mean() * (float("nan") if current_group().rank == 1 else 1.0)


def wrong(config: AppConfig) -> None:
    network = current_group().wrap(build_network(config.network))
    image, target = torch.rand(1, 4, 16, 16, 16), torch.zeros(1, 3, 16, 16, 16)
    parts = [(f"case-{current_group().rank}", image[0], target[0])]
    optimize(network, GoesWrong(), torch.optim.SGD(network.parameters(), 0.1), image, target, parts)


def test_what_goes_wrong_in_one_process_ends_all_and_names_its_case(config: AppConfig, tmp_path: Path) -> None:
    with pytest.raises(ProcessRaisedException, match=r"TrainingError: the loss became nan on patches of \['case-1'\]"):
        in_processes(2, wrong, tmp_path, config)


def test_a_batch_smaller_than_the_group_is_refused(config: AppConfig, phantom_folders: Path) -> None:
    with pytest.raises(RequestError, match=r"a batch of 2 patches for 1 processes in 3 passes each.*at least 3"):
        fitted(config, asked(config, batch_size=2, accumulate=3), phantom_folders)


def test_parts_are_even_and_complete() -> None:
    for world in (1, 2, 3, 8):
        for size in (0, 1, 5, 16):
            parts = [Group(rank, world).part(7, 7 + size) for rank in range(world)]
            assert [place for part in parts for place in part] == list(range(7, 7 + size))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_process_that_is_alone_is_a_group_of_one() -> None:
    with joined() as group:
        assert group == current_group() == Group()
        assert group.share("x") == "x"
        assert group.gather(3) == [3]
        assert group.total(1.0, 2.0) == (1.0, 2.0)
        network = nn.Linear(1, 1)
        assert group.wrap(network) is network


def test_the_parts_of_processes_are_one_sequence_of_batches(config: AppConfig, phantom_folders: Path) -> None:
    """What each of three processes draws is cut from what one draws."""

    def drawn(rank: int, world: int) -> Iterator[torch.Tensor | None]:
        batches = PatchBatches(config, cases(phantom_folders, 1, 2, 4), "pos_neg", 5)

        class Alone(Group):
            def gather(self, value: Any) -> list[Any]:
                return [value]

        for _ in range(2):
            for batch in batches.epoch(4, Alone(rank, world)):
                yield None if batch is None else batch.image

    whole = list(drawn(0, 1))
    parts = zip(*(drawn(rank, 3) for rank in range(3)), strict=True)
    for batch, part in zip(whole, parts, strict=True):
        assert torch.equal(batch, torch.cat([image for image in part if image is not None]))


OF_THE_BATCH = {"calf_bce_dice_published"}
"""Terms that are no mean over patches: the published form takes one Dice of the whole batch."""


def test_terms_that_are_exact_in_parts() -> None:
    """The loss of a batch is the mean of those of its patches, empty ones included: sharding does not change it."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 3, 6, 6, 6, generator=generator)
    target = (torch.rand(3, 3, 6, 6, 6, generator=generator) < 0.2).float()
    target[1:] = 0
    options = TermOptions(counts=((100.0, 1.0),) * 3, branches=Branch.LN)
    inexact = set()
    for name in TERM_NAMES:
        loss = CompoundLoss(name, options)
        alone = torch.stack([loss(logits[i : i + 1], target[i : i + 1]) for i in range(3)]).mean()
        if not torch.allclose(loss(logits, target), alone, rtol=1e-5, atol=1e-6):
            inexact.add(name)
    assert inexact == OF_THE_BATCH


@pytest.mark.parametrize("slices", [2, 3, 5])
def test_passes_of_a_step_give_the_step(slices: int, config: AppConfig) -> None:
    image, target = torch.rand(5, 4, 16, 16, 16), (torch.rand(5, 3, 16, 16, 16) < 0.2).float()
    mixed = MixedTarget(target, 1 - target, torch.full((5, 1, 1, 1, 1), 0.25))
    for given in (target, mixed):
        steps = []
        for number in (1, slices):
            torch.manual_seed(0)
            network = build_network(config.network)
            loss = nn.BCEWithLogitsLoss()
            function = loss if given is target else lambda z, t, loss=loss: loss(z, t.soft)
            value = optimize(
                network, function, torch.optim.SGD(network.parameters(), 0.1), image, given, [], slices=number
            )
            steps.append((value, network.state_dict()))
        assert steps[0][0] == pytest.approx(steps[1][0], rel=1e-5)
        for name, tensor in steps[0][1].items():
            torch.testing.assert_close(tensor, steps[1][1][name], rtol=1e-4, atol=1e-6)


def test_a_whole_run_in_two_processes_judges_and_publishes_once(
    config: AppConfig, phantom_folders: Path, tmp_path: Path
) -> None:
    """The first process measures, decides, judges and writes; stats, lineage and weights are there once."""
    config = replace(config, gate=replace(config.gate, too_few="publish_if_better"))
    folders = {number: phantom_folders / f"phantom-00{number}" for number in (1, 2, 4, 5)}
    labelled = [
        LabelledCase(f"case-{number}", f"patient-{number}", folder / "t1c.nii.gz", folder / "seg.nii.gz")
        for number, folder in folders.items()
    ]
    places = Places.of(tmp_path, "calf", "first")
    options = TrainOptions.from_request({"max_epochs": 1}, config, "auto")
    stats = train_in_processes(2, config, options, labelled, places, two_stage="hard")
    assert (stats["status"], stats["epoch"]) == ("done", 1)
    assert (places.run / "lineage.json").is_file()
    assert [path.name for path in places.run.parent.iterdir()] == ["first"]
    assert stats["version"] == "first"
    assert places.published.is_file()
    with pytest.raises(TrainingError, match="at least 3 patients"):
        train_in_processes(2, config, options, labelled[:1], places)


def test_a_checkpoint_knows_nothing_of_processes(config: AppConfig, phantom_folders: Path, tmp_path: Path) -> None:
    file = tmp_path / "fit.ckpt"
    fitted(config, asked(config, max_epochs=1), phantom_folders, checkpoint=file)
    content = torch.load(file, weights_only=True)
    assert CheckpointFile(file, content["fingerprint"]).read() is not None
    assert set(content["state"]["patches"]) == {"epochs", "skipped"}
