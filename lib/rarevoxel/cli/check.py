"""`rarevoxel check`: go through the images and labels of a studies folder and say what somebody should look at."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rarevoxel.datastore.history import History
    from rarevoxel.learning.quality import CaseReport, Finding

_COLUMNS = ("case", "severity", "code", "number", "voxel", "mm", "message")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `check` command and return its parser."""
    parser = subparsers.add_parser(
        "check",
        help="check the images and labels of a studies folder",
        description="Check that every case has four readable sequences on one grid and that its final label can be "
        "used, and warn about labels with islands, holes or parts outside the brain, volumes that changed much or "
        "are unlike the others, masks far from the model's, and left and right exchanged. Each finding has a number "
        "and, where it has one, a place (voxel indices and RAS mm).",
        epilog="exit codes: 0 no errors (there may be warnings), 1 an error was found, 2 wrong usage",
    )
    parser.add_argument("studies", type=Path, metavar="STUDIES", help="studies folder")
    parser.add_argument(
        "--case", action="append", default=[], metavar="ID", help="check this case only; may be repeated"
    )
    parser.add_argument("--html", type=Path, default=None, metavar="FILE", help="write a page with pictures")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Check and print.

    Returns:
        0, or 1 when a case has an error.

    Raises:
        InputError: if STUDIES holds no case or is no studies folder.
        NotFoundError: for an unknown case.
    """
    from rarevoxel.datastore.history import History
    from rarevoxel.datastore.proposals import Proposals
    from rarevoxel.learning.quality import ERROR, check_studies

    history = History(args.studies)
    reports = check_studies(
        args.studies,
        only=args.case,
        declared_empty=lambda case: (newest := history.newest(case, "final")) is not None and newest.empty,
        previous=lambda case: _version_before(history, case),
        proposal=Proposals(args.studies).find,
        progress=True,
    )
    if args.html is not None:
        from rarevoxel.report.checks import write_checks

        write_checks(args.html, reports)
    if args.json:
        content = {"cases": [report.to_dict() for report in reports], "summary": _counts(reports)}
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _table(reports))
    return 1 if any(report.worst == ERROR for report in reports) else 0


def _version_before(history: History, case: str) -> Path | None:
    kept = [record.version for record in history.records(case, "final") if not record.removed]
    file = history.file(case, "final", kept[-2]) if len(kept) > 1 else None
    return file if file is not None and file.is_file() else None


def _counts(reports: Sequence[CaseReport]) -> dict[str, int]:
    severities = [finding.severity for report in reports for finding in report.findings]
    return {
        "cases": len(reports),
        "labelled": sum(report.labelled for report in reports),
        "errors": severities.count("error"),
        "warnings": severities.count("warning"),
    }


def _table(reports: Sequence[CaseReport]) -> Iterator[str]:
    rows = [_row(report, finding) for report in reports for finding in report.findings]
    if rows:
        widths = [max(len(row[column]) for row in (_COLUMNS, *rows)) for column in range(len(_COLUMNS))]
        for row in (_COLUMNS, *rows):
            yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    counts = _counts(reports)
    yield "{cases} cases, {labelled} labelled: {errors} errors, {warnings} warnings".format(**counts)


def _row(report: CaseReport, finding: Finding) -> tuple[str, ...]:
    voxel, mm = (
        "-" if place is None else ",".join(f"{value:.4g}" for value in place) for place in (finding.voxel, finding.mm)
    )
    number, message = f"{finding.number:.4g}", report.sentence(finding)
    return report.case, finding.severity, finding.code, number, voxel, mm, message
