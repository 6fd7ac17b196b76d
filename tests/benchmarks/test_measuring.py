"""What benchmarks are built from: order of the rounds, ratios, memory, growth."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from measuring import Timing, exponent, interleaved, machine, peak_mib

MIB = 2**20


def filling(mib: int) -> Callable[[], object]:
    kept = np.ones(8 * MIB, dtype=np.uint8)  # Before the measurement: does not count.

    def fill() -> object:
        return kept.sum() + np.ones(mib * MIB, dtype=np.uint8).sum()

    return fill


def test_candidates_take_turns_and_warm_up_does_not_count() -> None:
    calls: list[str] = []
    found = interleaved({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=3, warm_up=1)
    assert calls == ["a", "b"] * 4
    assert {name: len(timing.seconds) for name, timing in found.items()} == {"a": 3, "b": 3}


def test_a_ratio_is_taken_round_by_round() -> None:
    ours, peer = Timing((1.0, 2.0, 4.0)), Timing((2.0, 8.0, 8.0))
    ratio = peer.over(ours)
    assert (ratio.low, ratio.median, ratio.high) == (2.0, 2.0, 3.0)
    assert str(ratio) == "2.00x [2.00, 3.00]"
    assert ours.to_dict() == {"median_s": 2.0, "low_s": 1.5, "high_s": 3.0, "rounds": 3}


def test_peak_memory_is_that_of_the_call_alone() -> None:
    assert peak_mib(filling, 160) == pytest.approx(160, abs=24)


def test_the_exponent_of_a_power_is_found() -> None:
    sizes = np.array([1.0, 2.0, 5.0])
    assert exponent(sizes, 3 * sizes**1.7) == pytest.approx(1.7)


def test_the_machine_is_described_without_its_name() -> None:
    assert {"cores", "threads", "cpu", "memory_gib", "torch"} <= set(machine())
