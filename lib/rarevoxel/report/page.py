"""One self-contained HTML page: texts, facts, tables and pictures, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from rarevoxel.errors import InputError
from rarevoxel.volumes import replace_file

PHANTOM_NOTICE = (
    "All cases are synthetic phantoms. Nothing on this page says how well a model works on people; it is no medical "
    "device and not for clinical use."
)
"""Shown on every report whose data are phantoms."""

_PACKAGES = ("rarevoxel", "torch", "monai", "monailabel", "numpy")


@dataclass(frozen=True)
class Picture:
    """A picture inside the page.

    Args:
        png: the picture itself.
        alt: what it shows, for readers who do not see it.
        caption: shown below it.
        wide: too wide for a phone: scrolls there instead of shrinking.
    """

    png: bytes
    alt: str
    caption: str = ""
    wide: bool = False

    @property
    def source(self) -> str:
        """The picture as a `data:` address."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode('ascii')}"


def check_rows(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Raise unless every row has as many cells as there are columns.

    Raises:
        InputError: naming the first that has not.
    """
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise InputError(f"table row {number} has {len(row)} cells, expected {len(header)}")


@dataclass(frozen=True)
class Table:
    """Rows of cells.

    Args:
        header: one name per column.
        rows: cells, as many per row as there are columns.
        caption: shown above it.

    Raises:
        InputError: if a row has another number of cells than the header.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def __post_init__(self) -> None:
        check_rows(self.header, self.rows)


@dataclass(frozen=True)
class Section:
    """A part of the page; what is empty is left out.

    Args:
        title: its heading.
        text: paragraphs.
        facts: name -> value, as a list of terms.
        tables: tables, in order.
        pictures: pictures, in order.
    """

    title: str
    text: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True)
class Page:
    """A report.

    Args:
        title: heading of the page.
        lead: the result in one or two sentences.
        sections: in order.
        notice: a warning no reader may miss, for example `PHANTOM_NOTICE`.
        verdict: `good`, `kept` or empty: colours the lead.
        made: name -> value, at the foot; `versions()` by default.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    notice: str = ""
    verdict: str = ""
    made: Mapping[str, str] = field(default_factory=lambda: versions())


def render_page(page: Page) -> str:
    """Return the page as HTML; every text is escaped.

    Example:
        >>> html = render_page(Page("Run 1", "Mean Dice 0.8 < 0.9", [], made={}))
        >>> "Mean Dice 0.8 &lt; 0.9" in html
        True
    """
    return _template().render(page=page)


def write_page(path: str | Path, page: Page) -> Path:
    """Write the page so that a reader sees the old file or the whole new one.

    Args:
        path: file to write; its folder is made when absent.
        page: what to write.

    Returns:
        `path`.

    Raises:
        OSError: if the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, render_page(page).encode())
    return path


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter; those not installed are left out."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("rarevoxel.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2")
