"""Everything this package replaces on disk, written when there is no room: the old file stays, no temporary is left."""

from __future__ import annotations

import logging
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rarevoxel.cases.table import Study, save_table
from rarevoxel.datastore.proposals import Proposals
from rarevoxel.errors import StorageError
from rarevoxel.lineage import Lineage
from rarevoxel.server.guard.tokens import Role, TokenStore
from rarevoxel.training import Registry
from rarevoxel.training.json_file import write_json
from rarevoxel.volumes import file_sha256, write_labels

pytestmark = pytest.mark.fault(32)

Write = Callable[[], object]
ROOM = 64
"""Bytes a file may have while the disk counts as full."""


def stats(folder: Path, number: int) -> Write:
    return lambda: write_json(folder / "train_stats.json", {"epoch": number, "filler": "x" * 500})


def table(folder: Path, number: int) -> Write:
    study = Study("p", {"t1c": "a/t1c.nii.gz"}, f"{number}.nii.gz", None, "s" * 500)
    return lambda: save_table(folder, {"a": study})


def tokens(folder: Path, number: int) -> Write:
    return lambda: TokenStore(folder / "tokens.json").add(f"user-{number}", Role.VIEW, 1.0)


def labels(folder: Path, number: int) -> Write:
    noise = np.random.default_rng(number).integers(0, 4, (9, 9, 9), dtype=np.uint8)
    return lambda: write_labels(folder / "a.nii.gz", noise, np.eye(4))


def snapshot(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): file_sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def in_child(function: Write, *, room: int) -> int:
    """Run in a process whose files may have `room` bytes; 0 when it ends well, 7 when the disk was full."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        logging.disable()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        function()
        code = 0
    except (OSError, StorageError):
        code = 7
    finally:
        os._exit(code)


@pytest.mark.parametrize("make", [stats, table, tokens, labels])
def test_the_old_file_stays(tmp_path: Path, make: Callable[[Path, int], Write]) -> None:
    make(tmp_path, 1)()
    before = snapshot(tmp_path)
    assert before
    assert in_child(make(tmp_path, 2), room=ROOM) == 7
    assert snapshot(tmp_path) == before
    make(tmp_path, 2)()
    assert snapshot(tmp_path) != before


def test_a_proposal_that_does_not_fit_is_only_logged(tmp_path: Path) -> None:
    kept = Proposals(tmp_path)
    noise = np.random.default_rng(0).integers(0, 4, (9, 9, 9), dtype=np.uint8)
    kept.save("a", noise, np.eye(4), {})
    before = snapshot(tmp_path)
    assert in_child(lambda: kept.save("a", noise[::-1].copy(), np.eye(4), {"weights": "x"}), room=ROOM) == 0
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("room", [ROOM, 4096])
def test_weights_that_do_not_fit_leave_the_old_ones_in_service(
    tmp_path: Path, save_tiny: Callable[..., Path], room: int
) -> None:
    old, new = (save_tiny(tmp_path / "candidates" / f"{seed}.pt", seed=seed) for seed in (1, 2))
    models = Registry(tmp_path / "app", "calf", keep=3)

    def publish(path: Path, name: str) -> None:
        models.publish(path, Lineage("calf", name, "2026-01-01T00:00:00.000+00:00", file_sha256(path)))

    publish(old, "one")
    served = tmp_path / "app" / "model"
    before = snapshot(served)
    assert new.stat().st_size > room
    assert in_child(lambda: publish(new, "two"), room=room) == 7
    assert snapshot(served) == before
    assert models.current() == "one"
    publish(new, "two")
    assert models.current() == "two"
