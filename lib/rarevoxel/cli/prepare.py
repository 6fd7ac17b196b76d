"""`rarevoxel prepare`: turn a data set into a studies folder."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from rarevoxel.errors import InputError
from rarevoxel.labels import SCHEMES

if TYPE_CHECKING:
    from rarevoxel.cases import Case, Refusal


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `prepare` command and return its parser."""
    parser = subparsers.add_parser(
        "prepare",
        help="turn a data set into a studies folder",
        description="Check the cases of a data set (BraTS, MSD, nnU-Net, plain folders) and link them into STUDIES. "
        "A case may lack up to three of the four sequences; it is named then, and masks of it are less certain.",
        epilog="exit codes: 0 all prepared, 1 a case was refused (the others are prepared) or an error, 2 wrong usage",
    )
    parser.add_argument("source", metavar="SRC", help="folder of the data set")
    parser.add_argument("studies", metavar="STUDIES", help="studies folder to write; made when absent")
    parser.add_argument("--labels", action="store_true", help="write label maps too, as labels/final/CASE.nii.gz")
    parser.add_argument(
        "--declare-empty", action="store_true", help="with --labels: label maps without a labelled voxel are meant so"
    )
    parser.add_argument("--complete", action="store_true", help="refuse cases that lack a sequence")
    parser.add_argument("--scheme", choices=sorted(SCHEMES), help="what label values mean (default: found out)")
    parser.add_argument("--copy", action="store_true", help="copy volumes instead of linking them")
    parser.add_argument("--force", action="store_true", help="replace cases from another source, and final labels")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Prepare and report.

    Returns:
        0 if every case was prepared, 1 if one was refused.

    Raises:
        InputError: if SRC holds no case, or STUDIES cannot be written.
    """
    from rarevoxel.cases import scan
    from rarevoxel.datastore.declare import declare_empty
    from rarevoxel.studies import write_studies

    scheme = SCHEMES[args.scheme] if args.scheme else None
    found = scan(args.source, scheme=scheme, detect=args.labels, progress=True)
    lacking = [_incomplete(case) for case in found.cases if args.complete and case.missing]
    report = write_studies(
        [case for case in found.cases if not (args.complete and case.missing)],
        args.studies,
        labels=args.labels,
        scheme=scheme,
        copy=args.copy,
        force=args.force,
        progress=True,
    )
    if args.declare_empty:
        declare_empty(args.studies, report.empty)
    refused = sorted((*found.refused, *lacking, *report.refused), key=lambda refusal: refusal.id)
    if args.json:
        content = {**report.to_dict(), "refused": [refusal.to_dict() for refusal in refused]}
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
        return 1 if refused else 0
    for refusal in refused:
        hint = f"  hint: {refusal.error.hint}\n" if refusal.error.hint else ""
        sys.stderr.write(f"refused {refusal.id}: {refusal.error.message}\n{hint}")
    for warning in report.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    for case_id, missing in report.incomplete.items():
        sys.stderr.write(f"warning: {case_id}: {', '.join(missing)} missing (--complete refuses such cases)\n")
    for case in () if args.declare_empty else report.empty:
        sys.stderr.write(f"warning: {case}: its label map is empty, so it will not be trained on (--declare-empty)\n")
    for kept in report.kept:
        sys.stderr.write(f"kept: {kept} has a final label already (--force replaces it)\n")
    with_labels = f", {len(report.labelled)} with new labels" if args.labels else ""
    gaps = f", {len(report.incomplete)} without all four sequences" if report.incomplete else ""
    counted = f"{len(report.prepared)} of {len(report.prepared) + len(refused)} cases prepared"
    sys.stdout.write(f"{counted} in {args.studies}{with_labels}{gaps}\n")
    return 1 if refused else 0


def _incomplete(case: Case) -> Refusal:
    from rarevoxel.cases import Refusal

    msg = f"case {case.id}: sequence {', '.join(case.missing)} is missing beside {case.source}"
    return Refusal(case.id, InputError(msg, "add the files, rename them (t1, t1c, t2, flair), or leave out --complete"))
