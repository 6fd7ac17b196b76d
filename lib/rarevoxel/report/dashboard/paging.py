"""Turning the pages of long tables without scripts: plain links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from rarevoxel.report.dashboard.words import HOME

PER_PAGE = 10
T = TypeVar("T")


@dataclass(frozen=True)
class Turn:
    """Which pages of the two long tables are shown.

    Args:
        queue: page of the waiting cases, from 1.
        labels: page of the labelled cases, from 1.
    """

    queue: int = 1
    labels: int = 1

    def to(self, table: str, page: int) -> str:
        """Return the address with another page of one table."""
        pages = {"queue": self.queue, "labels": self.labels, table: page}
        return f"{HOME}?queue={pages['queue']}&labels={pages['labels']}#{'queue' if table == 'queue' else 'effort'}"


def page_of(rows: Sequence[T], page: int) -> tuple[Sequence[T], int, int]:
    """Return the rows of a page, its number, and how many pages there are; a page that is none is the nearest one."""
    pages = max(1, -(-len(rows) // PER_PAGE))
    page = min(max(page, 1), pages)
    return rows[(page - 1) * PER_PAGE : page * PER_PAGE], page, pages


def links(turn: Turn, table: str, page: int, pages: int) -> dict[str, str]:
    """Return the links to other pages with their texts; none where there is one page."""
    found = {}
    if page > 2:
        found["⇤ first"] = turn.to(table, 1)
    if page > 1:
        found["← before"] = turn.to(table, page - 1)
    if page < pages:
        found["next →"] = turn.to(table, page + 1)
    if page < pages - 1:
        found["last ⇥"] = turn.to(table, pages)
    return found
