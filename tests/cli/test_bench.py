"""`rarevoxel bench` runs a benchmark of the checkout with its own options."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rarevoxel.bundled import bundled_benchmarks
from rarevoxel.cli import main
from rarevoxel.cli.bench import BENCHMARKS


def test_every_benchmark_is_there() -> None:
    assert all((bundled_benchmarks() / f"bench_{name}.py").is_file() for name in BENCHMARKS)


def test_a_benchmark_gets_its_options_and_leaves_no_trace(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bench_losses.py").write_text(
        "import sys\n\n\ndef main():\n    print(sys.argv, sys.path[0])\n    return 3\n"
    )
    monkeypatch.setattr("rarevoxel.bundled.bundled_benchmarks", lambda: tmp_path)
    sys.modules.pop("bench_losses", None)
    before = sys.argv, list(sys.path)
    assert main(["bench", "losses", "--size", "8", "--json"]) == 3
    told = ["rarevoxel bench losses", "--size", "8", "--json"]
    assert capsys.readouterr().out == f"{told} {tmp_path}\n"
    assert (sys.argv, sys.path) == before
    del sys.modules["bench_losses"]


def test_a_benchmark_explains_its_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["bench", "losses", "--help"])
    assert "usage: rarevoxel bench losses" in capsys.readouterr().out


def test_an_unknown_benchmark_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "nothing"])
    assert "invalid choice: 'nothing'" in capsys.readouterr().err
