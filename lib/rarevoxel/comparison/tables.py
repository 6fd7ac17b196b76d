"""The result of a comparison as text: for the terminal and for a Markdown page."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

from rarevoxel.comparison import rows, sentences
from rarevoxel.comparison.rows import MARK, Cells, Record

_WIDTH = 120
_SPECIAL = re.compile(r"[\\`*<|]")


def to_text(summary: Record) -> str:
    """Return one table per regime for the terminal, the baseline named and what differs from it marked.

    Args:
        summary: of `rarevoxel.comparison.summary.summarize`, or read back from its JSON.
    """
    parts = [_regime_text(regime, summary["baseline"]) for regime in summary["regimes"]]
    return "\n\n".join([*parts, "\n".join(_wrapped(sentences.notes(summary)))])


def to_markdown(summary: Record) -> str:
    """Return the result in Markdown as GitHub shows it, headings from level 2 on.

    Per regime: the data, scores with intervals, differences from the baseline, recall by lesion size, why `auto` chose
    what it chose, what failed or was left out, and what helped according to the adjusted p-values alone.

    Args:
        summary: of `rarevoxel.comparison.summary.summarize`, or read back from its JSON.
    """
    parts = ["## Result", _escaped(sentences.lead(summary)), _table(rows.verdict_cells(summary))]
    for regime in summary["regimes"]:
        parts += _regime_markdown(summary, regime)
    parts += ["## How to read the numbers", _bullets(map(_escaped, sentences.notes(summary)))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _regime_text(regime: Record, baseline: str) -> str:
    first = f"{regime['regime']}: {sentences.data_sentence(regime)}"
    last = [f"{method}: {what}" for method, what in sentences.left_out(regime)]
    last += sentences.result_lines(regime, baseline)
    return "\n".join([first, *_aligned(rows.score_cells(regime, baseline, ["dice"])), *_wrapped(last)])


def _wrapped(lines: Iterable[str]) -> list[str]:
    return [
        short for line in lines for short in textwrap.wrap(line, _WIDTH, subsequent_indent="  ", break_long_words=False)
    ]


def _aligned(cells: Cells) -> list[str]:
    """Names to the left, numbers to the right, their digits below each other whether marked or not."""
    columns = list(zip(cells.header, *cells.rows, strict=True))
    columns[1:] = [_with_room(column) for column in columns[1:]]
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for row in zip(*columns, strict=True):
        name, *numbers = (
            f"{cell:<{width}}" if at == 0 else f"{cell:>{width}}"
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([name, *numbers]).rstrip())
    return lines


def _with_room(column: tuple[str, ...]) -> tuple[str, ...]:
    """The cells of a column with a space where others have a mark."""
    if not any(MARK in cell for cell in column):
        return column
    return tuple(cell if MARK in cell else _spaced(cell) for cell in column)


def _spaced(cell: str) -> str:
    value, bracket, interval = cell.partition(" [")
    return f"{value} {bracket}{interval}"


def _regime_markdown(summary: Record, regime: Record) -> list[str]:
    baseline = summary["baseline"]
    why = [f"{_code(name)}: {_escaped(reason)}" for name, reason in sentences.reasons(summary, regime)]
    lost = [f"{_code(name)}: {_escaped(what)}" for name, what in sentences.left_out(regime)]
    return [
        f"## {_escaped(regime['regime'])}",
        sentences.data_sentence(regime),
        "Sizes the losses were chosen from:",
        _table(rows.size_cells(regime), code=False),
        f"Scores with intervals ({_escaped(MARK)} differs from {_code(baseline)} after adjustment):",
        _table(rows.score_cells(regime, baseline)),
        f"Difference from {_code(baseline)} with simultaneous intervals and adjusted p:",
        _table(rows.difference_cells(regime, baseline)),
        "Recall by the size of the lesion:",
        _table(rows.band_cells(regime)),
        *(["Why the losses that depend on the data are what they are:", _bullets(why)] if why else []),
        *(["Failed, left out or tuned:", _bullets(lost)] if lost else []),
        "What helped, what did not:",
        _bullets(sentences.result_lines(regime, baseline, _code)),
    ]


def _table(cells: Cells, code: bool = True) -> str:
    """A table; with `code` the first column holds names of methods."""
    first = _code if code else _escaped
    lines = [
        "| " + " | ".join(map(_escaped, cells.header)) + " |",
        "|" + "|".join(["---", *["---:"] * (len(cells.header) - 1)]) + "|",
    ]
    for name, *others in cells.rows:
        lines.append("| " + " | ".join([first(name), *map(_escaped, others)]) + " |")
    return "\n".join(lines)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _code(name: str) -> str:
    """A method's name as code, what stands behind it in brackets as text."""
    method, bracket, rest = name.partition(" (")
    return f"`{method}` {_escaped(bracket + rest)}".rstrip()


def _escaped(text: str) -> str:
    """`text` on one line and without a meaning in Markdown."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))
