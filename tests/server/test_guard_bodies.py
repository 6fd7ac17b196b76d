"""Bodies are counted while they come in, and nobody waits for them for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI, File, UploadFile

from rarevoxel.server.guard.config import MIB, GuardConfig
from rarevoxel.server.guard.middleware import Guard
from server.guarded import Guarded, chunk, drive, refused

PATH = "/datastore/label"


def status_of(sent: list[Any]) -> int:
    return int(sent[0]["status"])


@pytest.mark.fault(29)
def test_a_length_over_the_limit_is_refused_before_a_byte_is_read() -> None:
    ask = Guarded(label_mib=1, idle_seconds=0.05)
    sent = asyncio.run(drive(ask.guard, "PUT", PATH, [], [(b"content-length", str(3 * MIB).encode())]))
    assert status_of(sent) == 413
    assert b"3145728 bytes, expected at most 2097152" in sent[1]["body"]
    assert b"--limit-label" in sent[1]["body"]
    assert ask.inner.paths == []


@pytest.mark.fault(29)
def test_a_body_without_a_length_is_counted() -> None:
    def endless() -> Any:
        for _ in range(1000):
            yield chunk(b"x" * MIB)

    ask = Guarded(label_mib=4)
    assert status_of(asyncio.run(drive(ask.guard, "PUT", PATH, endless()))) == 413
    assert ask.inner.bytes <= 6 * MIB, "what came after the limit reached nobody"


@pytest.mark.fault(29)
def test_what_is_refused_is_still_taken_so_that_the_client_reads_why() -> None:
    taken = []

    def body(pieces: int) -> Any:
        for index in range(pieces):
            taken.append(index)
            yield chunk(b"x" * MIB, index < pieces - 1)

    length = [(b"content-length", str(8 * MIB).encode())]
    for path, status in ((PATH, 413), ("/nowhere", 404), ("/datastore/image?image=../x", 404)):
        taken.clear()
        sent = asyncio.run(drive(Guarded(label_mib=1).guard, "PUT", path, body(8), length))
        assert status_of(sent) == status
        assert len(taken) == 8
        assert (b"connection", b"close") not in sent[0]["headers"], "the connection goes on"
    taken.clear()
    sent = asyncio.run(drive(Guarded(label_mib=1).guard, "PUT", PATH, body(8), [*length, (b"expect", b"100-continue")]))
    assert (status_of(sent), taken) == (413, []), "this client has not sent it yet"


@pytest.mark.fault(29)
def test_not_everything_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rarevoxel.server.guard.bodies.DRAINED", 4 * MIB)
    taken = []

    def endless() -> Any:
        for index in range(1000):
            taken.append(index)
            yield chunk(b"x" * MIB)

    sent = asyncio.run(drive(Guarded().guard, "PUT", "/nowhere", endless(), [(b"transfer-encoding", b"chunked")]))
    assert status_of(sent) == 404
    assert len(taken) == 4
    assert (b"connection", b"close") in sent[0]["headers"]
    taken.clear()
    length = [(b"content-length", b"1" + b"0" * 12)]
    sent = asyncio.run(drive(Guarded().guard, "PUT", PATH, endless(), length))
    assert (status_of(sent), taken) == (413, []), "a terabyte is not begun with"
    assert (b"connection", b"close") in sent[0]["headers"]


def test_json_bodies_are_small() -> None:
    ask = Guarded()
    refused(ask("POST", "/train/calf", content=b" " * (MIB + 1)), 413, "1048576", code="too_large")
    assert ask("POST", "/train/calf", content=b" " * MIB).status_code == 200


@pytest.mark.parametrize("length", [b"-1", b"x", b"1" * 30, b"\xc2\xb2"])
def test_a_length_is_a_number(length: bytes) -> None:
    sent = asyncio.run(drive(Guarded().guard, "PUT", PATH, [chunk(b"", False)], [(b"content-length", length)]))
    assert status_of(sent) == 400


@pytest.mark.fault(30)
def test_a_client_that_stops_sending_is_told_so_and_let_go() -> None:
    ask = Guarded(idle_seconds=0.05)
    sent = asyncio.run(drive(ask.guard, "PUT", PATH, [chunk(b"abc"), 5.0]))
    assert status_of(sent) == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert b"nothing came for 0.05 s" in sent[1]["body"]


@pytest.mark.fault(30)
def test_a_client_that_trickles_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rarevoxel.server.guard.bodies.GRACE", 0.05)

    def trickle() -> Any:
        for _ in range(50):
            yield 0.01
            yield chunk(b"x")

    sent = asyncio.run(drive(Guarded().guard, "PUT", PATH, trickle()))
    assert status_of(sent) == 408
    assert b"less than 1024 bytes a second" in sent[1]["body"]


@pytest.mark.fault(30)
@pytest.mark.parametrize("end", ["hangs up", "stops", "too much"])
def test_an_upload_that_breaks_off_leaves_nothing(end: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    app = FastAPI()
    reached = []

    @app.put(PATH)
    def take(label: UploadFile = File(...)) -> None:
        reached.append(label)

    head = b'--b\r\nContent-Disposition: form-data; name="label"; filename="x"\r\n\r\n'
    messages: list[Any] = [chunk(head), chunk(b"x" * (2 * MIB))]
    messages += {"hangs up": [{"type": "http.disconnect"}], "stops": [9.0], "too much": [chunk(b"x" * 4 * MIB)]}[end]
    guard = Guard(app, GuardConfig(label_mib=4, idle_seconds=0.05))
    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    sent = asyncio.run(drive(guard, "PUT", PATH, messages, headers))
    if end != "hangs up":
        assert status_of(sent) == {"stops": 408, "too much": 413}[end], "not what the framework made of it"
    assert reached == []
    assert list(tmp_path.iterdir()) == []
