"""Where the bundled app and a site's own files are."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from rarevoxel.errors import ConfigError


def bundled_app() -> Path:
    """Return the folder of the brain tumour app: inside an installed package, else in the checkout it runs from.

    Returns:
        A folder that holds an `app.toml`.

    Raises:
        ConfigError: naming both places when neither holds the app.
    """
    return _folder(Path("apps", "brain_tumor"), "app.toml", "the brain tumour app")


def bundled_benchmarks() -> Path:
    """Return the folder of the benchmarks, found like the app.

    Raises:
        ConfigError: naming both places when neither holds them.
    """
    return _folder(Path("benchmarks"), "measuring.py", "the benchmarks")


def _folder(name: Path, file: str, what: str) -> Path:
    package = Path(__file__).resolve().parent
    places = (package / name, package.parents[1] / name)
    for place in places:
        if (place / file).is_file():
            return place
    msg = f"no {file} in {places[0]} or {places[1]}, expected {what} in one of them"
    raise ConfigError(msg, "install rarevoxel again from a complete wheel or checkout")


def default_home() -> Path:
    """Return the folder where models, logs and history are kept unless `--home` names another; it need not exist."""
    return platformdirs.user_data_path("rarevoxel", appauthor=False)


def default_cache() -> Path:
    """Return the folder for what can be made again at any time, such as measurements; it need not exist.

    It is the one that the environment variable `RAREVOXEL_CACHE` names, else in the user's cache folder.
    """
    named = os.environ.get("RAREVOXEL_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("rarevoxel", appauthor=False)
