"""The self-check by hand, and what the engine says where there is nothing, little, or much."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rarevoxel.config import AppConfig, NetworkConfig, Preprocessing
from rarevoxel.errors import ConfigError
from rarevoxel.inference import Engine
from rarevoxel.inference import sources as sources_module
from rarevoxel.inference.pieces import Dropped
from rarevoxel.inference.self_check import expected_dice, highest, region_confidence, tell
from rarevoxel.phantom import Phantom


def test_expected_dice_by_hand() -> None:
    p = np.array([0.9, 0.6, 0.3, 0.2], np.float32)
    mask = np.array([True, True, False, False])
    assert expected_dice(p, mask) == pytest.approx(2 * 1.5 / (2.0 + 2))
    assert expected_dice(mask.astype(np.float32), mask) == 1.0
    assert expected_dice(np.zeros(4, np.float32), mask) == 0.0


def test_expected_dice_is_near_the_mean_dice_of_drawn_truths() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0, 1, 5000).astype(np.float32)
    mask = p >= 0.5
    truths = rng.uniform(0, 1, (200, 5000)) < p
    drawn = [2 * (truth & mask).sum() / (truth.sum() + mask.sum()) for truth in truths]
    assert expected_dice(p, mask) == pytest.approx(np.mean(drawn), abs=2e-3)


def test_one_voxel_alone_counts_less_than_a_structure() -> None:
    lone, wide = np.zeros((2, 9, 9, 9), np.float32)
    lone[4, 4, 4] = wide[3:6, 3:6, 3:6] = 0.4
    assert highest(wide, (1, 1, 1)) == pytest.approx(0.4)
    assert highest(lone, (1, 1, 1)) == pytest.approx(0.4 / 27)
    assert highest(lone, (1, 1, 5.5)) == pytest.approx(0.4 / 9), "a thick slice is wide enough alone"
    assert highest(lone, (4, 4, 4)) == pytest.approx(0.4)
    assert highest(np.full((1, 1, 1), 0.3, np.float32), (1, 1, 1)) == pytest.approx(0.3)


def test_confidence_of_full_and_empty_regions() -> None:
    p = np.zeros((2, 5, 5, 5), np.float32)
    p[0, :2] = 0.8
    p[1] = 0.25
    masks = {"WT": p[0] > 0.5, "ET": np.zeros((5, 5, 5), bool)}
    assert region_confidence(p, masks, (1, 1, 1)) == {"WT": round(2 * 0.8 / 1.8, 4), "ET": 0.75}


def test_sentences() -> None:
    sure = {"WT": 0.9, "TC": 0.5, "ET": 0.31}
    assert tell(sure, 0.97, True, Dropped()) == ("ET is uncertain (confidence 0.31)",)
    told = tell({"WT": 0.93}, 0.071, False, Dropped((2.0, 4.0), (8.0,), 5.0, 0.95))
    assert told == (
        "no tumour found (WT 0.0 ml, highest probability 0.07)",
        "2 pieces of tumour below 5 mm3 left out (0.006 ml in all)",
        "1 piece of tumour nowhere as likely as 0.95 left out (0.008 ml in all)",
    )
    (alone,) = tell({}, 0.9, True, Dropped((2.0,), (), 5.0))
    assert alone == "1 piece of tumour below 5 mm3 left out (0.002 ml in all)"


class Everywhere(nn.Module):
    """The same logit at every voxel, but for one block of voxels."""

    def __init__(self, logit: float, block: float | None = None) -> None:
        super().__init__()
        self.logit, self.block = logit, block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = torch.full_like(x[:, :3], self.logit)
        if self.block is not None:
            logits[..., 5:7, 5:7, 5:7] = self.block
        return logits


Build = Callable[..., Engine]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, config: AppConfig, tmp_path: Path) -> Build:
    """Return a function that makes an engine with a given network, at the phantom's 4 mm."""

    def make(network: nn.Module, smallest_mm3: float = 0.0, **info: Any) -> Engine:
        path = tmp_path / "given.pt"
        path.write_bytes(b"there")
        answer = (network, NetworkConfig(filters=(4, 4, 8)), Preprocessing(spacing=(4.0, 4.0, 4.0)), info)
        monkeypatch.setattr(sources_module, "load_weights", lambda path, device, data: answer)
        inference = replace(config.inference, smallest_mm3=smallest_mm3)
        return Engine(replace(config, inference=inference), [path], device="cpu")

    return make


def test_no_tumour_is_an_answer(engine: Build, case_folder: Path, phantom: Phantom) -> None:
    prediction = engine(Everywhere(-3.0)).predict(case_folder)
    p = 1 / (1 + np.exp(3.0))
    assert prediction.labels.shape == phantom.labels.shape
    assert not prediction.labels.any()
    assert prediction.tumour_found is False
    assert prediction.confidence == pytest.approx(dict.fromkeys(("WT", "TC", "ET"), 1 - p), abs=1e-4)
    assert prediction.findings == ("no tumour found (WT 0.0 ml, highest probability 0.05)",)
    assert prediction.regions_ml == {"WT": 0.0, "TC": 0.0, "ET": 0.0}


def test_specks_are_left_out_when_asked(engine: Build, case_folder: Path) -> None:
    network = Everywhere(-9.0, block=9.0)  # 2 x 2 x 2 voxels of 64 mm3.
    kept = engine(network, 512.0).predict(case_folder)
    assert (kept.tumour_found, kept.findings) == (True, ())
    assert kept.regions_ml["WT"] == pytest.approx(0.512)
    assert min(kept.confidence.values()) > 0.4
    without = engine(network, 512.1).predict(case_folder, with_probabilities=True)
    assert (without.tumour_found, without.labels.any()) == (False, np.False_)
    assert without.findings[:2] == (
        "no tumour found (WT 0.0 ml, highest probability 1.00)",
        "1 piece of tumour below 512.1 mm3 left out (0.512 ml in all)",
    )
    assert "WT is uncertain" in without.findings[2]
    assert without.probabilities is not None
    assert np.count_nonzero(without.probabilities[0] > 0.5) == 8, "the probabilities show what was left out"


def test_a_sure_network_is_confident(engine: Build, case_folder: Path) -> None:
    prediction = engine(Everywhere(12.0)).predict(case_folder)
    assert prediction.tumour_found is True
    assert min(prediction.confidence.values()) > 0.99
    assert prediction.findings == ()


def test_an_impossible_smallest_piece_is_refused(config: AppConfig) -> None:
    with pytest.raises(ConfigError, match=r"smallest_mm3 \(-1\) must be >= 0"):
        replace(config.inference, smallest_mm3=-1)


def test_pieces_that_are_faint_all_over_are_left_out_as_the_weights_say(engine: Build, case_folder: Path) -> None:
    network = Everywhere(-9.0, block=2.0)  # Probability 0.88.
    assert engine(network, peak=0.88).predict(case_folder).regions_ml["WT"] == pytest.approx(0.512)
    without = engine(network, peak=0.89).predict(case_folder)
    assert not without.labels.any()
    assert without.findings[1] == "1 piece of tumour nowhere as likely as 0.89 left out (0.512 ml in all)"
    assert engine(network).predict(case_folder).tumour_found, "weights that say nothing keep every piece"


def test_without_a_sequence_the_weights_threshold_for_that_decides(engine: Build, case_folder: Path) -> None:
    made = engine(Everywhere(-9.0, block=-1.0), missing={"t2f": {"WT": 0.2}})  # Probability 0.27.
    files = {name: case_folder / f"{name}.nii.gz" for name in ("t1n", "t1c", "t2w", "t2f")}
    assert not made.predict(files).tumour_found
    del files["t2f"]
    found = made.predict(files)
    assert found.missing == ("t2f",)
    assert found.regions_ml == {"WT": 0.512, "TC": 0.0, "ET": 0.0}
