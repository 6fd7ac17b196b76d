"""The page and the pictures of a comparison of training methods."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rarevoxel.comparison import rows, sentences
from rarevoxel.comparison.rows import Cells
from rarevoxel.report.comparison_figures import (
    curve_methods,
    draw_curves,
    draw_differences,
    draw_seeds,
    draw_size_bands,
)
from rarevoxel.report.page import PHANTOM_NOTICE, Page, Picture, Section, Table, write_page
from rarevoxel.volumes import replace_file

Summary = Mapping[str, Any]


def write_comparison(path: str | Path, summary: Summary) -> Path:
    """Write the report of a comparison: one HTML page that loads nothing.

    Args:
        path: file to write; its folder is made when absent.
        summary: of `rarevoxel.comparison.summary.summarize`, or read back from its JSON.

    Returns:
        `path`.

    Raises:
        OSError: if the file cannot be written.
    """
    baseline = summary["baseline"]
    regimes = summary["regimes"]
    first = Section("Better, worse, or no difference shown", tables=[_table(rows.verdict_cells(summary))])
    sections = [first, *(_section(summary, regime) for regime in regimes), _methods(summary)]
    sections.append(Section("How to read the numbers", sentences.notes(summary)))
    phantoms = all(regime["phantoms"] for regime in regimes)
    page = Page(
        f"Training methods compared with {baseline}",
        sentences.lead(summary),
        sections,
        notice=PHANTOM_NOTICE if phantoms else "",
    )
    return write_page(path, page)


def write_figures(folder: str | Path, summary: Summary) -> list[Path]:
    """Write the pictures of all regimes as `comparison-REGIME-{differences,curves,sizes,seeds}.png`.

    Args:
        folder: made when absent.
        summary: of `rarevoxel.comparison.summary.summarize`, or read back from its JSON.

    Returns:
        The files, regime by regime.

    Raises:
        OSError: if a file cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for regime in summary["regimes"]:
        for kind, picture in _pictures(summary, regime):
            path = folder / f"comparison-{_file_name(regime['regime'])}-{kind}.png"
            replace_file(path, picture.png)
            written.append(path)
    return written


def _file_name(regime: str) -> str:
    return re.sub(r"[^\w-]+", "-", regime)


def _section(summary: Summary, regime: Summary) -> Section:
    baseline = summary["baseline"]
    facts: dict[str, str] = {}
    for name, text in (*sentences.reasons(summary, regime), *sentences.left_out(regime)):
        facts[name] = f"{facts[name].rstrip('.')}. {text}" if name in facts else text
    tables = (
        ("Sizes the losses were chosen from", rows.size_cells(regime)),
        (f"Scores; {rows.MARK} differs from {baseline} after adjustment", rows.score_cells(regime, baseline)),
        (f"Difference from {baseline}, simultaneous intervals, adjusted p", rows.difference_cells(regime, baseline)),
        ("Recall by the size of the lesion", rows.band_cells(regime)),
    )
    return Section(
        regime["regime"],
        [sentences.data_sentence(regime), *sentences.result_lines(regime, baseline)],
        facts,
        [_table(cells, caption) for caption, cells in tables if cells.rows],
        [picture for _, picture in _pictures(summary, regime)],
    )


def _methods(summary: Summary) -> Section:
    header = ("method", "loss", "sampler", "filter", "stages")
    cells = [
        [method["name"], method["loss"], method["sampler"], method["filter"], "2" if method["two_stage"] else "1"]
        for method in summary["methods"]
    ]
    return Section("Methods as asked for", tables=[Table(header, cells)])


def _table(cells: Cells, caption: str = "") -> Table:
    return Table(cells.header, cells.rows, caption)


def _pictures(summary: Summary, regime: Summary) -> Iterator[tuple[str, Picture]]:
    baseline, name = summary["baseline"], regime["regime"]
    measures = ", ".join(rows.JUDGED[metric] for metric in rows.JUDGED if metric in rows.columns(regime))
    drawn = (
        ("differences", draw_differences(regime, baseline), f"differences from {baseline} in {measures}",
         "Filled: differs after adjustment; open: no difference shown."),
        ("curves", draw_curves(regime, baseline, curve_methods(summary, regime)), "lesion precision over lesion recall",
         "The baseline, methods with the loss auto, and the best by lesion F1; the lesions of all seeds together."),
        ("sizes", draw_size_bands(regime, baseline), "lesion recall of every method by lesion size", ""),
        ("seeds", draw_seeds(regime, baseline), "mean Dice of every method and seed", ""),
    )  # fmt: skip
    for kind, png, what, caption in drawn:
        yield kind, Picture(png, f"{name}: {what}", caption, wide=True)
