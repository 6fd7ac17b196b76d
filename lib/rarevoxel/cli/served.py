"""What commands about trained models share: the home's app, its models, and the labelled cases of a studies folder."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rarevoxel.bundled import bundled_app, default_home
from rarevoxel.config import AppConfig, load_config
from rarevoxel.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from rarevoxel.training import LabelledCase, Registry


def add_home(parser: argparse.ArgumentParser) -> None:
    """Add `--app`, `--home` and `--json`."""
    parser.add_argument("--app", type=Path, default=None, help="app folder (default: the brain tumour app)")
    parser.add_argument("--home", type=Path, default=None, help="folder of the site's models")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def served_app(args: argparse.Namespace) -> tuple[Path, AppConfig]:
    """Return the app folder that is served from the home, the app itself while there is none, and its configuration.

    Raises:
        ConfigError: when it is no app folder.
    """
    app = args.app or bundled_app()
    served = (args.home or default_home()) / app.resolve().name
    found = served if (served / "app.toml").is_file() else app
    return found, load_config(found / "app.toml")


def registry_of(args: argparse.Namespace) -> tuple[Registry, AppConfig]:
    """Return the registry of the model `args.model`, and the app's configuration.

    Raises:
        ConfigError: when the app folder is none.
        NotFoundError: for an unknown model.
    """
    from rarevoxel.training import Registry

    app, config = served_app(args)
    if args.model not in config.models:
        raise NotFoundError(f"no model {args.model!r} in this app, expected one of {sorted(config.models)}")
    return Registry(app, args.model, config.gate.keep), config


def current_user() -> str:
    """Return the name of who runs the command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def labelled_cases(studies: Path) -> Sequence[LabelledCase]:
    """Return the cases of a studies folder that have a final label, with what its history knows of it.

    Raises:
        InputError: if the folder holds no case or is no studies folder.
    """
    from rarevoxel.cases import scan
    from rarevoxel.datastore.history import History
    from rarevoxel.training import LabelledCase

    found = scan(studies, detect=False).cases
    if any(case.layout != "studies" for case in found):
        msg = f"{studies}: a data set, expected a studies folder"
        raise InputError(msg, f"prepare it first: rarevoxel prepare {studies} STUDIES --labels")
    history = History(studies)
    cases = []
    for case in found:
        if case.label is None:
            continue
        newest = history.newest(case.id, "final")
        empty, version = (newest.empty, newest.version) if newest and not newest.removed else (False, None)
        display = case.sequences[case.display]
        cases.append(LabelledCase(case.id, case.patient, display, case.label, empty, version))
    return cases
