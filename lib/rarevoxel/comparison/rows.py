"""What the tables of a comparison say, as rows and sentences: for a terminal, for Markdown and for a page alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rarevoxel.labels import REGIONS

ALPHA = 0.05
"""A difference whose adjusted p is below this is marked."""

JUDGED = {"dice": "Dice", "lesion_f1": "lesion F1", "recall_at_precision": "recall at equal precision"}
"""Measures whose differences from the baseline are reported, all of them better when higher."""

MARK = "*"
NOTHING = "-"

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Cells:
    """A table.

    Args:
        header: one name per column.
        rows: cells, as many per row as there are columns.
    """

    header: tuple[str, ...]
    rows: list[list[str]]


@dataclass
class Verdicts:
    """The methods of a regime by what the adjusted p-values of `JUDGED` say; a method may be better and worse.

    Args:
        better: method -> names of the measures in which it is better than the baseline.
        worse: method -> names of the measures in which it is worse.
        same: methods without a difference that holds.
        unknown: methods without a score, or whose differences have no p-value.
    """

    better: dict[str, list[str]] = field(default_factory=dict)
    worse: dict[str, list[str]] = field(default_factory=dict)
    same: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def verdicts(regime: Record, baseline: str) -> Verdicts:
    """Sort the methods of a regime by whether they differ from the baseline after adjustment."""
    found = Verdicts()
    for entry in others(regime, baseline):
        name, against = entry["method"], entry.get("against", {})
        known = [metric for metric in JUDGED if against.get(metric, {}).get("p_adjusted") is not None]
        held = [metric for metric in known if holds(entry, metric)]
        higher = [JUDGED[metric] for metric in held if against[metric]["difference"] > 0]
        lower = [JUDGED[metric] for metric in held if against[metric]["difference"] < 0]
        if higher:
            found.better[name] = higher
        if lower:
            found.worse[name] = lower
        if not known:
            found.unknown.append(name)
        elif not (higher or lower):
            found.same.append(name)
    return found


def holds(entry: Record, metric: str) -> bool:
    """Return whether a method differs from the baseline after adjustment, in either direction."""
    p = entry.get("against", {}).get(metric, {}).get("p_adjusted")
    return p is not None and p < ALPHA


def others(regime: Record, baseline: str) -> Iterator[Record]:
    """Yield the methods of a regime but the baseline."""
    return (entry for entry in regime["methods"] if entry["method"] != baseline)


def number(value: float | None, digits: int = 3, sign: str = "") -> str:
    """Return a number in words a table takes: `-` for None, NaN and infinity.

    Example:
        >>> number(0.12345), number(0.5, 2, "+"), number(None)
        ('0.123', '+0.50', '-')
    """
    return NOTHING if value is None or not math.isfinite(value) else f"{value:{sign}.{digits}f}"


def columns(regime: Record) -> dict[str, tuple[str, int]]:
    """Metric -> its name and digits, in the order of the tables; those that no method has are left out."""
    every: dict[str, tuple[str, int]] = {
        "dice": ("Dice", 3),
        **{f"dice_{region}": (region, 3) for region in REGIONS},
        "lesion_recall": ("recall", 3),
        "lesion_precision": ("precision", 3),
        "lesion_f1": ("F1", 3),
        "recall_at_precision": (f"recall at {number(regime['precision'], 2)}", 3),
        "hd95": ("HD95 mm", 1),
        "ece": ("ECE", 4),
    }
    present = {metric for entry in regime["methods"] for metric in entry.get("scores", {})}
    return {metric: shown for metric, shown in every.items() if metric in present}


def score_cells(regime: Record, baseline: str, intervals: Iterable[str] | None = None) -> Cells:
    """Return the scores of every method that has some, a mark on those that differ from the baseline.

    Args:
        regime: one of `summary["regimes"]`.
        baseline: its name.
        intervals: metrics shown with their interval; all but those of single regions by default.
    """
    shown = columns(regime)
    wide = set(shown) - {f"dice_{region}" for region in REGIONS} if intervals is None else set(intervals)
    rows = []
    for entry in regime["methods"]:
        if "scores" not in entry:
            continue
        name = entry["method"] + (" (baseline)" if entry["method"] == baseline else "")
        cells = [_score(entry, metric, digits, metric in wide) for metric, (_, digits) in shown.items()]
        rows.append([name, *cells, number(entry["seconds"], 0)])
    return Cells(("method", *(name for name, _ in shown.values()), "seconds"), rows)


def _score(entry: Record, metric: str, digits: int, interval: bool) -> str:
    score = entry["scores"].get(metric, {})
    text = number(score.get("value"), digits) + (MARK if holds(entry, metric) else "")
    return text + _bounds(score.get("low"), score.get("high"), digits) if interval else text


def _bounds(low: float | None, high: float | None, digits: int, sign: str = "") -> str:
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f" [{number(low, digits, sign)}, {number(high, digits, sign)}]"


def difference_cells(regime: Record, baseline: str) -> Cells:
    """Return method minus baseline with simultaneous intervals and adjusted p, for every measure of `JUDGED`."""
    metrics = [metric for metric in JUDGED if metric in columns(regime)]
    rows = [
        [entry["method"], *(cell for metric in metrics for cell in _difference(entry, metric))]
        for entry in others(regime, baseline)
        if "against" in entry
    ]
    return Cells(("method", *(name for metric in metrics for name in (JUDGED[metric], "p"))), rows)


def _difference(entry: Record, metric: str) -> tuple[str, str]:
    result = entry["against"].get(metric, {})
    bounds = _bounds(result.get("simultaneous_low"), result.get("simultaneous_high"), 3, "+")
    mark = MARK if holds(entry, metric) else ""
    return number(result.get("difference"), 3, "+") + mark + bounds, p_value(result.get("p_adjusted"))


def p_value(p: float | None) -> str:
    """Return p with as many digits as show on which side of `ALPHA` it lies."""
    if p is not None and p < 0.001:
        return "<0.001"
    digits = 4 if p is not None and p < ALPHA and round(p, 3) >= ALPHA else 3
    return number(p, digits)


def band_cells(regime: Record) -> Cells:
    """Return the lesion recall of every method by the size of the lesion, over regions, cases and seeds."""
    scored = [entry for entry in regime["methods"] if "bands" in entry]
    if not scored:
        return Cells(("method",), [])
    header = (f"{band} (n = {truth[0]:.0f})" for band, truth in scored[0]["bands"].items())
    rows = [[entry["method"], *(number(recall_of(band)) for band in entry["bands"].values())] for entry in scored]
    return Cells(("method", *header), rows)


def recall_of(band: Sequence[float]) -> float:
    """Return found / truth of `(truth, found, predicted, true)`; NaN without a true lesion."""
    return band[1] / band[0] if band[0] else math.nan


def size_cells(regime: Record) -> Cells:
    """Return the training sizes that the losses were chosen from, per region, and per fold where there are several."""
    several = len(regime["sizes"]) > 1
    header = ("region", "n", "empty", "median ml", "skewness", "kurtosis", "CALF branch", "stability",
              "components per case", "voxels outside per voxel inside")  # fmt: skip
    rows = []
    for fold, regions in regime["sizes"].items():
        for region, size in regions.items():
            stability = size["stability"]
            row = [region, str(size["n"]), str(size["empty"]), number(size["median_ml"], 2)]
            row += [number(size["skewness"], 2), number(size["kurtosis"], 2), size["branch"]]
            row += [NOTHING if stability is None or not math.isfinite(stability) else f"{stability:.0%}"]
            row += [number(size["components"], 1), number(size["imbalance"], 0)]
            rows.append([fold, *row] if several else row)
    return Cells(("fold", *header) if several else header, rows)


def verdict_cells(summary: Record) -> Cells:
    """Return what the adjusted p-values say, methods as rows and regimes as columns."""
    baseline = summary["baseline"]
    found = {regime["regime"]: verdicts(regime, baseline) for regime in summary["regimes"]}
    names = dict.fromkeys(entry["method"] for regime in summary["regimes"] for entry in others(regime, baseline))
    rows = [[name, *(_verdict(verdict, name) for verdict in found.values())] for name in names]
    return Cells(("method", *found), rows)


def _verdict(found: Verdicts, name: str) -> str:
    parts = [
        f"{word}: {', '.join(group[name])}"
        for word, group in (("better", found.better), ("worse", found.worse))
        if name in group
    ]
    if parts:
        return "; ".join(parts)
    return "no difference shown" if name in found.same else "not judged"
