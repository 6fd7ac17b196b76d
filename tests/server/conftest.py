"""What the tests of a server in this process share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fastapi.testclient import TestClient


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, app_folder: Path, studies: Path, tmp_path: Path) -> Iterator[TestClient]:
    """A client of the app over the studies, with the host's settings as a launcher leaves them."""
    from fastapi.testclient import TestClient
    from monailabel.config import settings
    from monailabel.interfaces.utils.app import clear_cache

    from rarevoxel.server.asgi import app

    for name, value in {
        "APP_DIR": str(app_folder),
        "STUDIES": str(studies),
        "APP_CONF": {},
        "DATASTORE_AUTO_RELOAD": False,
        "SESSION_PATH": str(tmp_path / "sessions"),
    }.items():
        monkeypatch.setattr(settings, f"MONAI_LABEL_{name}", value)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    clear_cache()
    yield TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 5000), raise_server_exceptions=False)
    clear_cache()
