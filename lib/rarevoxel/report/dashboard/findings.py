"""What the label checks noticed in the labels that are valid, and which labels were refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rarevoxel.report.dashboard.blocks import Block, Cell, Grid
from rarevoxel.report.dashboard.data import LabelVersion, Refused, current
from rarevoxel.report.dashboard.words import case_page, count, when

SHOWN = 30
"""Findings and refusals listed at most, the newest."""


def findings_block(labels: Sequence[LabelVersion], refused: Sequence[Refused]) -> Block:
    """Return the block of the findings.

    Args:
        labels: versions, oldest first; of each case the newest counts.
        refused: newest first.
    """
    title = "Label findings"
    newest = list(current(labels).values())[::-1]
    found = [(one, finding) for one in newest for finding in one.findings]
    grids = []
    if found:
        codes = Counter(str(finding.get("code", "?")) for _, finding in found)
        listed = ", ".join(f"{code} {n}" for code, n in codes.most_common())
        caption = f"{count(len(found), 'finding')} in the valid labels ({listed})"
        caption += f"; the newest {SHOWN} are listed" if len(found) > SHOWN else ""
        grids.append(Grid(("case", "what", "where"), [_row(*pair) for pair in found[:SHOWN]], caption))
    if refused:
        caption = f"{count(len(refused), 'label')} refused and kept aside"
        caption += f"; the newest {SHOWN} are listed" if len(refused) > SHOWN else ""
        grids.append(Grid(("case", "when", "why"), [_refused_row(one) for one in refused[:SHOWN]], caption))
    hint = ""
    if not newest and not refused:
        hint = "There is no label to check yet. Every label is checked when it is submitted."
    elif not grids:
        checked = count(len(newest), "label")
        hint = (
            f"Nothing was noticed in {checked}. rarevoxel check STUDIES looks again, also at labels put there by hand."
        )
    return Block("findings", title, hint=hint, grids=grids)


def place_of(finding: Mapping[str, Any]) -> str:
    """Return where a finding lies: RAS mm and voxel; empty where it has no place."""
    mm, voxel = finding.get("mm"), finding.get("voxel")
    parts = []
    if mm:
        parts.append("RAS " + ", ".join(f"{float(v):.0f}" for v in mm) + " mm")
    if voxel:
        parts.append("voxel " + ", ".join(str(int(v)) for v in voxel))
    return "; ".join(parts)


def finding_cell(finding: Mapping[str, Any]) -> Cell:
    """Return a finding's code and sentence."""
    return Cell(str(finding.get("code", "?")), mark="warn", lines=(str(finding.get("message", "")),))


def _row(one: LabelVersion, finding: Mapping[str, Any]) -> list[Cell]:
    lines = (f"version {one.version}, {when(one.ts)}",)
    return [Cell(one.case, href=case_page(one.case), lines=lines), finding_cell(finding), Cell(place_of(finding))]


def _refused_row(one: Refused) -> list[Cell]:
    lines = tuple(line for line in (", ".join(one.codes), one.hint) if line)
    return [Cell(one.case, href=case_page(one.case)), Cell(when(one.ts)), Cell(one.message, mark="warn", lines=lines)]
