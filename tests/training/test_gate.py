"""The gate: only better weights go into service."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rarevoxel.config import AppConfig
from rarevoxel.errors import ModelError
from rarevoxel.training import gate, judge
from rarevoxel.transforms import LoadSequencesd
from rarevoxel.volumes import file_sha256

TRUTH = np.zeros((4, 4, 4), np.uint8)
TRUTH[0], TRUTH[1], TRUTH[2] = 1, 2, 3
ANSWERS = {
    "perfect.pt": TRUTH,
    "also.pt": TRUTH,
    "nothing.pt": np.zeros_like(TRUTH),
    "half.pt": np.where(TRUTH > 1, TRUTH, 0),
}
Judge = Callable[..., gate.Verdict]


class KnownEngine:
    """An engine whose answer follows from the name of the weight file."""

    def __init__(self, config: AppConfig, paths: Sequence[Path], cache: object = None) -> None:
        self.path = next(path for path in paths if path.is_file())

    def predict(self, image: Path) -> Any:
        if self.path.name not in ANSWERS:
            raise ModelError(f"{self.path.name}: torn")
        model = {"version": self.path.stem, "sha256": file_sha256(self.path)}
        return SimpleNamespace(labels=ANSWERS[self.path.name], model=model)


@pytest.fixture
def verdict(monkeypatch: pytest.MonkeyPatch, config: AppConfig, tmp_path: Path) -> Judge:
    monkeypatch.setattr(gate, "Engine", KnownEngine)
    monkeypatch.setattr(gate, "read_labels", lambda path: TRUTH if path.name != "empty" else np.zeros_like(TRUTH))
    monkeypatch.setattr(gate, "_unusable", lambda path: "")

    def run(candidate: str, *incumbents: str, cases: int = 3, label: str = "l", **margins: Any) -> gate.Verdict:
        holdout = [{"id": f"case-{i}", "image": "i", "label": label} for i in range(cases)]
        for name in (candidate, *incumbents):
            if name != "missing.pt":
                (tmp_path / name).write_bytes(name.encode())
        asked = replace(config, gate=replace(config.gate, **margins))
        return judge(asked, tmp_path / candidate, [tmp_path / name for name in incumbents], holdout)

    return run


def test_better_is_published(verdict: Judge) -> None:
    result = verdict("perfect.pt", "nothing.pt")
    assert result.publish
    assert (result.candidate, result.incumbent, result.difference, result.n) == (1.0, 0.0, 1.0, 3)
    assert result.reason == (
        "published: mean region Dice 1.000 against 0.000 of the weights in service, +1.000 on 3 hold-out patients "
        "(one-sided 95% lower bound +1.000; WT +1.000, TC +1.000, ET +1.000)"
    )
    assert result.cases["case-1"]["WT"] == (0.0, 1.0)
    assert result.regions == {"WT": 1.0, "TC": 1.0, "ET": 1.0}
    assert result.against is not None
    assert result.against.name == "nothing"
    assert not result.too_few


@pytest.mark.fault(41)
def test_worse_is_kept_back(verdict: Judge) -> None:
    result = verdict("half.pt", "perfect.pt")
    # WT: 2 * 32 / (32 + 48), TC: 2 * 16 / (16 + 32), ET: 1.
    assert result.candidate == pytest.approx((0.8 + 2 / 3 + 1.0) / 3)
    assert not result.publish
    assert result.reason.startswith("not published: mean region Dice 0.822 against 1.000")
    assert "it is not better, and WT falls by 0.200" in result.reason


def test_equal_is_not_better(verdict: Judge) -> None:
    assert not verdict("also.pt", "perfect.pt").publish
    assert not verdict("nothing.pt", "nothing.pt").publish


def test_the_same_file_is_told_as_such(verdict: Judge) -> None:
    result = verdict("perfect.pt", "perfect.pt")
    assert not result.publish
    assert result.reason == "not published: the candidate is, byte for byte, what is in service"


def test_the_first_weights_are_published(verdict: Judge) -> None:
    result = verdict("half.pt", "missing.pt", cases=1)
    assert result.publish
    assert result.incumbent is None
    assert result.reason == "published: mean region Dice 0.822 on 1 hold-out patient, nothing in service"
    assert result.cases["case-0"]["ET"] == (None, 1.0)


@pytest.mark.parametrize("incumbent", ["missing.pt", "also.pt"])
def test_what_finds_nothing_is_never_published(verdict: Judge, incumbent: str) -> None:
    result = verdict("nothing.pt", incumbent)
    assert not result.publish
    assert result.reason == ("not published: the candidate finds nothing on 3 hold-out patients, and there is tumour")


def test_finding_nothing_is_right_where_there_is_nothing(verdict: Judge) -> None:
    result = verdict("nothing.pt", "half.pt", label="empty")
    assert result.publish
    assert result.regions == {"WT": 1.0, "TC": 1.0, "ET": 1.0}
    assert verdict("nothing.pt", "missing.pt", label="empty").publish


def test_unreadable_weights_in_service_are_nothing(verdict: Judge) -> None:
    result = verdict("half.pt", "torn.pt")
    assert result.publish
    assert result.incumbent is None


def test_too_few_cases_keep_what_is_there_unless_asked(verdict: Judge) -> None:
    result = verdict("perfect.pt", "half.pt", cases=2)
    assert not result.publish
    assert result.too_few
    assert result.reason.startswith(
        "not published: too few cases to judge (2 hold-out patients, at least 3 needed); mean region Dice 1.000"
    )
    result = verdict("perfect.pt", "half.pt", cases=2, too_few="publish_if_better")
    assert result.publish
    assert "by the means alone" in result.reason
    assert not verdict("half.pt", "perfect.pt", cases=2, too_few="publish_if_better").publish


def test_without_a_hold_out_nothing_is_published(verdict: Judge) -> None:
    result = verdict("perfect.pt", "nothing.pt", cases=0)
    assert not result.publish
    assert result.candidate is None
    assert result.reason == "not published: there is no hold-out case"


def test_a_verdict_is_plain_data(verdict: Judge) -> None:
    plain = json.loads(json.dumps(verdict("perfect.pt", "nothing.pt").to_dict(), allow_nan=False))
    assert plain["cases"]["case-0"]["ET"] == [0.0, 1.0]
    assert plain["test"].startswith("one-sided paired t")
    assert plain["against"]["name"] == "nothing"
    json.dumps(verdict("perfect.pt", "nothing.pt", cases=0).to_dict(), allow_nan=False)


@pytest.mark.fault(39)
def test_weights_that_are_no_numbers_are_never_published(
    config: AppConfig, tmp_path: Path, save_tiny: Callable[..., Path], phantom_folders: Path
) -> None:
    candidate = save_tiny(tmp_path / "new.pt")
    content = torch.load(candidate, weights_only=True)
    name = next(iter(content["model"]))
    content["model"][name][0] = float("nan")
    torch.save(content, candidate)
    case = phantom_folders / "phantom-001"
    holdout = [{"id": "a", "image": str(case / "t1c.nii.gz"), "label": str(case / "seg.nii.gz")}]
    result = judge(config, candidate, [], holdout)
    assert not result.publish
    assert result.reason == f"not published: the candidate holds weights that are no finite numbers ({name})"


def test_real_weights_are_judged_through_the_engine(
    config: AppConfig,
    tmp_path: Path,
    save_tiny: Callable[..., Path],
    phantom_folders: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = phantom_folders / "phantom-001"
    holdout = [{"id": "a", "image": str(case / "t1c.nii.gz"), "label": str(case / "seg.nii.gz")}]
    candidate, other = save_tiny(tmp_path / "new.pt", seed=1), save_tiny(tmp_path / "old.pt", seed=2)
    read: list[object] = []
    load = LoadSequencesd.__call__
    monkeypatch.setattr(LoadSequencesd, "__call__", lambda self, data: read.append(data) or load(self, data))
    judge(config, candidate, [other], holdout)
    assert len(read) == 1  # For both.
    forth, back = judge(config, candidate, [other], holdout), judge(config, other, [candidate], holdout)
    assert (forth.candidate, forth.incumbent) == (back.incumbent, back.candidate)
    assert forth.against is not None
    assert forth.against.sha256 == file_sha256(other)
    other.write_bytes(b"torn")
    assert judge(config, candidate, [other], holdout).incumbent is None
