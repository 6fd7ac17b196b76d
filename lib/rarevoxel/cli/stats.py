"""`rarevoxel stats`: measure the imbalance of a folder and say which loss it asks for."""

from __future__ import annotations

import argparse
import json
import sys

from rarevoxel.labels import CLIENT_SCHEME, SCHEMES, get_scheme


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `stats` command and return its parser."""
    parser = subparsers.add_parser(
        "stats",
        help="measure lesion sizes and say which loss they ask for",
        description="Measure the label maps of a studies folder (its final labels) or of a data set: sizes, their "
        "skewness S and kurtosis K with bootstrap intervals, voxels per class, and the loss branch of every region. "
        "Results are kept in the folder that RAREVOXEL_CACHE names, else in the user's cache folder.",
        epilog="exit codes: 0 measured (cases that cannot be read are reported and left out), 1 nothing to measure, "
        "2 wrong usage",
    )
    parser.add_argument("path", metavar="PATH", help="studies folder or data set")
    parser.add_argument(
        "--unit", choices=("case", "component", "slice"), default="case", help="what one size is (default case)"
    )
    parser.add_argument(
        "--scheme", choices=sorted({*SCHEMES, CLIENT_SCHEME.name}), help="what label values mean (default: found out)"
    )
    parser.add_argument(
        "--minimum-n", metavar="N", type=int, default=20, help="fewest cases whose sizes choose a loss (default 20)"
    )
    parser.add_argument(
        "--intensities", action="store_true", help="measure every sequence too: in the brain, every region and label"
    )
    parser.add_argument("--threads", metavar="N", type=int, help="cases read at a time (default: the number of cores)")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="measure on the workers of this Dask scheduler, which see the same paths"
    )
    parser.add_argument("--no-cache", action="store_true", help="read every file again, and keep nothing")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure and print.

    Returns:
        0.

    Raises:
        InputError: if PATH holds no case, or `--minimum-n` or `--threads` is below 1.
        ConflictError: if no label map in it can be used, or the scheduler cannot.
        ConfigError: if `--scheduler` is given and `distributed` is not installed.
    """
    from rarevoxel.statistics import DatasetStatistics
    from rarevoxel.statistics.cache import ResultCache
    from rarevoxel.statistics.dataset_intensity import intensity_table, summarize_intensities
    from rarevoxel.statistics.folder import measure_folder

    folder = measure_folder(
        args.path,
        scheme=get_scheme(args.scheme) if args.scheme else None,
        progress=True,
        intensities=args.intensities,
        threads=args.threads,
        cache=None if args.no_cache else ResultCache.of_user(),
        scheduler=args.scheduler,
    )
    statistics = DatasetStatistics.from_cases(folder.cases, unit=args.unit, minimum_n=args.minimum_n)

    from rarevoxel.losses import choose_loss

    choice = choose_loss(statistics)
    if args.json:
        content = {
            **statistics.to_dict(),
            "loss": {"name": choice.name, "reason": choice.reason},
            "cases": [case.case_id for case in folder.cases],
            "case_sizes": {case.case_id: case.to_dict() for case in folder.cases},
            "unlabelled": list(folder.unlabelled),
            "refused": [refusal.to_dict() for refusal in folder.refused],
        }
        if args.intensities:
            content["intensities"] = {
                sequence: {structure: summary.to_dict() for structure, summary in structures.items()}
                for sequence, structures in summarize_intensities(folder.intensities).items()
            }
            content["case_intensities"] = {
                case: {sequence: found.to_dict() for sequence, found in sequences.items()}
                for case, sequences in folder.intensities.items()
            }
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
        return 0
    for refusal in folder.refused:
        hint = f"  hint: {refusal.error.hint}\n" if refusal.error.hint else ""
        sys.stderr.write(f"left out {refusal.id}: {refusal.error.message}\n{hint}")
    if folder.unlabelled:
        sys.stdout.write(f"{len(folder.unlabelled)} cases have no label map and are not counted\n")
    if args.intensities:
        sys.stdout.write(f"{intensity_table(summarize_intensities(folder.intensities))}\n\n")
    sys.stdout.write(f"{statistics.to_table()}\n\nloss {choice.name}: {choice.reason}\n")
    return 0
