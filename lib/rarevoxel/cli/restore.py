"""`rarevoxel restore`: make an earlier version of a label the valid one."""

from __future__ import annotations

import argparse
import json
import sys

from rarevoxel.cli.history import add_studies, find_studies
from rarevoxel.cli.served import current_user


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `restore` command and return its parser."""
    parser = subparsers.add_parser(
        "restore",
        help="make an earlier version of a label the valid one",
        description="Make an earlier version of a case's label its newest; nothing is taken away. A server that uses "
        "the folder may be running: it notices.",
        epilog="exit codes: 0 restored or valid already, 1 failed, 2 wrong usage",
    )
    parser.add_argument("case", metavar="CASE", help="case id")
    parser.add_argument("version", metavar="VERSION", type=int, help="its number, see rarevoxel history CASE")
    add_studies(parser)
    parser.add_argument("--comment", default="", help="why, for the history")
    parser.add_argument("--json", action="store_true", help="print the new version's record as JSON")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Restore.

    Returns:
        0.

    Raises:
        InputError: when there is no studies folder, or the version holds no label.
        NotFoundError: for an unknown case or version.
        GeometryError: when the image has been replaced by one on another grid.
        UnavailableError, StorageError: when the folder cannot be written.
    """
    from rarevoxel.datastore.restore import restore

    studies = find_studies(args.studies)
    done = restore(studies, args.case, args.tag, args.version, user=current_user(), comment=args.comment)
    if args.json:
        content = {**done.record.to_dict(), "unchanged": done.unchanged}
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
        return 0
    label = f"label {args.tag!r} of case {args.case}"
    if done.unchanged:
        sys.stdout.write(f"{label}: nothing to do, version {done.record.version} is the same as {args.version}\n")
    else:
        sys.stdout.write(f"{label}: version {args.version} restored as version {done.record.version}\n")
    return 0
