"""A real server has its cases scored beside it, scores again what changed, and takes the process with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from rarevoxel.learning.pool import CaseScore
from rarevoxel.learning.pool.store import store_of
from rarevoxel.server.process import ServerProcess
from rarevoxel.server.score_process import MODULE

pytestmark = pytest.mark.server

WAIT_S = 300.0


def until(done: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < deadline, f"not within {WAIT_S:.0f} s: {what}"
        time.sleep(0.1)


def scoring(server: psutil.Process) -> list[psutil.Process]:
    found = []
    for process in server.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if MODULE in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.mark.timeout(900)
def test_scores_appear_and_only_what_changed_is_scored_again(
    studies: Path, app_folder: Path, app_toml: str, tmp_path: Path
) -> None:
    on = app_toml.replace("scoring = false", 'scoring = true\nmethod = "none"\nidle_s = 0.0')
    assert on != app_toml
    (app_folder / "app.toml").write_text(on, encoding="utf-8")
    torn = studies / "sequences" / "phantom-005" / "t2w.nii.gz"
    torn.write_bytes(torn.read_bytes()[:2000])
    store = store_of(studies, "calf")

    def scores() -> dict[str, CaseScore]:
        return store.read()

    options = ["--app", str(app_folder), "--conf", "models", "calf"]
    with ServerProcess(studies, home=tmp_path / "home", log=tmp_path / "log", options=options) as server:
        server.wait_until_ready(WAIT_S)
        process = psutil.Process(server.pid)

        def state() -> str:
            started = time.monotonic()
            assert requests.get(f"{server.url}/info/", timeout=30).status_code == 200
            assert time.monotonic() - started < 20, "scoring is not waited for"
            return str(requests.get(f"{server.url}/health", timeout=30).json()["scoring"])

        until(lambda: scoring(process), "a process is started")
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            # It gives way as soon as Python has come to its first line.
            until(lambda: scoring(process)[0].nice() >= min(19, process.nice() + 10), "serving comes first")
        until(lambda: len(scores()) == 6, "every case has a score")
        first = scores()
        assert "t2w" in first["phantom-005"].error
        assert [case for case, score in first.items() if score.error] == ["phantom-005"]
        assert all(score.features and score.confidence for score in first.values() if not score.error)
        until(lambda: state() == "idle" and not scoring(process), "the process ends when all is done")

        shutil.copyfile(studies / "sequences" / "phantom-004" / "t2w.nii.gz", tmp_path / "new.nii.gz")
        (tmp_path / "new.nii.gz").replace(studies / "sequences" / "phantom-003" / "t2w.nii.gz")
        written = {path.stem: path.stat().st_mtime_ns for path in store.folder.glob("*.json")}
        until(lambda: scores()["phantom-003"].image != first["phantom-003"].image, "the changed case is scored again")
        again = {path.stem: path.stat().st_mtime_ns for path in store.folder.glob("*.json")}
        assert {case for case in written if again[case] != written[case]} == {"phantom-003"}
        until(lambda: state() == "idle", "and then there is nothing to do")

        os.utime(studies / "sequences" / "phantom-004" / "t1n.nii.gz", (1, 1))
        until(lambda: scoring(process), "a process is started again")
        (left,) = scoring(process)
        os.kill(process.pid, 9)
        until(lambda: not left.is_running() or left.status() == psutil.STATUS_ZOMBIE, "it ends with its server")
