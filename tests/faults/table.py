"""A pytest plugin that runs the tests marked `fault(number)` and prints which faults hold.

Run as `PYTHONPATH=tests python -m pytest tests -p faults.table -m fault --fault-table`, or `make faults`.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.terminal import TerminalReporter

from faults.catalogue import FAULTS

_WORST = ("failed", "not met", "missing", "passed")


class Row:
    """What the tests of one fault did."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}
        self.seconds = 0.0

    def add(self, report: pytest.TestReport) -> None:
        """Count one phase of one test."""
        self.seconds += report.duration
        # The worst phase of a test counts: a test that passes and then cannot be cleaned up has failed.
        outcome = "failed" if report.failed else "skipped" if report.skipped else "passed"
        if report.skipped and hasattr(report, "wasxfail"):
            outcome = "not met"
        if report.when == "call" or outcome != "passed":
            before = self.outcomes.get(report.nodeid, "passed")
            self.outcomes[report.nodeid] = before if before in ("failed", "not met") else outcome

    @property
    def outcome(self) -> str:
        """The worst of all tests; `missing` when none ran."""
        found = {*self.outcomes.values(), *(() if "passed" in self.outcomes.values() else ("missing",))}
        return next(name for name in _WORST if name in found)

    @property
    def tests(self) -> str:
        """How many tests there were, and what became of those that did not pass."""
        counts = Counter(self.outcomes.values())
        others = ", ".join(f"{counts[name]} {name}" for name in ("failed", "not met", "skipped") if counts[name])
        return f"{len(self.outcomes)}{f' ({others})' if others else ''}"


class FaultTable:
    """Collects the reports by fault and prints the table at the end."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.rows: dict[int, Row] = defaultdict(Row)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Sort a report into the rows of its faults."""
        for name, value in report.user_properties:
            if name == "fault" and isinstance(value, int):
                self.rows[value].add(report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Fail when a fault has no passing test."""
        if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) and self.unmet:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @property
    def unmet(self) -> list[int]:
        """The faults that do not hold, or that nothing tests."""
        return [number for number in FAULTS if self.rows[number].outcome != "passed"]

    def pytest_terminal_summary(self, terminalreporter: TerminalReporter) -> None:
        """Print the table and write it as JSON."""
        width = max(len(fault.what) for fault in FAULTS.values())
        terminalreporter.section("faults")
        for number, fault in FAULTS.items():
            row = self.rows[number]
            left = f"{number:>3}  {fault.what:<{width}}  {row.outcome:<8}"
            line = f"{left} {row.tests:>18} tests {row.seconds:>7.1f} s  {fault.expected}"
            terminalreporter.write_line(line, green=row.outcome == "passed", red=row.outcome != "passed")
        held = len(FAULTS) - len(self.unmet)
        terminalreporter.write_line(f"{held} of {len(FAULTS)} faults hold; not: {self.unmet or 'none'}")
        if self.file is not None:
            self.file.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")

    def to_dict(self) -> list[dict[str, Any]]:
        """Return the table as plain data."""
        return [
            {
                "fault": number,
                "what": fault.what,
                "expected": fault.expected,
                "outcome": self.rows[number].outcome,
                "tests": self.rows[number].outcomes,
                "seconds": round(self.rows[number].seconds, 2),
            }
            for number, fault in FAULTS.items()
        ]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--fault-table", action="store_true", help="print which faults hold; fail when one does not")
    group.addoption("--fault-json", type=Path, metavar="FILE", help="write the table of faults as JSON, too")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--fault-table") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(FaultTable(config.getoption("--fault-json")), "fault-table")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # Properties, unlike markers, travel with the reports of parallel workers.
        item.user_properties += [("fault", number) for number in _numbers(item)]


def _numbers(item: pytest.Item) -> Iterator[int]:
    for marker in item.iter_markers("fault"):
        for number in marker.args:
            if number not in FAULTS:
                raise pytest.UsageError(f"{item.nodeid}: no fault {number!r}, expected 1 to {max(FAULTS)}")
            yield number
