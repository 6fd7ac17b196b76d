"""A model over its cases: means, pooled rates, intervals over patients, and the tables they end in."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest

from rarevoxel.evaluation import CalibrationBins, LesionCounts, bootstrap_mean
from rarevoxel.evaluation.case_evaluation import CaseEvaluation, RegionScore
from rarevoxel.evaluation.model_report import Evaluation, report_record, summarize
from rarevoxel.evaluation.tables import band_cells, case_cells, summary_cells, to_csv, to_text

NOTHING = (0, 0, 0, 0)


def score(
    dice: float, hd: float = 1.0, truth: float = 1.0, predicted: float = 1.5, bands=None, bins=None
) -> RegionScore:
    counts = LesionCounts(bands or ((2, 1, 1, 1), NOTHING, NOTHING, NOTHING))
    return RegionScore(dice, hd, truth, predicted, counts, bins)


def case(name: str, dice: float, patient: str = "", **options) -> CaseEvaluation:
    return CaseEvaluation(name, patient or name, {"WT": score(dice, **options), "ET": score(1.0)})


def of(*cases: CaseEvaluation) -> Evaluation:
    return Evaluation(("WT", "ET"), cases, {"torn": "it is torn"}, 3, {"weights": "w.pt"})


def test_means_and_pooled_rates() -> None:
    bands = ((10, 2, 3, 1), NOTHING, NOTHING, (2, 2, 2, 2))
    summary = summarize(of(case("a", 0.5, hd=2.0, predicted=3.0), case("b", 0.7, hd=8.0, predicted=0.5, bands=bands)))
    wt = summary.regions["WT"]
    assert summary.dice.value == pytest.approx((0.75 + 0.85) / 2)
    assert wt.scores["dice"].value == pytest.approx(0.6)
    assert (wt.scores["hd95_mm"].value, wt.hd95_median) == (5.0, 5.0)
    assert wt.scores["difference_ml"].value == pytest.approx((2.0 - 0.5) / 2)
    assert wt.scores["absolute_difference_ml"].value == pytest.approx((2.0 + 0.5) / 2)
    assert wt.lesions.total == (14, 5, 6, 4)
    assert wt.scores["lesion_recall"].value == pytest.approx(5 / 14)
    assert wt.scores["lesion_precision"].value == pytest.approx(4 / 6)
    assert wt.scores["lesion_f1"].value == pytest.approx(2 * (5 / 14) * (4 / 6) / (5 / 14 + 4 / 6))
    assert wt.bands["<0.1 ml"]["recall"].value == pytest.approx(3 / 12)
    assert wt.bands["<0.1 ml"]["precision"].value == pytest.approx(2 / 4)
    assert wt.bands[">=2 ml"]["f1"].value == 1.0
    assert math.isnan(wt.bands["0.5-2 ml"]["recall"].value)
    assert wt.calibration is None
    assert math.isnan(wt.scores["ece"].value)


def test_with_a_case_a_patient_it_is_the_bootstrap_of_the_mean() -> None:
    values = np.random.default_rng(1).uniform(0, 1, 9).tolist()
    summary = summarize(of(*(case(f"case-{i}", value) for i, value in enumerate(values))))
    assert summary.regions["WT"].scores["dice"] == pytest.approx(bootstrap_mean(values))


def test_intervals_draw_patients_not_cases() -> None:
    cases = [case(f"a{i}", 0.0, "a") for i in range(10)] + [case(f"b{i}", 1.0, "b") for i in range(10)]
    assert summarize(of(*cases)).regions["WT"].scores["dice"] == pytest.approx((0.5, 0.0, 1.0))
    alone = summarize(of(*cases[:10])).regions["WT"].scores["dice"]
    assert alone.value == 0.0
    assert math.isnan(alone.low)


def test_calibration_is_that_of_the_voxels_of_all_cases() -> None:
    one = CalibrationBins.from_probability(np.array([0.9, 0.9, 0.2]), np.array([True, False, False]))
    two = CalibrationBins.from_probability(np.array([0.5]), np.array([True]))
    wt = summarize(of(case("a", 0.5, bins=one), case("b", 0.7, bins=two), case("c", 0.7))).regions["WT"]
    both = one + two
    assert wt.calibration == both
    assert wt.scores["ece"].value == pytest.approx(both.ece)
    assert wt.scores["brier"].value == pytest.approx(both.brier)
    assert wt.scores["ece"].low <= both.ece <= wt.scores["ece"].high


def test_the_record_is_json_without_nan() -> None:
    evaluation = of(case("a", 0.5), case("b", 0.7))
    record = report_record(evaluation, summarize(evaluation))
    text = json.dumps(record, allow_nan=False)
    assert json.loads(text) == record
    assert record["mean"] == pytest.approx(0.8)
    assert record["cases"]["a"]["regions"]["WT"]["dice"] == 0.5
    assert record["cases"]["a"]["regions"]["WT"]["lesion_recall"] == 0.5
    assert record["summary"]["WT"]["bands"]["0.5-2 ml"]["recall"]["value"] is None
    assert record["summary"]["WT"]["bands"]["<0.1 ml"]["found"] == 2
    assert record["refused"] == {"torn": "it is torn"}
    assert (record["scored"], record["patients"], record["unlabelled"]) == (2, 2, 3)


def test_without_a_case_there_is_a_record_too() -> None:
    record = report_record(of(), summarize(of()))
    assert record["mean"] is None
    assert record["cases"] == {}
    assert "mean region Dice nan over 0 cases" in to_text(of(), summarize(of()))


def test_the_text_has_the_dice_of_every_case() -> None:
    evaluation = of(case("a", 0.5), case("b", 0.7))
    lines = to_text(evaluation, summarize(evaluation)).splitlines()
    assert lines[0] == f"{'a':<32}WT 0.500  ET 1.000"
    assert lines[-1].startswith("mean region Dice 0.800 over 2 cases, 95 % interval 0.750 to 0.850")
    assert any(line.startswith("lesion recall") and "0.500" in line for line in lines)
    assert any(line.startswith("WT  2 of 4") for line in lines)


def test_tables_rank_cases_and_name_what_they_count() -> None:
    evaluation = of(case("good", 0.9), case("bad", 0.1, truth=0.5, predicted=2.0), case("also bad", 0.1, hd=10.0))
    summary = summarize(evaluation)
    cells = case_cells(evaluation)
    assert [row[0] for row in cells.rows] == ["also bad", "bad", "good"]
    bad = dict(zip(cells.header, cells.rows[1], strict=True))
    assert (bad["mean Dice"], bad["WT Dice"], bad["WT ml"], bad["WT true ml"]) == ("0.550", "0.100", "2", "0.5")
    assert (bad["WT found"], bad["WT false"]) == ("1 of 2", "0 of 1")
    (wt, et), across = summary_cells(summary).rows, summary_cells(summary, transposed=True)
    named = dict(zip(summary_cells(summary).header, wt, strict=True))
    assert (named["region"], named["HD95 median mm"]) == ("WT", "1.0")
    assert named["HD95 mm"].startswith("4.0 [")
    assert named["volume difference ml"].startswith("0.8 [")
    assert [row[0] for row in across.rows] == list(summary_cells(summary).header[1:])
    assert [row[2] for row in across.rows] == et[1:]
    assert band_cells(summary).rows[0][:4] == ["WT", "<0.1 ml", "3 of 6", "0.50 [0.50, 0.50]"]
    assert band_cells(summary).rows[1][2:4] == ["0 of 0", "-"]


def test_the_csv_has_a_row_per_case_and_region() -> None:
    bands = (NOTHING, NOTHING, NOTHING, (2, 1, 0, 0))
    rows = list(csv.DictReader(io.StringIO(to_csv(of(case("a,b", 0.5, "p", bands=bands), case("c", 0.7))))))
    assert [(row["case"], row["region"]) for row in rows] == [("a,b", "WT"), ("a,b", "ET"), ("c", "WT"), ("c", "ET")]
    first = rows[0]
    assert (first["patient"], first["dice"], first["difference_ml"]) == ("p", "0.5", "0.5")
    assert (first["lesion_recall"], first["lesion_precision"], first["ece"]) == ("0.5", "", "")
    assert (first["truth"], first["found"], first["truth >=2 ml"], first["found >=2 ml"]) == ("2", "1", "2", "1")
    assert first["truth <0.1 ml"] == "0"
