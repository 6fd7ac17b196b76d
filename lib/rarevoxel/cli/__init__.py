"""The command line: `rarevoxel COMMAND ...`.

Exit codes: 0 done, 1 failed (what and why on stderr), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
from collections.abc import Sequence

from rarevoxel import __version__
from rarevoxel.errors import RareVoxelError

COMMANDS = (
    "info",
    "phantom",
    "prepare",
    "check",
    "stats",
    "serve",
    "token",
    "train",
    "infer",
    "score",
    "evaluate",
    "models",
    "rollback",
    "lineage",
    "reproduce",
    "history",
    "restore",
    "compare",
    "simulate",
    "bench",
    "demo",
    "dashboard",
    "starter",
)
"""Modules of this package, in the order `--help` lists them.

Each has `add_parser(subparsers)`, which returns its parser with `run` set as a default, and `run(args) -> int`. They
are imported at every start, so whatever is slow to import is imported inside `run`.
"""

_FAILED, _INTERRUPTED = 1, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; those of the process when None.

    Returns:
        The exit code, see the module. Errors of this package end as `error: ...` and `hint: ...` on stderr, with
        `--json` also as `{"error": {"code", "message", "hint"}}` on stdout.

    Raises:
        SystemExit: with code 2 on wrong usage, with 0 after `--help` or `--version`.
    """
    args = build_parser().parse_args(argv)
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    level = logging.DEBUG if args.verbose else getattr(args, "log_level", None)
    if level is not None:  # Only what this package says: matplotlib and torch's compiler tell of every file they lock.
        logging.getLogger("rarevoxel").setLevel(level)
    try:
        code = int(args.run(args))
        sys.stdout.flush()
        return code
    except RareVoxelError as error:
        return _fail(error, getattr(args, "json", False))
    except BrokenPipeError:
        # The reader of a pipe has left; without this Python complains again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        problem = RareVoxelError(f"{where}{error.strerror or error}", "check the path, its permissions and free space")
        return _fail(problem, getattr(args, "json", False))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return _INTERRUPTED


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="rarevoxel",
        description="Segmentation of small, rare structures in 3D brain MRI.",
        epilog="exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"rarevoxel {__version__}")
    parser.add_argument("--verbose", action="store_true", help="log what happens to stderr")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = importlib.import_module(f"{__name__}.{name}").add_parser(subparsers)
        # Suppressed, because the default of a subparser would undo a --verbose given before the command.
        command.add_argument(
            "--verbose", action="store_true", default=argparse.SUPPRESS, help="log what happens to stderr"
        )
    return parser


def _fail(error: RareVoxelError, as_json: bool) -> int:
    if as_json:
        sys.stdout.write(json.dumps({"error": error.to_dict()}, indent=2) + "\n")
    hint = f"hint: {error.hint}\n" if error.hint else ""
    sys.stderr.write(f"error: {error.message}\n{hint}")
    return _FAILED
