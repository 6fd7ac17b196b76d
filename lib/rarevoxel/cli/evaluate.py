"""`rarevoxel evaluate`: region Dice of a model on the labelled cases of a studies folder."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rarevoxel.bundled import bundled_app
from rarevoxel.errors import InputError, RareVoxelError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `evaluate` command and return its parser."""
    parser = subparsers.add_parser(
        "evaluate",
        help="score a model on labelled cases",
        description="Predict every labelled case as it would be served and print the Dice of WT, TC and ET. "
        "A region that is empty in label and prediction counts 1, one that is empty in only one of them 0.",
        epilog="exit codes: 0 scored, 1 a case was refused or nothing is labelled, 2 wrong usage",
    )
    parser.add_argument("weights", type=Path, metavar="MODEL", help="weight file, or 'starter'")
    parser.add_argument("studies", type=Path, metavar="STUDIES", help="studies folder with labels/final")
    parser.add_argument("--app", type=Path, default=None, help="app folder (default: the brain tumour app)")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Score.

    Returns:
        0, or 1 when a case was refused.

    Raises:
        InputError: when no case has a label in client values.
        ModelError: when the weights cannot be used.
    """
    from tqdm import tqdm

    from rarevoxel.cases import scan
    from rarevoxel.config import load_config
    from rarevoxel.evaluation import mean_dice
    from rarevoxel.inference.engine import Engine
    from rarevoxel.inference.score import score_case

    app = args.app or bundled_app()
    weights = app / "starter" / "starter.pt" if str(args.weights) == "starter" else args.weights
    engine = Engine(load_config(app / "app.toml"), [weights])
    cases = [case for case in scan(args.studies, detect=False).cases if case.label and case.layout == "studies"]
    if not cases:
        msg = f"{args.studies}: no labelled case of a studies folder"
        raise InputError(msg, "prepare one with its labels: rarevoxel prepare SOURCE STUDIES --labels")
    scores: dict[str, dict[str, float]] = {}
    refused: dict[str, str] = {}
    for case in tqdm(cases, desc="evaluate", unit="case", disable=None):
        try:
            scores[case.id] = score_case(engine, case.sequences[case.display], Path(str(case.label)))
        except RareVoxelError as error:
            if error.code == "model":
                raise
            refused[case.id] = str(error)
    mean = mean_dice(list(scores.values()))
    if args.json:
        sys.stdout.write(json.dumps({"cases": scores, "mean": mean, "refused": refused}, indent=1) + "\n")
    else:
        for name, score in scores.items():
            sys.stdout.write(f"{name:<32}" + "  ".join(f"{k} {v:.3f}" for k, v in score.items()) + "\n")
        sys.stdout.write(f"mean region Dice {mean:.3f} over {len(scores)} cases\n")
    for name, reason in refused.items():
        sys.stderr.write(f"refused {name}: {reason}\n")
    return 1 if refused else 0
