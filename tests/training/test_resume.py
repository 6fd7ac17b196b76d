"""A fit that is interrupted and taken up again ends where one that ran through does."""

from __future__ import annotations

import errno
import logging
import multiprocessing
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rarevoxel.config import AppConfig
from rarevoxel.losses import build_loss
from rarevoxel.networks import build_network
from rarevoxel.training import History, TrainOptions, checkpoint, fit, tolerant
from rarevoxel.training.checkpoint import CheckpointFile, fingerprint_of

resource = pytest.importorskip("resource")

EPOCHS = 3

Result = tuple[dict[str, torch.Tensor], History]


class Stopped(Exception):
    """In the place of a process that ends."""


@pytest.fixture(scope="module")
def cases(phantom_folders: Path) -> list[dict[str, str]]:
    folders = [phantom_folders / f"phantom-00{number}" for number in (1, 2, 4, 5)]
    return [{"id": f.name, "image": str(f / "t1c.nii.gz"), "label": str(f / "seg.nii.gz")} for f in folders]


@pytest.fixture(autouse=True, scope="module")
def read_once() -> Iterator[None]:
    """Keep the cases that were read for one fit for the next."""
    made: dict[str, Any] = {}

    def cached(cases: Any, chain: Any, *most: int) -> Any:
        key = str([[entry["id"] for entry in cases], len(chain.transforms)])
        if key not in made:
            made[key] = tolerant.cached_cases(cases, chain)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rarevoxel.training.patches.cached_cases", cached)
        patch.setattr("rarevoxel.training.loop.cached_cases", cached)
        yield


def run(
    config: AppConfig, cases: list[dict[str, str]], file: Path | None, stop: int = 0, *, seed: int = 1, **changes: Any
) -> Result:
    """Train on the first three cases, validate on the last, and stop after an epoch."""
    named = {key: changes.pop(key) for key in ("select", "fingerprint", "save_interval_s") if key in changes}
    options = replace(
        TrainOptions.from_request({}, config, "dice_ce"),
        **{"max_epochs": EPOCHS, "batch_size": 4, "learning_rate": 0.02, **changes},
    )
    torch.manual_seed(seed)
    network = build_network(config.network)

    def on_epoch(epoch: int, history: History) -> None:
        torch.rand(epoch)  # Whatever else draws in the process must not change the outcome.
        if epoch == stop:
            raise Stopped

    loss = build_loss("dice_ce").loss
    settings = {"save_interval_s": 0.0, **named}
    return fit(network, loss, config, options, cases[:3], cases[3:], on_epoch=on_epoch, checkpoint=file, **settings)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.fault(36)
@pytest.mark.parametrize("sampler", ["pos_neg", "balanced_mixup", "instance"])
def test_an_interrupted_fit_ends_with_the_same_weights(
    config: AppConfig, cases: list[dict[str, str]], tmp_path: Path, sampler: str
) -> None:
    whole, history = run(config, cases, None, sampler=sampler, select=False)
    for stop in range(1, EPOCHS):
        file = tmp_path / f"{stop}.ckpt"
        with pytest.raises(Stopped):
            run(config, cases, file, stop, sampler=sampler, select=False)
        torch.rand(7)
        resumed, other = run(config, cases, file, sampler=sampler, select=False)
        assert (other.resumed_from, other.saved_epoch) == (stop, EPOCHS)
        assert same(resumed, whole), f"interrupted after epoch {stop}"
        assert other == history


def test_it_may_be_interrupted_after_every_epoch(
    config: AppConfig, cases: list[dict[str, str]], tmp_path: Path
) -> None:
    whole, history = run(config, cases, None, sampler="balanced_mixup", select=False)
    for stop in range(1, EPOCHS):
        with pytest.raises(Stopped):
            run(config, cases, tmp_path / "file.ckpt", stop, sampler="balanced_mixup", select=False)
    resumed, other = run(config, cases, tmp_path / "file.ckpt", sampler="balanced_mixup", select=False)
    assert same(resumed, whole)
    assert other == history


def test_a_fit_that_was_finished_is_not_done_again(
    config: AppConfig, cases: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, history = run(config, cases, tmp_path / "file.ckpt")
    monkeypatch.setattr("rarevoxel.training.loop.PatchBatches", None)
    again, other = run(config, cases, tmp_path / "file.ckpt", stop=1)
    assert same(first, again)
    assert (other, other.resumed_from) == (history, EPOCHS)


@pytest.mark.parametrize(
    "change",
    [{"seed": 2}, {"learning_rate": 0.01}, {"select": False}, {"fingerprint": "other voxels"}, {"max_epochs": 4}],
)
def test_a_checkpoint_of_another_fit_is_not_used(
    config: AppConfig, cases: list[dict[str, str]], tmp_path: Path, change: dict[str, Any], caplog
) -> None:
    file = tmp_path / "file.ckpt"
    with pytest.raises(Stopped):
        run(config, cases, file, 1)
    with caplog.at_level(logging.INFO, "rarevoxel"), pytest.raises(Stopped):
        run(config, cases, file, 1, **change)
    assert "checkpoint file.ckpt is not used: it is of other options, cases or weights" in caplog.text


@pytest.mark.parametrize("spoil", ["torn", "empty", "text", "list", "pickle", "older"])
def test_a_torn_checkpoint_is_ignored(
    config: AppConfig, cases: list[dict[str, str]], tmp_path: Path, spoil: str, caplog
) -> None:
    file, trap = tmp_path / "file.ckpt", tmp_path / "executed"
    with pytest.raises(Stopped):
        run(config, cases, file, 1)
    data = file.read_bytes()
    if spoil == "list":
        torch.save([1, 2], file)
    elif spoil == "pickle":
        torch.save(Trap(trap), file)
    elif spoil == "older":
        torch.save({"format": 0}, file)
    else:
        file.write_bytes({"torn": data[: len(data) // 2], "empty": b"", "text": b"hello"}[spoil])
    with caplog.at_level(logging.WARNING, "rarevoxel"), pytest.raises(Stopped):
        run(config, cases, file, 1)
    assert "checkpoint file.ckpt is not used: it " in caplog.text
    assert not trap.exists(), "nothing in the file is executed"
    assert torch.load(file, weights_only=True)["state"]["epoch"] == 1, "and it is replaced by a good one"


class Trap:
    """What a malicious pickle would do."""

    def __init__(self, file: Path) -> None:
        self.file = str(file)

    def __reduce__(self) -> Any:
        return open, (self.file, "w")


def test_a_checkpoint_that_does_not_fit_is_ignored(
    config: AppConfig, cases: list[dict[str, str]], tmp_path: Path, caplog
) -> None:
    """Half of it having been restored must not show."""
    whole, _ = run(config, cases, None)
    file = tmp_path / "file.ckpt"
    with pytest.raises(Stopped):
        run(config, cases, file, 2)
    content = torch.load(file, weights_only=True)
    del content["state"]["patches"]["epochs"]
    torch.save(content, file)
    with caplog.at_level(logging.WARNING, "rarevoxel"):
        weights, history = run(config, cases, file)
    assert "the checkpoint is not used: it does not fit (KeyError" in caplog.text
    assert history.resumed_from == 0
    assert same(weights, whole)


@pytest.mark.fault(32)
def test_a_full_disk_does_not_end_a_fit(
    config: AppConfig, cases: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = run(config, cases, None)
    file = tmp_path / "file.ckpt"
    with pytest.raises(Stopped):
        run(config, cases, file, 1)
    old = file.read_bytes()

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(checkpoint, "replace_file", full)
    weights, history = run(config, cases, file)
    assert same(weights, whole)
    assert history.warnings == ["checkpoint could not be saved: No space left on device; nothing was changed"]
    assert (history.resumed_from, history.saved_epoch) == (1, 1)
    assert file.read_bytes() == old
    assert str(tmp_path) not in history.warnings[0]


def save_within(file: CheckpointFile, limit: int, answer: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    answer.send(file.write({"epoch": 2, "network": torch.ones(100_000)}))


@pytest.mark.fault(32)
def test_a_quota_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    """The system's own limit, in a process of its own."""
    file = CheckpointFile(tmp_path / "file.ckpt", "print")
    assert file.write({"epoch": 1}) == ""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=save_within, args=(file, 100_000, there))
    process.start()
    assert here.poll(30)
    assert here.recv() == "checkpoint could not be saved: File too large; nothing was changed"
    process.join()
    assert file.read() == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["file.ckpt"]
    assert file.write({"epoch": 3}) == "", "and it recovers by itself"


def test_tiny_epochs_are_not_all_saved(
    config: AppConfig, cases: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    write = CheckpointFile.write

    def listen(self: CheckpointFile, state: dict[str, Any]) -> str:
        saved.append(state["epoch"])
        return write(self, state)

    monkeypatch.setattr(CheckpointFile, "write", listen)
    run(config, cases, tmp_path / "a.ckpt", save_interval_s=1000.0)
    assert saved == [EPOCHS], "the last one is"
    saved.clear()
    run(config, cases, tmp_path / "b.ckpt")
    assert saved == list(range(1, EPOCHS + 1))


def test_a_fingerprint_is_of_the_content() -> None:
    weights = {"a": torch.zeros(2), "b": torch.ones(1)}
    first = fingerprint_of({"x": 1, "y": [2]}, weights)
    assert first == fingerprint_of({"y": [2], "x": 1}, dict(reversed(weights.items())))
    assert first != fingerprint_of({"x": 1, "y": [3]}, weights)
    assert first != fingerprint_of({"x": 1, "y": [2]}, {**weights, "b": torch.zeros(1)})
    assert first != fingerprint_of({"x": 1, "y": [2]}, {"a": weights["a"], "c": weights["b"]})
    assert len(first) == 64


def test_without_selection_the_last_epoch_counts(
    config: AppConfig, cases: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hold-out is looked at, and chosen by."""
    shown: list[dict[str, torch.Tensor]] = []
    scores = iter([0.9, 0.2, 0.1] * 2)

    def validate(network: nn.Module, *rest: Any) -> dict[str, float]:
        shown.append({key: value.clone() for key, value in network.state_dict().items()})
        return dict.fromkeys(("WT", "TC", "ET"), next(scores))

    monkeypatch.setattr("rarevoxel.training.loop._validate", validate)
    weights, history = run(config, cases, None, select=False)
    assert (history.best_epoch, history.best_dice) == (3, pytest.approx(0.1))
    assert same(weights, shown[2])
    weights, history = run(config, cases, None)
    assert (history.best_epoch, history.best_dice) == (1, pytest.approx(0.9))
    assert same(weights, shown[3])
