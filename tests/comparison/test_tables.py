from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comparison.example import (
    a_baseline,
    a_failure,
    a_method,
    a_regime,
    a_summary,
    many,
    three,
)
from rarevoxel.comparison import summary as summaries
from rarevoxel.comparison.data import Entry, Fold
from rarevoxel.comparison.rows import (
    ALPHA,
    JUDGED,
    band_cells,
    columns,
    difference_cells,
    number,
    p_value,
    score_cells,
    verdict_cells,
    verdicts,
)
from rarevoxel.comparison.sentences import left_out, notes, reasons
from rarevoxel.comparison.spec import Budget, Method
from rarevoxel.comparison.tables import to_markdown, to_text
from rarevoxel.evaluation import EMPTY_POLICY, score_case_regions

PAIR = re.compile(r"(?<!\\)\|")


def markdown_rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table whose header holds `heading`, as a reader of Markdown sees them."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    block = next(block for block in blocks if heading in block[0])
    return [[cell.strip() for cell in PAIR.split(line)[1:-1]] for line in block]


def line_of(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.split(" ")[0] == name)


def test_the_terminal_has_every_number_of_a_method_in_its_line() -> None:
    text = to_text(three())
    words = line_of(text, "auto").split()
    assert words == [
        "auto", "0.700*", "[0.650,", "0.750]", "0.700*", "0.700*", "0.700*", "0.700*", "0.700*", "0.700*", "0.500*",
        "12.1*", "0.1100*", "61",
    ]  # fmt: skip
    assert "dice_ce (baseline)" in text
    assert "recall at 0.60" in text


def test_columns_of_the_terminal_are_straight() -> None:
    lines = to_text(three()).splitlines()[1:6]
    assert {line.index(" [") for line in lines if "[" in line} == {lines[1].index(" [")}
    assert len({line.index(".", line.index("]")) for line in lines if "[" in line}) == 1
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(("p", "marked"), [(0.0499, True), (ALPHA, False), (0.9, False), (None, False)])
def test_only_an_adjusted_p_below_the_level_is_marked(p: float | None, marked: bool) -> None:
    regime = a_regime(a_baseline(), a_method("auto", 0.1, p))
    for result in regime["methods"][1]["against"].values():
        result["p"] = 0.001
    base, auto = score_cells(regime, "dice_ce").rows
    assert not any("*" in cell for cell in base)
    assert {"*" in cell for cell in auto[1:-1]} == {marked}
    assert ("*" in difference_cells(regime, "dice_ce").rows[0][1]) is marked


def test_a_mark_belongs_to_one_measure() -> None:
    regime = a_regime(a_baseline(), a_method("auto", -0.1, 1.0))
    regime["methods"][1]["against"]["lesion_f1"]["p_adjusted"] = 0.01
    names = [name for name, _ in columns(regime).values()]
    row = score_cells(regime, "dice_ce").rows[0 + 1][1:]
    assert [name for name, cell in zip(names, row, strict=False) if "*" in cell] == ["F1"]
    assert verdicts(regime, "dice_ce").worse == {"auto": ["lesion F1"]}


def test_verdicts_follow_sign_and_p() -> None:
    regime = three()["regimes"][0]
    found = verdicts(regime, "dice_ce")
    every = list(JUDGED.values())
    assert (found.better, found.worse) == ({"auto": every}, {"top_k": every})
    assert (found.same, found.unknown) == (["dice_focal"], ["bce"])
    regime["methods"][1]["against"]["dice"]["difference"] = -0.1
    mixed = verdicts(regime, "dice_ce")
    assert mixed.better["auto"] == every[1:]
    assert mixed.worse["auto"] == ["Dice"]


def test_without_a_p_value_nothing_is_judged() -> None:
    regime = a_regime(a_baseline(), a_method("auto", 0.1, None))
    assert verdicts(regime, "dice_ce").unknown == ["auto"]
    assert verdict_cells(a_summary(regime)).rows == [["auto", "not judged"]]


def test_markdown_tables_hold_the_numbers() -> None:
    text = to_markdown(three())
    header, rule, *rows = markdown_rows(text, "lesion F1")
    assert header == ["method", "Dice", "p", "lesion F1", "p", "recall at equal precision", "p"]
    assert set(rule) == {"---", "---:"}
    auto = ["+0.100\\* [+0.070, +0.130]", "0.010"]
    assert rows[0] == ["`auto`", *auto * 3]
    assert rows[2][1:3] == ["+0.020 [-0.010, +0.050]", "0.050"]
    bands = markdown_rows(text, "n = 40")
    assert bands[0] == ["method", "\\<0.1 ml (n = 40)", "0.1-0.5 ml (n = 25)", "0.5-2 ml (n = 10)", ">=2 ml (n = 0)"]
    assert bands[2] == ["`dice_ce`", "0.200", "0.400", "0.600", "-"]
    scores = markdown_rows(text, "HD95")
    assert scores[2][:2] == ["`dice_ce` (baseline)", "0.600 [0.550, 0.650]"]
    sizes = markdown_rows(text, "CALF branch")
    assert sizes[2] == ["WT", "24", "1", "1.23", "2.50", "7.25", "log10", "88%", "2.2", "1234"]
    assert sizes[4][4:] == ["-", "7.25", "bce_dice", "-", "2.2", "-"]


def test_markdown_says_what_helped_and_what_was_lost() -> None:
    text = to_markdown(three())
    every = "(Dice, lesion F1, recall at equal precision)"
    assert f"- Better than `dice_ce` after adjustment: `auto` {every}.\n" in text
    assert f"- Worse than `dice_ce` after adjustment: `top_k` {every}.\n" in text
    assert "- No difference shown: `dice_focal`.\n" in text
    assert "- Not judged, for lack of scores or of a p-value: `bce`.\n" in text
    assert "- `auto`: loss calf, sampler balanced: CALF by lesion size: WT log10 (n=24);" in text
    assert "cases to train / tune / test: 24 / 4 / 20; 3 seeds." in text
    assert "- `bce`: run failed, tiny, seed 1: loss is \\<nan> \\| epoch 3 (lower the learning rate)" in text
    assert "tiny-a1: volume 9 \\< 10 \\| outlier" in text
    assert "asked for by name" not in text


def test_what_holds_for_all_is_said_once() -> None:
    text = to_markdown(many())
    for once in (EMPTY_POLICY[:60], "2000 resamples", "seeds 0, 1, 2", "twice the training", "8-16-32-64 channels"):
        assert text.count(once) == 1, once
    assert "12 such families" in text
    assert "about 0.6 of them" in text
    assert "network" in to_text(many())


def test_notes_are_only_those_that_apply() -> None:
    one = a_summary(a_regime(a_baseline(), a_method("auto")), seeds=1)
    assert any("With one seed" in note for note in notes(one))
    assert not any("two_stage" in note for note in notes(one))
    assert not any("With one seed" in note for note in notes(three()))


def test_several_regimes_have_a_table_of_verdicts() -> None:
    cells = verdict_cells(many())
    assert cells.header == ("method", "moderate", "tiny", "multifocal", "left_skewed")
    by_name = {row[0]: row[1:] for row in cells.rows}
    assert by_name["bce"][0] == "worse: Dice, lesion F1, recall at equal precision"
    assert by_name["wbce"] == ["not judged"] * 4
    assert "dice_ce" not in by_name


@pytest.mark.parametrize("write", [to_text, to_markdown])
def test_json_changes_nothing(write: Any) -> None:
    assert write(json.loads(json.dumps(many()))) == write(many())


@pytest.mark.parametrize("write", [to_text, to_markdown])
def test_a_measure_that_no_method_has_is_left_out(write: Any) -> None:
    regime = a_regime(a_baseline(), a_method("auto", 0.1, 0.01)) | {"precision": None}
    for entry in regime["methods"]:
        entry["scores"].pop("recall_at_precision")
        entry["against"].pop("recall_at_precision", None)
    text = write(a_summary(regime))
    assert "recall at -" not in text
    assert "auto" in text


@pytest.mark.parametrize("write", [to_text, to_markdown])
def test_undefined_scores_are_dashes(write: Any) -> None:
    regime = a_regime(a_baseline(), a_method("auto", 0.1, 0.01))
    entry = regime["methods"][1]
    entry["scores"]["dice"] = dict.fromkeys(("value", "low", "high"))
    entry["against"]["dice"] = dict.fromkeys(entry["against"]["dice"])
    entry["seconds"] = None
    text = write(a_summary(regime))
    assert "nan" not in text
    assert "None" not in text
    assert score_cells(regime, "dice_ce").rows[1][1] == "-"
    assert difference_cells(regime, "dice_ce").rows[0][1:3] == ["-", "-"]


def test_only_the_baseline_is_a_table_too() -> None:
    summary = a_summary(a_regime(a_baseline(), a_failure()))
    assert "No difference shown: none." in to_text(summary)
    assert difference_cells(summary["regimes"][0], "dice_ce").rows == []
    assert [row[0] for row in band_cells(summary["regimes"][0]).rows] == ["dice_ce"]
    assert to_markdown(summary)


def test_folds_of_patients_are_named() -> None:
    reason = {"site-1": "CALF by lesion size: a.", "site-2": "CALF by lesion size: b."}
    auto = a_method("auto", reasons=reason, loss=["calf"])
    summary = a_summary(a_regime(a_baseline(reasons={}), auto, name="site", phantoms=False, folds=2))
    regime = summary["regimes"][0]
    text = to_markdown(summary)
    assert "cases in 2 folds of patients to train / tune / test: 24 / 4 / 20, 24 / 4 / 20; 3 seeds." in text
    assert "phantom" not in text
    assert [name for name, _ in reasons(summary, regime)] == ["auto (site-1)", "auto (site-2)"]
    assert [row[0] for row in markdown_rows(text, "CALF branch")[2:]] == ["site-1"] * 3 + ["site-2"] * 3


def test_many_dropped_cases_are_counted_and_a_method_half_run_is_named() -> None:
    dropped = {"tiny": {f"case-{i}": "too small" for i in range(11)}}
    half = a_failure("bce") | {"failed": []}
    two = a_method("two_stage:dice_ce", thresholds=[0.3, 0.45])
    lines = dict(left_out(a_regime(a_baseline(dropped=dropped), half, two)))
    assert lines["dice_ce"].startswith("filter left out 11 training cases of tiny: case-0: too small; case-1")
    assert lines["dice_ce"].endswith("case-7: too small; and 3 more")
    assert lines["bce"] == "not compared: not every seed and fold has been run"
    assert lines["two_stage:dice_ce"] == "second-stage thresholds, one per run: 0.30, 0.45"


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=40))
def test_no_text_breaks_a_markdown_table(text: str) -> None:
    regime = a_regime(a_baseline(), name="tiny")
    regime["sizes"]["tiny"]["WT"] = regime["sizes"]["tiny"]["WT"] | {"branch": text}
    rows = markdown_rows(to_markdown(a_summary(regime)), "CALF branch")
    assert {len(row) for row in rows} == {10}


@settings(deadline=None)
@given(st.floats(0, 1))
def test_p_is_shown_on_its_side_of_the_level(p: float) -> None:
    shown = p_value(p)
    if shown != "<0.001":
        assert (float(shown) < ALPHA) == (p < ALPHA) or abs(p - ALPHA) < 5e-5
        assert abs(float(shown) - p) <= 5.1e-4


def test_numbers_that_are_none() -> None:
    assert [number(value) for value in (None, float("nan"), float("inf"), 0.12345)] == ["-", "-", "-", "0.123"]
    assert [p_value(value) for value in (None, 0.0004, 0.0499, 0.05)] == ["-", "<0.001", "0.0499", "0.050"]


def test_what_summarize_returns_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "RESAMPLES", 50)
    monkeypatch.setattr(summaries, "_sizes", lambda folds: a_regime()["sizes"])
    truth = np.zeros((4, 10, 10, 10), np.uint8)
    truth[:, 2:5, 2:5, 2:5] = 3
    methods = tuple(Method.parse(name) for name in ("dice_ce", "auto", "bce"))
    entries = tuple(Entry(f"c{i}", "image", "label") for i in range(4))
    fold = Fold("tiny", "tiny", entries, (), entries, phantoms=True)
    records: list[dict[str, Any]] = []
    for name, probability in (("dice_ce", 0.4), ("auto", 0.9)):
        for seed in (0, 1):
            cases = [
                {"case": entry.id, **score_case_regions(np.stack([labels / 3 * probability] * 3), labels, (1.0,) * 3)}
                for entry, labels in zip(entries, truth, strict=True)
            ]
            records.append(
                {
                    "method": name, "fold": "tiny", "seed": seed, "loss": name, "sampler": "balanced",
                    "reason": "few.", "dropped": {}, "second_stage": None, "history": [], "seconds": 2.0,
                    "cases": cases,
                }
            )  # fmt: skip
    error = {"code": "training", "message": "loss is nan", "hint": ""}
    records += [{"method": "bce", "fold": "tiny", "seed": seed, "error": error} for seed in (0, 1)]
    summary = summaries.summarize(records, [fold], methods, "dice_ce", Budget())
    assert line_of(to_text(summary), "auto").split()[1].startswith("1.000")
    assert line_of(to_text(summary), "dice_ce").split()[2] == "0.000"
    assert "run failed, tiny, seed 0: loss is nan" in to_markdown(summary)
    assert to_markdown(json.loads(json.dumps(summary))) == to_markdown(summary)
