"""Records of campaigns with numbers a test can choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rarevoxel.comparison.spec import Budget
from rarevoxel.evaluation import SIZE_BANDS
from rarevoxel.labels import REGIONS
from rarevoxel.learning.simulate.spec import Arm, Schedule
from rarevoxel.learning.simulate.summary import summarize

SCHEDULE = Schedule(start=6, per_round=4, rounds=2)
BASE, OTHER = Arm("random", "dice_ce"), Arm("combined", "auto")
CASES = 8


def a_record(number: int, found: int, dice: float, seconds: float) -> dict[str, Any]:
    """A round in which `found` of 10 lesions of every test case are found, and as many of 10 predicted are true."""
    band = next(iter(SIZE_BANDS))
    counts = {name: [10, found, 10, found] if name == band else [0, 0, 0, 0] for name in SIZE_BANDS}
    nothing = {name: [0, 0, 0, 0] for name in SIZE_BANDS}
    return {
        "round": number,
        "cases": [
            {
                "case": f"c{case}",
                "dice": dict.fromkeys(REGIONS, dice + 0.01 * case),
                "lesions": {name: counts if name == "WT" else nothing for name in REGIONS},
            }
            for case in range(CASES)
        ],
        "chosen": [{"case": "x", "reasons": [], "effort": {"seconds": seconds}}] * (4 if number else 6),
        "trained_with": "dice_ce",
    }


def a_run(found: Sequence[int], seconds: float = 900.0) -> list[dict[str, Any]]:
    return [a_record(number, one, one / 20, seconds) for number, one in enumerate(found)]


def a_summary(
    base: Sequence[int] = (2, 4, 6),
    other: Sequence[int] = (2, 6, 8),
    seeds: int = 3,
    names: Sequence[str] = ("severe",),
    change: Callable[[dict[Any, Any]], None] = lambda runs: None,
) -> dict[str, Any]:
    """A study in which the baseline finds `base` of 10 lesions in its rounds and the other arm `other`."""
    runs: dict[Any, Any] = {}
    for name in names:
        for seed in range(seeds):
            runs[name, BASE.name, seed] = a_run(base)
            runs[name, OTHER.name, seed] = a_run(other, 450.0)
    change(runs)
    return summarize(runs, (BASE, OTHER), BASE, SCHEDULE, Budget(), dict.fromkeys(names, True))
