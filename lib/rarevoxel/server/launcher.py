"""Starting the server: a home of its own for models and logs, a sane environment, the loopback address."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from rarevoxel.config import load_config
from rarevoxel.errors import ConfigError, ConflictError, InputError

SEEDED = ("main.py", "app.toml", "README.md", "starter")
"""What a home takes from the app at every start; `model/` and `logs/` are the site's and never touched."""

ENVIRONMENT = {
    "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
    "MONAI_LABEL_TRACKING_ENABLED": "false",
}
"""Host settings that its defaults get wrong here: a scoring process per click, and a tracker that no longer starts."""


def seed_home(app: Path, home: Path) -> Path:
    """Copy an app into a home, so that a read-only installation works and an upgrade leaves a site's models alone.

    Args:
        app: app folder with `main.py` and `app.toml`.
        home: folder to keep; created when missing.

    Returns:
        The app folder to serve, `home / <name of app>`.

    Raises:
        ConfigError: when `app` is not an app folder.
        InputError: when `home` cannot be written.
    """
    if not (app / "main.py").is_file():
        raise ConfigError(f"{app}: no main.py, so this is no app folder", "point --app at apps/brain_tumor")
    load_config(app / "app.toml")
    served = home / app.resolve().name
    if served.resolve() == app.resolve():
        return served
    try:
        served.mkdir(parents=True, exist_ok=True)
        for name in SEEDED:
            source, target = app / name, served / name
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            elif source.is_file():
                shutil.copyfile(source, target)
    except OSError as error:
        msg = f"{home}: cannot be used as home folder ({error})"
        raise InputError(msg, "pass --home with a folder that can be written") from error
    return served


def check_port(host: str, port: int) -> None:
    """Raise unless a server can listen on `host:port`.

    Raises:
        ConfigError: for a number that is no port.
        ConflictError: when something else listens there already.
    """
    if not 0 < port < 65536:
        raise ConfigError(f"--port {port}: not a port, expected a number from 1 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            msg = f"cannot listen on {host}:{port} ({error.strerror})"
            raise ConflictError(msg, "stop what listens there, or choose another --port") from error


def serve(
    studies: Path, *, app: Path, home: Path, host: str = "127.0.0.1", port: int = 8000, conf: Mapping[str, str]
) -> None:
    """Serve a studies folder until the process is stopped.

    Args:
        studies: studies folder, see `rarevoxel prepare`.
        app: app folder.
        home: folder for models, logs and sessions.
        host: address to listen on.
        port: port to listen on.
        conf: `--conf` pairs for the app.

    Raises:
        InputError: when the studies folder is missing.
        ConflictError: when the port is taken.
    """
    if not studies.is_dir():
        msg = f"{studies}: no such studies folder"
        raise InputError(msg, "make one from your cases: rarevoxel prepare SOURCE STUDIES --labels")
    served = seed_home(app, home)
    check_port(host, port)
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    os.environ.setdefault("MONAI_LABEL_SESSION_PATH", str(home / "sessions"))

    from monailabel.main import Main  # reads its settings from the environment when it is imported

    arguments = ["start_server", "--app", str(served), "--studies", str(studies)]
    arguments += ["--host", host, "--port", str(port), "--uvicorn_app", "rarevoxel.server.asgi:app"]
    for key, value in conf.items():
        arguments += ["--conf", key, value]
    sys.argv = ["monailabel", *arguments]
    Main().run()
