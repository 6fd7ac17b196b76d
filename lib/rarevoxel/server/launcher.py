"""Starting the server: a home of its own for models and logs, a sane environment, the loopback address."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rarevoxel.config import load_config
from rarevoxel.datastore.server_lock import check_server_lock
from rarevoxel.errors import ConfigError, ConflictError, InputError
from rarevoxel.server.guard.config import VARIABLE, GuardConfig, is_loopback
from rarevoxel.server.guard.redact import Redactor, redact_logs
from rarevoxel.server.guard.tokens import TokenStore
from rarevoxel.server.memory import limit_arenas

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


def check_exposure(guard: GuardConfig, *, tls: bool, insecure: bool) -> None:
    """Raise before a server is started that strangers could use or listen to.

    Args:
        guard: settings, with the address to listen on.
        tls: whether the server encrypts.
        insecure: whether the user takes the risk of plain HTTP on a network.

    Raises:
        ConfigError: for an address other machines reach, without tokens or without TLS; behind a proxy without tokens.
    """
    tokens = guard.tokens_file
    if guard.must_have_tokens and not (tokens is not None and TokenStore(tokens).tokens()):
        where = "behind a proxy" if guard.behind_proxy else f"on {guard.host}"
        msg = f"a server {where} is reached by others, and there are no tokens, so anybody could use it"
        raise ConfigError(msg, "make one first: rarevoxel token add NAME --role annotate, with the same --home")
    if is_loopback(guard.host) or tls or guard.behind_proxy or insecure:
        return
    msg = f"a server on {guard.host} without TLS sends images and tokens in the clear"
    raise ConfigError(msg, "pass --tls-cert and --tls-key; or --behind-proxy when a proxy encrypts; or --insecure")


def private_folder(home: Path, port: int) -> Path:
    """Return an empty folder of this server's for uploads, which only this user may look into.

    Raises:
        InputError: when it cannot be made.
    """
    folder = home / "tmp" / str(port)
    try:
        # Whatever is in there is of a server that was killed: the port is free.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        folder.parent.chmod(0o700)
    except OSError as error:
        msg = f"{folder}: cannot be used for uploads ({error.strerror})"
        raise InputError(msg, "pass --home with a folder that can be written") from error
    return folder


def serve(
    studies: Path,
    *,
    app: Path,
    home: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    conf: Mapping[str, str],
    guard: GuardConfig | None = None,
    tls: tuple[Path, Path] | None = None,
    insecure: bool = False,
    log_level: str = "INFO",
) -> None:
    """Serve a studies folder until the process is stopped.

    Args:
        studies: studies folder, see `rarevoxel prepare`.
        app: app folder.
        home: folder for models, logs and sessions.
        host: address to listen on.
        port: port to listen on.
        conf: `--conf` pairs for the app.
        guard: limits and who may call; host, studies, home and temporary folder are filled in here.
        tls: certificate and key file; None for plain HTTP.
        insecure: see `check_exposure`.
        log_level: `DEBUG`, `INFO`, `WARNING` or `ERROR`.

    Raises:
        ConfigError: see `check_exposure`; or when a file of `tls` is missing.
        InputError: when the studies folder is missing.
        ConflictError: when the port is taken, or another server uses the folder.
    """
    if not studies.is_dir():
        msg = f"{studies}: no such studies folder"
        raise InputError(msg, "make one from your cases: rarevoxel prepare SOURCE STUDIES --labels")
    guard = replace(guard or GuardConfig(), host=host, home=str(home.absolute()))
    check_exposure(guard, tls=tls is not None, insecure=insecure)
    for file in tls or ():
        if not file.is_file():
            raise ConfigError(f"{file}: no such file, expected a certificate and its key in PEM format")
    check_server_lock(studies)
    served = seed_home(app, home)
    check_port(host, port)
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    os.environ.setdefault("MONAI_LABEL_SESSION_PATH", str(home / "sessions"))
    temporary = private_folder(home, port)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    guard = replace(guard, studies=str(studies.absolute()), temporary=str(temporary))
    os.environ[VARIABLE] = guard.to_json()
    redact_logs(Redactor.of(guard, app=str(served)))
    limit_arenas()
    # A tenth of the start: MONAI imports it where it is installed, and nothing that a server does here tracks anything.
    sys.modules.setdefault("mlflow", None)  # type: ignore[arg-type]

    from rarevoxel.server.host import Host  # the host reads its settings from the environment when it is imported

    arguments = ["start_server", "--app", str(served), "--studies", str(studies)]
    arguments += ["--host", host, "--port", str(port), "--verbose", log_level, "--log_level", log_level.lower()]
    if tls is not None:
        arguments += ["--ssl_certfile", str(tls[0]), "--ssl_keyfile", str(tls[1])]
    for key, value in conf.items():
        arguments += ["--conf", key, value]
    sys.argv = ["monailabel", *arguments]
    Host().run()
