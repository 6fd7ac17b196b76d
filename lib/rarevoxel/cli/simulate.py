"""`rarevoxel simulate`: an annotation campaign replayed with every strategy and loss."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from rarevoxel.comparison.data import Fold
    from rarevoxel.comparison.spec import Budget
    from rarevoxel.learning.simulate.spec import Schedule

BASELINE = ("random", "dice_ce")
"""Strategy and loss that the others are compared with; always run."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `simulate` command and return its parser."""
    parser = subparsers.add_parser(
        "simulate",
        help="replay annotation campaigns: strategies x losses x seeds",
        description="Replay an annotation campaign on labelled cases for every strategy, loss and seed: train, rank "
        "the waiting cases, let a simulated annotator label the best, train again; and report Dice and lesion F1 on "
        "test cases against cases labelled and against modelled hours. Rounds that are done are kept in DIR and not "
        "run again, so an interrupted study goes on with the same command.",
        epilog="lists are separated by commas; random with dice_ce is always run, it is what the others are compared "
        "with; exit codes: 0 done, 1 a round failed or a case cannot be used, 2 wrong usage",
    )
    add = parser.add_argument
    add("src", nargs="+", metavar="SRC", help="phantom regimes, or studies folders with labels")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of cases, rounds and report; made when absent")
    add("--strategies", type=_names, default="random,uncertainty,rare,combined", metavar="A,B", help="ways to choose")
    add("--losses", type=_names, default="dice_ce,auto", metavar="A,B", help="losses (default dice_ce,auto)")
    add("--seeds", type=_seeds, default="0,1,2", metavar="N,N", help="default 0,1,2")
    add("--start", type=_count, default=6, metavar="N", help="cases labelled before the first training (default 6)")
    add("--per-round", type=_count, default=4, metavar="K", help="cases labelled in a round (default 4)")
    add("--rounds", type=_count, default=5, metavar="R", help="rounds after the first training (default 5)")
    add("--steps", type=_count, default=100, metavar="N", help="optimisation steps of a training (default 100)")
    add("--from-start", action="store_true", help="train from the first weights each time, not from the last ones")
    add("--samples", default="none", metavar="HOW", help="how a case is asked: none, tta, dropout (default none)")
    add("--noise", type=_chance, default=0.0, metavar="P", help="chance that a lesion below 0.5 ml is overlooked")
    add("--cases", type=_count, default=44, metavar="N", help="phantoms to choose from (default 44)")
    add("--test", type=_count, default=16, metavar="N", help="phantoms to test with (default 16)")
    add("--test-share", type=_chance, default=0.3, metavar="P", help="of a studies folder's patients (default 0.3)")
    add("--data-seed", type=int, metavar="N", help="phantoms of other seeds than the default ones")
    add("--size", type=_numbers, default="48,56,48", metavar="N,N,N", help="voxels of a phantom (default 48,56,48)")
    add("--spacing", type=float, default=3.0, metavar="MM", help="voxel size of phantoms and networks (default 3)")
    add("--network", type=_numbers, default="8,16,32", metavar="N,N,N", help="channels per level (default 8,16,32)")
    add("--patch", type=_count, default=24, metavar="VOXELS", help="edge of a patch (default 24)")
    add("--batch-size", type=_count, default=2, metavar="N", help="patches per step (default 2)")
    add("--learning-rate", type=float, default=3e-3, metavar="X", help="peak learning rate (default 0.003)")
    add("--pretraining", type=int, default=2, metavar="N", help="epochs of the common start (0: random; default 2)")
    add("--workers", type=_count, default=1, metavar="N", help="processes (default 1)")
    add("--figures", type=Path, metavar="FOLDER", help="write the charts as PNG too")
    add(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="write the tables there, between the marked lines of a page",
    )
    add("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(run=run, parser=parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Replay and report.

    Returns:
        0, or 1 when a round failed.

    Raises:
        ConflictError: if a set has too few cases, the baseline did not finish, or DIR holds other phantoms.
        InputError: if a studies folder or the page of --markdown cannot be used.
        TrainingError: if a worker process was killed.
        SystemExit: with code 2 for an unknown name or an impossible number.
    """
    from rarevoxel.comparison.start import common_start
    from rarevoxel.errors import RequestError
    from rarevoxel.learning.simulate.campaign import Place
    from rarevoxel.learning.simulate.run import run_campaigns
    from rarevoxel.learning.simulate.spec import Arm, Campaign, data_key
    from rarevoxel.learning.simulate.summary import summarize
    from rarevoxel.learning.simulate.tables import to_markdown, to_text, write_markdown
    from rarevoxel.report.simulation import write_simulation, write_simulation_figures
    from rarevoxel.volumes import replace_file

    try:
        baseline = Arm(*BASELINE)
        asked = (Arm(strategy, loss) for loss in args.losses for strategy in args.strategies)
        arms = tuple(dict.fromkeys((baseline, *asked)))
        schedule, budget = _settings(args)
        makers = _makers(args)
    except RequestError as error:
        args.parser.error(str(error))
    folds = [make() for make in makers]
    for fold in folds:
        schedule.check(fold)
    keys = {fold.name: data_key(fold) for fold in folds}
    # Seeds outermost: an interrupted study has all arms on fewer seeds, not some arms on all.
    campaigns = [
        Campaign(fold, keys[fold.name], arm, seed, schedule, budget)
        for seed in args.seeds
        for fold in folds
        for arm in arms
    ]
    found = run_campaigns(campaigns, Place(args.out, common_start(args.out, budget)), args.workers)
    runs = {(one.fold.name, one.arm.name, one.seed): records for one, records in zip(campaigns, found, strict=True)}
    failed = [record for records in found for record in records if "error" in record]
    for record in failed:
        where = f"{record['data']}, {record['strategy']} + {record['loss']}, seed {record['seed']}"
        sys.stderr.write(f"failed: {where}, round {record['round']}: {record['error']['message']}\n")
    summary = summarize(runs, arms, baseline, schedule, budget, {fold.name: fold.phantoms for fold in folds})
    replace_file(args.out / "summary.json", json.dumps(summary, indent=1).encode())
    replace_file(args.out / "tables.md", to_markdown(summary).encode())
    page = write_simulation(args.out / "report.html", summary)
    if args.figures:
        write_simulation_figures(args.figures, summary)
    if args.markdown:
        write_markdown(args.markdown, summary)
    text = json.dumps(summary, indent=1) if args.json else f"{to_text(summary)}\nreport: {page}"
    sys.stdout.write(f"{text}\n")
    return 1 if failed else 0


def _settings(args: argparse.Namespace) -> tuple[Schedule, Budget]:
    from rarevoxel.comparison.spec import Budget
    from rarevoxel.learning.simulate.spec import Schedule

    schedule = Schedule(
        args.start, args.per_round, args.rounds, args.steps, args.samples, args.noise, going_on=not args.from_start
    )
    budget = Budget(
        network=args.network,
        patch=args.patch,
        epochs=1,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        spacing=args.spacing,
        pretraining=args.pretraining,
    )
    return schedule, budget


def _makers(args: argparse.Namespace) -> list[Callable[[], Fold]]:
    """What makes the sets, in the order asked for; nothing is written before all names are known to be right."""
    from functools import partial

    from rarevoxel.comparison.data import DATA_SEED, PhantomSet, name_of, phantom_fold
    from rarevoxel.errors import RequestError
    from rarevoxel.learning.simulate.data import studies_pool
    from rarevoxel.losses.checks import unknown_name
    from rarevoxel.phantom import SEVERITIES

    seed = DATA_SEED if args.data_seed is None else args.data_seed
    if len(args.size) != 3 or min(args.size) < 1:
        raise RequestError(f"size ({args.size}) must be three whole numbers above 0", "the voxels of a phantom")
    phantoms = PhantomSet(args.cases, 0, args.test, args.size, args.spacing, seed)
    makers: dict[str, Callable[[], Fold]] = {}
    for name in dict.fromkeys(args.src):
        if name in SEVERITIES:
            key = name
            make: Any = partial(phantom_fold, name, args.out / "cases", phantoms)
        elif Path(name).is_dir():
            key, make = name_of(Path(name)), partial(studies_pool, Path(name), args.test_share)
        else:
            raise unknown_name("regime or folder", name, SEVERITIES)
        if key in makers:
            raise RequestError(f"two sets of data have one name: {key}", "rename or link one of the folders")
        makers[key] = make
    return list(makers.values())


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected names separated by commas")
    return names


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected whole numbers separated by commas") from None


def _seeds(text: str) -> tuple[int, ...]:
    seeds = tuple(dict.fromkeys(_numbers(text)))
    if min(seeds) < 0 or max(seeds) > 2_000_000:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected seeds from 0 to 2000000")
    return seeds


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number from 1 to 1000000")
    return int(text)


def _chance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number from 0 to 1")
    return value
