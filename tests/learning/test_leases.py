"""Who has which case, and for how long."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from rarevoxel.learning.leases import Leases


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases(tmp_path: Path, clock: Clock) -> Leases:
    return Leases(tmp_path / "leases.json", clock)


def taken(leases: Leases, client: str, ranked: str, minutes: float = 30) -> str | None:
    lease = leases.take(client, list(ranked), minutes)
    return lease.case if lease else None


def test_two_clients_never_have_the_same_case(leases: Leases) -> None:
    assert [taken(leases, client, "abc") for client in ("ada", "bob", "eve", "joe")] == ["a", "b", "c", None]
    assert {case: lease.client for case, lease in leases.active().items()} == {"a": "ada", "b": "bob", "c": "eve"}


def test_a_client_that_asks_again_sees_all_others_first_then_its_own_the_oldest_first(
    leases: Leases, clock: Clock
) -> None:
    assert taken(leases, "bob", "abcd") == "a"
    found = []
    for _ in range(6):
        clock.now += 60
        found.append(taken(leases, "ada", "abcd"))
    assert found == ["b", "c", "d", "b", "c", "d"]


def test_a_lease_ends_with_its_time_and_not_before(leases: Leases, clock: Clock) -> None:
    lease = leases.take("ada", ["a"], 2)
    assert lease is not None
    assert (lease.since, lease.until, lease.ends) == (1000, 1120, "1970-01-01T00:18:40+00:00")
    clock.now = 1119.9
    assert taken(leases, "bob", "a") is None
    clock.now = 1120
    assert taken(leases, "bob", "a") == "a"


def test_asking_again_lengthens_the_lease(leases: Leases, clock: Clock) -> None:
    taken(leases, "ada", "a", 2)
    clock.now += 60
    lease = leases.take("ada", ["a"], 2)
    assert lease is not None
    assert lease.until == 1180


def test_a_release_frees_the_case_whoever_has_it(leases: Leases) -> None:
    taken(leases, "ada", "a")
    assert leases.release("a")
    assert not leases.release("a")
    assert taken(leases, "bob", "a") == "a"


def test_a_client_without_a_name_is_a_new_one_each_time(leases: Leases) -> None:
    assert [taken(leases, "", "ab") for _ in range(3)] == ["a", "b", None]


def test_only_what_is_asked_for_is_given(leases: Leases) -> None:
    taken(leases, "ada", "a")
    assert taken(leases, "ada", "") is None
    assert taken(leases, "ada", "b") == "b"


def test_leases_survive_a_restart_and_a_second_object_over_the_file(leases: Leases, clock: Clock) -> None:
    taken(leases, "ada", "ab")
    again = Leases(leases.file, clock)
    assert again.active() == leases.active()
    assert taken(again, "bob", "ab") == "b"
    assert taken(leases, "eve", "ab") is None, "the first sees what the second has given away"
    again.release("a")
    assert taken(leases, "eve", "ab") == "a"


@pytest.mark.parametrize("content", ["", "{", "[1]", '[{"case": "a"}]', "7"])
def test_a_torn_file_starts_anew(leases: Leases, clock: Clock, content: str) -> None:
    leases.file.write_text(content)
    assert leases.active() == {}
    assert taken(leases, "ada", "a") == "a"
    assert json.loads(leases.file.read_text())[0]["client"] == "ada"


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("")
    leases = Leases(tmp_path / "file" / "leases.json", clock)
    assert [taken(leases, client, "ab") for client in ("ada", "bob", "eve")] == ["a", "b", None]


def test_many_threads(leases: Leases, clock: Clock) -> None:
    cases = [f"c{i}" for i in range(40)]
    twins = [leases, Leases(leases.file, clock)]
    found: list[str] = []

    def work(number: int) -> None:
        for _ in range(5):
            lease = twins[number % 2].take(f"client-{number}", cases, 30)
            found.append(lease.case if lease else "")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(cases)
