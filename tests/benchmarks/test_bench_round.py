"""The round's benchmark gives both sides the same number of steps and says what it measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import bench_round
from bench_round import OURS, PEER, STATIONS, Bench, Side

from rarevoxel.config import load_config
from rarevoxel.training.split import split_cases


@pytest.mark.parametrize(("labelled", "steps"), [(4, 1), (7, 24), (7, 60), (12, 24)])
def test_both_sides_take_as_many_steps(tmp_path: Path, labelled: int, steps: int) -> None:
    for number in range(labelled + 2):
        (tmp_path / "source" / f"case-{number:03d}").mkdir(parents=True)
    bench = Bench(tmp_path, labelled, steps, 32)
    epochs = bench.epochs()
    training = load_config(bench_round.bundled_app() / "app.toml").training
    names = bench.cases[:-1]
    learned = split_cases({name: name for name in names}, training.holdout, training.selection).train
    assert epochs[OURS] * len(learned) == epochs[PEER] * int(0.8 * len(names)) == epochs["steps"]
    assert bench.next == names[-1]
    assert bench.cases[-1] not in names


class Host:
    """An app that answers at once."""

    def __init__(self, case: str, answer: Path) -> None:
        self.case, self.answer = case, answer
        self.asked: list[str] = []

    def datastore(self) -> Host:
        return self

    def next_sample(self, request: dict[str, str]) -> dict[str, str]:
        self.asked.append("next")
        return {"id": self.case}

    def infer(self, request: dict[str, str]) -> dict[str, str]:
        self.asked.append(f"infer {request['image']}")
        self.answer.write_bytes(b"mask")
        return {"file": str(self.answer)}

    def save_label(self, case: str, file: str, tag: str, info: dict[str, Any]) -> None:
        assert Path(file).read_bytes() == b"truth"
        self.asked.append(f"submit {case} {tag} {[one['name'] for one in info['label_info']]}")

    def train(self, request: dict[str, Any]) -> None:
        self.asked.append(f"train {request['max_epochs']}")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    for number in range(6):
        folder = tmp_path / "source" / f"case-{number}"
        folder.mkdir(parents=True)
        (folder / "seg.nii.gz").write_bytes(b"truth")
    return Bench(tmp_path, 4, 8, 32)


def test_a_round_has_its_stations(bench: Bench, tmp_path: Path) -> None:
    host = Host("case-4", tmp_path / "mask.nii.gz")
    seconds = bench_round.play(Side(host, "model", {"max_epochs": 3}), bench, tmp_path)
    assert tuple(seconds) == STATIONS
    labels = "['necrosis', 'edema', 'enhancing tumor']"
    asked = ["infer case-5", "next", "infer case-4", f"submit case-4 final {labels}", "train 3", "infer case-4"]
    assert host.asked == asked
    with pytest.raises(RuntimeError, match="case-9 offered, expected case-4"):
        bench_round.play(Side(Host("case-9", tmp_path / "mask.nii.gz"), "model", {}), bench, tmp_path)


def test_what_is_told(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def side(bench: Bench, place: Path, epochs: int) -> Side:
        return Side(Host("case-4", tmp_path / "mask.nii.gz"), "model", {"max_epochs": epochs})

    monkeypatch.setattr(bench_round, "SIDES", {OURS: side, PEER: side})
    found = json.loads(json.dumps(bench_round.measure(bench, 2)))
    assert set(found["times_faster"]) == {*STATIONS, "round"}
    assert found["seconds"][PEER]["round"]["rounds"] == 2
    told = bench_round.lines({"size": [8, 8, 8], "spacing_mm": 2.0, **found})
    assert told[0].startswith("5 labelled cases of 8 x 8 x 8 voxels of 2 mm, ")
    assert told[-1].startswith("round ")
    assert told[-1].endswith("goal 5x")


def test_impossible_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--patch", "40"])
    with pytest.raises(SystemExit, match="2"):
        bench_round.main()
    assert "--patch must be a multiple of 16" in capsys.readouterr().err
