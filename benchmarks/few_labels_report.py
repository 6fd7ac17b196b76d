"""What the few-label study found: which anchor, a table, sentences with intervals, and the curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from few_labels_methods import MONAILABEL, SCRATCH, STARTER, TUNED
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rarevoxel.evaluation.resampling import bootstrap_mean
from rarevoxel.labels import REGIONS
from rarevoxel.report.png import INK, MUTED, to_png

TOLERATED = 0.01
"""Dice on the unseen style that may be given up for a stronger anchor."""

Record = Mapping[str, Any]
Table = npt.NDArray[np.float64]

_STYLES = {
    "anchored": ("#0072B2", "o", "-", "starter, fine-tuned with the anchor"),
    "free": ("#D55E00", "s", "--", "starter, fine-tuned without"),
    "scratch": ("#009E73", "^", "-.", "our recipe, random weights"),
    "scratch, longer": ("#56B4E9", "v", ":", "the same, four times the steps"),
    "monailabel": ("#CC79A7", "D", "-", "MONAI Label's recipe, rate 1e-4"),
    "monailabel, faster": ("#E69F00", "P", "--", "the same, rate 1e-3"),
}


def choose_anchor(records: Iterable[Record]) -> float:
    """Return the strongest anchor that costs at most `TOLERATED` of the best mean Dice on the tuning cases."""
    dice = {record["value"]: float(means(record["unseen"]).mean()) for record in records}
    return max(anchor for anchor, value in dice.items() if value >= max(dice.values()) - TOLERATED)


def means(scores: Mapping[str, Mapping[str, float]]) -> Table:
    """Return the mean region Dice of every case, in the order of their names."""
    return np.array([np.mean(list(scores[case].values())) for case in sorted(scores)])


def curve_of(record: Record) -> str:
    """Return the name of the curve that a record is a point of."""
    if record["method"] == TUNED:
        return "anchored" if record["value"] else "free"
    if record["method"] == SCRATCH:
        return "scratch" if record["factor"] == 1 else "scratch, longer"
    if record["method"] == MONAILABEL:
        return "monailabel" if record["value"] < 5e-4 else "monailabel, faster"
    return STARTER


def summarise(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return a row for every curve and number of cases: means, intervals and spreads on both sides."""
    points: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        points.setdefault((curve_of(record), record["n"]), []).append(record)
    order = [STARTER, *_STYLES]
    rows = []
    for curve, n in sorted(points, key=lambda point: (order.index(point[0]), point[1])):
        same = points[curve, n]
        row: dict[str, Any] = {"curve": curve, "n": n, "seeds": len(same)}
        row["train_s"] = float(np.mean([record["train_s"] for record in same]))
        for side in ("unseen", "own"):
            if all(side in record for record in same):
                row[side] = _side([record[side] for record in same])
        rows.append(row)
    return rows


def difference(records: Sequence[Record], one: tuple[str, int], other: tuple[str, int], side: str = "unseen") -> Any:
    """Return mean, interval over cases and number of cases of the difference of two points, paired by case.

    Args:
        records: of all cells.
        one: curve and number of cases.
        other: what is taken away.
        side: `unseen` or `own`.

    Returns:
        None if a point has not been measured.
    """
    found = []
    for curve, n in (one, other):
        same = [record for record in records if (curve_of(record), record["n"]) == (curve, n) and side in record]
        if not same:
            return None
        found.append(np.mean([means(record[side]) for record in same], axis=0))
    interval = bootstrap_mean(found[0] - found[1])
    return {"one": one, "other": other, "side": side, "cases": len(found[0]), **interval._asdict()}


def table(rows: Sequence[Record]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| method | cases | runs | unseen style: Dice [95 %] | WT | TC | ET | own kind: Dice [95 %] |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        regions = " | ".join(f"{row['unseen']['regions'][name]:.2f}" for name in REGIONS)
        name = "the starter itself" if row["curve"] == STARTER else _STYLES[row["curve"]][3]
        own = _cell(row["own"]) if "own" in row else ""
        lines.append(f"| {name} | {row['n']} | {row['seeds']} | {_cell(row['unseen'])} | {regions} | {own} |")
    return "\n".join(lines)


def draw(rows: Sequence[Record]) -> bytes:
    """Draw Dice over the number of labelled cases, on the unseen style and on the starter's own kind, as PNG."""
    figure = Figure(figsize=(12.0, 4.9), facecolor="white")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, side in ((left, "unseen"), (right, "own")):
        for curve, (colour, marker, dash, label) in _STYLES.items():
            points = [row for row in rows if row["curve"] == curve and side in row]
            if not points:
                continue
            x = np.log2([row["n"] for row in points])
            y = np.array([row[side]["mean"] for row in points])
            axes.plot(x, y, color=colour, marker=marker, linestyle=dash, linewidth=2, markersize=8, label=label)
            for at, row in zip(x, points, strict=True):
                axes.plot([at] * row["seeds"], row[side]["by_seed"], "_", color=colour, markersize=11)
        for row in rows:
            if row["curve"] == STARTER and side in row:
                axes.axhline(row[side]["mean"], color=INK, linestyle=":", linewidth=1.4, label="the starter itself")
    cases = {side: next((row[side]["cases"] for row in rows if side in row), 0) for side in ("unseen", "own")}
    _frame(left, f"A style the starter never saw ({cases['unseen']} test cases)")
    _frame(right, f"What it knew before ({cases['own']} cases of its own kind)")
    left.set_ylabel("mean Dice of WT, TC, ET", color=INK, size=11)
    handles, labels = left.get_legend_handles_labels()
    figure.tight_layout(rect=(0, 0.14, 1, 1), w_pad=2.5)
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False, fontsize=10)
    figure.text(0.99, 0.01, "dashes: single runs", ha="right", size=9, color=MUTED)
    return to_png(figure)


def _side(scores: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    values = np.stack([means(one) for one in scores])
    interval = bootstrap_mean(values.mean(axis=0))
    regions = {name: float(np.mean([case[name] for one in scores for case in one.values()])) for name in REGIONS}
    return {
        "mean": interval.value,
        "low": interval.low,
        "high": interval.high,
        "sd_cases": float(values.mean(axis=0).std(ddof=1)) if values.shape[1] > 1 else 0.0,
        "by_seed": values.mean(axis=1).tolist(),
        "cases": values.shape[1],
        "regions": regions,
    }


def _cell(side: Record) -> str:
    return f"{side['mean']:.3f} [{side['low']:.2f}, {side['high']:.2f}]"


def _frame(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", size=12, weight="bold", color=INK)
    axes.set_xlabel("labelled cases learned from", color=INK, size=11)
    axes.set_xticks(range(5), ["1", "2", "4", "8", "16"])
    axes.set(xlim=(-0.3, 4.3), ylim=(0, 1))
    axes.grid(color="#e3e3e3")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=10)
