"""`rarevoxel infer`: one mask per case of a folder, without a server."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rarevoxel.bundled import bundled_app, default_home
from rarevoxel.errors import InputError, NotFoundError, RareVoxelError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `infer` command and return its parser."""
    parser = subparsers.add_parser(
        "infer",
        help="segment every case of a folder",
        description="Write one mask per case, OUT/CASE.nii.gz, on the grid of the case's display volume. "
        "Masks that exist are kept, so an interrupted run goes on where it stopped. Printed per case: volume and "
        "confidence (0 to 1) of each region, and what the self-check found; an empty mask is an answer.",
        epilog="exit codes: 0 every case has a mask, 1 a case was refused (the others are done), 2 wrong usage",
    )
    parser.add_argument("studies", type=Path, metavar="STUDIES", help="studies folder or data set")
    parser.add_argument("--out", type=Path, required=True, help="folder for the masks")
    parser.add_argument("--model", default="calf", help="model name (default calf)")
    parser.add_argument("--app", type=Path, default=None, help="app folder (default: the brain tumour app)")
    parser.add_argument("--home", type=Path, default=None, help="folder of the site's models")
    parser.add_argument("--force", action="store_true", help="replace masks that exist")
    parser.add_argument("--json", action="store_true", help="print the volumes as JSON")
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
    from rarevoxel.inference.engine import Engine
    from rarevoxel.server.launcher import seed_home
    from rarevoxel.training.run import Places
    from rarevoxel.volumes import write_labels

    app = seed_home(args.app or bundled_app(), args.home or default_home())
    config = load_config(app / "app.toml")
    if args.model not in config.models:
        raise NotFoundError(f"no model {args.model!r} in this app, expected one of {sorted(config.models)}")
    engine = Engine(config, Places.of(app, args.model).in_service)
    found = scan(args.studies, detect=False)
    done: dict[str, dict[str, Any]] = {}
    refused = {refusal.id: str(refusal.error) for refusal in found.refused}
    args.out.mkdir(parents=True, exist_ok=True)
    for case in tqdm(found.cases, desc="infer", unit="case", disable=None):
        target = args.out / f"{case.id}.nii.gz"
        if target.exists() and not args.force:
            done[case.id] = {"mask": str(target), "kept": True}
            continue
        try:
            if case.volume_4d is not None:
                msg = f"case {case.id}: {case.volume_4d} is one 4-D file with the channels {list(case.channels)}"
                raise InputError(msg, "split it into sequences first: rarevoxel prepare SOURCE STUDIES")
            prediction = engine.predict(case.sequences)
        except RareVoxelError as error:
            if error.code == "model":
                raise
            refused[case.id] = str(error)
            continue
        write_labels(target, prediction.labels, prediction.affine)
        done[case.id] = {"mask": str(target), **prediction.to_dict()}
    _print(args.json, done, refused)
    return 1 if refused else 0


def _print(as_json: bool, done: dict[str, dict[str, Any]], refused: dict[str, str]) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"cases": done, "refused": refused}, indent=1) + "\n")
        return
    for case, entry in done.items():
        volumes, confidence = entry.get("regions_ml"), entry.get("confidence", {})
        told = [f"{name} {ml:.1f} ml ({confidence[name]:.2f})" for name, ml in volumes.items()] if volumes else ["kept"]
        sys.stdout.write(f"{case}: {'; '.join([', '.join(told), *entry.get('findings', ())])}\n")
        sys.stderr.writelines(f"warning: {case}: {warning}\n" for warning in entry.get("warnings", ()))
    for case, reason in refused.items():
        sys.stderr.write(f"refused {case}: {reason}\n")
