"""What the dashboard's pages are made of: blocks of facts, tables and charts, rendered with everything escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from rarevoxel.report.page import check_rows


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Args:
        text: shown; may be empty.
        href: where the cell leads, an address on this server.
        picture: address of a small picture on this server, shown before the text.
        lines: further lines, smaller.
        mark: `good` or `warn` colours the text, which says the same in words; `still` keeps it on one line.
    """

    text: str
    href: str = ""
    picture: str = ""
    lines: tuple[str, ...] = ()
    mark: str = ""


@dataclass(frozen=True)
class Grid:
    """A table that becomes a list of cards where the page is narrow.

    Args:
        header: one name per column.
        rows: cells, as many per row as there are columns.
        caption: shown above it.

    Raises:
        InputError: if a row has another number of cells than the header.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    def __post_init__(self) -> None:
        check_rows(self.header, self.rows)


@dataclass(frozen=True)
class Image:
    """A picture that is fetched from this server.

    Args:
        source: its address.
        alt: what it shows, for readers who do not see it.
        caption: shown below it.
    """

    source: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Block:
    """A part of a page.

    Args:
        name: for links to it: letters and dashes.
        title: its heading.
        text: paragraphs.
        hint: what to do next, where there is nothing to show yet.
        facts: name -> value.
        charts: groups of what `rarevoxel.report.dashboard.charts` draws, each group side by side.
        grids: tables, in order.
        images: pictures, in order.
        links: text -> address, at the end; for turning pages.
    """

    name: str
    title: str
    text: Sequence[str] = ()
    hint: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    charts: Sequence[Sequence[Markup]] = ()
    grids: Sequence[Grid] = ()
    images: Sequence[Image] = ()
    links: Mapping[str, str] = field(default_factory=dict)


def render(title: str, blocks: Sequence[Block], *, notice: str = "", back: str = "", made: str = "") -> str:
    """Return a page; every text is escaped.

    Args:
        title: its heading.
        blocks: its parts.
        notice: a warning no reader may miss.
        back: address of the page this one belongs to.
        made: at the foot.
    """
    return _template().render(title=title, blocks=blocks, notice=notice, back=back, made=made, style=Markup(style()))


@cache
def style() -> str:
    """Return the style sheet that every page carries."""
    return (files("rarevoxel.report") / "templates" / "dashboard.css").read_text(encoding="utf-8")


@cache
def content_policy() -> str:
    """Return the `Content-Security-Policy` of the pages: our own style and pictures, and nothing that runs."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("rarevoxel.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("dashboard.html.j2")
