"""`rarevoxel models`: which weights are kept, which serve, and how they were judged."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from rarevoxel.cli.served import add_home, served_app

if TYPE_CHECKING:
    from rarevoxel.training import Version

_COLUMNS = ("model", "version", "when", "in service", "Dice", "verdict", "sha256")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `models` command and return its parser."""
    parser = subparsers.add_parser(
        "models",
        help="list the weights that are kept of every model",
        description="List the versions of every model, newest first: which one serves, its mean region Dice on the "
        "hold-out and the sentence of the gate. `rarevoxel rollback` puts another one into service.",
        epilog="exit codes: 0 listed, 1 failed, 2 wrong usage",
    )
    add_home(parser)
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """List the versions.

    Returns:
        0.

    Raises:
        ConfigError: when there is no app.
    """
    from rarevoxel.training import Registry

    app, config = served_app(args)
    found = {name: Registry(app, name, config.gate.keep).versions() for name in config.models}
    if args.json:
        content = {name: [_record(version) for version in versions] for name, versions in found.items()}
        sys.stdout.write(json.dumps({"models": content}, indent=1) + "\n")
        return 0
    rows = [_COLUMNS, *(_row(name, version) for name, versions in found.items() for version in versions)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    # The verdict is a sentence: it comes last and is not padded.
    order = [column for column in range(len(_COLUMNS)) if _COLUMNS[column] != "verdict"]
    for row in rows:
        cells = [row[column].ljust(widths[column]) for column in order]
        sys.stdout.write("  ".join([*cells, row[_COLUMNS.index("verdict")]]).rstrip() + "\n")
    return 0


def _record(version: Version) -> dict[str, Any]:
    gate = version.lineage.gate if version.lineage else {}
    return {
        "version": version.name,
        "created": version.created,
        "in_service": version.in_service,
        "sha256": version.sha256,
        "dice": gate.get("candidate"),
        "verdict": gate.get("reason", ""),
    }


def _row(model: str, version: Version) -> tuple[str, ...]:
    record = _record(version)
    dice = "-" if record["dice"] is None else f"{record['dice']:.3f}"
    when = f"{version.created[:19].replace('T', ' ')} UTC" if version.created else "-"
    verdict = record["verdict"] or ("comes with the app" if version.lineage is None else "-")
    return (model, version.name, when, "yes" if version.in_service else "", dice, verdict, version.sha256[:12])
