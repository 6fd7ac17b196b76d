"""`rarevoxel starter`: train the starter weights on phantoms."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `starter` command and return its parser."""
    parser = subparsers.add_parser(
        "starter",
        help="train the starter weights on phantoms",
        description="Train the weights an app starts with, on synthetic heads alone. Takes hours on a few CPU cores; "
        "a GPU is used when there is one. The weights so far are written to FILE as it goes on; an interrupted "
        "training goes on where it stopped when the same command is given again.",
    )
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="weight file to write")
    parser.add_argument(
        "--start", metavar="FILE", type=Path, help="weights to go on from, with a schedule of their own"
    )
    parser.add_argument(
        "--average", metavar="FILE", type=Path, help="weights of another leg; go on from the mean of these and --start"
    )
    parser.add_argument(
        "--steps",
        metavar="N",
        type=int,
        default=5000,
        help="optimisation steps (default 5000); 0 settles what --start lacks of operating point and peak",
    )
    parser.add_argument(
        "--learning-rate",
        metavar="R",
        type=float,
        default=1e-3,
        help="peak of the schedule (default 0.001); for a leg that goes on from weights less is often better",
    )
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="seed of everything (default 0)")
    parser.add_argument("--workers", metavar="W", type=int, default=1, help="processes making samples (default 1)")
    parser.set_defaults(run=run, parser=parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Train and write.

    Returns:
        0.

    Raises:
        ConfigError: if the bundled app's configuration is missing or wrong.
        SystemExit: with code 2 if a number is out of range.
    """
    for option, low in (("steps", 0), ("seed", 0), ("workers", 0)):
        if getattr(args, option) < low:
            args.parser.error(f"argument --{option}: found {getattr(args, option)}, expected at least {low}")

    if not 0 < args.learning_rate < 1:
        args.parser.error(f"argument --learning-rate: found {args.learning_rate}, expected a number between 0 and 1")
    if args.steps == 0 and args.start is None:
        args.parser.error("argument --steps: found 0 without --start, which leaves nothing to do")
    if args.average is not None and args.start is None:
        args.parser.error("argument --average: found without --start, expected the weights to average with")
    if args.start is not None and args.start.resolve() == args.out.resolve():
        args.parser.error("argument --start: found the file of --out, expected another one")

    from rarevoxel.bundled import bundled_app
    from rarevoxel.config import load_config
    from rarevoxel.training.starter import train_starter

    config = load_config(bundled_app() / "app.toml")
    written = train_starter(
        config,
        args.out,
        steps=args.steps,
        seed=args.seed,
        workers=args.workers,
        start=args.start,
        average=args.average,
        learning_rate=args.learning_rate,
    )
    sys.stdout.write(f"{written}\n")
    return 0
