"""`rarevoxel info`: what is installed, and what the bundled app offers."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from importlib import metadata
from typing import Any

from rarevoxel import __version__
from rarevoxel.bundled import bundled_app, default_home
from rarevoxel.config import load_config
from rarevoxel.errors import ConfigError

_PACKAGES = ("torch", "monai", "monailabel", "numpy")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the `info` command and return its parser."""
    parser = subparsers.add_parser(
        "info",
        help="say what is installed and what the app offers",
        description="Say which versions are installed, what the bundled app offers and where a site's files are kept.",
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Print the facts; nothing heavy is imported, so a broken torch does not keep them from being asked for.

    Returns:
        0, also when the app is missing or broken: that is one of the facts.
    """
    facts = collect()
    if args.json:
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
        return 0
    rows = [("rarevoxel", facts["version"]), ("python", facts["python"]), ("platform", facts["platform"])]
    rows += [(name, found or "not installed") for name, found in facts["packages"].items()]
    rows.append(("home", facts["home"]))
    app = facts["app"]
    if "error" in app:
        rows.append(("app", f"cannot be read: {app['error']['message']}"))
    else:
        rows += [("app", app["path"]), ("labels", ", ".join(f"{v} {k}" for k, v in app["labels"].items()))]
        rows.append(("regions", ", ".join(app["regions"])))
        rows += [(f"model {name}", f"{m['description']} (loss {m['loss']})") for name, m in app["models"].items()]
    width = max(len(name) for name, _ in rows) + 2
    sys.stdout.write("".join(f"{name:<{width}}{value}\n" for name, value in rows))
    return 0


def collect() -> dict[str, Any]:
    """Return what `info` prints, as plain data; `app` is `{"error": ...}` when there is no usable app."""
    return {
        "version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "home": str(default_home()),
        "app": _app(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _app() -> dict[str, Any]:
    try:
        path = bundled_app()
        config = load_config(path / "app.toml")
    except ConfigError as error:
        return {"error": error.to_dict()}
    return {
        "path": str(path),
        "name": config.name,
        "labels": config.label_values,
        "regions": list(config.regions),
        "models": {name: {"loss": m.loss, "description": m.description} for name, m in config.models.items()},
    }
