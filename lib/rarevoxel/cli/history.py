"""`rarevoxel history`: the versions of a case's label."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rarevoxel.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from rarevoxel.datastore.history import Record
    from rarevoxel.datastore.store import LabelStore

_COLUMNS = ("version", "when", "who", "why", "sha256", "voxels", "findings")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `history` command and return its parser."""
    parser = subparsers.add_parser(
        "history",
        help="list the versions of a case's label",
        description="Say when, by whom and why the label of a case was changed, and what the checks said about it.",
        epilog="exit codes: 0 listed, 1 no such case or label, 2 wrong usage",
    )
    parser.add_argument("case", metavar="CASE", help="case id")
    add_studies(parser)
    parser.add_argument("--json", action="store_true", help="print the records as JSON")
    parser.set_defaults(run=run)
    return parser


def add_studies(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which label is meant."""
    where = "studies folder (default: $MONAI_LABEL_STUDIES, else the current folder)"
    parser.add_argument("--studies", type=Path, default=None, metavar="DIR", help=where)
    parser.add_argument("--tag", default="final", help="label tag (default final)")


def find_studies(given: Path | None) -> Path:
    """Return the studies folder that is meant.

    Raises:
        InputError: when there is none.
    """
    named = given or (Path(value) if (value := os.environ.get("MONAI_LABEL_STUDIES", "")) else None)
    if named is not None:
        if not named.is_dir():
            raise InputError(f"{named}: no such studies folder", "pass the folder the server uses with --studies")
        return named
    here = Path.cwd()
    if any((here / name).exists() for name in ("studies.json", "datastore_v2.json", "history")):
        return here
    raise InputError("the current folder is no studies folder", "pass the one that is meant with --studies DIR")


def run(args: argparse.Namespace) -> int:
    """List the versions.

    Returns:
        0.

    Raises:
        InputError: when there is no studies folder.
        NotFoundError: when the case has no label and never had one.
    """
    from rarevoxel.datastore.store import LabelStore

    store = LabelStore(find_studies(args.studies))
    records = store.history.records(args.case, args.tag) or store.unrecorded(args.case, args.tag)
    if not records:
        msg = f"case {args.case!r} has no label {args.tag!r} and never had one"
        raise NotFoundError(msg, "check the case id; --tag names other labels, for example original")
    if args.json:
        listed = [{**record.to_dict(), "sizes": _sizes(store, record)} for record in records]
        sys.stdout.write(json.dumps({"case": args.case, "tag": args.tag, "versions": listed}, indent=2) + "\n")
        return 0
    table = [_COLUMNS, *(_row(store, record) for record in records)]
    widths = [max(len(row[column]) for row in table) for column in range(len(_COLUMNS))]
    for row in table:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")
    return 0


def _row(store: LabelStore, record: Record) -> Sequence[str]:
    sizes = _sizes(store, record)
    voxels = ", ".join(f"{name} {count}" for name, count in sizes.items()) if sizes else "-" if record.removed else "0"
    why = f"{record.reason}: {record.comment}" if record.comment else record.reason
    codes: dict[str, int] = {}
    for finding in record.findings:
        codes[str(finding.get("code"))] = codes.get(str(finding.get("code")), 0) + 1
    found = ", ".join(code if count == 1 else f"{code} x{count}" for code, count in codes.items())
    when = record.ts[:19].replace("T", " ") + " UTC"
    return (str(record.version), when, record.user, why, record.sha256[:12] or "-", voxels, found or "-")


def _sizes(store: LabelStore, record: Record) -> dict[str, Any]:
    """Return label name -> voxels; counted where the record does not say, as of labels found in the folder."""
    if record.sizes or record.removed or record.empty:
        return dict(record.sizes)
    from rarevoxel.datastore.store import label_sizes
    from rarevoxel.volumes import read_labels

    volume = store.history.file(record.case, record.tag, record.version)
    path = volume if volume.is_file() else store.find(record.case, record.tag)
    try:
        return label_sizes(read_labels(path)) if path is not None else {}
    except InputError:
        return {}
