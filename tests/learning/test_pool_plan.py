"""What has to be scored again: only what changed, the most urgent first."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rarevoxel.cases.folders import TABLE_NAME
from rarevoxel.errors import InputError
from rarevoxel.learning.pool import CaseScore, ScoreStore
from rarevoxel.learning.pool.cases import PoolCase, pool_cases
from rarevoxel.learning.pool.plan import is_fresh, make_plan, method_for
from rarevoxel.learning.pool.store import store_of, stores_beside

NEW, OLD = "b" * 64, "a" * 64


def case(name: str, labelled: bool = False) -> PoolCase:
    return PoolCase(name, Path(f"{name}.nii.gz"), f"stamp-{name}", labelled)


def score(name: str, weights: str = NEW, entropy: float = 0.1, **more: str) -> CaseScore:
    return CaseScore(name, f"stamp-{name}", weights, "tta", {"ET": entropy}, **more)  # type: ignore[arg-type]


def test_new_cases_then_doubtful_ones_then_labelled_ones() -> None:
    cases = [case(name) for name in "abcdef"] + [case("g", labelled=True), case("h", labelled=True)]
    scores = {
        "b": score("b", OLD, 0.2),
        "c": score("c"),
        "d": score("d", OLD, 0.7),
        "e": score("e", OLD, error="torn"),
        "f": replace(score("f"), image="other", error="torn"),
        "h": score("h", OLD),
    }
    plan = make_plan(cases, scores, NEW, "tta")
    assert [one.id for one in plan.waiting] == ["a", "f", "d", "b", "g", "h"]
    assert (plan.scored, plan.failed) == (1, 1)


def test_what_makes_a_score_old() -> None:
    waiting, labelled = case("x"), case("x", labelled=True)
    assert is_fresh(score("x"), waiting, NEW, "tta")
    assert not is_fresh(score("x"), waiting, OLD, "tta")
    assert not is_fresh(score("x"), waiting, NEW, "dropout")
    assert is_fresh(score("x"), labelled, NEW, "dropout"), "only its features and confidence are wanted"
    assert not is_fresh(replace(score("x"), image="changed"), labelled, NEW, "tta")
    failed = score("x", "", error="torn")
    assert is_fresh(failed, waiting, NEW, "dropout"), "other weights cannot read it either"
    assert not is_fresh(replace(failed, image="changed"), waiting, NEW, "tta")
    assert (method_for(waiting, "tta"), method_for(labelled, "tta")) == ("tta", "none")


def test_cases_of_a_studies_folder_and_their_stamps(studies: Path) -> None:
    before = {one.id: one for one in pool_cases(studies)}
    assert len(before) == 6
    assert sum(one.labelled for one in before.values()) == 4
    assert before["phantom-003"].image == studies / "phantom-003.nii.gz"
    assert {one.id: one for one in pool_cases(studies)} == before
    changed = studies / "sequences" / "phantom-003" / "t2w.nii.gz"
    os.utime(changed, (1, 1))
    shutil.copyfile(studies / "phantom-004.nii.gz", studies / "uploaded.nii.gz")
    (studies / ".hidden.nii.gz").write_bytes(b"")
    after = {one.id: one for one in pool_cases(studies)}
    assert set(after) - set(before) == {"uploaded"}
    assert {name for name in before if before[name].stamp != after[name].stamp} == {"phantom-003"}
    changed.unlink()
    assert {one.id: one.stamp for one in pool_cases(studies)}["phantom-003"] not in {
        before["phantom-003"].stamp,
        after["phantom-003"].stamp,
    }


def test_a_sibling_of_a_case_in_no_table_counts(studies: Path) -> None:
    folder = studies / "sequences" / "extra"
    shutil.copytree(studies / "sequences" / "phantom-003", folder)
    (studies / "extra.nii.gz").symlink_to(Path("sequences") / "extra" / "t1c.nii.gz")

    def stamp() -> str:
        return next(one.stamp for one in pool_cases(studies) if one.id == "extra")

    before = stamp()
    os.utime(folder / "t2f.nii.gz", (1, 1))
    assert stamp() != before


def test_a_torn_table_is_told(studies: Path) -> None:
    (studies / TABLE_NAME).write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        pool_cases(studies)


def test_stores_of_models(tmp_path: Path) -> None:
    assert stores_beside(tmp_path, "calf") == []
    for model in ("calf", "two"):
        store_of(tmp_path, model).write(score(model))
    (beside,) = stores_beside(tmp_path, "calf")
    assert beside.folder == tmp_path / "scores" / "two"
    assert ScoreStore(tmp_path / "scores" / "calf").read() == {"calf": score("calf")}
