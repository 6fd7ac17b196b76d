"""The losses' benchmark compares like with like, and its report is made of what it measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from rarevoxel.losses import fused_passes
from rarevoxel.losses.fused import use_fused

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import bench_losses


@pytest.fixture(autouse=True)
def _no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_passes, "_failed", {"cpu"})


@pytest.mark.parametrize("name", ["softmax dice_focal", "sigmoid dice_focal"])
def test_the_peer_is_the_same_loss(name: str) -> None:
    row = bench_losses.ROWS[name]
    pair = bench_losses.data(row, 8)
    for enabled in (False, True):
        with use_fused(enabled, least=1):
            torch.testing.assert_close(row.ours()(*pair), row.peer()(*pair))


def test_the_growth_of_a_line_of_points() -> None:
    found = bench_losses.measure_growth(["sigmoid dice_focal"], 8, 1)["sigmoid dice_focal"]
    assert found["voxels"] == [8**3, 12**3, 16**3]
    assert len(found["seconds"]) == 3


def test_bytes_that_are_kept() -> None:
    ours, logits = bench_losses.kept("softmax dice_focal", "fused")
    assert logits == 2 * 4 * 16**3 * 4
    assert 0 < ours < 1024
    assert bench_losses.kept("softmax dice_focal", "MONAI")[0] > logits


def test_a_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for extra in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", ["x", "--size", "6", "--rounds", "2", "--times-only", *extra])
        assert bench_losses.main() == 0
        text = capsys.readouterr().out
        if extra:
            found = json.loads(text)
            assert found["way"] == "chunked"
            assert set(found["times"]) == set(bench_losses.ROWS)
            assert {"plain over fused", "goal", "first_call_s", "seconds"} == set(found["times"]["LMF sigmoid"])
            assert found["times"]["CALF bce_dice"]["MONAI over fused"]["median"] > 0
        else:
            assert text.startswith("n = 6, chunked, ")
            assert "goal 8x" in text
    monkeypatch.setattr(sys, "argv", ["x", "--rounds", "0"])
    with pytest.raises(SystemExit, match="2"):
        bench_losses.main()
    assert "--size, --rounds and --threads must be at least 1" in capsys.readouterr().err
