"""A study as text: for the terminal and for a Markdown page."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from rarevoxel.comparison.rows import ALPHA, MARK, Cells, Record, number
from rarevoxel.errors import InputError
from rarevoxel.evaluation import lesion_f1
from rarevoxel.learning.simulate import sentences
from rarevoxel.volumes import replace_file

BEGIN, END = "<!-- simulate: begin -->", "<!-- simulate: end -->"
"""Between these lines of a page that is already there `write_markdown` puts its text."""

_WIDTH = 120


def result_cells(summary: Record, one: Record) -> Cells:
    """Return a row per arm: final scores, mean heights, cases and hours needed; a mark where the height differs."""
    header = ("arm", "final Dice", "final lesion F1", "mean Dice", "mean lesion F1", "mean lesion F1 by hours",
              "hours", "cases needed", "share of cases", "share of hours")  # fmt: skip
    rows = []
    for entry in sentences.finished_arms(one):
        curves, area, needed = entry["curves"], entry["area"], entry["needed"]
        name = entry["arm"] + (" (baseline)" if entry["arm"] == summary["baseline"] else "")
        cases = needed["cases"]
        rows.append([
            name,
            _score(curves["dice"][-1]),
            _score(curves["lesion_f1"][-1]),
            _score(area["dice"], _mark(entry, "dice")),
            _score(area["lesion_f1"], _mark(entry, "lesion_f1")),
            _score(area["lesion_f1_by_hours"]),
            number(curves["hours"][-1], 1),
            "not reached" if cases is None else number(cases, 1),
            sentences.share(needed),
            sentences.share(needed, "hours"),
        ])  # fmt: skip
    return Cells(header, rows)


def curve_cells(one: Record, metric: str) -> Cells:
    """Return a row per arm with the value of a metric at every training."""
    rows = [
        [entry["arm"], *(number(point["value"]) for point in entry["curves"][metric])]
        for entry in sentences.finished_arms(one)
    ]
    return Cells(("arm", *(f"{labelled} cases" for labelled in one["labelled"])), rows)


def region_cells(one: Record) -> Cells:
    """Return the final Dice per region, and the final lesion F1 by the size of the lesion."""
    arms = sentences.finished_arms(one)
    bands = list(arms[0]["bands"]) if arms else []
    rows = [
        [
            entry["arm"],
            *(number(entry["curves"][f"dice_{region}"][-1]["value"]) for region in ("WT", "TC", "ET")),
            *(number(lesion_f1(entry["bands"][band])) for band in bands),
        ]
        for entry in arms
    ]
    return Cells(("arm", "Dice WT", "Dice TC", "Dice ET", *(f"lesion F1 {band}" for band in bands)), rows)


def to_text(summary: Record) -> str:
    """Return the result for the terminal."""
    lines = [sentences.lead(summary)]
    for one in summary["sets"]:
        lines += ["", f"{one['set']}: {sentences.data_sentence(summary, one)}"]
        for entry in sentences.finished_arms(one):
            f1 = _score(entry["curves"]["lesion_f1"][-1])
            lines.append(f"{entry['arm']}: final lesion F1 {f1}, cases needed {sentences.share(entry['needed'])}")
        lines += sentences.arm_lines(summary, one)
        lines += [f"failed: {arm}: {what}" for arm, what in sentences.failures(one)]
    return "\n".join(part for line in lines for part in textwrap.wrap(line, _WIDTH, subsequent_indent="  ") or [""])


def to_markdown(summary: Record) -> str:
    """Return the result in Markdown, headings from level 3 on."""
    parts = [sentences.lead(summary)]
    for one in summary["sets"]:
        failed = [f"- failed: {arm}: {what}" for arm, what in sentences.failures(one)]
        parts += [
            f"### {one['set']}",
            sentences.data_sentence(summary, one),
            f"{MARK} differs from {summary['baseline']} after adjustment.",
            _table(result_cells(summary, one)),
            "Lesion F1 by cases labelled:",
            _table(curve_cells(one, "lesion_f1")),
            "Dice by cases labelled:",
            _table(curve_cells(one, "dice")),
            "After the last training, by region and by size of the lesion:",
            _table(region_cells(one)),
            "\n".join([*(f"- {line}" for line in sentences.arm_lines(summary, one)), *failed]),
        ]
    parts += ["### How to read the numbers", "\n".join(f"- {note}" for note in sentences.notes(summary))]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_markdown(path: Path, summary: Record) -> None:
    """Write the Markdown: between the lines `BEGIN` and `END` of a page that has them, else as a page of its own.

    Raises:
        InputError: if there is a file without these lines, or with one of them alone.
        OSError: if the file cannot be written.
    """
    text = to_markdown(summary)
    if path.is_file() and (page := path.read_text(encoding="utf-8")).strip():
        if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(END) < page.index(BEGIN):
            msg = f"{path}: a page without one line {BEGIN!r} and, behind it, one line {END!r}"
            raise InputError(msg, "add the two lines where the tables belong, or name a file that is not there")
        before, rest = page.split(BEGIN)
        text = f"{before}{BEGIN}\n\n{text}\n{END}{rest.split(END)[1]}"
    replace_file(path, text.encode())


def _score(value: Record, mark: str = "") -> str:
    return f"{number(value['value'])}{mark} [{number(value['low'])}, {number(value['high'])}]"


def _mark(entry: Record, metric: str) -> str:
    p = entry.get("against", {}).get(metric, {}).get("p_adjusted")
    return MARK if p is not None and p < ALPHA else ""


def _table(cells: Cells) -> str:
    lines = [
        "| " + " | ".join(map(_escaped, cells.header)) + " |",
        "|" + "|".join(["---", *["---:"] * (len(cells.header) - 1)]) + "|",
        *("| " + " | ".join(map(_escaped, row)) + " |" for row in cells.rows),
    ]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return re.sub(r"[*<|]", r"\\\g<0>", text)
