"""The table itself: it counts by fault, and what nothing tests fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from faults.catalogue import FAULTS

EXAMPLE = """
import pytest

@pytest.mark.fault(1)
@pytest.mark.parametrize("n", [1, 2])
def test_holds(n): pass

@pytest.mark.fault(2)
def test_breaks(): raise RuntimeError

@pytest.mark.fault(3)
@pytest.mark.skip(reason="no data")
def test_never_runs(): pass

@pytest.mark.fault(4)
@pytest.mark.xfail(reason="cannot be met", strict=True)
def test_known(): raise RuntimeError

@pytest.mark.fault(5, 6)
@pytest.mark.slow
def test_two_at_once(): pass

def test_of_no_fault(): raise RuntimeError
"""


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_example.py").write_text(EXAMPLE, encoding="utf-8")
    markers = "[pytest]\nmarkers =\n  fault: a fault\n  slow: slow\naddopts = -m 'not slow'\n"
    (folder / "pytest.ini").write_text(markers, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "faults.table", "--fault-table", "-m", "fault", *options]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_the_table_says_what_holds_what_fails_and_what_nothing_tests(tmp_path: Path) -> None:
    result = run(tmp_path, "--fault-json", "faults.json")
    assert result.returncode == 1, result.stdout
    rows = {row["fault"]: row for row in json.loads((tmp_path / "faults.json").read_text())}
    outcomes = [rows[number]["outcome"] for number in range(1, 8)]
    assert outcomes == ["passed", "failed", "missing", "not met", "passed", "passed", "missing"]
    assert len(rows[1]["tests"]) == 2
    assert set(rows) == set(FAULTS) == set(range(1, 44))
    assert f"3 of {len(FAULTS)} faults hold" in result.stdout


def test_an_unknown_number_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("import pytest\n@pytest.mark.fault(99)\ndef test_x(): pass\n")
    result = run(tmp_path)
    assert result.returncode == 4
    assert "no fault 99, expected 1 to 43" in result.stderr


def test_parallel_workers_report_to_one_table(tmp_path: Path) -> None:
    result = run(tmp_path, "-n", "2", "--fault-json", "faults.json")
    rows = {row["fault"]: row for row in json.loads((tmp_path / "faults.json").read_text())}
    assert [rows[number]["outcome"] for number in (1, 2, 5)] == ["passed", "failed", "passed"], result.stdout
