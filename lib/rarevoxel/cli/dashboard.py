"""`rarevoxel dashboard`: pictures of the dashboard over the sample cases, with a little history."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from rarevoxel.cli.terminated import terminated_like_interrupted
from rarevoxel.errors import ConfigError, RareVoxelError

LABELS, EPOCHS = 3, 2
"""Enough for something in every section, few enough for two minutes on two cores."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `dashboard` command and return its parser."""
    parser = subparsers.add_parser(
        "dashboard",
        help="take pictures of the dashboard over the sample cases",
        description="Start a server on the sample cases, submit some labels over HTTP, train, open the dashboard in "
        "headless Chromium at two sizes and write dashboard.png, dashboard_phone.png and dashboard_case.png into OUT. "
        "The dashboard of your own server is at /dashboard of its address.",
        epilog="exit codes: 0 the pages were as they should be, 1 failed or something noticed, 2 wrong usage",
    )
    parser.add_argument("--screenshots", metavar="OUT", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--labels", metavar="N", type=int, default=LABELS, help=f"cases to label (default {LABELS})")
    parser.add_argument("--epochs", metavar="N", type=int, default=EPOCHS, help=f"of training (default {EPOCHS})")
    parser.add_argument(
        "--wait-scores", metavar="S", type=float, default=180.0, help="seconds to wait for scores (default 180)"
    )
    parser.add_argument("--chromium", metavar="FILE", type=Path, default=None, help="the browser (default: found)")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.set_defaults(run=run, parser=parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Take the pictures.

    Returns:
        0 when the browser noticed nothing, else 1.

    Raises:
        ConfigError: if the server is not installed.
        RareVoxelError: if a step fails, or there is no browser.
        SystemExit: with code 2 if a number is out of range.
    """
    for option, low, high in (("labels", 0, 5), ("epochs", 0, 1000), ("wait_scores", 0, 3600)):
        if not low <= getattr(args, option) <= high:
            name = option.replace("_", "-")
            args.parser.error(f"argument --{name}: found {getattr(args, option)}, expected {low} to {high}")
    try:
        from rarevoxel.server.dashboard.tour import take_pictures
    except ImportError as error:
        raise ConfigError(f"the server is not installed ({error})", "pip install 'rarevoxel[label]'") from error

    def say(step: str, text: str) -> None:
        if not args.json:
            sys.stdout.write(f"{step:<9} {text}\n")
            sys.stdout.flush()

    work = Path(tempfile.mkdtemp(prefix="rarevoxel-dashboard-"))
    try:
        with terminated_like_interrupted():
            found = take_pictures(
                work,
                args.screenshots,
                labels=args.labels,
                epochs=args.epochs,
                scores_s=args.wait_scores,
                program=args.chromium,
                say=say,
            )
    except RareVoxelError:
        log = work / "server.log"
        if log.is_file():
            kept = Path(shutil.copyfile(log, args.screenshots / "server.log")) if args.screenshots.is_dir() else log
            sys.stderr.write(f"the server's log is {kept}\n")
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if args.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    for line in found["noticed"]:
        say("noticed", line)
    return 1 if found["noticed"] else 0
