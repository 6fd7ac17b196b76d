"""`rarevoxel demo`: the whole loop once, without a viewer."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

from rarevoxel.cli.terminated import terminated_like_interrupted
from rarevoxel.errors import ConfigError, RareVoxelError

EPOCHS = 3
"""Enough to see the loop turn, few enough for two minutes on two cores."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `demo` command and return its parser."""
    parser = subparsers.add_parser(
        "demo",
        help="run the whole loop once without a viewer",
        description="Start a server on the sample cases, take the next case, correct its proposal, train, publish or "
        "refuse, and ask again. Writes report.html, overview.png and server.log into OUT.",
    )
    parser.add_argument("--out", metavar="OUT", type=Path, default=Path("demo"), help="folder (default demo)")
    parser.add_argument("--epochs", metavar="N", type=int, default=EPOCHS, help=f"of training (default {EPOCHS})")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="of the training (default 0)")
    parser.add_argument("--port", metavar="P", type=int, help="of the server (default: a free one)")
    parser.add_argument("--keep", action="store_true", help="keep the studies and models of the run in OUT")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(run=run, parser=parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the loop and write its report.

    Returns:
        0.

    Raises:
        ConfigError: if the server is not installed.
        RareVoxelError: if a step fails; it names the step and the server's log.
        SystemExit: with code 2 if a number is out of range.
    """
    for option, low, high in (("epochs", 1, 10_000), ("seed", 0, 2**31 - 1), ("port", 1, 65_535)):
        value = getattr(args, option)
        if value is not None and not low <= value <= high:
            args.parser.error(f"argument --{option}: found {value}, expected {low} to {high}")
    try:
        from rarevoxel.server.demo import run_demo
        from rarevoxel.server.demo_report import write_report
    except ImportError as error:
        raise ConfigError(f"the server is not installed ({error})", "pip install 'rarevoxel[label]'") from error

    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    # A folder of its own every time: OUT may hold studies of the user's, and nothing of theirs is ever replaced.
    work = Path(tempfile.mkdtemp(prefix="run-", dir=out)).absolute()
    log = out / "server.log"
    steps = _Steps(quiet=args.json)
    try:
        with terminated_like_interrupted():
            result = run_demo(work, log=log, epochs=args.epochs, seed=args.seed, port=args.port, say=steps.say)
        report, picture = write_report(out, result)
    except RareVoxelError as error:
        failed = RareVoxelError(
            f"the demo failed after step {steps.last!r}: {error.message}", error.hint or f"see {log}"
        )
        raise failed from error
    finally:
        if not args.keep:
            shutil.rmtree(work, ignore_errors=True)
    if args.json:
        content = {**result.to_dict(), "report": str(report), "picture": str(picture)}
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
        return 0
    for case in (result.corrected, *(case for case in result.holdout if case != result.corrected)):
        old, new = result.before[case].dice, result.after[case].dice
        changes = ", ".join(f"{name} {old[name]:.3f} -> {new[name]:.3f}" for name in old)
        steps.say("Dice", f"{case} ({result.role(case)}): {changes}")
    steps.say("report", f"{report}, {picture}; {result.seconds['total']:.0f} s in all")
    if args.keep:
        steps.say("kept", str(work))
    return 0


class _Steps:
    """Prints each step as it is done, and remembers the last one for errors."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.last = "start"

    def say(self, step: str, text: str) -> None:
        self.last = step
        if self.quiet:
            return
        width = max(60, min(shutil.get_terminal_size((110, 24)).columns, 120))
        lines = textwrap.wrap(text, width - 10, break_on_hyphens=False, break_long_words=False)
        sys.stdout.write("".join(f"{step if first else '':<9} {line}\n" for first, line in _marked(lines)))
        sys.stdout.flush()


def _marked(lines: list[str]) -> Iterator[tuple[bool, str]]:
    return ((number == 0, line) for number, line in enumerate(lines))
