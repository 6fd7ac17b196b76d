"""`rarevoxel bench`: time this project against the peers it names."""

from __future__ import annotations

import argparse
import importlib
import sys

BENCHMARKS = ("inference", "loading", "losses", "next_sample", "round", "statistics")
"""Each is `main` of a module `bench_NAME`, which reads its own options."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `bench` command and return its parser."""
    parser = subparsers.add_parser(
        "bench",
        help="time this project against the peers it names",
        description="Time one part of this project and its named peers, interleaved in one run, and print ratios with "
        "their spread, peak memory in fresh processes and growth with size. Seconds mean nothing on another machine.",
    )
    parser.add_argument("name", choices=BENCHMARKS, help="what to time")
    parser.add_argument(
        "options", nargs=argparse.REMAINDER, help="options of that benchmark, --json among them; --help lists them"
    )
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Run a benchmark as a program of its own would run.

    Returns:
        Its exit code.

    Raises:
        ConfigError: if the benchmarks are not there.
    """
    from rarevoxel.bundled import bundled_benchmarks

    before = sys.argv, list(sys.path)
    sys.argv = [f"rarevoxel bench {args.name}", *args.options]
    sys.path.insert(0, str(bundled_benchmarks()))
    try:
        return int(importlib.import_module(f"bench_{args.name}").main())
    finally:
        sys.argv, sys.path[:] = before
