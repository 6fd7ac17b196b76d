"""One server per folder, told by a lock that the kernel frees."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rarevoxel.datastore.server_lock import NAME, check_server_lock, release_server_lock, take_server_lock
from rarevoxel.errors import ConflictError

HOLD = """
import sys, time
from rarevoxel.datastore.server_lock import take_server_lock
take_server_lock(sys.argv[1], 8123)
print("held", flush=True)
time.sleep(120)
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that serves the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.fault(34)
def test_a_second_server_is_told_who_is_there(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    said = json.loads((tmp_path / NAME).read_text())
    assert (said["pid"], said["port"]) == (other.pid, "8123")
    for attempt in (check_server_lock, take_server_lock):
        expected = f"another server uses this studies folder already: process {other.pid} on .*, port 8123, since 20"
        with pytest.raises(ConflictError, match=expected) as caught:
            attempt(tmp_path)
        assert caught.value.hint == f"use that server, or stop it first: kill {other.pid}"
    assert json.loads((tmp_path / NAME).read_text()) == said


@pytest.mark.fault(34)
def test_the_lock_of_a_killed_server_is_free(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    check_server_lock(tmp_path)
    take_server_lock(tmp_path, 1)
    assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()
    release_server_lock(tmp_path)


def test_a_server_may_take_its_own_lock_again(tmp_path: Path) -> None:
    take_server_lock(tmp_path)
    take_server_lock(tmp_path / "." / ".." / tmp_path.name)
    check_server_lock(tmp_path)
    release_server_lock(tmp_path)
    release_server_lock(tmp_path)
    check_server_lock(tmp_path)


def test_a_lock_without_a_note_is_a_lock(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    (tmp_path / NAME).write_text("torn")
    with pytest.raises(ConflictError, match=r"already: a process \("):
        check_server_lock(tmp_path)


def test_a_folder_that_is_not_there_is_not_locked(tmp_path: Path) -> None:
    check_server_lock(tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


def test_the_lock_imports_without_the_host() -> None:
    code = (
        "import rarevoxel.datastore.server_lock, rarevoxel.datastore.restore, sys; print('monailabel' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
