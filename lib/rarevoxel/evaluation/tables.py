"""The evaluation of a model as rows: for a terminal, a page and a CSV file alike."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from rarevoxel.comparison.rows import Cells, number
from rarevoxel.evaluation.lesions import SIZE_BANDS
from rarevoxel.evaluation.model_report import Evaluation, RegionSummary, Summary
from rarevoxel.evaluation.resampling import Interval
from rarevoxel.statistics.sizes import jsonable

SCORES = {
    "dice": ("Dice", 3),
    "hd95_mm": ("HD95 mm", 1),
    "difference_ml": ("volume difference ml", 1),
    "absolute_difference_ml": ("absolute difference ml", 1),
    "lesion_recall": ("lesion recall", 3),
    "lesion_precision": ("lesion precision", 3),
    "lesion_f1": ("lesion F1", 3),
    "ece": ("ECE", 4),
    "brier": ("Brier", 4),
}
"""Score -> its name and digits, in the order of the tables."""

_COUNTS = ("truth", "found", "predicted", "true")


def to_text(evaluation: Evaluation, summary: Summary) -> str:
    """Return the Dice of every case, the scores of every region, and the mean, for a terminal."""
    lines = [
        f"{case.case:<32}" + "  ".join(f"{name} {score.dice:.3f}" for name, score in case.regions.items())
        for case in evaluation.cases
    ]
    if evaluation.cases:
        lines += ["", *_aligned(summary_cells(summary, transposed=True))]
        lines += ["", "lesions found, by their size", *_aligned(_found_cells(summary)), ""]
    value, low, high = summary.dice
    interval = f", 95 % interval {low:.3f} to {high:.3f}" if low == low else ""
    return "\n".join([*lines, f"mean region Dice {value:.3f} over {len(evaluation.cases)} cases{interval}"])


def summary_cells(summary: Summary, *, transposed: bool = False) -> Cells:
    """Return the scores with their intervals, a region per row, or per column where `transposed`."""
    names = [name for name, _ in SCORES.values()]
    header = (names[0], *names[1:2], "HD95 median mm", *names[2:])
    columns = {name: _scores(region) for name, region in summary.regions.items()}
    if transposed:
        rows = [[name, *(cells[at] for cells in columns.values())] for at, name in enumerate(header)]
        return Cells(("", *columns), rows)
    return Cells(("region", *header), [[name, *cells] for name, cells in columns.items()])


def band_cells(summary: Summary) -> Cells:
    """Return recall, precision and F1 of the lesions by size, a row per region and band."""
    rows = []
    for name, region in summary.regions.items():
        for band, rates in region.bands.items():
            truth, found, predicted, true = region.lesions.of(band)
            row = [name, band, f"{found} of {truth}", with_interval(rates["recall"], 2), f"{true} of {predicted}"]
            rows.append([*row, with_interval(rates["precision"], 2), with_interval(rates["f1"], 2)])
    return Cells(("region", "size", "found", "recall", "predicted and true", "precision", "F1"), rows)


def case_cells(evaluation: Evaluation) -> Cells:
    """Return the cases, the worst first, with the main numbers of every region side by side."""
    own = ("Dice", "HD95 mm", "ml", "true ml", "found", "false")
    header = ("case", "mean Dice", *(f"{region} {name}" for region in evaluation.regions for name in own))
    rows = []
    for case in evaluation.worst_first:
        row = [case.case, number(case.dice)]
        for score in case.regions.values():
            truth, found, predicted, true = score.lesions.total
            row += [number(score.dice), number(score.hd95_mm, 1), f"{score.predicted_ml:.3g}", f"{score.truth_ml:.3g}"]
            row += [f"{found} of {truth}", f"{predicted - true} of {predicted}"]
        rows.append(row)
    return Cells(header, rows)


def to_csv(evaluation: Evaluation) -> str:
    """Return a row per case and region, every number of it; what is undefined is empty."""
    bands = [f"{column} {band}" for band in SIZE_BANDS for column in _COUNTS]
    scores = ("dice", "hd95_mm", "truth_ml", "predicted_ml", "difference_ml", "lesion_recall", "lesion_precision",
              "lesion_f1", "ece", "brier")  # fmt: skip
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "patient", "region", *scores, *_COUNTS, *bands])
    for case in evaluation.cases:
        for region, score in case.regions.items():
            record = jsonable(score.to_dict())
            counts = [value for band in score.lesions.bands for value in band]
            row = [case.case, case.patient, region, *(record[name] for name in scores), *score.lesions.total]
            writer.writerow([*row, *counts])
    return text.getvalue()


def with_interval(interval: Interval, digits: int = 3) -> str:
    """Return a value with its bounds where there are any: `0.812 [0.780, 0.841]`."""
    low, high = number(interval.low, digits), number(interval.high, digits)
    bounds = f" [{low}, {high}]" if interval.low == interval.low else ""
    return number(interval.value, digits) + bounds


def _scores(region: RegionSummary) -> list[str]:
    cells = [with_interval(region.scores[name], digits) for name, (_, digits) in SCORES.items()]
    cells.insert(2, number(region.hd95_median, 1))
    return cells


def _found_cells(summary: Summary) -> Cells:
    rows = []
    for name, region in summary.regions.items():
        counts = (region.lesions.of(band) for band in (*SIZE_BANDS, None))
        rows.append([name, *(f"{found} of {truth}" for truth, found, _, _ in counts)])
    return Cells(("", *SIZE_BANDS, "all"), rows)


def _aligned(cells: Cells) -> list[str]:
    table: list[Sequence[str]] = [cells.header, *cells.rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
