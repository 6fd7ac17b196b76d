"""The performance figure draws what the benchmarks print, and only what is there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import performance_figure
from performance_figure import bars, growths

RATIO = {"low": 2.0, "median": 3.0, "high": 4.0}
GROWN = {"voxels": [10.0, 20.0], "seconds": [1.0, 2.0], "exponent": 1.0}
RESULTS = {
    "losses": {
        "times": {
            "sigmoid dice_focal": {"MONAI over fused": RATIO, "plain over fused": RATIO, "goal": 4.0},
            "LMF sigmoid": {"plain over fused": RATIO, "goal": None},
        },
        "growth": {"sigmoid dice_focal": GROWN},
    },
    "statistics": {
        "one_case": {"times_as_long": {"SimpleITK": RATIO}},
        "rescan": {"one_changed": RATIO},
        "growth": {"voxels": [1, 2], "voxels_s": [1.0, 2.0], "voxels_exponent": 1.0},
    },
    "inference": {"times_faster": {"first click": RATIO, "second click": RATIO}, "growth": {"MONAI": GROWN}},
    "loading": {
        "draws": {"1 of 64^3": {"ratio": {"LabelClasses": RATIO}}, "4 of 96^3": {"ratio": {"LabelClasses": RATIO}}},
        "disk_ratio": {"PersistentDataset": RATIO, "PersistentDataset, cropped": RATIO},
        "draw_voxels": [1, 2],
        "draw_s": [1.0, 2.0],
        "draw_exponent": 1.0,
    },
    "round": {"times_faster": {"next sample": RATIO, "train": RATIO, "round": RATIO}, "goal": 5.0},
}


def test_every_ratio_has_its_goal() -> None:
    assert {bar.name: bar.goal for bar in bars(RESULTS)} == {
        "sigmoid dice_focal, over MONAI": 4.0,
        "LMF sigmoid, over plain": None,
        "a case, over SimpleITK": 8.0,
        "second scan, one case changed": 30.0,
        "first click, over MONAI": 10.0,
        "second click, over MONAI": None,
        "1 of 64^3, over LabelClasses": 6.0,
        "patches from disk, over PersistentDataset": 6.0,
        "patches from disk, over PersistentDataset, cropped": None,
        "train, over MONAI Label": None,
        "round, over MONAI Label": 5.0,
    }
    assert [line.kind for line in growths(RESULTS)] == ["losses", "statistics", "inference", "loading"]


def test_it_is_drawn_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "round.json").write_text(json.dumps(RESULTS["round"]))
    figure = tmp_path / "pictures" / "performance.png"
    monkeypatch.setattr(sys, "argv", ["x", str(tmp_path), str(figure)])
    assert performance_figure.main() == 0
    alone = figure.read_bytes()
    for name, result in RESULTS.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    assert performance_figure.main() == 0
    assert alone.startswith(b"\x89PNG")
    assert len(figure.read_bytes()) > len(alone)


def test_an_empty_folder_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"holds none of losses\.json, .*round\.json; run make bench"):
        performance_figure.read(tmp_path)
