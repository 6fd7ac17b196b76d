"""The pool that the benchmark of the next sample serves, and what it says of the times."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rarevoxel.bundled import bundled_benchmarks
from rarevoxel.datastore.studies import StudiesDatastore
from rarevoxel.learning.pool import ScoreStore


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(bundled_benchmarks()))
    import bench_next_sample

    monkeypatch.delitem(sys.modules, "bench_next_sample")
    return bench_next_sample


def test_the_pool_is_as_large_as_asked_for_and_scored(bench: Any, tmp_path: Path) -> None:
    bench.write_pool(tmp_path, 3, 2, features=4)
    datastore = StudiesDatastore(str(tmp_path))
    assert sorted(datastore.get_unlabeled_images()) == ["case-00000", "case-00001", "case-00002"]
    assert sorted(datastore.get_labeled_images()) == ["case-00003", "case-00004"]
    scores = ScoreStore(tmp_path / "scores" / "calf").read()
    assert len(scores) == 5
    assert all(len(score.features) == 4 and len(score.candidates) == 18 for score in scores.values())


def test_what_is_above_the_limit_is_marked(bench: Any) -> None:
    seconds = {"rare": {"median_s": 0.1, "longest_s": 0.2}, "combined": {"median_s": 0.1, "longest_s": 0.4}}
    told = bench.lines({"cases": 500, "labelled": 50, "busy": True, "seconds": seconds})
    assert told[0] == "500 unlabelled cases, 50 labelled, two processes computing in the background"
    assert [line.endswith("above 300 ms") for line in told[2:]] == [False, True]
