"""`rarevoxel infer`: one mask per case of a folder, without a server."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rarevoxel.bundled import bundled_app, default_home
from rarevoxel.errors import NotFoundError
from rarevoxel.labels import REGIONS

if TYPE_CHECKING:
    from rarevoxel.inference.batch import Outcome


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `infer` command and return its parser."""
    parser = subparsers.add_parser(
        "infer",
        help="segment every case of a folder",
        description="Write one mask per case, OUT/CASE.nii.gz, on the grid of the case's display volume, and a record "
        "of what it was made from, OUT/CASE.json. An interrupted run goes on where it stopped: a mask stays unless "
        "weights, settings or input files are others than its record says. A mask without a record, or changed since, "
        "stays too. Printed per case: volume in ml and confidence (0 to 1) of each region, and what the self-check "
        "found; an empty mask is an answer.",
        epilog="exit codes: 0 every case has a mask, 1 a case was refused (the others are done), 2 wrong usage",
    )
    parser.add_argument("studies", type=Path, metavar="STUDIES", help="studies folder or data set")
    parser.add_argument("--out", type=Path, required=True, help="folder for the masks")
    parser.add_argument("--model", default="calf", help="model name (default calf)")
    parser.add_argument("--app", type=Path, default=None, help="app folder (default: the brain tumour app)")
    parser.add_argument("--home", type=Path, default=None, help="folder of the site's models")
    parser.add_argument("--force", action="store_true", help="make every mask anew")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Segment the folder.

    Returns:
        0 when every case has a mask, 1 when one was refused.

    Raises:
        NotFoundError: for an unknown model.
        InputError: when the folder holds no case.
        ModelError: when there are no usable weights.
    """
    from tqdm import tqdm

    from rarevoxel.cases import scan
    from rarevoxel.config import load_config
    from rarevoxel.inference.batch import REFUSED, Outcome, infer_cases
    from rarevoxel.inference.engine import Engine
    from rarevoxel.server.launcher import seed_home
    from rarevoxel.training.places import Places

    app = seed_home(args.app or bundled_app(), args.home or default_home())
    config = load_config(app / "app.toml")
    if args.model not in config.models:
        raise NotFoundError(f"no model {args.model!r} in this app, expected one of {sorted(config.models)}")
    engine = Engine(config, Places.of(app, args.model).in_service)
    found = scan(args.studies, detect=False)
    outcomes = [
        Outcome(refusal.id, REFUSED, args.out / f"{refusal.id}.nii.gz", reason=str(refusal.error))
        for refusal in found.refused
    ]
    cases = infer_cases(engine, found.cases, args.out, force=args.force)
    outcomes += tqdm(cases, total=len(found.cases), desc="infer", unit="case", disable=None)
    sys.stdout.write(json.dumps(_as_json(outcomes), indent=1) + "\n" if args.json else _table(outcomes))
    for outcome in outcomes:
        sys.stderr.writelines(f"warning: {outcome.case}: {told}\n" for told in outcome.answer.get("warnings", ()))
    return 1 if any(outcome.state == REFUSED for outcome in outcomes) else 0


def _as_json(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    masks = {
        outcome.case: {"mask": str(outcome.mask), "state": outcome.state, **_reason(outcome), **outcome.answer}
        for outcome in outcomes
        if outcome.state != "refused"
    }
    refused = {outcome.case: outcome.reason for outcome in outcomes if outcome.state == "refused"}
    return {"counts": dict(Counter(outcome.state for outcome in outcomes)), "cases": masks, "refused": refused}


def _reason(outcome: Outcome) -> dict[str, str]:
    return {"reason": outcome.reason} if outcome.reason else {}


def _table(outcomes: Sequence[Outcome]) -> str:
    """One row a case, refused ones last, and how many of each there are."""
    rows = [("case", "mask", *REGIONS, "remarks")]
    for outcome in sorted(outcomes, key=lambda outcome: outcome.state == "refused"):
        volumes, confidence = outcome.answer.get("regions_ml", {}), outcome.answer.get("confidence", {})
        cells = [f"{volumes[name]:.1f} ml ({confidence[name]:.2f})" if name in volumes else "" for name in REGIONS]
        told = "; ".join([*([outcome.reason] if outcome.reason else []), *outcome.answer.get("findings", ())])
        rows.append((outcome.case, outcome.state, *cells, told))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    counts = Counter(outcome.state for outcome in outcomes)
    return "\n".join([*lines, "", ", ".join(f"{count} {state}" for state, count in counts.items())]) + "\n"
