"""`rarevoxel serve`: the MONAI Label server with a rarevoxel app, ready for 3D Slicer."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

from rarevoxel.bundled import bundled_app, default_home
from rarevoxel.errors import ConfigError


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the command and return its parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "serve", help="serve a studies folder to 3D Slicer and REST clients"
    )
    parser.add_argument("studies", type=Path, help="studies folder, made by rarevoxel prepare")
    parser.add_argument("--app", type=Path, default=None, help="app folder (default: the brain tumour app)")
    parser.add_argument("--home", type=Path, default=None, help="folder for models, logs and sessions")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--conf", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"))
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Serve until stopped."""
    if importlib.util.find_spec("monailabel") is None:
        msg = "the server needs MONAI Label, which is not installed"
        raise ConfigError(msg, "pip install 'rarevoxel[label]' with Python 3.10, 3.11 or 3.12")
    from rarevoxel.server.launcher import serve

    home = (args.home or default_home()).absolute()
    sys.stderr.write(f"serving {args.studies} on http://{args.host}:{args.port} (models and logs in {home})\n")
    serve(
        args.studies.absolute(),
        app=args.app or bundled_app(),
        home=home,
        host=args.host,
        port=args.port,
        conf=dict(args.conf),
    )
    return 0
