"""`rarevoxel phantom`: write synthetic cases."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

SEVERITY_NAMES = ("mild", "moderate", "severe", "tiny", "multifocal", "left_skewed")
"""The names in `rarevoxel.phantom.SEVERITIES`, here again because importing those is slow."""

_OF_CASES = ("cases", "size", "spacing", "severity", "multifocal", "labelled", "spread", "prefix", "force")
"""Options that make no sense for a gallery."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `phantom` command and return its parser."""
    parser = subparsers.add_parser(
        "phantom",
        help="write synthetic four-sequence tumour cases",
        description="Write synthetic brain tumours as OUT/PREFIX-001/{t1n,t1c,t2w,t2f,seg}.nii.gz and so on. "
        "Case number k is made from seed S + k - 1 alone, so a case is the same in a set of any length. With --gallery "
        "or --picture no case is written, but a page or a picture that shows what the starter model is trained on.",
        usage="rarevoxel phantom [options] OUT\n       rarevoxel phantom [--gallery FILE.html] [--picture FILE.png] "
        "[--seed S] [--json]",
    )
    parser.add_argument("out", metavar="OUT", nargs="?", help="folder to write the cases to; made when absent")
    parser.add_argument("--cases", metavar="N", type=int, default=1, help="number of cases (default 1)")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="seed of the first case (default 0)")
    parser.add_argument("--size", metavar="VOXELS", nargs="+", default=["96"], help="1 or 3 numbers (default 96)")
    parser.add_argument("--spacing", metavar="MM", nargs="+", default=["1.75"], help="1 or 3 numbers (default 1.75)")
    parser.add_argument("--severity", choices=SEVERITY_NAMES, default="moderate", help="how small (default moderate)")
    parser.add_argument("--multifocal", action="store_true", help="at least two foci in every case")
    parser.add_argument("--labelled", metavar="K", type=int, help="write seg for K cases spread evenly (default all)")
    parser.add_argument("--spread", metavar="X", type=float, default=0.03, help="contrast variation (default 0.03)")
    parser.add_argument("--prefix", default="phantom", help="of the case names (default phantom)")
    parser.add_argument("--force", action="store_true", help="replace case folders that exist")
    parser.add_argument("--gallery", metavar="FILE", type=Path, help="page of every ingredient of training heads")
    parser.add_argument("--picture", metavar="FILE", type=Path, help="PNG of four patients of the gallery's kinds")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    parser.set_defaults(run=run, parser=parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Write the phantoms, or the gallery, and say what they are.

    Returns:
        0.

    Raises:
        ConfigError: if an option is outside its range.
        ConflictError: if a case folder exists and `--force` is not given.
        SystemExit: with code 2 if OUT is missing, a size or spacing is not 1 or 3 numbers, or OUT or an option of cases
            is given together with `--gallery` or `--picture`.
    """
    if args.gallery or args.picture:
        return _show(args)
    _take_out_from_lists(args)
    size = _triple(args, "--size", args.size, int)
    spacing = _triple(args, "--spacing", args.spacing, float)

    from rarevoxel.phantom import PhantomSpec, write_phantoms

    spec = PhantomSpec(size, spacing, severity=args.severity, multifocal=args.multifocal, spread=args.spread)
    written = write_phantoms(
        args.out,
        args.cases,
        args.seed,
        spec,
        labelled=args.labelled,
        prefix=args.prefix,
        force=args.force,
        progress=True,
    )
    if args.json:
        content = {"out": str(args.out), "cases": [case.to_dict() for case in written]}
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
        return 0
    for case in written:
        volumes = ", ".join(f"{name} {ml:.1f} ml" for name, ml in case.regions_ml.items())
        sys.stdout.write(f"{case.id}: {volumes}{'' if case.labelled else ' (no label written)'}\n")
    sys.stdout.write(f"{len(written)} cases, {sum(c.labelled for c in written)} with labels, in {args.out}\n")
    return 0


def _show(args: argparse.Namespace) -> int:
    """Write the gallery, the picture, or both."""
    given = [f"--{name}" for name in _OF_CASES if getattr(args, name) != args.parser.get_default(name)]
    if args.out is not None or given:
        found = ", ".join((["OUT"] if args.out is not None else []) + given)
        args.parser.error(f"--gallery and --picture take none of the options of cases: found {found}")
    for option, suffix in (("gallery", ".html"), ("picture", ".png")):
        path = getattr(args, option)
        if path and path.suffix != suffix:
            args.parser.error(f"argument --{option}: found {str(path)!r}, expected a file name that ends in {suffix}")

    from rarevoxel.report.gallery import write_gallery, write_montage

    written = {}
    if args.gallery:
        written["gallery"] = str(write_gallery(args.gallery, args.seed, progress=True))
    if args.picture:
        written["picture"] = str(write_montage(args.picture, args.seed, progress=True))
    sys.stdout.write(json.dumps(written, indent=2) + "\n" if args.json else "".join(f"{p}\n" for p in written.values()))
    return 0


def _take_out_from_lists(args: argparse.Namespace) -> None:
    """Find OUT at the end of a list option: in `--size 96 OUT` argparse counts it to the sizes."""
    for values in (args.size, args.spacing):
        if args.out is None and len(values) > 1 and not _is_number(values[-1]):
            args.out = values.pop()
    if args.out is None:
        args.parser.error("the following arguments are required: OUT")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _triple(args: argparse.Namespace, option: str, values: list[str], convert: Callable[[str], Any]) -> Any:
    kind = "whole number" if convert is int else "number"
    if len(values) not in (1, 3):
        args.parser.error(f"argument {option}: found {len(values)} values, expected 1 or 3")
    try:
        numbers = tuple(convert(value) for value in values)
    except ValueError:
        args.parser.error(f"argument {option}: found {' '.join(values)!r}, expected one or three {kind}s")
    return numbers * 3 if len(numbers) == 1 else numbers
