"""The few-label study: its choices, its sums, and the recipe it compares with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def importable() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield
        for name in [name for name in sys.modules if name.startswith("few_labels")]:
            del sys.modules[name]


def record(method: str, n: int, dice: list[float], **more: Any) -> dict[str, Any]:
    scores = {f"case-{i}": {"WT": d, "TC": d, "ET": d} for i, d in enumerate(dice)}
    return {"method": method, "n": n, "value": 0.0, "factor": 1, "seed": 0, "train_s": 1.0, "unseen": scores} | more


def test_the_strongest_anchor_that_costs_next_to_nothing_is_taken() -> None:
    from few_labels_report import choose_anchor

    dice = {0.0: 0.800, 50.0: 0.803, 200.0: 0.794, 800.0: 0.792}
    tried = [record("fine-tuned", 4, [d], value=anchor) for anchor, d in dice.items()]
    assert choose_anchor(tried) == 200.0  # 0.803 - 0.01 = 0.793
    assert choose_anchor(tried[:2]) == 50.0


def test_differences_are_paired_by_case() -> None:
    from few_labels_report import difference

    known = [
        record("fine-tuned", 4, [0.9, 0.5], value=50.0),
        record("fine-tuned", 4, [0.7, 0.5], value=50.0, seed=1),
        record("scratch", 16, [0.7, 0.4]),
        record("scratch", 16, [0.0, 0.0], factor=4),
    ]
    found = difference(known, ("anchored", 4), ("scratch", 16))
    assert (found["value"], found["cases"]) == (pytest.approx(0.1), 2)
    assert (found["low"], found["high"]) == (pytest.approx(0.1), pytest.approx(0.1))
    assert difference(known, ("free", 4), ("scratch", 16)) is None
    assert difference(known, ("anchored", 4), ("scratch", 16), "own") is None


def test_rows_of_a_table_by_hand() -> None:
    from few_labels_report import summarise, table

    one = record("fine-tuned", 4, [0.9, 0.5], value=50.0) | {"own": record("", 0, [0.25, 0.75])["unseen"]}
    row, starter = sorted(summarise([one, record("starter", 0, [0.5, 0.5])]), key=lambda row: -row["n"])
    assert (row["curve"], row["n"], row["seeds"]) == ("anchored", 4, 1)
    assert row["unseen"]["mean"] == pytest.approx(0.7)
    assert row["unseen"]["sd_cases"] == pytest.approx(np.std([0.9, 0.5], ddof=1))
    assert row["own"]["mean"] == pytest.approx(0.5)
    assert "own" not in starter
    text = table([starter, row]).splitlines()
    assert text[2].startswith("| the starter itself | 0 | 1 | 0.500 [0.50, 0.50] | 0.50 | 0.50 | 0.50 |")
    assert text[3].startswith("| starter, fine-tuned with the anchor | 4 | 1 | 0.700 [0.50, 0.90] |")


def test_no_case_is_on_two_sides_and_a_seed_takes_its_own() -> None:
    from few_labels_methods import Cell, Study

    study = Study(Path("out"), Path("app"), Path("starter.pt"))
    sides = [set(study.folders(side)) for side in vars(study.sides)]
    assert sum(len(side) for side in sides) == len(set.union(*sides))
    first, second = (Cell("scratch", 4, seed).learns_from(study) for seed in (0, 1))
    assert len(set(first)) == 4
    assert set(first) != set(second)
    assert Cell("fine-tuned", 2, 0).learns_from(study) == first[:2], "fewer cases are the first of more"
    assert set(Cell("fine-tuned", 4, 0, tune=True).learns_from(study)) <= set(study.folders("train_tune"))


class Bright(torch.nn.Module):
    """Logits that say class 2 where the second sequence is above its middle."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        bright = (image[:, 1:2] > 0).float()
        return torch.cat([1 - bright, 0 * bright, bright, 0 * bright], dim=1)


def test_the_recipe_predicts_on_the_grid_of_the_case(tmp_path: Path, write_case: Any) -> None:
    import few_labels_monailabel as monailabel

    images = np.ones((4, 14, 18, 12), dtype=np.float32)
    images[:, 3:6, 5:14, 4:9] = 3
    folder = write_case(tmp_path / "case", images, np.diag([-4.0, 4.0, 4.0, 1.0]))  # stored from right to left
    found = monailabel.predict(Bright(), folder)
    truth = images[1] > 1
    assert found.shape == truth.shape
    assert set(np.unique(found)) == {0, 2}
    assert 2 * np.count_nonzero((found == 2) & truth) / (np.count_nonzero(found) + np.count_nonzero(truth)) > 0.9


def test_the_question_alone_is_four_cases_with_the_start_against_all_without() -> None:
    from few_labels import question_cells
    from few_labels_report import curve_of

    cells = question_cells((1, 2, 4, 8), 16, [0, 3])
    points = [(curve_of({**cell.__dict__}), cell.n, cell.seed) for cell in cells if cell.method != "starter"]
    assert sorted(points) == sorted(
        (curve, n, seed) for seed in (0, 3) for curve, n in (("free", 4), ("scratch", 16), ("scratch, longer", 16))
    )
