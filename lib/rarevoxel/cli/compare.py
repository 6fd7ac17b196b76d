"""`rarevoxel compare`: methods against imbalance, on the same cases, seeds and budget."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rarevoxel.comparison.data import Fold
    from rarevoxel.comparison.spec import Budget, Method

REGIMES = ("moderate", "tiny", "multifocal", "left_skewed")
METHODS = ("bce", "dice_ce", "auto")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `compare` command and return its parser."""
    parser = subparsers.add_parser(
        "compare",
        help="compare losses, samplers and filters fairly",
        description="Train every method on every data set with every seed from the same weights and with the same "
        "budget, score the test cases, and report differences from the baseline with intervals. Runs that are done are "
        "kept in OUT and not run again, so an interrupted comparison goes on with the same command.",
        epilog="a method is [two_stage:]LOSS[@SAMPLER][/FILTER], for example dice_ce@balanced_mixup or "
        "two_stage:dice_focal/outliers; two_stage trains two networks, each with the whole budget, so it takes twice "
        "the time; exit codes: 0 compared, 1 a run failed or a name is wrong, 2 wrong usage",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of cases, runs and report; made when absent")
    known = f"phantom regimes, or studies folders with labels (default {' '.join(REGIMES)})"
    parser.add_argument("--data", nargs="+", default=list(REGIMES), metavar="REGIME|STUDIES", help=known)
    parser.add_argument("--methods", nargs="+", default=[], metavar="METHOD", help="methods by name")
    parser.add_argument("--losses", nargs="+", default=[], metavar="LOSS", help="losses of a grid")
    parser.add_argument("--samplers", nargs="+", default=[], metavar="SAMPLER", help="samplers of the grid")
    parser.add_argument("--filters", nargs="+", default=[], metavar="FILTER", help="filters of the grid")
    parser.add_argument("--baseline", default="dice_ce", metavar="METHOD", help="what others are compared with")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="default 0 1 2")
    parser.add_argument("--folds", type=int, default=2, metavar="K", help="folds of patients of a studies folder")
    parser.add_argument("--train", type=int, default=24, metavar="N", help="training phantoms (default 24)")
    parser.add_argument("--test", type=int, default=16, metavar="N", help="test phantoms (default 16)")
    parser.add_argument("--data-seed", type=int, metavar="N", help="phantoms of other seeds than the default ones")
    parser.add_argument("--epochs", type=int, metavar="N", help="passes over the training cases")
    parser.add_argument("--patches-per-case", type=int, metavar="N", help="patches of a case and epoch")
    parser.add_argument("--batch-size", type=int, metavar="N", help="patches per step")
    parser.add_argument("--patch", type=int, metavar="VOXELS", help="edge of a patch")
    parser.add_argument("--learning-rate", type=float, metavar="X", help="peak learning rate")
    parser.add_argument("--network", nargs="+", type=int, metavar="CHANNELS", help="channels per level")
    parser.add_argument("--pretraining", type=int, metavar="N", help="epochs of the common start (0: random weights)")
    parser.add_argument("--spacing", type=float, metavar="MM", help="voxel size of phantoms and networks")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default 1)")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="write the charts of the report as PNG too")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Compare.

    Returns:
        0, or 1 when a run failed.

    Raises:
        RequestError: for an unknown loss, sampler, filter or regime, or an impossible number.
        ConflictError: if the baseline did not finish, a studies folder has too few patients, or OUT holds phantoms of
            another spacing.
        InputError: if a studies folder cannot be read.
        TrainingError: if a worker process was killed.
    """
    from rarevoxel.comparison.grid import Cell, run_cells
    from rarevoxel.comparison.spec import Budget, Method
    from rarevoxel.comparison.start import common_start
    from rarevoxel.comparison.summary import summarize
    from rarevoxel.comparison.tables import to_markdown, to_text
    from rarevoxel.report.comparison import write_comparison, write_figures
    from rarevoxel.volumes import replace_file

    _check(args)
    budget = Budget(**_given(args))
    baseline = Method.parse(args.baseline)
    methods = tuple(dict.fromkeys((baseline, *_methods(args))))
    folds = _folds(args, budget)
    # Seeds outermost: an interrupted comparison has all methods on fewer seeds, not some methods on all.
    seeds = dict.fromkeys(args.seeds)
    cells = [Cell(method, fold, seed) for seed in seeds for fold in folds for method in methods]
    start = common_start(args.out, budget)
    records = run_cells(cells, args.out, budget, args.workers, start)
    failed = [record for record in records if "error" in record]
    for record in failed:
        where = f"{record['method']} on {record['fold']}, seed {record['seed']}"
        sys.stderr.write(f"failed: {where}: {record['error']['message']}\n")
    summary = summarize(records, folds, methods, baseline.name, budget)
    replace_file(args.out / "summary.json", json.dumps(summary, indent=1).encode())
    replace_file(args.out / "tables.md", to_markdown(summary).encode())
    page = write_comparison(args.out / "report.html", summary)
    if args.figures:
        write_figures(args.figures, summary)
    if args.json:
        sys.stdout.write(json.dumps(summary, indent=1) + "\n")
    else:
        sys.stdout.write(f"{to_text(summary)}\nreport: {page}\n")
    return 1 if failed else 0


def _check(args: argparse.Namespace) -> None:
    """Refuse what would only fail after the phantoms are written."""
    from rarevoxel.errors import RequestError

    if (args.samplers or args.filters) and not args.losses:
        msg = "--samplers and --filters make a grid with --losses, which is missing"
        raise RequestError(msg, "name the losses of the grid, or write --methods LOSS@SAMPLER/FILTER")
    if min(args.seeds) < 0:
        raise RequestError(f"seeds ({args.seeds}) must be >= 0")
    if args.workers < 1:
        raise RequestError(f"workers ({args.workers}) must be >= 1")


def _methods(args: argparse.Namespace) -> tuple[Method, ...]:
    from rarevoxel.comparison.spec import Method, method_grid

    grid = method_grid(args.losses, args.samplers or ["auto"], args.filters or ["none"])
    named = tuple(Method.parse(name) for name in args.methods or (() if grid else METHODS))
    return (*named, *grid)


def _folds(args: argparse.Namespace, budget: Budget) -> list[Fold]:
    """The folds of all data, in the order asked for; phantoms are written when all else is known to be right."""
    from rarevoxel.comparison.data import DATA_SEED, PhantomSet, phantom_fold, studies_folds
    from rarevoxel.errors import RequestError
    from rarevoxel.losses.checks import unknown_name
    from rarevoxel.phantom import SEVERITIES

    seed = DATA_SEED if args.data_seed is None else args.data_seed
    cases = PhantomSet(train=args.train, test=args.test, spacing=budget.spacing, seed=seed)
    names = list(dict.fromkeys(args.data))
    studies = {}
    for name in names:
        if name not in SEVERITIES and not Path(name).is_dir():
            raise unknown_name("regime or folder", name, SEVERITIES)
        if name not in SEVERITIES:
            studies[name] = studies_folds(Path(name), args.folds)
    regimes = [studies[name][0].regime if name in studies else name for name in names]
    if len(set(regimes)) < len(regimes):
        raise RequestError(f"two sets of data have one name: {', '.join(regimes)}", "rename or link one of the folders")
    folds: list[Fold] = []
    for name in names:
        folds += studies.get(name) or [phantom_fold(name, args.out / "cases", cases)]
    return folds


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """The entries of the budget that were asked for; the others keep their defaults."""
    names = ("epochs", "patches_per_case", "batch_size", "patch", "learning_rate", "spacing", "network", "pretraining")
    values = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
