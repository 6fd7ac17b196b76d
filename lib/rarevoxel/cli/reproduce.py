"""`rarevoxel reproduce`: train again from a lineage and compare."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from pathlib import Path

from rarevoxel.cli.served import add_home, labelled_cases, registry_of


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `reproduce` command and return its parser."""
    parser = subparsers.add_parser(
        "reproduce",
        help="train a version again from its lineage and compare",
        description="Check that every image and label is still what the lineage says (an earlier label is taken from "
        "the history), train again in a temporary folder from the same weights, and compare weights, hold-out Dice and "
        "verdict: equal to the bit on the same machine with the same packages, else Dice within 0.02 per case. Nothing "
        "is published.",
        epilog="exit codes: 0 agrees, 1 does not agree or failed, 2 wrong usage",
    )
    parser.add_argument("model", metavar="MODEL", help="model name")
    parser.add_argument("--version", default=None, help="a version or run (default: the version in service)")
    parser.add_argument("--studies", type=Path, required=True, metavar="DIR", help="studies folder")
    add_home(parser)
    parser.set_defaults(run=run, log_level=logging.INFO)
    return parser


def run(args: argparse.Namespace) -> int:
    """Make a version again.

    Returns:
        0 when it agrees, else 1.

    Raises:
        NotFoundError: for an unknown model or version, or if weights it needs are gone.
        ModelError: when the record is torn.
        InputError: when STUDIES is no studies folder.
    """
    from rarevoxel.datastore.history import History
    from rarevoxel.training.reproduce import reproduce

    registry, _ = registry_of(args)
    lineage = registry.lineage(args.version)
    history = History(args.studies)

    def find_label(case: str, sha256: str) -> Path | None:
        for record in history.records(case, "final"):
            path = history.file(case, "final", record.version)
            if record.sha256 == sha256 and path.is_file():
                return path
        return None

    cases = {case.id: case for case in labelled_cases(args.studies)}
    with tempfile.TemporaryDirectory(prefix="rarevoxel-") as folder:
        result = reproduce(lineage, cases, registry, Path(folder), find_label)
    if args.json:
        sys.stdout.write(json.dumps(result.to_dict(), indent=1) + "\n")
    else:
        for line in (*result.changed, *(f"differs: {line}" for line in result.environment)):
            sys.stdout.write(f"{line}\n")
        for case, (then, now) in result.dice.items():
            sys.stdout.write(f"{case}: mean region Dice {then:.4f} then, {now:.4f} now\n")
        sys.stdout.write(f"{result.sentence}\n")
    return 0 if result.agrees else 1
