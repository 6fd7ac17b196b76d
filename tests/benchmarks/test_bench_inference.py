"""The benchmark of inference times two ways to one mask."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import bench_inference
from bench_inference import AGAIN, FIRST, MONAI, OTHER, slab
from heads import write_head

from rarevoxel.cases import SEQUENCES
from rarevoxel.config import AppConfig, NetworkConfig, Preprocessing
from rarevoxel.inference import sources
from rarevoxel.volumes import read_labels, read_volume, write_volume


class Bright(nn.Module):
    """Region r is where sequence r is bright: neither crops nor windows change what it says of a voxel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 4.0 * x[:, :3] - 1.0


def test_both_ways_lead_to_one_mask(
    config: AppConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer = (Bright(), NetworkConfig(filters=(4, 4, 8)), Preprocessing(spacing=(4.0,) * 3), {})
    monkeypatch.setenv("RAREVOXEL_PRECISION", "float32")
    monkeypatch.setattr(bench_inference, "configuration", lambda: config)
    for module in (bench_inference, sources):
        monkeypatch.setattr(module, "load_weights", lambda *_: answer)
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"there")
    options = ["--weights", str(weights), "--mm", "4", "--rounds", "1", "--quick"]
    monkeypatch.setattr(sys, "argv", ["bench", *options, "--json"])
    assert bench_inference.main() == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["shape"] == [60, 60, 39]
    assert set(found["seconds"]) == {MONAI, FIRST, AGAIN, OTHER}
    assert all(ratio["median"] > 0 for ratio in found["times_faster"].values())
    assert found["dice"]["clicks_agree"]
    assert found["dice"]["between"] == {"WT": 1.0, "TC": 1.0, "ET": 1.0}
    assert found["dice"]["lost"] == 0.0
    assert any("Dice lost" in line for line in bench_inference.lines(found))


def test_a_head_is_whole_numbers_with_its_labels(tmp_path: Path) -> None:
    truth = write_head(tmp_path / "head", 0, mm=4.0)
    image = read_volume(tmp_path / "head" / "t1c.nii.gz")
    assert image.array.shape == truth.shape == (60, 60, 39)
    assert np.array_equal(image.array, np.rint(image.array))
    assert set(np.unique(truth)) <= {0, 1, 2, 3}
    assert (image.array[truth > 0] != 0).mean() > 0.9


def test_a_slab_is_the_middle_of_a_case(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.nii.gz" for name in SEQUENCES}
    for file in files.values():
        write_volume(file, np.arange(2 * 3 * 10, dtype=np.int16).reshape(2, 3, 10), np.eye(4))
    part = slab(files, tmp_path / "part", 0.4)
    assert np.array_equal(read_labels(part["t2f"]), np.arange(60).reshape(2, 3, 10)[:, :, 3:7])
