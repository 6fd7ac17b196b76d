"""A server of one's own: started as a child process, waited for, and always stopped."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from rarevoxel.errors import RareVoxelError
from rarevoxel.server.launcher import check_port

_STOP_SECONDS = 10.0


class ServerProcess:
    """`rarevoxel serve` in a process group of its own, on the loopback address.

    Leaving the context stops the server and whatever it started (a training in progress), also after an error or
    Ctrl-C.

    Args:
        studies: studies folder to serve.
        home: folder for models, logs and sessions.
        log: file that receives everything the server prints.
        port: port to listen on; a free one when None.
        options: further arguments of `rarevoxel serve`.
        environment: of the server; this process's when None.

    Raises:
        ConflictError: on entering, when something listens on the port already.

    Example:
        >>> with ServerProcess(studies, home=home, log=log) as server:  # doctest: +SKIP
        ...     server.wait_until_ready(120)
    """

    def __init__(
        self,
        studies: Path,
        *,
        home: Path,
        log: Path,
        port: int | None = None,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.host = "127.0.0.1"
        self.port = free_port(self.host) if port is None else port
        self.log = log
        self.command = [sys.executable, "-m", "rarevoxel", "serve", str(studies), "--home", str(home)]
        self.command += ["--host", self.host, "--port", str(self.port), *options]
        self.environment = dict(os.environ if environment is None else environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._stream: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the server answers."""
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id; None when it was not started."""
        return self._process.pid if self._process else None

    def __enter__(self) -> ServerProcess:
        # Without this, a server somebody else runs on the port would be taken for this one.
        check_port(self.host, self.port)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self.log.open("wb")
        try:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=self._stream,
                stderr=subprocess.STDOUT,
                env={**self.environment, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        except BaseException:
            self._stream.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the server and its children; does nothing when they are gone."""
        if self._process is not None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
            # A training that ignores the polite request would otherwise outlive the server.
            self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
            self._process.wait()
        if self._stream is not None:
            self._stream.close()

    def check(self) -> None:
        """Raise if the server has ended by itself.

        Raises:
            RareVoxelError: with its exit code and the end of its log.
        """
        code = self._process.poll() if self._process else None
        if code is not None:
            raise RareVoxelError(
                f"the server ended with code {code}; its last lines:\n{self.tail()}", f"see {self.log}"
            )

    def wait_until_ready(self, seconds: float) -> float:
        """Wait until `GET /health` is answered with 200.

        Args:
            seconds: how long to wait at most.

        Returns:
            Seconds waited.

        Raises:
            RareVoxelError: if the server ends or does not answer in time, with the end of its log.
        """
        started = time.monotonic()
        while (waited := time.monotonic() - started) < seconds:
            self.check()
            if self._answers():
                return waited
            time.sleep(0.25)
        msg = f"the server at {self.url} did not answer within {seconds:.0f} s; its last lines:\n{self.tail()}"
        raise RareVoxelError(msg, f"see {self.log}; a busy machine may need longer")

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of the log."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return "(no log)"
        return "\n".join(text.splitlines()[-lines:]) or "(empty log)"

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=10)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _signal(self, number: int) -> None:
        if self._process is None:
            return
        try:
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, number)
            else:
                self._process.terminate()
        except (ProcessLookupError, PermissionError):
            return


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port nothing listens on at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
