"""Thousands of requests that nobody should send: no 5xx, JSON errors, nothing outside the folders, labels intact."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.fuzz import operations, run_storm
from faults.served import Served
from rarevoxel.volumes import file_sha256

pytestmark = pytest.mark.server


@pytest.fixture
def throw_away(label_server: Served) -> Iterator[Served]:
    """A server whose cases and labels the requests may delete; what they start is stopped."""
    yield label_server
    for what in ("train", "scoring", "batch/infer"):
        label_server.ask("DELETE", f"/{what}/" if "/" not in what else f"/{what}")


def accounted(server: Served, sha256: str) -> bool:
    """Say whether a label is still served, or kept in the history."""
    places = [server.studies / "labels", server.studies / "history"]
    return any(file_sha256(path) == sha256 for place in places for path in place.rglob("*.nii.gz"))


def test_requests_nobody_should_send(throw_away: Served, request: pytest.FixtureRequest) -> None:
    server = throw_away
    count, number = request.config.getoption("fuzz_requests", 150), request.config.getoption("fuzz_seed", 0)
    labels = {path.name: file_sha256(path) for path in (server.studies / "labels").rglob("*.nii.gz")}
    beside = server.beside()
    cwd = sorted(path.name for path in Path.cwd().iterdir())
    storm = run_storm(server, count, number)
    if count > 150:
        sys.stderr.write(f"\n{storm.table()}\n")
    assert storm.count >= count
    assert not storm.problems, f"{len(storm.problems)} problems, the first:\n" + "\n\n".join(storm.problems[:10])
    for what in ("/train/", "/scoring/", "/batch/infer"):
        server.ask("DELETE", what)
    server.info()
    assert server.beside() == beside
    assert sorted(path.name for path in Path.cwd().iterdir()) == cwd
    assert [name for name, sha256 in labels.items() if not accounted(server, sha256)] == []
    assert server.litter() == []
    assert "Traceback" not in server.logs()


def test_every_route_is_known_to_the_fuzzer(label_server: Served) -> None:
    found = list(operations(label_server.ask("GET", "/openapi.json").json()))
    offered = {operation.name for operation in found if operation.known}
    assert {"PUT /datastore/label", "POST /infer/{model}", "POST /train/{model}", "GET /info/"} <= offered
    label = next(operation for operation in found if operation.name == "PUT /datastore/label")
    assert label.fields["label"] is True
    assert label.fields["params"] is False
