"""The runner: every labelled case once, refusals named, the worst kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluation.scene import AFFINE, NO_MODEL, SHAPE, TableEngine, label, write_scene
from rarevoxel.cases import scan
from rarevoxel.errors import InputError, ModelError
from rarevoxel.evaluation.model_report import Evaluation
from rarevoxel.evaluation.worst import Worst
from rarevoxel.inference.evaluate import evaluate_cases
from rarevoxel.volumes import write_labels


def evaluated(studies: Path, engine: TableEngine, worst: Worst | None = None, regions=("WT", "TC", "ET")) -> Evaluation:
    return evaluate_cases(engine, scan(studies, detect=False).cases, regions, worst)


def test_every_labelled_case_is_scored_and_the_others_counted(tmp_path: Path) -> None:
    studies = write_scene(tmp_path, {"a": label(), "b": label(), "c": None})
    engine = TableEngine({"a": label(), "b": 0 * label()})
    worst = Worst(1)
    found = evaluated(studies, engine, worst)
    assert engine.asked == ["a", "b"]
    assert [(case.case, case.dice) for case in found.cases] == [("a", 1.0), ("b", 0.0)]
    assert (found.unlabelled, found.refused, found.model["version"]) == (1, {}, "v1")
    assert found.cases[0].regions["WT"].ece == pytest.approx(0.1, abs=1e-6)
    (kept,) = worst.cases
    assert kept.evaluation.case == "b"
    assert not kept.prediction.any()
    np.testing.assert_array_equal(kept.truth, label())
    np.testing.assert_allclose(kept.affine, AFFINE)
    assert kept.sequences["t2f"].is_file()


def test_a_case_that_cannot_be_used_does_not_end_the_run(tmp_path: Path) -> None:
    studies = write_scene(tmp_path, {name: label() for name in ("a", "b", "c", "d")})
    write_labels(studies / "labels" / "final" / "b.nii.gz", label(), np.diag([2.0, 2.0, 3.0, 1.0]))
    write_labels(studies / "labels" / "final" / "c.nii.gz", 9 * label(), AFFINE)
    answers = {name: label() for name in ("b", "c", "d")} | {"a": InputError("t1n.nii.gz: is torn", "copy it again")}
    found = evaluated(studies, TableEngine(answers))
    assert [case.case for case in found.cases] == ["d"]
    assert list(found.refused) == ["a", "b", "c"]
    assert found.refused["a"] == "t1n.nii.gz: is torn (copy it again)"
    assert "b.nii.gz: label grid 30x32x24 at 2x2x3 mm" in found.refused["b"]
    assert "c.nii.gz: label value 18" in found.refused["c"]


def test_a_missing_sequence_is_noted(tmp_path: Path) -> None:
    studies = write_scene(tmp_path, {"a": label()}, sequences=("t1c", "t2f"))
    (case,) = evaluated(studies, TableEngine({"a": label()}), regions=("WT",)).cases
    assert case.missing == ("t1n", "t2w")
    assert case.to_dict()["missing"] == ["t1n", "t2w"]


def test_without_weights_or_labels_there_is_nothing_to_say(tmp_path: Path) -> None:
    studies = write_scene(tmp_path / "labelled", {"a": label()})
    with pytest.raises(ModelError, match="no trained weights"):
        evaluated(studies, TableEngine({"a": NO_MODEL}))
    studies = write_scene(tmp_path / "unlabelled", {"a": None, "b": None})
    with pytest.raises(InputError, match="none of 2 cases is labelled"):
        evaluated(studies, TableEngine({}))


def test_the_scene_is_what_the_tests_think() -> None:
    assert label().shape == SHAPE
    assert [int(np.count_nonzero(label() == value)) for value in (2, 3)] == [8**3 - 4**3, 4**3]
