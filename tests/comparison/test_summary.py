from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from comparison.example import a_regime
from rarevoxel.comparison import summary as summaries
from rarevoxel.comparison.data import Entry, Fold
from rarevoxel.comparison.sentences import left_out, reasons
from rarevoxel.comparison.spec import Budget, Method
from rarevoxel.comparison.summary import summarize
from rarevoxel.comparison.tables import to_markdown, to_text
from rarevoxel.errors import ConflictError
from rarevoxel.evaluation import SIZE_BANDS, paired_bootstrap, recall_at_precision
from rarevoxel.labels import REGIONS

Record = dict[str, Any]
Counts = tuple[int, int, int, int]
LEVELS = (0.25, 0.5, 0.75)
NONE: Counts = (0, 0, 0, 0)
DICE = {
    "dice_ce": [[0.5, 0.6, 0.7, 0.4], [0.55, 0.6, 0.65, 0.5]],
    "auto": [[0.62, 0.7, 0.85, 0.5], [0.65, 0.72, 0.75, 0.62]],
    "bce": [[0.4, 0.7, 0.6, 0.5], [0.65, 0.5, 0.7, 0.4]],
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Few resamples, no volumes to read, and no warning that passes unseen."""
    monkeypatch.setattr(summaries, "RESAMPLES", 200)
    monkeypatch.setattr(summaries, "_sizes", lambda folds: a_regime()["sizes"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def a_case(name: str, dice: float, *sweep: Counts, band: int = 1) -> Record:
    """A case whose regions score `dice` plus and minus 0.1, with lesion counts at three thresholds for WT only."""
    record: Record = {"case": name}
    for region, shift in zip(REGIONS, (0.1, 0.0, -0.1), strict=True):
        rows = sweep if region == "WT" and sweep else (NONE,) * 3
        lesions = {name: list(rows[1] if at == band else NONE) for at, name in enumerate(SIZE_BANDS)}
        record[region] = {
            "dice": dice + shift, "hd95": 10 * (1 - dice), "truth_ml": 1.0, "predicted_ml": 1.0, "lesions": lesions,
            "sweep": [[level, *counts] for level, counts in zip(LEVELS, rows, strict=True)],
            "calibration": {"count": [8, 2], "probability": [1.0, 2.0], "positive": [0, 1], "squared_error": 1.0},
        }  # fmt: skip
    return record


def a_run(method: str, seed: int, cases: Sequence[Record], fold: str = "tiny", **other: Any) -> Record:
    return {
        "method": method, "fold": fold, "seed": seed, "loss": method, "sampler": "balanced", "reason": "few.",
        "dropped": {}, "second_stage": None, "history": [1.0], "seconds": 2.0 + seed, "cases": list(cases), **other,
    }  # fmt: skip


def a_failure(method: str, seed: int, fold: str = "tiny") -> Record:
    error = {"code": "training", "message": "the loss became nan", "hint": ""}
    return {"method": method, "fold": fold, "seed": seed, "error": error}


def a_fold(*names: str, name: str = "tiny", regime: str = "tiny") -> Fold:
    entries = tuple(Entry(case, "image", "label") for case in names or ("a", "b", "c", "d"))
    return Fold(regime, name, entries, (), entries, phantoms=regime == "tiny")


def dice_runs(methods: Sequence[str] = tuple(DICE)) -> list[Record]:
    return [
        a_run(method, seed, [a_case(case, value) for case, value in zip("abcd", row, strict=True)])
        for method in methods
        for seed, row in enumerate(DICE[method])
    ]


def summary_of(
    records: Sequence[Record], folds: Sequence[Fold] = (a_fold(),), names: Sequence[str] = (), baseline: str = "dice_ce"
) -> Record:
    asked = names or list(dict.fromkeys(record["method"] for record in records))
    return summarize(records, folds, [Method.parse(name) for name in asked], baseline, Budget())


def method(summary: Record, name: str, regime: int = 0) -> Record:
    return next(entry for entry in summary["regimes"][regime]["methods"] if entry["method"] == name)


def pooled_runs(name: str, *seeds: Sequence[Sequence[Counts]]) -> list[Record]:
    """Runs of cases a, b, ... with the lesion counts given at the three thresholds."""
    return [
        a_run(name, seed, [a_case(case, 0.5, *sweep) for case, sweep in zip("abcd", sweeps, strict=False)])
        for seed, sweeps in enumerate(seeds)
    ]


def test_means_are_over_regions_cases_and_seeds() -> None:
    summary = summary_of(dice_runs())
    for name, table in DICE.items():
        scores = method(summary, name)["scores"]
        assert scores["dice"]["value"] == pytest.approx(np.mean(table))
        assert scores["dice_WT"]["value"] == pytest.approx(np.mean(table) + 0.1)
        assert scores["dice_ET"]["value"] == pytest.approx(np.mean(table) - 0.1)
        assert scores["hd95"]["value"] == pytest.approx(10 * (1 - np.mean(table)))
        assert scores["ece"]["value"] == pytest.approx((1.0 + 1.0) / 10)
        assert scores["dice"]["low"] < scores["dice"]["value"] < scores["dice"]["high"]
        assert method(summary, name)["dice_by_seed"] == pytest.approx([np.mean(row) for row in table])
    regime = summary["regimes"][0]
    assert (regime["cases"], regime["seeds"], regime["phantoms"], summary["seeds"]) == (4, 2, True, [0, 1])
    assert summary["baseline"] == "dice_ce"
    assert summary["methods"][1] == {
        "name": "auto", "loss": "auto", "sampler": "auto", "filter": "none", "two_stage": False,
    }  # fmt: skip
    assert method(summary, "auto")["seconds"] == 2.5


def test_differences_are_paired_with_the_baseline() -> None:
    summary = summary_of(dice_runs())
    expected = paired_bootstrap(DICE, "dice_ce", resamples=200)
    assert method(summary, "dice_ce")["against"] == {}
    for name in ("auto", "bce"):
        found = method(summary, name)["against"]["dice"]
        assert found["difference"] == pytest.approx(np.mean(DICE[name]) - np.mean(DICE["dice_ce"]))
        for key, value in expected[name].to_dict().items():
            assert found[key] == pytest.approx(value), key
    assert method(summary, "auto")["against"]["dice"]["p_adjusted"] < 0.05
    assert method(summary, "bce")["against"]["dice"]["p_adjusted"] > 0.5
    assert "Better than dice_ce after adjustment: auto (Dice)." in to_text(summary)


def test_another_baseline_turns_the_sign() -> None:
    one, other = summary_of(dice_runs()), summary_of(dice_runs(), baseline="auto")
    there = method(one, "auto")["against"]["dice"]["difference"]
    assert method(other, "dice_ce")["against"]["dice"]["difference"] == pytest.approx(-there)


def test_lesions_are_pooled_before_they_are_divided() -> None:
    # Seed 0: 10 lesions, 5 found, 8 predicted, 4 true; seed 1: 10, 6, 6, 6.
    first = [[NONE, (8, 3, 2, 2), NONE], [NONE, (2, 2, 6, 2), NONE]]
    second = [[NONE, (8, 4, 4, 4), NONE], [NONE, (2, 2, 2, 2), NONE]]
    summary = summary_of(pooled_runs("dice_ce", first, second), [a_fold("a", "b")])
    scores = method(summary, "dice_ce")["scores"]
    assert scores["lesion_recall"]["value"] == pytest.approx((0.5 + 0.6) / 2)
    assert scores["lesion_precision"]["value"] == pytest.approx((0.5 + 1.0) / 2)
    assert scores["lesion_f1"]["value"] == pytest.approx((0.5 + 2 * 0.6 / 1.6) / 2)
    assert summary["regimes"][0]["precision"] == pytest.approx(0.75)
    bands = method(summary, "dice_ce")["bands"]
    assert bands["0.1-0.5 ml"] == [10.0, 5.5, 7.0, 5.0]
    assert bands["<0.1 ml"] == [0.0] * 4
    assert list(bands) == list(SIZE_BANDS)


@pytest.mark.parametrize("counts", [(4, 2, 5, 3), (4, 0, 5, 0), (4, 0, 0, 0), (0, 0, 3, 0), (0, 0, 0, 0)])
def test_rates_by_hand(counts: Counts) -> None:
    summary = summary_of(pooled_runs("dice_ce", [[NONE, counts, NONE]] * 2), [a_fold("a", "b")])
    scores = method(summary, "dice_ce")["scores"]
    truth, found, predicted, true = counts
    recall, precision = found / truth if truth else math.nan, true / predicted if predicted else math.nan
    expected: float | None = None
    if truth or predicted:
        expected = 2 * recall * precision / (recall + precision) if found and true else 0.0
    assert scores["lesion_f1"]["value"] == (None if expected is None else pytest.approx(expected))
    assert scores["lesion_recall"]["value"] == (None if math.isnan(recall) else pytest.approx(recall))
    assert scores["lesion_precision"]["value"] == (None if math.isnan(precision) else pytest.approx(precision))


def test_recall_at_the_precision_of_the_baseline() -> None:
    base = [[(10, 9, 16, 8), (10, 6, 8, 6), (10, 2, 2, 2)]] * 2
    other = [[(10, 8, 20, 8), (10, 7, 14, 7), (10, 4, 4, 4)]] * 2
    summary = summary_of([*pooled_runs("dice_ce", base), *pooled_runs("auto", other)], [a_fold("a", "b")])
    assert summary["regimes"][0]["precision"] == 0.75
    sums = [[level, *(2 * n for n in row)] for level, row in zip(LEVELS, other[0], strict=True)]
    expected = recall_at_precision(sums, 0.75)
    # Between 0.5 (precision 1/2) and 0.75 (precision 1): slack -7 and 2, so 2/9 of the way from 4 to 7 found.
    assert expected == pytest.approx((4 + 3 * (4 - 3) / ((4 - 3) + (0.75 * 14 - 7))) / 10)
    assert method(summary, "auto")["scores"]["recall_at_precision"]["value"] == pytest.approx(expected)
    assert method(summary, "dice_ce")["scores"]["recall_at_precision"]["value"] == pytest.approx(0.6)
    against = method(summary, "auto")["against"]["recall_at_precision"]
    assert against["difference"] == pytest.approx(expected - 0.6)
    assert "recall at 0.75" in to_text(summary)


def test_the_curve_is_of_all_seeds_together() -> None:
    first, second = [[(4, 4, 8, 4), (4, 2, 2, 1), NONE]], [[(4, 2, 4, 2), (4, 1, 2, 2), NONE]]
    summary = summary_of(pooled_runs("dice_ce", first, second), [a_fold("a")])
    assert method(summary, "dice_ce")["curve"] == [[0.25, 0.75, 0.5], [0.5, 3 / 8, 0.75], [0.75, None, None]]


@pytest.mark.parametrize("counts", [(4, 0, 5, 0), (4, 0, 0, 0), NONE])
def test_without_a_precision_there_is_no_recall_at_it(counts: Counts) -> None:
    base = pooled_runs("dice_ce", [[NONE, counts, NONE]] * 2, [[NONE, counts, NONE]] * 2)
    found = (4, 4, 4, 4) if counts[0] else (0, 0, 1, 0)
    other = pooled_runs("auto", [[NONE, found, NONE]] * 2, [[NONE, found, NONE]] * 2)
    summary = summary_of([*base, *other], [a_fold("a", "b")])
    assert summary["regimes"][0]["precision"] == (0.0 if counts[2] else None)
    for entry in summary["regimes"][0]["methods"]:
        assert "recall_at_precision" not in entry["scores"]
        assert "recall_at_precision" not in entry["against"]
    json.dumps(summary, allow_nan=False)
    assert "recall at" not in to_text(summary).splitlines()[1]


def test_a_precision_that_some_seeds_lack_is_that_of_the_others() -> None:
    base = pooled_runs("dice_ce", [[NONE, (4, 0, 0, 0), NONE]], [[NONE, (4, 1, 4, 1), NONE]])
    assert summary_of(base, [a_fold("a")])["regimes"][0]["precision"] == 0.25


def test_failed_runs_are_named_and_not_compared() -> None:
    records = [*dice_runs(["dice_ce", "auto"]), *dice_runs(["bce"])[:1], a_failure("bce", 1)]
    records += [a_failure("focal", 0), a_failure("focal", 1)]
    summary = summary_of(records)
    for name, seeds in (("bce", [1]), ("focal", [0, 1])):
        entry = method(summary, name)
        assert [run["seed"] for run in entry["failed"]] == seeds
        assert entry["failed"][0]["message"] == "the loss became nan"
        assert not {"scores", "against", "curve", "bands"} & set(entry)
    assert method(summary, "bce")["seconds"] == 2.0
    assert method(summary, "focal")["seconds"] is None
    without = summary_of(dice_runs(["dice_ce", "auto"]))
    assert method(summary, "auto") == method(without, "auto")
    assert "Not judged, for lack of scores or of a p-value: bce, focal." in to_markdown(summary).replace("`", "")


def test_a_method_with_other_seeds_or_cases_is_not_compared() -> None:
    other_seed = [*dice_runs(["dice_ce"]), *dice_runs(["auto"])[:1]]
    assert "scores" not in method(summary_of(other_seed), "auto")
    assert "scores" not in method(summary_of(dice_runs(["dice_ce"]), names=["dice_ce", "auto"]), "auto")
    other_case = dice_runs(["dice_ce", "auto"])
    other_case[-1]["cases"][0]["case"] = "e"
    assert "scores" not in method(summary_of(other_case), "auto")
    assert "not compared: not every seed and fold has been run" in to_text(summary_of(other_case))


def test_cases_are_paired_by_their_id() -> None:
    turned = dice_runs()
    for run in turned[2:4]:
        run["cases"].reverse()
    assert summary_of(turned) == summary_of(dice_runs())
    assert summary_of(dice_runs()[::-1], names=list(DICE)) == summary_of(dice_runs())


@pytest.mark.parametrize(
    "records",
    [
        [*dice_runs(["auto"])],
        [*dice_runs(["auto"]), *dice_runs(["dice_ce"])[:1]],
        [*dice_runs(["auto"]), *dice_runs(["dice_ce"])[:1], a_failure("dice_ce", 1)],
        [],
    ],
)
def test_without_the_baseline_nothing_is_compared(records: list[Record]) -> None:
    with pytest.raises(ConflictError, match=r"tiny: the baseline 'dice_ce' has runs that failed or are missing.*again"):
        summary_of(records, names=["dice_ce", "auto"])


def two_folds() -> tuple[list[Record], list[Fold]]:
    folds = [a_fold("a", "b", name="site-10", regime="site"), a_fold("c", "d", name="site-9", regime="site")]
    records = []
    for run in dice_runs():
        for fold, cases in zip(folds, (run["cases"][:2], run["cases"][2:]), strict=True):
            records.append(run | {"fold": fold.name, "cases": cases})
    return records, folds


def test_folds_of_a_regime_are_one_table() -> None:
    records, folds = two_folds()
    summary = summary_of(records, folds)
    whole = summary_of(dice_runs())
    assert len(summary["regimes"]) == 1
    regime = summary["regimes"][0]
    assert (regime["regime"], regime["cases"], regime["phantoms"]) == ("site", 4, False)
    assert [fold["name"] for fold in regime["folds"]] == ["site-10", "site-9"]
    for name in DICE:
        assert method(summary, name)["scores"] == method(whole, name)["scores"]
        assert method(summary, name)["against"] == method(whole, name)["against"]
        assert method(summary, name)["reasons"] == {"site-10": "few.", "site-9": "few."}


def test_a_fold_that_is_missing_leaves_the_method_out() -> None:
    records, folds = two_folds()
    # Both seeds still have as many cases in all, as folds are of one size.
    kept = [run for run in records if not (run["method"] == "auto" and run["seed"] == 0 and run["fold"] == "site-9")]
    assert "scores" not in method(summary_of(kept, folds), "auto")
    assert "scores" in method(summary_of(kept, folds), "bce")


def test_regimes_are_apart() -> None:
    records = dice_runs(["dice_ce", "auto"])
    other = [run | {"fold": "b"} for run in dice_runs(["dice_ce", "auto"])]
    for run in other:
        for case in run["cases"]:
            case["WT"] = case["WT"] | {"dice": 0.0}
    summary = summary_of([*records, *other], [a_fold(), a_fold(name="b", regime="b")])
    assert [regime["regime"] for regime in summary["regimes"]] == ["tiny", "b"]
    assert method(summary, "auto", 0) == method(summary_of(records), "auto")
    assert method(summary, "auto", 1)["scores"]["dice_WT"]["value"] == 0.0


def test_what_all_seeds_say_is_said_once() -> None:
    drop = {"dropped": {"a": "volume 9 < 10"}, "reason": "by size."}
    runs = [run | drop for run in dice_runs(["dice_ce"])]
    entry = method(summary_of(runs), "dice_ce")
    assert entry["reasons"] == {"tiny": "by size."}
    assert entry["dropped"] == {"tiny": {"a": "volume 9 < 10"}}


def test_what_seeds_say_differently_is_said_by_seed() -> None:
    rows = [*DICE["dice_ce"], DICE["dice_ce"][0]]
    runs = [
        a_run("dice_ce", seed, [a_case(case, value) for case, value in zip("abcd", row, strict=True)])
        for seed, row in enumerate(rows)
    ]
    runs[1] |= {"reason": "CALF: ln.", "dropped": {"a": "drawn"}}
    runs[2] |= {"dropped": {"b": "drawn"}}
    for order in (runs, runs[::-1]):
        summary = summary_of(order)
        entry = method(summary, "dice_ce")
        assert entry["reasons"] == {"tiny, seed 0, 2": "few.", "tiny, seed 1": "CALF: ln."}
        assert entry["dropped"] == {"tiny, seed 1": {"a": "drawn"}, "tiny, seed 2": {"b": "drawn"}}
        regime = summary["regimes"][0]
        assert [name for name, _ in reasons(summary, regime)] == ["dice_ce (tiny, seed 0, 2)", "dice_ce (tiny, seed 1)"]
        lines = [line for _, line in left_out(regime)]
        assert lines == [
            "filter left out 1 training case of tiny, seed 1: a: drawn",
            "filter left out 1 training case of tiny, seed 2: b: drawn",
        ]
        assert "`dice_ce` (tiny, seed 1): loss dice_ce" in to_markdown(summary)


def test_thresholds_and_losses_of_all_runs() -> None:
    runs = dice_runs(["dice_ce"])
    runs[0] |= {"second_stage": 0.0, "loss": "calf"}
    runs[1] |= {"second_stage": 0.6}
    entry = method(summary_of(runs), "dice_ce")
    assert entry["thresholds"] == [0.0, 0.6]
    assert entry["loss"] == ["calf", "dice_ce"]


def test_json_keeps_everything() -> None:
    summary = summary_of([*dice_runs(), a_failure("focal", 0)])
    text = json.dumps(summary, allow_nan=False)
    assert to_text(json.loads(text)) == to_text(summary)
    assert json.loads(text)["regimes"] == summary["regimes"]


def test_one_case_and_one_seed_have_no_intervals() -> None:
    runs = [a_run(name, 0, [a_case("a", 0.5)]) for name in ("dice_ce", "auto")]
    summary = summary_of(runs, [a_fold("a")])
    assert method(summary, "auto")["scores"]["dice"] == {"value": pytest.approx(0.5), "low": None, "high": None}
    assert method(summary, "auto")["against"]["dice"]["p_adjusted"] is None
    json.dumps(summary, allow_nan=False)
    assert to_markdown(summary)


def test_sizes_are_measured_on_the_training_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(summaries, "RESAMPLES", 50)
    entries = []
    for name, edge in (("a", 4), ("b", 6), ("c", 0)):
        labels = np.zeros((10, 10, 10), np.uint8)
        labels[1 : 1 + edge, 1 : 1 + edge, 1 : 1 + edge] = 2
        nib.save(nib.Nifti1Image(labels, np.diag([2.0, 2.0, 2.0, 1.0])), tmp_path / f"{name}.nii.gz")
        entries.append(Entry(name, "image", str(tmp_path / f"{name}.nii.gz")))
    fold = Fold("tiny", "tiny", tuple(entries), (), a_fold().test, phantoms=True)
    sizes = summary_of(dice_runs(["dice_ce"]), [fold])["regimes"][0]["sizes"]["tiny"]
    assert list(sizes) == list(REGIONS)
    assert (sizes["WT"]["n"], sizes["WT"]["empty"]) == (3, 1)
    assert sizes["WT"]["median_ml"] == pytest.approx(4**3 * 8 / 1000)
    assert sizes["ET"]["empty"] == 3
    json.dumps(sizes, allow_nan=False)
