"""The helper process of a server: jobs wait here, one is done at a time, and nobody's request waits for a lock."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from rarevoxel.errors import RareVoxelError

logger = logging.getLogger(__name__)

SOON, LATER = 0, 1
"""What somebody looks at, and what can wait."""

IDLE_S = 60.0
"""Seconds without a job after which the process ends, so that its memory is free."""

JOB_S = 120.0
"""Seconds a job may take before its process is ended."""

_COMMAND = (sys.executable, "-m", "rarevoxel.report.dashboard.worker")


class HelperError(RareVoxelError):
    """A job that could not be done."""

    code = "helper"


class Helper:
    """Does jobs in a process of its own, which is started with the first one.

    Args:
        command: of the process.
        idle_s: see `IDLE_S`.
        job_s: see `JOB_S`.
    """

    def __init__(self, command: tuple[str, ...] = _COMMAND, *, idle_s: float = IDLE_S, job_s: float = JOB_S) -> None:
        self._command, self._idle_s, self._job_s = command, idle_s, job_s
        self._jobs: queue.PriorityQueue[tuple[int, int, str]] = queue.PriorityQueue()
        self._known: dict[str, tuple[Mapping[str, Any], Future[Any]]] = {}
        self._order = itertools.count()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[str] | None = None

    def submit(self, key: str, job: Mapping[str, Any], priority: int = LATER) -> Future[Any]:
        """Have a job done; one with the same key that is not done yet counts for both.

        Args:
            key: what makes the job this one.
            job: as `rarevoxel.report.dashboard.worker.do` takes it.
            priority: `SOON` or `LATER`.

        Returns:
            Becomes the result, or raises `HelperError`.
        """
        with self._lock:
            known = self._known.get(key)
            future: Future[Any] = Future() if known is None else known[1]
            if known is None:
                self._known[key] = (job, future)
            if known is None or priority == SOON:
                # Entered again when it has become urgent; whoever comes second to it finds it gone.
                self._jobs.put((priority, next(self._order), key))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="dashboard-helper", daemon=True)
                self._thread.start()
            return future

    @property
    def waiting(self) -> int:
        """How many jobs are not done yet."""
        return len(self._known)

    def close(self) -> None:
        """End the process; the next job starts another."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(OSError):
                if process.stdin is not None:
                    process.stdin.close()
            try:
                process.wait(1.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def _work(self) -> None:
        while True:
            try:
                _, _, key = self._jobs.get(timeout=self._idle_s if self._process is not None else None)
            except queue.Empty:
                self.close()
                continue
            with self._lock:
                known = self._known.get(key)
            if known is None:
                continue
            job, future = known
            try:
                answer = self._ask(job)
                error = HelperError(answer["error"]) if answer["error"] else None
            except (OSError, ValueError, KeyError) as problem:
                logger.warning("a picture or measurement for the dashboard failed: %s", problem)
                self.close()
                answer, error = {}, HelperError("the process that draws and measures ended")
            with self._lock:
                self._known.pop(key, None)
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(answer["result"])

    def _ask(self, job: Mapping[str, Any]) -> dict[str, Any]:
        process = self._started()
        stdin, stdout = process.stdin, process.stdout
        if stdin is None or stdout is None:
            raise OSError("the helper has no pipes")
        timer = threading.Timer(self._job_s, process.kill)
        timer.daemon = True
        timer.start()
        try:
            stdin.write(json.dumps(job) + "\n")
            stdin.flush()
            line = stdout.readline()
        finally:
            timer.cancel()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
            )
        return self._process
