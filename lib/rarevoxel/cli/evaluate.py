"""`rarevoxel evaluate`: how good a model is on the labelled cases of a studies folder."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rarevoxel.bundled import bundled_app
from rarevoxel.errors import InputError
from rarevoxel.labels import REGIONS


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `evaluate` command and return its parser."""
    parser = subparsers.add_parser(
        "evaluate",
        help="score a model on labelled cases",
        description="Predict every labelled case as it would be served and score WT, TC and ET: Dice, HD95, volumes, "
        "lesions found and false by size, calibration; means with 95 %% intervals over patients. "
        "A region that is empty in label and prediction counts Dice 1, one that is empty in only one of them 0.",
        epilog="exit codes: 0 scored, 1 a case was refused or nothing is labelled, 2 wrong usage",
    )
    parser.add_argument("weights", type=Path, metavar="MODEL", help="weight file, or 'starter'")
    parser.add_argument("studies", type=Path, metavar="STUDIES", help="studies folder with labels/final")
    parser.add_argument("--app", type=Path, default=None, help="app folder (default: the brain tumour app)")
    parser.add_argument(
        "--regions", nargs="+", choices=tuple(REGIONS), default=tuple(REGIONS), metavar="REGION",
        help="regions that the labels can hold (default: WT TC ET); name WT alone for labels of one kind of lesion",
    )  # fmt: skip
    parser.add_argument("--html", type=Path, default=None, metavar="FILE", help="write a page with charts and pictures")
    parser.add_argument("--worst", type=_count, default=5, metavar="K", help="cases pictured in the page (default 5)")
    parser.add_argument("--csv", type=Path, default=None, metavar="FILE", help="write a row per case and region")
    parser.add_argument("--json", action="store_true", help="print all numbers as JSON")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Score.

    Returns:
        0, or 1 when a case was refused.

    Raises:
        InputError: when STUDIES is no studies folder, or no case has a label in client values.
        ModelError: when the weights cannot be used.
    """
    from rarevoxel.cases import scan
    from rarevoxel.config import load_config
    from rarevoxel.evaluation.model_report import report_record, summarize
    from rarevoxel.evaluation.tables import to_csv, to_text
    from rarevoxel.evaluation.worst import Worst
    from rarevoxel.inference.engine import Engine
    from rarevoxel.inference.evaluate import evaluate_cases
    from rarevoxel.volumes import replace_file

    app = args.app or bundled_app()
    weights = app / "starter" / "starter.pt" if str(args.weights) == "starter" else args.weights
    cases = [case for case in scan(args.studies, detect=False).cases if case.layout == "studies"]
    if not any(case.label for case in cases):
        msg = f"{args.studies}: no labelled case of a studies folder"
        raise InputError(msg, "prepare one with its labels: rarevoxel prepare SOURCE STUDIES --labels")
    regions = [region for region in REGIONS if region in args.regions]
    worst = Worst(args.worst if args.html else 0)
    evaluation = evaluate_cases(Engine(load_config(app / "app.toml"), [weights]), cases, regions, worst)
    summary = summarize(evaluation)
    if args.csv:
        args.csv.parent.mkdir(parents=True, exist_ok=True)
        replace_file(args.csv, to_csv(evaluation).encode())
    if args.html:
        from rarevoxel.report.evaluation import write_evaluation

        write_evaluation(args.html, evaluation, summary, worst.cases)
    if args.json:
        sys.stdout.write(json.dumps(report_record(evaluation, summary), indent=1) + "\n")
    else:
        sys.stdout.write(to_text(evaluation, summary) + "\n")
    for name, reason in evaluation.refused.items():
        sys.stderr.write(f"refused {name}: {reason}\n")
    return 1 if evaluation.refused else 0


def _count(text: str) -> int:
    number = int(text) if text.isdecimal() else -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of at least 0")
    return number
