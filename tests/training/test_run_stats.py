"""How a run ends, as its stats tell: done, failed, interrupted, or gone without a word."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import pytest

from rarevoxel.errors import BusyError, StorageError, TrainingError
from rarevoxel.training import run_stats
from rarevoxel.training.interrupt import Interrupted, interruptible
from rarevoxel.training.run_stats import RunStats, error_dict, read_stats

PROGRESS = {"epoch": 3, "total_epochs": 8, "checkpoint_epoch": 2}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calf" / "train_stats.json"


def end(path: Path, error: BaseException) -> None:
    """Let a run end by an error."""

    def run() -> None:
        with RunStats(path, {}) as stats:
            stats.write(PROGRESS)
            raise error

    with pytest.raises(type(error)):
        run()


def test_a_run_that_ends_well(path: Path) -> None:
    with RunStats(path, {"options": {"seed": 1}}) as stats:
        shown = read_stats(path)
        assert (shown["status"], shown["pid"], shown["options"]) == ("running", os.getpid(), {"seed": 1})
        assert shown["process_started"] == pytest.approx(psutil.Process().create_time())
        stats.write(PROGRESS)
        assert read_stats(path)["epoch"] == 3
        final = stats.done({**PROGRESS, "gate": "why"})
    assert final == read_stats(path) == {**PROGRESS, "gate": "why", "status": "done"}


ERRORS: list[tuple[Exception, str, str]] = [
    (TrainingError("the loss became nan", "lower the rate"), "training", "the loss became nan"),
    (OSError(errno.ENOSPC, "No space left on device", "/private/file"), "storage", "training: No space left on device"),
    (MemoryError(), "memory", "training: not enough memory"),
    (KeyError("/private/key"), "internal", "training: unexpected KeyError"),
]


@pytest.mark.parametrize(("error", "code", "message"), ERRORS)
def test_a_run_that_fails_keeps_what_is_known(path: Path, error: Exception, code: str, message: str) -> None:
    end(path, error)
    shown = read_stats(path)
    assert (shown["status"], shown["epoch"]) == ("failed", 3)
    assert shown["error"] == error_dict(error)
    assert shown["error"]["code"] == code
    assert message in shown["error"]["message"]
    assert shown["error"]["hint"]
    assert "/private" not in json.dumps(shown)
    assert "pid" not in shown


@pytest.mark.parametrize("stop", [Interrupted(signal.SIGTERM), KeyboardInterrupt()])
def test_an_interrupted_run_says_where_it_goes_on(path: Path, stop: BaseException) -> None:
    end(path, stop)
    note = "interrupted after epoch 3 of 8; the next training of the same goes on after epoch 2"
    assert read_stats(path) == {**PROGRESS, "status": "interrupted", "note": note}


@pytest.mark.parametrize(
    ("known", "note"),
    [
        ({}, "interrupted before its first epoch; the next training of the same begins anew"),
        (
            {"epoch": 1, "total_epochs": 8, "checkpoint_epoch": 0},
            "interrupted after epoch 1 of 8; the next training of the same begins anew",
        ),
    ],
)
def test_a_run_without_a_checkpoint_begins_anew(path: Path, known: dict[str, Any], note: str) -> None:
    with pytest.raises(Interrupted), RunStats(path, known):
        raise Interrupted(signal.SIGTERM)
    assert read_stats(path)["note"] == note


def work(path: Path, manner: str, ready: Connection) -> None:
    """What the process of a training does, without the training."""
    try:
        with RunStats(path, {"epoch": 1, "total_epochs": 5, "checkpoint_epoch": 1}):
            ready.send("")
            try:
                time.sleep(60)
            except SystemExit:
                time.sleep(60 if manner == "deaf" else 0)
                raise
    except BusyError as error:
        ready.send(str(error))


def started(path: Path, manner: str = "polite") -> tuple[BaseProcess, str]:
    """A process that does it, and what it answered."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=work, args=(path, manner, there))
    process.start()
    assert here.poll(30)
    return process, here.recv()


@pytest.mark.fault(36)
@pytest.mark.parametrize(
    ("number", "manner", "code"),
    [
        (signal.SIGTERM, "polite", 143),
        (signal.SIGINT, "polite", 130),
        (signal.SIGTERM, "deaf", 143),
        (signal.SIGKILL, "polite", -9),
    ],
)
def test_a_process_that_is_stopped_leaves_an_interrupted_run(path: Path, number: int, manner: str, code: int) -> None:
    process, _ = started(path, manner)
    assert process.pid is not None
    try:
        assert read_stats(path)["status"] == "running"
        os.kill(process.pid, number)
        process.join(20)
    finally:
        process.kill()
        process.join()
    assert process.exitcode == code
    assert read_stats(path)["status"] == "interrupted"
    assert read_stats(path)["note"].endswith("of 5; the next training of the same goes on after epoch 1")
    with RunStats(path, {}):
        assert read_stats(path)["pid"] == os.getpid(), "and the next one can start"


def test_another_process_with_the_number_of_a_dead_one_is_not_it(path: Path) -> None:
    with RunStats(path, {}):
        content = json.loads(path.read_text())
    for changes, status in [
        ({}, "running"),
        ({"process_started": content["process_started"] - 1000}, "interrupted"),
        ({"pid": 2**22 + 5}, "interrupted"),
        ({"pid": None}, "interrupted"),
        ({"pid": -1}, "interrupted"),
        ({"process_started": "then"}, "interrupted"),
    ]:
        path.write_text(json.dumps({**content, "status": "running", "pid": os.getpid(), **changes}))
        assert read_stats(path)["status"] == status, changes


def test_a_zombie_is_dead(path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=os._exit, args=(0,))
    child.start()
    assert child.pid is not None
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    path.parent.mkdir()
    started = psutil.Process(child.pid).create_time()
    path.write_text(json.dumps({"status": "running", "pid": child.pid, "process_started": started}))
    assert read_stats(path)["status"] == "interrupted"
    child.join()


@pytest.mark.fault(40)
def test_a_model_is_trained_by_one_process_at_a_time(path: Path) -> None:
    with RunStats(path, {"epoch": 1}):
        second, answer = started(path)
        second.join(20)
        assert answer.startswith(f"a training of calf is under way already (process {os.getpid()})")
        with pytest.raises(BusyError, match="a training of calf is under way already"), RunStats(path, {}):
            pass
        assert read_stats(path)["epoch"] == 1, "and its stats stay"
    with RunStats(path.parent.parent / "other" / "train_stats.json", {}), RunStats(path, {}):
        pass


@pytest.mark.fault(32)
def test_stats_that_cannot_be_written_do_not_end_a_run(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with RunStats(path, PROGRESS) as stats:
        before = path.read_bytes()

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(run_stats, "write_json", full)
            stats.write({"epoch": 4})
        assert path.read_bytes() == before
        assert "train_stats.json could not be written: No space left on device" in caplog.text
        stats.write({"epoch": 5})
    assert read_stats(path)["epoch"] == 5
    assert error_dict(OSError(errno.ENOSPC, "full"))["code"] == StorageError("").code


def stop_twice() -> None:
    with interruptible(grace_s=30):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)


def test_signals_are_as_before_afterwards() -> None:
    """And a second one does not disturb the cleaning up after the first."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as caught:
        stop_twice()
    assert (caught.value.code, caught.value.number) == (143, signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    assert all(timer.finished.is_set() for timer in timers), "nothing ends the process later"


def test_outside_the_main_thread_signals_are_left_alone(path: Path) -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with RunStats(path, {}):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
