"""The study of how fast losses learn small lesions, made small."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import loss_learning

from rarevoxel.bundled import bundled_app
from rarevoxel.config import load_config


def test_crops_hold_lesions_and_are_those_of_their_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_learning, "EDGE", 32)
    config = load_config(bundled_app() / "app.toml")
    first, again, other = (loss_learning.draw_crops(config, 2, seed) for seed in (1, 1, 2))
    for image, regions in first:
        assert image.shape == (1, 4, 32, 32, 32)
        assert regions.shape == (1, 3, 32, 32, 32)
        assert regions[0, 0].any()
    assert all(torch.equal(a, b) for pair in zip(first, again, strict=True) for a, b in zip(*pair, strict=True))
    assert not torch.equal(first[0][0], other[0][0])


def test_a_loss_is_tried_on_a_copy_and_told_by_round(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loss_learning, "EDGE", 32)
    assert loss_learning.main(["--losses", "dice", "ce", "--steps", "4", "--crops", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["dice"]
    assert set(told) == {"dice", "ce"}
    assert told["dice"][0] != told["dice"][1]
    assert [len(values) for values in told.values()] == [2, 2]


def test_dice_counts_voxels_above_a_half() -> None:
    logits = torch.full((1, 3, 2, 2, 2), -1.0)
    logits[0, 0, 0] = 1.0
    truth = torch.zeros(1, 3, 2, 2, 2)
    truth[0, 0, :, 0] = 1.0
    assert loss_learning.whole_dice(lambda image: logits, torch.zeros(1), truth) == 0.5
