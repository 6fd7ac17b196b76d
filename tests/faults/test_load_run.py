"""The load run, short: that its clients, checks and the kill work; its figures are for `make load`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LOAD = Path(__file__).parents[2] / "benchmarks" / "load.py"
TIMES = ("p95", "memory")
"""Figures depend on what else the machine does; they decide nothing here."""


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.fault(27, 31)
def test_a_short_load_and_a_kill(tmp_path: Path) -> None:
    file = tmp_path / "load.json"
    command = [sys.executable, str(LOAD), "--seconds", "20", "--warm-up", "5", "--size", "48", "--cases", "4"]
    result = subprocess.run([*command, "--json", str(file)], capture_output=True, text=True, timeout=500)
    assert file.is_file(), result.stdout + result.stderr
    found = json.loads(file.read_text(encoding="utf-8"))
    for part in ("load", "kill"):
        failed = [what for what, held in found[part]["passed"].items() if not held]
        assert [what for what in failed if not any(word in what for word in TIMES)] == [], result.stdout
    assert found["load"]["acknowledged"] > 20
    assert found["load"]["routes"]["PUT /datastore/label (bad)"]["count"] >= 4
