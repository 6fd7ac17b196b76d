"""`rarevoxel lineage`: what a model's weights were made from."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rarevoxel.cli.served import add_home, registry_of

if TYPE_CHECKING:
    from rarevoxel.lineage import CaseRecord, Lineage


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `lineage` command and return its parser."""
    parser = subparsers.add_parser(
        "lineage",
        help="say what a model's weights were made from",
        description="Print what a version, or a run that was not published, was made from: cases and labels with their "
        "checksums, who trained, selected and judged, options, configuration, packages, machine, and the verdict.",
        epilog="exit codes: 0 printed, 1 failed, 2 wrong usage",
    )
    parser.add_argument("model", metavar="MODEL", help="model name")
    parser.add_argument("--version", default=None, help="a version or run (default: the version in service)")
    add_home(parser)
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the lineage.

    Returns:
        0.

    Raises:
        NotFoundError: for an unknown model or version.
        ModelError: when the record is torn.
    """
    registry, _ = registry_of(args)
    lineage = registry.lineage(args.version)
    if args.json:
        sys.stdout.write(json.dumps(lineage.to_dict(), indent=1) + "\n")
        return 0
    rows = list(_rows(lineage))
    width = max(len(name) for name, _ in rows) + 2
    sys.stdout.write("".join(f"{name:<{width}}{value}\n" for name, value in rows))
    return 0


def _rows(lineage: Lineage) -> Iterator[tuple[str, str]]:
    yield "model", lineage.model
    yield "version", f"{lineage.version}, {lineage.created[:19].replace('T', ' ')} UTC, {lineage.seconds:.0f} s"
    yield "weights", lineage.sha256
    start, incumbent = lineage.start, lineage.incumbent
    yield "started from", f"{start.name} {start.sha256[:12]}" if start else "random weights"
    yield "judged against", f"{incumbent.name} {incumbent.sha256[:12]}" if incumbent else "nothing in service"
    yield "verdict", str(lineage.gate.get("reason", "-"))
    yield "loss", f"{lineage.loss.get('name', '-')}: {lineage.loss.get('reason', '-')}"
    yield "sampler", lineage.sampler or "-"
    yield "options", ", ".join(f"{name} {value}" for name, value in lineage.options.items()) or "-"
    yield "packages", ", ".join(f"{name} {value}" for name, value in lineage.versions.items()) or "-"
    yield "machine", ", ".join(f"{name} {value}" for name, value in lineage.platform.items()) or "-"
    if lineage.split_note:
        yield "split", lineage.split_note
    for case in lineage.cases:
        yield case.id, _told(case)
    for case_id, reason in lineage.skipped.items():
        yield case_id, f"not used: {reason}"
    for drop in lineage.filter.get("dropped", ()):
        yield str(drop.get("id")), f"dropped by the filter: {drop.get('reason')}"


def _told(case: CaseRecord) -> str:
    version = f" version {case.label_version}" if case.label_version else ""
    empty = ", declared empty" if case.empty else ""
    images = " ".join(f"{name} {sha256[:12]}" for name, sha256 in case.sequences.items())
    return f"{case.side}, label{version} {case.label[:12]}{empty}, {images}"
