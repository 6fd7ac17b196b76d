"""The training of the starter weights: what it writes, and that it goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from rarevoxel.cli import main
from rarevoxel.config import AppConfig
from rarevoxel.errors import ConfigError, TrainingError
from rarevoxel.networks import load_weights
from rarevoxel.training import operating_point, starter, step
from rarevoxel.training.checkpoint import CheckpointFile
from rarevoxel.training.operating_point import settle
from rarevoxel.training.phantom_stream import StreamSpec
from rarevoxel.training.starter import train_starter
from rarevoxel.volumes import file_sha256

SPEC = StreamSpec(head_mm=(96.0, 120.0, 96.0), block=2, reuse=2, apart=2, edges=((8, 16),) * 3, large=(16, 16, 16))
STEPS = 5


class Killed(Exception):
    """What a test stops a training with."""


@pytest.fixture(autouse=True, scope="module")
def exact() -> Iterator[None]:
    """Checkpoints every two steps, and single precision: gradients in bfloat16 differ from run to run on some CPUs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(starter, "SAVE_EVERY", 2)
        patch.setattr(step, "fast_dtype", lambda device: torch.float32)
        patch.setattr(starter, "settle", partial(settle, heads=2))
        yield


def train(config: AppConfig, out: Path, **options: Any) -> dict[str, torch.Tensor]:
    train_starter(config, out, **{"steps": STEPS, "workers": 0, "spec": SPEC, **options})
    return torch.load(out, weights_only=True)["model"]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first | second)


def fail(monkeypatch: pytest.MonkeyPatch, calls: set[int], error: Exception) -> None:
    """Let the steps with these numbers fail."""
    taken, optimize = [0], starter.optimize

    def failing(*arguments: Any) -> float:
        taken[0] += 1
        if taken[0] in calls:
            raise error
        return optimize(*arguments)

    monkeypatch.setattr(starter, "optimize", failing)


@pytest.fixture(scope="module")
def whole(config: AppConfig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights of a training that nothing interrupts."""
    return train(config, tmp_path_factory.mktemp("starter") / "starter.pt")


def test_half_precision_weights_are_written_and_the_checkpoint_is_removed(config: AppConfig, tmp_path: Path) -> None:
    out = tmp_path / "starter.pt"
    stored = train(config, out, steps=3)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    network, shape, preprocessing, info = load_weights(out)
    assert shape == config.network
    assert preprocessing == config.preprocessing
    assert next(network.parameters()).dtype == torch.float32
    assert {key: info[key] for key in ("name", "steps", "planned_steps", "seed", "workers")} == {
        "name": "starter", "steps": 3, "planned_steps": 3, "seed": 0, "workers": 0,
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["starter.pt"]


def test_a_killed_training_goes_on_to_the_same_weights(
    config: AppConfig, whole: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "starter.pt"
    with monkeypatch.context() as patch:
        fail(patch, {5}, Killed())
        with pytest.raises(Killed):
            train(config, out)
    assert load_weights(out)[3]["steps"] == 4
    assert (tmp_path / "starter.ckpt").is_file()
    taken: list[int] = []
    optimize = starter.optimize
    monkeypatch.setattr(starter, "optimize", lambda *a: taken.append(1) or optimize(*a))
    assert same(train(config, out), whole)
    assert len(taken) == 1
    assert not (tmp_path / "starter.ckpt").exists()


def test_weights_are_there_however_late_the_training_is_killed(
    config: AppConfig, whole: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = CheckpointFile.write

    def killed(self: CheckpointFile, state: dict[str, Any]) -> str:
        done = write(self, state)
        if state["step"] == STEPS:
            raise Killed
        return done

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFile, "write", killed)
        with pytest.raises(Killed):
            train(config, tmp_path / "starter.pt")
    assert same(train(config, tmp_path / "starter.pt"), whole)
    assert not (tmp_path / "starter.ckpt").exists()


def test_a_checkpoint_of_another_recipe_is_not_used(
    config: AppConfig, whole: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail(patch, {4}, Killed())
        with pytest.raises(Killed):
            train(config, tmp_path / "starter.pt", seed=1)
    assert same(train(config, tmp_path / "starter.pt"), whole)


def test_a_step_that_cannot_be_taken_is_left_out(
    config: AppConfig, whole: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, {2}, TrainingError("the gradient became inf", "leave it out"))
    assert not same(train(config, tmp_path / "starter.pt"), whole)
    assert load_weights(tmp_path / "starter.pt")[3]["steps"] == STEPS


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step")
def test_a_training_that_skips_too_much_is_given_up(
    config: AppConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, set(range(1, 100)), TrainingError("the gradient became inf", "leave it out"))
    with pytest.raises(TrainingError, match="the gradient became inf"):
        train(config, tmp_path / "starter.pt", steps=20)


def test_a_training_goes_on_from_weights_and_remembers_them(
    config: AppConfig, whole: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    first, second, third = (tmp_path / f"{name}.pt" for name in ("first", "second", "third"))
    train(config, first, steps=2)
    from_first, again = train(config, second, steps=1, start=first), train(config, third, steps=1, start=first)
    assert same(from_first, again)
    assert not same(from_first, train(config, tmp_path / "scratch.pt", steps=1))
    told = load_weights(second)[3]["start"]
    assert told["sha256"] == file_sha256(first)
    assert (told["steps"], told["seed"]) == (2, 0)


def test_weights_of_another_network_are_no_start(config: AppConfig, tmp_path: Path) -> None:
    first = tmp_path / "first.pt"
    train(config, first, steps=1)
    other = replace(config, preprocessing=replace(config.preprocessing, margin_mm=9.0))
    with pytest.raises(ConfigError, match=r"first\.pt: another network or preprocessing"):
        train(other, tmp_path / "second.pt", steps=1, start=first)
    assert not (tmp_path / "second.pt").exists()


def test_a_start_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "starter.pt")
    with pytest.raises(SystemExit) as stopped:
        main(["starter", "--start", file, "--out", file])
    assert stopped.value.code == 2
    assert "argument --start: found the file of --out" in capsys.readouterr().err


@pytest.mark.parametrize("known", [True, False])
def test_without_steps_other_weights_get_the_operating_point_and_peak_they_lack(
    config: AppConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    first = train(config, tmp_path / "first.pt", steps=2)
    content = torch.load(tmp_path / "first.pt", weights_only=True)
    before = content["info"]
    del before["peak"]
    if not known:
        del before["operating_point"]
    torch.save(content, tmp_path / "first.pt")
    monkeypatch.setattr(operating_point, "choose", lambda *_: 0.25)
    second = train(config, tmp_path / "second.pt", steps=0, start=tmp_path / "first.pt")
    changed = {name for name in first if not torch.equal(first[name], second[name])}
    assert changed == (set() if known else {"output_block.conv.conv.bias"})
    after = load_weights(tmp_path / "second.pt")[3]
    point = before["operating_point"] if known else dict.fromkeys(("WT", "TC", "ET"), 0.25)
    assert {**before, "operating_point": point, "peak": after["peak"], "missing": after["missing"]} == after
    assert 0 <= after["peak"] < 1


def test_two_legs_are_averaged(config: AppConfig, tmp_path: Path) -> None:
    first = train(config, tmp_path / "first.pt", steps=2)
    second = train(config, tmp_path / "second.pt", steps=2, start=tmp_path / "first.pt", seed=1)
    mean = train(config, tmp_path / "c.pt", steps=0, start=tmp_path / "second.pt", average=tmp_path / "first.pt")
    for name, tensor in mean.items():
        if name != "output_block.conv.conv.bias":
            expected = (first[name].float() + second[name].float()) / 2
            torch.testing.assert_close(tensor.float(), expected, atol=1e-3, rtol=1e-3)
    assert load_weights(tmp_path / "c.pt")[3]["averaged_with"] == file_sha256(tmp_path / "first.pt")
    with pytest.raises(ConfigError, match="no weights to settle or to average"):
        train(config, tmp_path / "d.pt", average=tmp_path / "first.pt")
