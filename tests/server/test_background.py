"""Background processes of a server: they end with it, politely if they can."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from rarevoxel.server import background
from rarevoxel.server.background import SERVER_PID, end_background, follow_server, is_background, stop_with_server

POLITE = "import time; print('ready', flush=True); time.sleep(60)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {POLITE}"


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Two processes in the host's table, one of which does not listen, and a third that waits to be started."""
    processes = {
        name: subprocess.Popen([sys.executable, "-c", body], stdout=subprocess.PIPE, text=True)
        for name, body in (("polite", POLITE), ("deaf", DEAF))
    }
    executor = ThreadPoolExecutor(1)
    monkeypatch.setattr(background.host_tasks, "background_processes", {"train": processes})
    monkeypatch.setattr(background.host_tasks, "background_executors", {"train": executor})
    for process in processes.values():
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    yield processes
    executor.shutdown()
    for process in processes.values():
        process.kill()
        process.communicate()


@pytest.mark.fault(36)
def test_processes_are_asked_and_then_killed(running: dict[str, subprocess.Popen[str]]) -> None:
    executor = background.host_tasks.background_executors["train"]
    started: list[int] = []
    executor.submit(time.sleep, 0.3)
    waiting = executor.submit(started.append, 1)
    begin = time.monotonic()
    end_background(grace_s=0.5)
    assert time.monotonic() - begin < 5
    assert running["polite"].wait(5) == -signal.SIGTERM
    assert running["deaf"].wait(5) == -signal.SIGKILL
    assert waiting.cancelled()
    assert started == [], "what waits for its turn is not started when its turn comes"


def test_without_processes_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background.host_tasks, "background_processes", {})
    monkeypatch.setattr(background.host_tasks, "background_executors", {})
    begin = time.monotonic()
    end_background(grace_s=30)
    assert time.monotonic() - begin < 5


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_the_server_s_own_handler_still_gets_the_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setenv(SERVER_PID, "before")
    monkeypatch.setattr(background, "end_background", lambda: calls.append("background"))
    signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    stop_with_server()
    assert os.environ[SERVER_PID] == str(os.getpid())
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL, "who does not handle it is not made to"
    os.kill(os.getpid(), signal.SIGTERM)
    deadline = time.monotonic() + 5
    while len(calls) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(calls) == {"background", signal.SIGTERM}


@pytest.mark.usefixtures("handlers")
def test_a_second_signal_within_the_first_finds_no_lock_and_acts_no_second_time() -> None:
    lock, received, acted = threading.Lock(), [], []
    signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    signal.signal(signal.SIGINT, lambda number, frame: received.append(number))

    def act() -> None:
        with lock:
            acted.append(threading.current_thread())

    background.do_before_stopping(act)
    with lock:  # The main thread holds what the action needs.
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        deadline = time.monotonic() + 5
        while len(received) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    deadline = time.monotonic() + 5
    while not acted and time.monotonic() < deadline:
        time.sleep(0.01)
    assert received == [signal.SIGTERM, signal.SIGTERM, signal.SIGINT]
    assert len(acted) == 1
    assert acted[0] is not threading.main_thread()


def test_only_the_host_s_processes_follow_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SERVER_PID, "1")
    nice = psutil.Process().nice()
    assert not is_background()
    follow_server()
    time.sleep(2 * background._CHECK_S)
    assert psutil.Process().nice() == nice


# The host's module is long to import; a process that runs another module under its name shows the same.
FOLLOWER = """
import importlib.machinery, os, sys, time
import rarevoxel.server.background as background
sys.modules["__main__"].__spec__ = importlib.machinery.ModuleSpec("monailabel.interfaces.utils.app", None)
{before}
background.follow_server()
print(os.getpid(), os.nice(0), flush=True)
time.sleep(120)
"""
PARENT = """
import os, subprocess, sys
os.environ["RAREVOXEL_SERVER_PID"] = str(os.getpid())
subprocess.Popen([sys.executable, "-c", sys.argv[1]]).wait()
"""
NO_SIGNAL = "background._ask_for_signal = lambda: None"
DEAF_LINE = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"


@pytest.mark.fault(36)
@pytest.mark.parametrize("before", ["", NO_SIGNAL, DEAF_LINE], ids=["both", "watch", "deaf"])
def test_a_process_ends_when_its_server_is_killed(before: str) -> None:
    body = FOLLOWER.format(before=before)
    server = subprocess.Popen([sys.executable, "-c", PARENT, body], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        pid, nice = map(int, server.stdout.readline().split())
        assert nice == min(os.nice(0) + background.NICENESS, 19)
        follower = psutil.Process(pid)
        server.kill()
        server.wait()
        deadline = time.monotonic() + 10
        while follower.is_running() and follower.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not psutil.pid_exists(pid) or follower.status() == psutil.STATUS_ZOMBIE
    finally:
        server.kill()
        server.communicate()
