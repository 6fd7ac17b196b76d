"""What correcting the proposals took: voxels, lesions and estimated seconds per case, and whether it gets less."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from rarevoxel.errors import InputError
from rarevoxel.evaluation.lesions import SIZE_BANDS
from rarevoxel.learning.effort import ACTIONS, Effort
from rarevoxel.report.dashboard.blocks import Block, Cell, Grid
from rarevoxel.report.dashboard.charts import Series, line_chart
from rarevoxel.report.dashboard.data import LabelVersion, current
from rarevoxel.report.dashboard.paging import Turn, links, page_of
from rarevoxel.report.dashboard.words import case_page, count, duration, ml, picture_of, when

TREND = 5
"""Labels the running median goes over."""

_STATUS_KEYS = ("status", "note", "proposal")


def read_effort(record: Mapping[str, Any]) -> Effort | None:
    """Return the effort in a version's record; None where there are no numbers in it."""
    try:
        return Effort.from_dict({key: value for key, value in record.items() if key not in _STATUS_KEYS})
    except InputError:
        return None


def effort_block(labels: Sequence[LabelVersion], turn: Turn) -> Block:
    """Return the block of the effort per labelled case, newest first.

    Args:
        labels: versions, oldest first.
        turn: which page of the labelled cases is shown.
    """
    title = "Effort per case"
    newest = list(current(labels).values())
    if not newest:
        hint = (
            "There is no label yet. Take a case (Next Sample), correct its proposal and submit it: what you changed "
            "is measured and shown here."
        )
        return Block("effort", title, hint=hint)
    efforts = {one.case: effort for one in newest if (effort := read_effort(one.effort)) is not None}
    rows, page, pages = page_of(newest[::-1], turn.labels)
    caption = f"Newest first, page {page} of {pages}" if pages > 1 else "Newest first"
    header = ("case", "changed", "lesions touched", "estimated time", "by region")
    grid = Grid(header, [_row(one, efforts.get(one.case)) for one in rows], caption)
    facts, charts, hint = {}, [], ""
    if efforts:
        seconds = [effort.seconds for effort in efforts.values()]
        facts = {
            "measured": f"{len(efforts)} of {count(len(newest), 'label')}",
            "estimated time": duration(sum(seconds)),
            "median per case": duration(statistics.median(seconds)),
            "lesions added": str(sum(effort.regions["WT"].touched("added") for effort in efforts.values())),
        }
        charts = [[_trend(list(efforts.values())), _bands(list(efforts.values()))]]
    else:
        hint = "No label was submitted from a proposal yet, so there is no effort to show: only labels that were there."
    text = (
        "Measured from the last mask that was served to the label that came back. The time is a model with published "
        "and assumed constants, not a stopwatch.",
    )
    turned = links(turn, "labels", page, pages)
    return Block("effort", title, text=text, hint=hint, facts=facts, charts=charts, grids=[grid], links=turned)


def running_median(values: Sequence[float], width: int = TREND) -> list[float]:
    """Return the median of every value and those before it, `width` in all, fewer at the start.

    Example:
        >>> running_median([5, 1, 3, 9], 3)
        [5, 3.0, 3, 3]
    """
    return [statistics.median(values[max(0, end - width) : end]) for end in range(1, len(values) + 1)]


def described(effort: Effort) -> tuple[str, str, tuple[str, ...]]:
    """Return an effort in words: what was changed, the lesions touched, and region by region."""
    whole = effort.regions.get("WT")
    touched = {action: whole.touched(action) if whole else 0 for action in ACTIONS}
    lesions = ", ".join(f"{n} {action}" for action, n in touched.items() if n) or "none"
    regions = tuple(
        f"{name}: +{one.added}, −{one.removed}" + (f", {one.relabelled} relabelled" if one.relabelled else "")
        for name, one in effort.regions.items()
    )
    changed = f"{effort.changed} voxels"
    return changed, lesions, regions


def _trend(efforts: Sequence[Effort]) -> Markup:
    seconds = [effort.seconds for effort in efforts]
    top = max(1.0, 1.1 * max(seconds))
    each = Series("each label", [(at, value) for at, value in enumerate(seconds, 1)], joined=False)
    median = running_median(seconds)
    trend = Series(f"median of the last {TREND}", [(at, value) for at, value in enumerate(median, 1)])
    return line_chart(
        [each, trend], title="Estimated seconds per label", x="labels in the order they came", y="seconds",
        y_range=(0.0, top),
    )  # fmt: skip


def _bands(efforts: Sequence[Effort]) -> Markup:
    names = list(SIZE_BANDS)
    series = []
    for action in ACTIONS:
        counts = [sum(e.regions["WT"].lesions.get(action, {}).get(band, 0) for e in efforts) for band in names]
        series.append(Series(action, [(at, n) for at, n in enumerate(counts, 1)]))
    top = max((y for one in series for _, y in one.points if math.isfinite(y)), default=0.0)
    return line_chart(
        series, title="Lesions touched by size (" + ", ".join(f"{n} {b}" for n, b in enumerate(names, 1)) + ")",
        x="size band", y="lesions", y_range=(0.0, max(1.0, 1.1 * top)),
    )  # fmt: skip


def _row(one: LabelVersion, effort: Effort | None) -> list[Cell]:
    name = Cell(
        one.case,
        href=case_page(one.case),
        picture=picture_of(one.case, small=True),
        lines=(f"version {one.version}, {when(one.ts)}" if one.version else f"{one.reason}, {when(one.ts)}",),
    )
    note = str(one.effort.get("note") or one.effort.get("status") or "")
    if effort is None:
        return [name, Cell(note or "not measured: nobody submitted it"), Cell(""), Cell(""), Cell("")]
    changed, lesions, regions = described(effort)
    volume = f"{ml(effort.changed * effort.voxel_mm3)}"
    more = (volume, note) if note else (volume,)
    return [
        name,
        Cell(changed, lines=more),
        Cell(lesions),
        Cell(duration(effort.seconds), mark="still"),
        Cell("", lines=regions),
    ]
