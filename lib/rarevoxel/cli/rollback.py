"""`rarevoxel rollback`: put an earlier version of a model back into service."""

from __future__ import annotations

import argparse
import json
import sys

from rarevoxel.cli.served import add_home, current_user, registry_of


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `rollback` command and return its parser."""
    parser = subparsers.add_parser(
        "rollback",
        help="put an earlier version of a model back into service",
        description="Put a kept version, or the starter the app came with, back into service. A running server takes "
        "it at the next click. It is written down in the model's registry.jsonl; another rollback undoes it.",
        epilog="exit codes: 0 in service, 1 failed, 2 wrong usage",
    )
    parser.add_argument("model", metavar="MODEL", help="model name")
    parser.add_argument(
        "version", metavar="VERSION", nargs="?", help="a version of `rarevoxel models` (default: the one before)"
    )
    add_home(parser)
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Roll back.

    Returns:
        0.

    Raises:
        NotFoundError: for an unknown model or version.
        ConflictError: if there is none before, or it is in service already.
        ModelError: if the version's file is torn.
    """
    registry, _ = registry_of(args)
    before = registry.current()
    version = registry.rollback(args.version, user=current_user())
    if args.json:
        content = {"model": args.model, "version": version.name, "before": before, "sha256": version.sha256}
        sys.stdout.write(json.dumps(content, indent=1) + "\n")
        return 0
    sys.stdout.write(f"{args.model}: version {version.name} is in service (was {before or 'of no version'})\n")
    return 0
