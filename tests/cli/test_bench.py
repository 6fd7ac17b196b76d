"""`rarevoxel bench` runs a benchmark of the checkout with its own options."""

from __future__ import annotations

import json
import sys

import pytest

from rarevoxel.bundled import bundled_benchmarks
from rarevoxel.cli import main
from rarevoxel.cli.bench import BENCHMARKS


def test_every_benchmark_is_there() -> None:
    assert all((bundled_benchmarks() / f"bench_{name}.py").is_file() for name in BENCHMARKS)


def test_a_benchmark_gets_its_options_and_leaves_no_trace(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.argv, list(sys.path)
    assert main(["bench", "losses", "--size", "8", "--rounds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["size"], found["rounds"]) == (8, 1)
    assert found["machine"]["threads"] >= 1
    assert (sys.argv, sys.path) == before


def test_a_benchmark_explains_its_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["bench", "losses", "--help"])
    assert "usage: rarevoxel bench losses" in capsys.readouterr().out


def test_an_unknown_benchmark_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "nothing"])
    assert "invalid choice: 'nothing'" in capsys.readouterr().err
