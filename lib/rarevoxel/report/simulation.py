"""The page of a study of simulated annotation campaigns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rarevoxel.comparison.rows import MARK, Cells
from rarevoxel.learning.simulate import sentences, tables
from rarevoxel.report.page import PHANTOM_NOTICE, Page, Picture, Section, Table, write_page
from rarevoxel.report.simulation_figures import draw_campaigns
from rarevoxel.volumes import replace_file

Summary = Mapping[str, Any]


def write_simulation(path: str | Path, summary: Summary) -> Path:
    """Write the report of a study: one HTML page that loads nothing.

    Args:
        path: file to write; its folder is made when absent.
        summary: of `rarevoxel.learning.simulate.summary.summarize`, or read back from its JSON.

    Returns:
        `path`.

    Raises:
        OSError: if the file cannot be written.
    """
    sections = [_section(summary, one) for one in summary["sets"]]
    sections.append(Section("How to read the numbers", sentences.notes(summary)))
    notice = PHANTOM_NOTICE if all(one["phantoms"] for one in summary["sets"]) else ""
    title = f"Simulated annotation campaigns compared with {summary['baseline']}"
    return write_page(path, Page(title, sentences.lead(summary), sections, notice=notice))


def write_simulation_figures(folder: str | Path, summary: Summary) -> list[Path]:
    """Write the curves of every set as `simulate-SET.png` and return the files.

    Raises:
        OSError: if a file cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for one in summary["sets"]:
        written.append(folder / f"simulate-{one['set']}.png")
        replace_file(written[-1], _curves(summary, one))
    return written


def _section(summary: Summary, one: Summary) -> Section:
    baseline = summary["baseline"]
    cells = (
        (f"Result; {MARK} differs from {baseline} after adjustment", tables.result_cells(summary, one)),
        ("Lesion F1 by cases labelled", tables.curve_cells(one, "lesion_f1")),
        ("Dice by cases labelled", tables.curve_cells(one, "dice")),
        ("After the last training, by region and by size of the lesion", tables.region_cells(one)),
    )
    picture = Picture(
        _curves(summary, one),
        f"{one['set']}: lesion F1 and Dice of every arm over cases labelled and over hours",
        "Black: the baseline. A colour is a strategy, a dash a loss.",
        wide=True,
    )
    return Section(
        one["set"],
        [sentences.data_sentence(summary, one), *sentences.arm_lines(summary, one)],
        dict(sentences.failures(one)),
        [_table(found, caption) for caption, found in cells],
        [picture],
    )


def _curves(summary: Summary, one: Summary) -> bytes:
    return draw_campaigns(one, summary["baseline"], [arm["name"] for arm in summary["arms"]])


def _table(cells: Cells, caption: str) -> Table:
    return Table(cells.header, cells.rows, caption)
