"""`rarevoxel score`: what the models say about the cases that nobody has labelled yet."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rarevoxel.cli.served import add_home, served_app
from rarevoxel.config import SCORING_METHODS
from rarevoxel.errors import InputError, NotFoundError
from rarevoxel.labels import REGIONS

if TYPE_CHECKING:
    from rarevoxel.learning.pool import CaseScore


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `score` command and return its parser."""
    parser = subparsers.add_parser(
        "score",
        help="say how unsure the models are of every case",
        description="Do in the foreground what a server does when it is idle: ask a model about every case of a "
        "studies folder and keep the answer in STUDIES/scores/MODEL/CASE.json. What has not changed (images, weights, "
        "method) is kept. Printed per case, the least sure first: entropy in bits (0 sure, 1 undecided) at the border "
        "of each region and at candidate lesions, mutual information of the regions' samples, ml that may be missed.",
        epilog="exit codes: 0 every case has a score, 1 a case could not be scored (the others are), 2 wrong usage",
    )
    parser.add_argument("studies", type=Path, metavar="STUDIES", help="studies folder")
    parser.add_argument("--model", action="append", default=[], help="model name, may be repeated (default: all)")
    parser.add_argument("--method", choices=SCORING_METHODS, default=None, help="default: that of app.toml")
    add_home(parser)
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Score the folder.

    Returns:
        0 when every case has a score, 1 when one could not be scored.

    Raises:
        NotFoundError: for an unknown model.
        InputError: when there is no such folder, or no case in it.
        ModelError: when there are no usable weights.
    """
    from tqdm import tqdm

    from rarevoxel.inference.engine import Engine
    from rarevoxel.inference.pool import plan_studies, score_studies
    from rarevoxel.learning.pool.cases import pool_cases
    from rarevoxel.learning.pool.store import store_of
    from rarevoxel.training.places import Places

    app, config = served_app(args)
    models = args.model or list(config.models)
    unknown = [name for name in models if name not in config.models]
    if unknown:
        raise NotFoundError(f"no model {unknown[0]!r} in this app, expected one of {sorted(config.models)}")
    cases = {case.id for case in pool_cases(args.studies)} if args.studies.is_dir() else set()
    if not cases:
        msg = f"{args.studies}: no case found, expected a studies folder"
        raise InputError(msg, "make one from your cases: rarevoxel prepare SOURCE STUDIES")
    method = args.method or config.active.method
    found: dict[str, dict[str, CaseScore]] = {}
    new: dict[str, int] = {}
    for model in models:
        engine = Engine(config, Places.of(app, model).in_service)
        plan = plan_studies(args.studies, model, str(engine.model()["sha256"]), method)
        done = score_studies(engine, args.studies, model, method=method, plan=plan)
        new[model] = sum(1 for _ in tqdm(done, total=len(plan.waiting), desc=model, unit="case", disable=None))
        scores = store_of(args.studies, model).read()
        found[model] = {case: scores[case] for case in sorted(cases & set(scores))}
    if args.json:
        content = {
            model: {"new": new[model], "cases": {case: score.to_dict() for case, score in scores.items()}}
            for model, scores in found.items()
        }
        sys.stdout.write(json.dumps({"models": content}, indent=1) + "\n")
    else:
        for model, scores in found.items():
            sys.stdout.write(f"{model}: {new[model]} scored now, {len(scores)} in all\n{_table(scores)}\n")
    complete = all(set(scores) == cases and not any(s.error for s in scores.values()) for scores in found.values())
    return 0 if complete else 1


def _table(scores: Mapping[str, CaseScore]) -> str:
    heads = [f"{what} {name}" for what in ("bits", "MI", "missed ml") for name in REGIONS]
    rows: list[tuple[str, ...]] = [("case", *heads, "candidates", "remarks")]
    order = sorted(scores.values(), key=lambda one: (bool(one.error), -sum(one.entropy.values()), one.case))
    rows += [(score.case, *_cells(score), score.error) for score in order]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
    )


def _cells(score: CaseScore) -> list[str]:
    if score.error:
        return [""] * (3 * len(REGIONS) + 1)
    tables: list[Mapping[str, Any]] = [score.entropy, score.mutual_information, score.missed_ml]
    return [f"{table.get(name, 0.0):.3f}" for table in tables for name in REGIONS] + [str(len(score.candidates))]
