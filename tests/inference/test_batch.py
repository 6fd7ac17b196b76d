"""Masks of many cases: resumed, made anew only when something else is behind them, and never half."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rarevoxel.cases import Case
from rarevoxel.config import AppConfig
from rarevoxel.errors import InputError, ModelError
from rarevoxel.inference import Engine
from rarevoxel.inference.batch import DONE, KEPT, REFUSED, Outcome, infer_cases
from rarevoxel.inference.prediction import Prediction
from rarevoxel.volumes import read_labels, write_labels, write_volume


@dataclass
class Talker:
    """An engine that labels the first voxel with the number of the case, and tells what it did."""

    config: AppConfig
    sha256: str = "a"
    bad: Mapping[str, Exception] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    reading: threading.Event = field(default_factory=threading.Event)

    def model(self) -> dict[str, Any]:
        return {"sha256": self.sha256}

    def prepare(self, sequences: Mapping[str, Path]) -> str:
        name = sequences["t1c"].parent.name
        self.said.append(f"read {name}")
        self.reading.set()
        if name in self.bad:
            raise self.bad[name]
        return name

    def predict_prepared(self, name: str) -> Prediction:
        # The case after this one must be on its way while this one is predicted; the last has none after it.
        assert name == "c" or self.reading.wait(10)
        self.reading.clear()
        self.said.append(f"predict {name}")
        labels = np.full((4, 4, 4), ord(name) - ord("a"), np.uint8)
        return Prediction(labels, np.eye(4), {"WT": 1.0}, {}, model=self.model(), confidence={"WT": 0.5})


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    found = []
    for name in "abc":
        file = tmp_path / "in" / name / "t1c.nii"
        write_volume(file, np.zeros((2, 2, 2), np.uint8), np.eye(4))
        found.append(Case(name, name, {"t1c": file}))
    return found


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def states(outcomes: list[Outcome]) -> str:
    return " ".join(f"{outcome.case}:{outcome.state}" for outcome in outcomes)


def run(engine: Any, cases: list[Case], out: Path, **settings: Any) -> str:
    return states(list(infer_cases(engine, cases, out, **settings)))


ALL_DONE, ALL_KEPT = "a:done b:done c:done", "a:kept b:kept c:kept"


def test_one_mask_and_one_record_a_case_and_the_next_is_read_meanwhile(
    config: AppConfig, cases: list[Case], out: Path
) -> None:
    engine = Talker(config)
    assert run(engine, cases, out) == ALL_DONE
    assert [int(read_labels(out / f"{name}.nii.gz")[0, 0, 0]) for name in "abc"] == [0, 1, 2]
    assert sorted(path.name for path in out.iterdir()) == [f"{n}.{s}" for n in "abc" for s in ("json", "nii.gz")]
    assert engine.said.index("read b") < engine.said.index("predict b")
    assert [word for word in engine.said if word.startswith("read")] == ["read a", "read b", "read c"]


def test_what_is_there_stays_with_its_answer_and_nothing_is_read(
    config: AppConfig, cases: list[Case], out: Path
) -> None:
    first = list(infer_cases(Talker(config), cases, out))
    engine = Talker(config)
    again = list(infer_cases(engine, cases, out))
    assert states(again) == ALL_KEPT
    assert engine.said == []
    assert [outcome.answer for outcome in again] == [outcome.answer for outcome in first]
    assert run(engine, cases, out, force=True) == ALL_DONE


def other_weights(engine: Talker, case: Case) -> Talker:
    return replace(engine, sha256="b")


def other_settings(engine: Talker, case: Case) -> Talker:
    return replace(engine, config=replace(engine.config, inference=replace(engine.config.inference, threshold=0.4)))


def other_files(engine: Talker, case: Case) -> Talker:
    os.utime(case.sequences["t1c"], ns=(1, 1))
    return engine


@pytest.mark.parametrize(
    ("change", "expected"),
    [(other_weights, ALL_DONE), (other_settings, ALL_DONE), (other_files, "a:kept b:done c:kept")],
)
def test_masks_of_something_else_are_made_anew(
    config: AppConfig, cases: list[Case], out: Path, change: Callable[[Talker, Case], Talker], expected: str
) -> None:
    engine = Talker(config)
    run(engine, cases, out)
    engine = change(engine, cases[1])
    assert run(engine, cases, out) == expected
    assert run(engine, cases, out) == ALL_KEPT


def test_settings_that_do_not_change_a_mask_do_not_count(config: AppConfig, cases: list[Case], out: Path) -> None:
    run(Talker(config), cases, out)
    less = replace(config, inference=replace(config.inference, memory_mib=4000, cache_mib=0))
    assert run(Talker(less), cases, out) == ALL_KEPT


def test_somebody_s_work_stays(config: AppConfig, cases: list[Case], out: Path) -> None:
    run(Talker(config), cases, out)
    mine = np.full((4, 4, 4), 3, np.uint8)
    write_labels(out / "b.nii.gz", mine, np.eye(4))
    (out / "c.json").write_text("{torn")
    found = list(infer_cases(Talker(config, sha256="b"), cases, out))
    assert states(found) == "a:done b:kept c:kept"
    assert "changed after it was made" in found[1].reason
    assert "no record" in found[2].reason
    assert np.array_equal(read_labels(out / "b.nii.gz"), mine)


@pytest.mark.parametrize("error", [InputError("image is constant"), RuntimeError("out of luck"), MemoryError("full")])
def test_a_case_that_fails_is_told_and_tried_again(
    config: AppConfig, cases: list[Case], out: Path, error: Exception
) -> None:
    found = list(infer_cases(Talker(config, bad={"b": error}), cases, out))
    assert states(found) == "a:done b:refused c:done"
    assert str(error.args[0]) in found[1].reason
    assert not list(out.glob("b*"))
    assert run(Talker(config), cases, out) == "a:kept b:done c:kept"


def test_without_weights_there_is_no_run(config: AppConfig, cases: list[Case], out: Path) -> None:
    with pytest.raises(ModelError, match="no trained weights"):
        list(infer_cases(Engine(config, [out / "none.pt"], device="cpu"), cases, out))
    assert not out.exists()
    with pytest.raises(ModelError, match="torn"):
        list(infer_cases(Talker(config, bad={"b": ModelError("torn")}), cases, out))


def test_a_run_that_is_killed_goes_on_and_leaves_nothing_half(
    config: AppConfig, cases: list[Case], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    real = Path.replace

    def power_cut(self: Path, target: Path) -> None:
        if target.name == "b.nii.gz":
            raise Killed
        real(self, target)

    monkeypatch.setattr(Path, "replace", power_cut)
    with pytest.raises(Killed):
        list(infer_cases(Talker(config), cases, out))
    monkeypatch.undo()
    assert sorted(path.name for path in out.iterdir()) == ["a.json", "a.nii.gz"]
    assert run(Talker(config), cases, out) == "a:kept b:done c:done"


def test_a_real_engine_s_masks_are_those_it_predicts(config: AppConfig, tiny_weights: Path, studies: Path) -> None:
    from rarevoxel.cases import scan

    engine = Engine(config, [tiny_weights], device="cpu")
    cases = list(scan(studies, detect=False).cases)[:2]
    for outcome, case in zip(infer_cases(engine, cases, studies.parent / "masks"), cases, strict=True):
        assert (outcome.case, outcome.state) == (case.id, DONE)
        assert np.array_equal(read_labels(outcome.mask), engine.predict(case.sequences).labels)
    record = json.loads((studies.parent / "masks" / f"{cases[0].id}.json").read_text())
    assert record["made_from"]["model"] == engine.model()["sha256"]
    assert set(record["made_from"]["inputs"]) == set(cases[0].sequences)
    assert {KEPT, REFUSED, DONE} == {"kept", "refused", "done"}
