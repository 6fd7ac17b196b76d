"""What benchmarks share: interleaved times, peak memory of fresh processes, growth with size, and the machine.

Times are only ever compared within one run: each round times every candidate once, in turn, so that whatever else the
machine does falls on all of them alike. A ratio is the median of the rounds' own ratios, with the quartiles beside it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch
from tqdm import tqdm

WARM_UP = 2
"""Rounds that are not counted."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one candidate in every counted round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the rounds, in seconds."""
        return statistics.median(self.seconds)

    def over(self, other: Timing) -> Ratio:
        """Return how many times as long this takes as `other`, round by round."""
        low, middle, high = np.percentile(np.divide(self.seconds, other.seconds), (25, 50, 75)).tolist()
        return Ratio(middle, low, high)

    def to_dict(self) -> dict[str, float]:
        """Return median and quartiles in seconds."""
        low, high = np.percentile(self.seconds, (25, 75)).tolist()
        return {"median_s": self.median, "low_s": low, "high_s": high, "rounds": len(self.seconds)}


@dataclass(frozen=True)
class Ratio:
    """A ratio of two times: median and quartiles over rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f}x [{self.low:.2f}, {self.high:.2f}]"

    def to_dict(self) -> dict[str, float]:
        """Return the three numbers."""
        return {"median": self.median, "low": self.low, "high": self.high}


def interleaved(
    candidates: Mapping[str, Callable[[], object]], rounds: int, *, warm_up: int = WARM_UP, title: str = "rounds"
) -> dict[str, Timing]:
    """Time every candidate once a round, in turn.

    Args:
        candidates: name -> what to time.
        rounds: that are counted.
        warm_up: rounds before them that are not.
        title: of the progress bar.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in tqdm(range(warm_up + rounds), desc=title, unit="round", disable=None):
        for name, run in candidates.items():
            started = time.perf_counter()
            run()
            _synchronize()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - started)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def peak_mib(job: Callable[..., Callable[[], object]], *args: Any) -> float:
    """Return by how many MiB one call raises the memory of a fresh process, at its highest.

    Args:
        job: importable; called with `args` in the fresh process it prepares everything and returns what is measured.
        args: for it; must pickle.
    """
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_peak_of, args=(send, job, args))
    process.start()
    send.close()
    try:
        return float(receive.recv())
    finally:
        process.join()


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return k of the least-squares fit `seconds = a size^k`."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def machine() -> dict[str, Any]:
    """Describe what a benchmark ran on; ratios travel between machines, seconds do not."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "gpu": gpu,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "malloc": {key: value for key, value in os.environ.items() if key.startswith("MALLOC_")},
    }


def _peak_of(send: Any, job: Callable[..., Callable[[], object]], args: tuple[Any, ...]) -> None:
    run = job(*args)
    if sys.platform == "linux":  # What preparing it has released may not serve what is measured.
        getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)(0)
    process = psutil.Process()
    before = highest = process.memory_info().rss
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.001):
            highest = max(highest, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    run()
    done.set()
    watcher.join()
    send.send((max(highest, process.memory_info().rss) - before) / 2**20)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
