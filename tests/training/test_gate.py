"""The gate: only better weights go into service, and they go there whole."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rarevoxel.config import AppConfig
from rarevoxel.errors import ModelError
from rarevoxel.evaluation import region_dice
from rarevoxel.networks import load_weights
from rarevoxel.training import gate, judge, publish

TRUTH = np.zeros((4, 4, 4), np.uint8)
TRUTH[0], TRUTH[1], TRUTH[2] = 1, 2, 3
ANSWERS = {
    "perfect.pt": TRUTH,
    "also.pt": TRUTH,
    "nothing.pt": np.zeros_like(TRUTH),
    "half.pt": np.where(TRUTH > 1, TRUTH, 0),
}


class KnownEngine:
    """An engine whose answer follows from the name of the weight file."""

    def __init__(self, config: AppConfig, paths: Sequence[Path]) -> None:
        self.path = next(path for path in paths if path.is_file())

    def predict(self, image: Path) -> Any:
        if self.path.name not in ANSWERS:
            raise ModelError(f"{self.path.name}: torn")
        return ANSWERS[self.path.name]


@pytest.fixture
def verdict(monkeypatch: pytest.MonkeyPatch, config: AppConfig, tmp_path: Path) -> Callable[..., gate.Verdict]:
    monkeypatch.setattr(gate, "Engine", KnownEngine)
    monkeypatch.setattr(gate, "score_case", lambda engine, image, label: region_dice(engine.predict(image), TRUTH))
    holdout: list[Mapping[str, str]] = [{"id": f"case-{i}", "image": "i", "label": "l"} for i in range(2)]

    def run(candidate: str, *incumbents: str, cases: int = 2) -> gate.Verdict:
        for name in (candidate, *incumbents):
            if name != "missing.pt":
                (tmp_path / name).write_bytes(b"x")
        return judge(config, tmp_path / candidate, [tmp_path / name for name in incumbents], holdout[:cases])

    return run


def test_better_is_published(verdict: Callable[..., gate.Verdict]) -> None:
    result = verdict("perfect.pt", "nothing.pt")
    assert result.publish
    assert (result.candidate, result.incumbent) == (1.0, 0.0)
    assert result.reason == (
        "published: mean region Dice 1.000 against 0.000 of the weights in service, on 2 hold-out cases"
    )
    assert result.cases["case-1"]["WT"] == (0.0, 1.0)


def test_worse_is_kept_back(verdict: Callable[..., gate.Verdict]) -> None:
    result = verdict("half.pt", "perfect.pt")
    # WT: 2 * 32 / (32 + 48), TC: 2 * 16 / (16 + 32), ET: 1.
    assert result.candidate == pytest.approx((0.8 + 2 / 3 + 1.0) / 3)
    assert not result.publish
    assert result.reason.startswith("not published: mean region Dice 0.822 against 1.000")


def test_equal_is_not_better(verdict: Callable[..., gate.Verdict]) -> None:
    assert not verdict("also.pt", "perfect.pt").publish
    assert not verdict("nothing.pt", "nothing.pt").publish


def test_the_first_weights_are_published(verdict: Callable[..., gate.Verdict]) -> None:
    result = verdict("nothing.pt", "missing.pt", cases=1)
    assert result.publish
    assert result.incumbent is None
    assert result.reason == "published: mean region Dice 0.000 on 1 hold-out case, nothing in service"
    assert result.cases == {"case-0": {"WT": (None, 0.0), "TC": (None, 0.0), "ET": (None, 0.0)}}


def test_unreadable_weights_in_service_are_nothing(verdict: Callable[..., gate.Verdict]) -> None:
    result = verdict("half.pt", "torn.pt")
    assert result.publish
    assert result.incumbent is None


def test_without_a_hold_out_nothing_is_published(verdict: Callable[..., gate.Verdict]) -> None:
    result = verdict("perfect.pt", "nothing.pt", cases=0)
    assert not result.publish
    assert math.isnan(result.candidate)
    assert "no finite score on 0 hold-out cases" in result.reason


def test_a_verdict_is_plain_data(verdict: Callable[..., gate.Verdict]) -> None:
    result = verdict("perfect.pt", "nothing.pt")
    assert json.loads(json.dumps(asdict(result)))["cases"]["case-0"]["ET"] == [0.0, 1.0]


def test_real_weights_are_judged_through_the_engine(
    config: AppConfig, tmp_path: Path, save_tiny: Callable[..., Path], phantom_folders: Path
) -> None:
    case = phantom_folders / "phantom-001"
    holdout = [{"id": "a", "image": str(case / "t1c.nii.gz"), "label": str(case / "seg.nii.gz")}]
    candidate, other = save_tiny(tmp_path / "new.pt", seed=1), save_tiny(tmp_path / "old.pt", seed=2)
    forth, back = judge(config, candidate, [other], holdout), judge(config, other, [candidate], holdout)
    assert (forth.candidate, forth.incumbent) == (back.incumbent, back.candidate)
    assert forth.publish is (forth.candidate > back.candidate)
    other.write_bytes(b"torn")
    assert judge(config, candidate, [other], holdout).incumbent is None


def test_readers_never_meet_a_torn_file(tmp_path: Path, save_tiny: Callable[..., Path]) -> None:
    sources = [save_tiny(tmp_path / f"{seed}.pt", seed=seed) for seed in (1, 2)]
    target = tmp_path / "model" / "calf.pt"
    publish(sources[0], target)
    broken: list[Exception] = []
    met: set[int] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                met.add(load_weights(target)[3]["seed"])
            except ModelError as error:
                broken.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for i in range(60):
            publish(sources[i % 2], target)
    finally:
        done.set()
        thread.join()
    assert not broken
    assert met <= {1, 2}
    assert [path.name for path in target.parent.iterdir()] == ["calf.pt"]
    assert all(source.is_file() for source in sources), "the candidate stays where it is"


def test_a_failed_publication_leaves_the_old_file_and_no_other(
    tmp_path: Path, save_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = save_tiny(tmp_path / "model" / "calf.pt", seed=1)
    before = target.read_bytes()
    candidate = save_tiny(tmp_path / "new.pt", seed=2)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        publish(candidate, target)
    assert target.read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == ["calf.pt"]
    assert torch.load(target, weights_only=True)["info"] == {"seed": 1}
