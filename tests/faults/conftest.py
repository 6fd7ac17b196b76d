"""The servers of the fault tests: one with every spoiled case, started once for each file that needs it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rarevoxel.cases import SEQUENCES

pytest.register_assert_rewrite("faults.served", "faults.fuzz")

from faults.served import Served, make_app, serving  # noqa: E402
from faults.spoiled import add_odd, read, spoil  # noqa: E402

PLAIN = "phantom-001"
LIMITS = ("--limit-label", "1", "--limit-image", "8", "--limit-idle", "2")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--fuzz-requests", type=int, default=150, help="requests the fuzz test sends")
    group.addoption("--fuzz-seed", type=int, default=0, help="seed of what it sends")


@pytest.fixture(scope="session")
def tiny_app(tmp_path_factory: pytest.TempPathFactory, app_toml: str, tiny_weights: Path, main_py: Path) -> Path:
    return make_app(tmp_path_factory.mktemp("source") / "tiny", app_toml, tiny_weights, main_py)


@pytest.fixture(scope="module")
def spoiled_server(
    tmp_path_factory: pytest.TempPathFactory, studies_template: Path, tiny_app: Path
) -> Iterator[Served]:
    """A server over every spoiled and every odd case; only read."""
    root = tmp_path_factory.mktemp("spoiled") / "site"
    studies = Path(shutil.copytree(studies_template, root / "studies", symlinks=True))
    spoil(studies, PLAIN)
    folder = studies / "sequences" / PLAIN
    parts = [read(folder / f"{sequence}.nii.gz") for sequence in SEQUENCES]
    add_odd(studies, np.stack([part[0] for part in parts]).astype(np.int16), parts[0][1])
    with serving(root, studies, tiny_app, LIMITS) as server:
        yield server


@pytest.fixture(scope="module")
def label_server(tmp_path_factory: pytest.TempPathFactory, studies_template: Path, tiny_app: Path) -> Iterator[Served]:
    """A server over six good cases, four of them labelled, that tests may change."""
    root = tmp_path_factory.mktemp("labels") / "site"
    studies = Path(shutil.copytree(studies_template, root / "studies", symlinks=True))
    with serving(root, studies, tiny_app, LIMITS) as server:
        yield server
