"""Cases that fail while a run is under way: left out, told, and the rest goes on."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rarevoxel.config import AppConfig
from rarevoxel.errors import InputError, TrainingError
from rarevoxel.losses import build_loss
from rarevoxel.networks import build_network
from rarevoxel.training import History, TrainOptions, fit
from rarevoxel.training.patches import PatchBatches
from rarevoxel.training.tolerant import Unreadable, cached_cases, readable, reason_of
from rarevoxel.transforms import build_case


@pytest.fixture
def cases(phantom_folders: Path) -> list[dict[str, str]]:
    folders = [phantom_folders / f"phantom-00{number}" for number in (1, 2, 4)]
    return [{"id": f.name, "image": str(f / "t1c.nii.gz"), "label": str(f / "seg.nii.gz")} for f in folders]


@pytest.fixture
def torn(tmp_path: Path, cases: list[dict[str, str]]) -> dict[str, str]:
    label = tmp_path / "torn.nii.gz"
    label.write_bytes(Path(cases[0]["label"]).read_bytes()[:500])
    return {**cases[0], "id": "torn", "label": str(label)}


def met(batches: PatchBatches, batch_size: int = 2) -> list[str]:
    return [name for batch in batches.epoch(batch_size) for name, _, _ in batch.parts]


@pytest.mark.fault(39)
@pytest.mark.parametrize("sampler", ["pos_neg", "balanced_mixup"])
def test_a_case_that_cannot_be_read_is_left_out(
    config: AppConfig, cases: list[dict[str, str]], torn: dict[str, str], sampler: str, caplog
) -> None:
    batches = PatchBatches(config, [*cases, torn], sampler, 0)
    with caplog.at_level(logging.WARNING, "rarevoxel"):
        names = [met(batches) for _ in range(2)]
    assert set(batches.skipped) == {"torn"}
    assert "truncated or corrupt" in batches.skipped["torn"]
    assert caplog.text.count("left out from now on: torn: ") == 1
    # 3 cases of 2 patches each, from one stream or two.
    assert [len(epoch) for epoch in names] == [6 if sampler == "pos_neg" else 12] * 2
    assert all(set(epoch) <= {"phantom-001", "phantom-002", "phantom-004"} for epoch in names)


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error", "/private/place"), ValueError("odd"), RuntimeError()]
)
def test_a_case_that_fails_later_is_left_out_from_then_on(
    config: AppConfig, cases: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    batches = PatchBatches(config, cases, "instance", 0)
    assert len(met(batches)) == 6
    draw = batches.first

    def fails(case: Any) -> Any:
        if case["id"] == "phantom-002":
            raise error
        return draw(case)

    fails.set_random_state = draw.set_random_state
    monkeypatch.setattr(batches, "first", fails)
    assert set(met(batches)) == {"phantom-001", "phantom-004"}
    assert batches.skipped == {"phantom-002": reason_of(error)}
    assert "/private" not in batches.skipped["phantom-002"]
    monkeypatch.setattr(batches, "first", draw)
    assert "phantom-002" not in met(batches), "nor does it come back"


def test_a_run_that_has_lost_all_cases_ends(config: AppConfig, torn: dict[str, str]) -> None:
    with pytest.raises(TrainingError, match=r"no case is left to learn from; the last: torn: .*truncated or corrupt"):
        met(PatchBatches(config, [torn], "pos_neg", 0))


def test_too_little_memory_is_no_fault_of_a_case(
    config: AppConfig, cases: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = PatchBatches(config, cases, "instance", 0)

    def fails(case: Any) -> Any:
        raise MemoryError

    fails.set_random_state = batches.first.set_random_state
    monkeypatch.setattr(batches, "first", fails)
    with pytest.raises(MemoryError):
        met(batches)
    assert batches.skipped == {}


def test_a_fit_goes_on_without_them_and_tells(
    config: AppConfig, cases: list[dict[str, str]], torn: dict[str, str]
) -> None:
    options = replace(TrainOptions.from_request({}, config, "dice_ce"), max_epochs=1)

    def run(train: list[dict[str, str]], holdout: list[dict[str, str]]) -> tuple[dict[str, torch.Tensor], History]:
        torch.manual_seed(0)
        return fit(build_network(config.network), build_loss("dice_ce").loss, config, options, train, holdout)

    bad = {**torn, "id": "other"}
    _, history = run([*cases[:2], torn], [cases[2], bad])
    assert sorted(history.skipped) == ["other", "torn"]
    _, alone = run(cases[:2], [cases[2]])
    assert set(history.dice[1]) == set(alone.dice[1])
    with pytest.raises(TrainingError, match=r"none of the 1 cases to validate on can be read: \{'other': "):
        run(cases[:2], [bad])


def test_reading_tolerates(config: AppConfig, cases: list[dict[str, str]], torn: dict[str, str]) -> None:
    found = cached_cases([cases[0], torn], build_case(config))
    assert tuple(found[0]["image"].shape[:1]) == (4,)
    assert isinstance(found[1], Unreadable)
    assert readable(found[0])["id"] == "phantom-001"
    with pytest.raises(InputError, match="truncated or corrupt"):
        readable(found[1])


def test_reasons_are_sentences_without_paths() -> None:
    assert reason_of(OSError(2, "No such file or directory", "/a/b")) == "cannot be read (No such file or directory)"
    wrapped = RuntimeError("applying transform")
    wrapped.__cause__ = InputError("x is empty", "copy it again")
    assert reason_of(wrapped) == "x is empty (copy it again)"
    assert reason_of(KeyError("label")) == "KeyError: 'label'"
