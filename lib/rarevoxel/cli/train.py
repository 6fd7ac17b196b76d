"""`rarevoxel train`: the training the server runs, from the command line."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from rarevoxel.bundled import bundled_app, default_home
from rarevoxel.errors import NotFoundError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `train` command and return its parser."""
    parser = subparsers.add_parser(
        "train",
        help="train a model on the labels of a studies folder",
        description="Measure the labels, choose the loss, train, compare with the weights in service on the hold-out, "
        "and publish to the home folder or keep what is there.",
        epilog="Several GPUs or machines: torchrun --nproc-per-node N -m rarevoxel train ...; --batch-size then counts "
        "the patches of all processes together. "
        "exit codes: 0 trained (the verdict says whether it was published), 1 failed, 2 wrong usage",
    )
    parser.add_argument("studies", type=Path, metavar="STUDIES", help="studies folder with labels/final")
    parser.add_argument("--model", default="calf", help="model name (default calf)")
    parser.add_argument("--loss", help="a loss name, or auto (default: the model's own)")
    parser.add_argument("--max-epochs", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--patches-per-case", type=int)
    parser.add_argument("--accumulate", type=int, help="passes a step is computed in, for less memory (default 1)")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--sampler", help="how patches are drawn (default auto)")
    parser.add_argument("--filter", help="which training cases are left out, e.g. empty+outliers (default none)")
    parser.add_argument("--intensity", help="as_trained, zscore or skewness (default as_trained)")
    parser.add_argument("--anchor", type=float, help="pull towards the weights it starts from, 0 for none")
    parser.add_argument("--scratch", action="store_true", help="start from random weights, not from those in service")
    parser.add_argument("--no-resume", action="store_true", help="begin anew, also where a run was interrupted")
    parser.add_argument("--app", type=Path, default=None, help="app folder (default: the brain tumour app)")
    parser.add_argument("--home", type=Path, default=None, help="folder of the site's models")
    parser.add_argument("--json", action="store_true", help="print the final stats as JSON")
    parser.set_defaults(run=run, log_level=logging.INFO)
    return parser


def run(args: argparse.Namespace) -> int:
    """Train.

    Returns:
        0.

    Raises:
        NotFoundError: for an unknown model.
        RequestError: for an impossible option.
        ConflictError: with too few labelled patients.
        BusyError: when another process trains the model.
        TrainingError: when the loss stops being a number.
    """
    from rarevoxel.cli.served import current_user, labelled_cases
    from rarevoxel.config import load_config
    from rarevoxel.report.gate import write_run_report
    from rarevoxel.server.launcher import seed_home
    from rarevoxel.training import Places, TrainOptions, train_model
    from rarevoxel.training.distributed import joined

    app = seed_home(args.app or bundled_app(), args.home or default_home())
    config = load_config(app / "app.toml")
    if args.model not in config.models:
        raise NotFoundError(f"no model {args.model!r} in this app, expected one of {sorted(config.models)}")
    numbers = ("max_epochs", "learning_rate", "batch_size", "patches_per_case", "accumulate", "seed", "anchor")
    asked = ("loss", "sampler", "filter", "intensity", *numbers)
    request: dict[str, Any] = {name: getattr(args, name) for name in asked if getattr(args, name) is not None}
    request["pretrained"] = not args.scratch
    request["resume"] = not args.no_resume
    options = TrainOptions.from_request(request, config, config.models[args.model].loss)
    places = Places.of(app, args.model, run=time.strftime("%Y%m%dT%H%M%S"))
    form = config.models[args.model].two_stage
    with joined() as group:
        stats = train_model(config, options, labelled_cases(args.studies), places, two_stage=form, user=current_user())
    if not group.first:  # It has helped to train; the first process tells.
        return 0
    report = write_run_report(places.run.parent / str(stats.get("run", places.run.name)))
    if args.json:
        sys.stdout.write(json.dumps(stats, indent=1, default=str) + "\n")
    else:
        sys.stdout.write(f"loss {stats['loss']['name']}: {stats['loss']['reason']}\n{stats['gate']['reason']}\n")
        sys.stdout.write(f"report: {report}\n" if report else "")
    return 0
