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
    _add_guard(parser)
    parser.set_defaults(run=run)
    return parser


def _add_guard(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("who may call, and how much", "tokens: rarevoxel token --help")
    group.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="a name clients call it by")
    group.add_argument("--allow-origin", action="append", default=[], metavar="ORIGIN", help="of pages that may call")
    group.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate chain (PEM)")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key (PEM)")
    group.add_argument("--behind-proxy", action="store_true", help="a reverse proxy in front does TLS; needs tokens")
    group.add_argument("--insecure", action="store_true", help="plain HTTP on a network: tokens can be overheard")
    group.add_argument("--limit-label", type=int, default=256, metavar="MIB", help="largest label (default 256)")
    group.add_argument("--limit-image", type=int, default=2048, metavar="MIB", help="largest image (default 2048)")
    group.add_argument("--limit-idle", type=float, default=30.0, metavar="S", help="patience in a body (default 30)")
    group.add_argument("--queue", type=int, default=8, metavar="N", help="inferences that may wait (default 8)")
    group.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))


def run(args: argparse.Namespace) -> int:
    """Serve until stopped."""
    if importlib.util.find_spec("monailabel") is None:
        msg = "the server needs MONAI Label, which is not installed"
        raise ConfigError(msg, "pip install 'rarevoxel[label]' with Python 3.10, 3.11 or 3.12")
    if (args.tls_cert is None) != (args.tls_key is None):
        raise ConfigError("one of --tls-cert and --tls-key alone, expected both or none")
    from rarevoxel.server.guard.config import GuardConfig
    from rarevoxel.server.launcher import serve

    guard = GuardConfig(
        allow_hosts=tuple(args.allow_host),
        allow_origins=tuple(args.allow_origin),
        behind_proxy=args.behind_proxy,
        label_mib=args.limit_label,
        image_mib=args.limit_image,
        idle_seconds=args.limit_idle,
        queue=args.queue,
    )
    home = (args.home or default_home()).absolute()
    scheme = "https" if args.tls_cert else "http"
    # By name: what a server prints often ends up in a log, and paths do not belong there.
    sys.stderr.write(
        f"serving {args.studies.name} on {scheme}://{args.host}:{args.port} (models and logs in home {home.name})\n"
    )
    serve(
        args.studies.absolute(),
        app=args.app or bundled_app(),
        home=home,
        host=args.host,
        port=args.port,
        conf=dict(args.conf),
        guard=guard,
        tls=(args.tls_cert, args.tls_key) if args.tls_cert else None,
        insecure=args.insecure,
        log_level=args.log_level,
    )
    return 0
