from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

import pytest

from rarevoxel.errors import ConflictError, RareVoxelError
from rarevoxel.server.process import ServerProcess, free_port

ANSWERS = """
import http.server, pathlib, subprocess, sys
stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(99)"
child = subprocess.Popen([sys.executable, "-c", stubborn])
pathlib.Path(sys.argv[2]).write_text(str(child.pid))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups are POSIX")


def a_server(tmp_path: Path, code: str) -> ServerProcess:
    server = ServerProcess(tmp_path / "studies", home=tmp_path / "home", log=tmp_path / "logs" / "server.log")
    server.command = [sys.executable, "-c", code, str(server.port), str(tmp_path / "child")]
    return server


def gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether a process has ended; a zombie that waits for its parent counts."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").is_file() and ") Z " in Path(f"/proc/{pid}/stat").read_text():
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def test_the_command_is_serve_on_this_machine_only(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, home=tmp_path / "h", log=tmp_path / "l", port=8123, options=("--conf", "a", "b"))
    assert server.command[:4] == [sys.executable, "-m", "rarevoxel", "serve"]
    assert server.command[5:] == [
        "--home",
        str(tmp_path / "h"),
        "--host",
        "127.0.0.1",
        "--port",
        "8123",
        "--conf",
        "a",
        "b",
    ]
    assert server.url == "http://127.0.0.1:8123"
    assert server.pid is None


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_server_and_its_children_are_gone_afterwards(tmp_path: Path, error: type[BaseException] | None) -> None:
    pids: list[int] = []

    def turn() -> None:
        with a_server(tmp_path, ANSWERS) as server:
            assert 0 <= server.wait_until_ready(30) < 30
            assert server.pid is not None
            pids.extend([server.pid, int((tmp_path / "child").read_text())])
            server.check()
            if error is not None:
                raise error("stop")

    if error is None:
        turn()
    else:
        with pytest.raises(error, match="stop"):
            turn()
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)


def test_a_server_that_ends_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    code = "import sys\nfor i in range(40): print('line', i)\nsys.exit(3)"
    with a_server(tmp_path, code) as server, pytest.raises(RareVoxelError, match="ended with code 3") as caught:
        server.wait_until_ready(30)
    assert "line 39" in str(caught.value)
    assert "line 24\n" not in str(caught.value)
    assert "server.log" in caught.value.hint


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    code = "import time\nprint('thinking', flush=True)\ntime.sleep(60)"
    started = time.monotonic()
    with (
        a_server(tmp_path, code) as server,
        pytest.raises(RareVoxelError, match=r"did not answer within 2 s.*\s.*thinking"),
    ):
        server.wait_until_ready(2)
    assert server.pid is not None
    assert gone(server.pid)
    assert time.monotonic() - started < 20


def test_stopping_twice_and_before_the_start_is_harmless(tmp_path: Path) -> None:
    server = a_server(tmp_path, "pass")
    server.stop()
    with server:
        server.stop()
    server.stop()
    assert server.tail() == "(empty log)"


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        server = ServerProcess(tmp_path, home=tmp_path / "home", log=tmp_path / "log", port=port)
        with pytest.raises(ConflictError, match=f"cannot listen on 127.0.0.1:{port}"), server:
            pass
    assert server.pid is None
    assert not server.log.exists()


def test_free_port_can_be_listened_on() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", free_port()))
