"""Where the bundled app and a site's own files are."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from rarevoxel.errors import ConfigError

_APP = Path("apps", "brain_tumor")


def bundled_app() -> Path:
    """Return the folder of the brain tumour app: inside an installed package, else in the checkout it runs from.

    Returns:
        A folder that holds an `app.toml`.

    Raises:
        ConfigError: naming both places when neither holds the app.
    """
    package = Path(__file__).resolve().parent
    places = (package / _APP, package.parents[1] / _APP)
    for place in places:
        if (place / "app.toml").is_file():
            return place
    msg = f"no app.toml in {places[0]} or {places[1]}, expected the brain tumour app in one of them"
    raise ConfigError(msg, "install rarevoxel again from a complete wheel or checkout")


def default_home() -> Path:
    """Return the folder where models, logs and history are kept unless `--home` names another; it need not exist."""
    return platformdirs.user_data_path("rarevoxel", appauthor=False)
