from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("monailabel")

from rarevoxel.errors import RareVoxelError
from rarevoxel.labels import CLIENT_LABELS, EDEMA, ENHANCING, NECROSIS, remap_by_label_info
from rarevoxel.server.client import LabelClient
from rarevoxel.volumes import read_labels, write_labels

Reply = Callable[[str, str, bytes], tuple[int, Any]]
REFUSED = {"error": {"code": "not_found", "message": "no model 'x', expected 'calf'", "hint": "GET /info/ lists them"}}


class Fake:
    """Answers with what `reply(method, path, body)` returns and remembers what it was asked."""

    def __init__(self) -> None:
        self.reply: Reply = lambda method, path, body: (200, {})
        self.asked: list[tuple[str, str, bytes]] = []


@pytest.fixture
def fake() -> Iterator[Fake]:
    fake = Fake()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            fake.asked.append((self.command, self.path, body))
            status, content = fake.reply(self.command, self.path, body)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-disposition", 'attachment; filename="mask.nii.gz"')
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield fake
    server.shutdown()
    server.server_close()


@pytest.fixture
def client(fake: Fake, tmp_path: Path) -> LabelClient:
    return LabelClient(fake.url, tmp_path / "client")  # type: ignore[attr-defined]


def test_next_sample(fake: Fake, client: LabelClient) -> None:
    fake.reply = lambda *_: (200, {"id": "case-1"})
    assert client.next_sample("first") == "case-1"
    assert fake.asked[0][:2] == ("POST", "/activelearning/first")
    fake.reply = lambda *_: (200, {})
    with pytest.raises(RareVoxelError, match="no case left to label"):
        client.next_sample("first")


def test_a_label_is_sent_by_rank_and_names(fake: Fake, client: LabelClient) -> None:
    labels = np.arange(27, dtype=np.uint8).reshape(3, 3, 3) % 4
    client.submit("case-1", labels, np.eye(4), (EDEMA, ENHANCING, NECROSIS))
    method, path, body = fake.asked[0]
    assert (method, path) == ("PUT", "/datastore/label?image=case-1&tag=final")
    info = json.loads(body.split(b'name="params"\r\n\r\n')[1].split(b"\r\n")[0])["label_info"]
    assert info == [{"name": EDEMA, "idx": 1}, {"name": ENHANCING, "idx": 2}, {"name": NECROSIS, "idx": 3}]
    sent = read_labels(client.folder / "submit-case-1.nii.gz")
    assert set(sent[labels == CLIENT_LABELS[NECROSIS]]) == {3}
    assert np.array_equal(remap_by_label_info(sent, info), labels)


def test_a_label_comes_back(fake: Fake, client: LabelClient, tmp_path: Path) -> None:
    labels = np.arange(8, dtype=np.uint8).reshape(2, 2, 2) % 4
    write_labels(tmp_path / "there.nii.gz", labels, np.eye(4))
    fake.reply = lambda *_: (200, (tmp_path / "there.nii.gz").read_bytes())
    assert np.array_equal(client.label("case-1"), labels)
    assert list(client.folder.iterdir()) == []


@pytest.mark.parametrize("call", ["infer", "next", "train", "submit"])
def test_a_refusal_says_step_reason_and_hint(fake: Fake, client: LabelClient, call: str) -> None:
    fake.reply = lambda *_: (404, REFUSED)
    calls = {
        "infer": lambda: client.infer("x", "case-1"),
        "next": lambda: client.next_sample("x"),
        "train": lambda: client.train("x", {}),
        "submit": lambda: client.submit("case-1", np.zeros((2, 2, 2), np.uint8), np.eye(4), (EDEMA,)),
    }
    with pytest.raises(RareVoxelError, match=r"cannot .*: no model 'x', expected 'calf' \(HTTP 404\)") as caught:
        calls[call]()
    assert caught.value.hint == "GET /info/ lists them"


@pytest.mark.parametrize("answer", [b"<html>bad gateway</html>", b"[1]", b"\xff\xfe"])
def test_an_answer_that_is_no_json_error_is_quoted(fake: Fake, client: LabelClient, answer: bytes) -> None:
    fake.reply = lambda *_: (502, answer)
    with pytest.raises(RareVoxelError, match=r"cannot train calf: (HTTP 502|UnicodeDecodeError)"):
        client.train("calf", {})


def test_a_server_that_is_gone_is_told(client: LabelClient, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    gone = LabelClient(f"http://127.0.0.1:{port}", tmp_path)
    before = socket.getdefaulttimeout()
    with pytest.raises(RareVoxelError, match="cannot ask what the server offers: ConnectionRefusedError"):
        gone.info()
    assert socket.getdefaulttimeout() == before


def training(fake: Fake, statuses: list[str], details: list[str]) -> None:
    def reply(method: str, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/info/":
            return 200, {"train_stats": {"calf": {"epoch": 3 - len(statuses), "gate": {}}}}
        if method == "POST":
            return 200, {"status": "SUBMITTED"}
        return 200, {"status": statuses.pop(0), "details": details}

    fake.reply = reply


def test_training_is_followed_to_its_end(fake: Fake, client: LabelClient) -> None:
    training(fake, ["SUBMITTED", "RUNNING", "DONE"], [])
    seen: list[int] = []
    stats = client.train("calf", {"max_epochs": 2}, on_progress=lambda stats: seen.append(stats["epoch"]), poll=0.01)
    assert stats == {"epoch": 3, "gate": {}}
    assert seen == [1, 2, 3]
    assert json.loads(fake.asked[0][2]) == {"max_epochs": 2, "client_id": "rarevoxel"}


@pytest.mark.parametrize("status", ["ERROR", "STOPPED"])
def test_a_failed_training_ends_with_its_last_lines(fake: Fake, client: LabelClient, status: str) -> None:
    training(fake, ["RUNNING", status], [f"line {i}" for i in range(20)])
    with pytest.raises(RareVoxelError, match=f"status {status}.*\n(.*\n)*line 19") as caught:
        client.train("calf", {}, poll=0.01)
    assert "line 7\n" not in str(caught.value)


def test_following_can_be_given_up(fake: Fake, client: LabelClient) -> None:
    training(fake, ["RUNNING"] * 9, [])

    def dead() -> None:
        raise RareVoxelError("the server ended with code 1")

    with pytest.raises(RareVoxelError, match="ended with code 1"):
        client.train("calf", {}, check=dead, poll=0.01)
