"""Who gets past the guard, and in which form everybody else is answered; without a server."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from rarevoxel.errors import ConfigError, NotFoundError
from rarevoxel.server.guard.config import GuardConfig, is_loopback
from rarevoxel.server.guard.middleware import Guard
from rarevoxel.server.guard.routes import RULES, find_rules
from rarevoxel.server.guard.tokens import Role
from server.guarded import HOST, Guarded, chunk, drive, records, refused

LONG = "a" * 300


def test_what_belongs_passes() -> None:
    ask = Guarded()
    response = ask("GET", "/info/")
    assert (response.status_code, response.text) == (200, "inside")
    assert ask("POST", "/infer/calf?image=case-1&output=json").status_code == 200
    assert ask("PUT", "/datastore/?image=case-1").status_code == 200
    assert ask.inner.paths == ["/info/", "/infer/calf", "/datastore/"]


@pytest.mark.parametrize(
    "path", ["/nowhere", "/proxy/dicom/x", "/infer/wsi/m", "/ohif/", "/static/x.js", "/datastore/x"]
)
def test_there_is_nothing_but_the_table(path: str) -> None:
    ask = Guarded()
    refused(ask("GET", path), 404, "no such path", "/docs", code="http_404")
    assert ask.inner.paths == []


def test_a_method_that_is_not_there_names_those_that_are() -> None:
    response = Guarded()("PATCH", "/datastore/label")
    refused(response, 405, "'PATCH'", "DELETE, GET, HEAD, PUT", code="http_405")
    assert response.headers["allow"] == "DELETE, GET, HEAD, PUT"
    refused(Guarded()("OPTIONS", "/info/"), 405)


@pytest.mark.fault(25)
@pytest.mark.parametrize(
    "name", ["../x", "..", "a..b", "/etc/passwd", "a/b", "a\\b", "a%00b", LONG, "M%C3%BCller", ".x", "-x", "a b", "a^b"]
)
def test_names_are_names(name: str) -> None:
    ask = Guarded()
    for method, path in (
        ("GET", f"/datastore/image?image={name}"),
        ("PUT", f"/datastore/label?image=c&tag={name}"),
        ("POST", f"/infer/calf?image={name}"),
        ("POST", f"/infer/calf?session_id={name}"),
        ("DELETE", f"/datastore/label?id=c&tag={name}"),
    ):
        error = refused(ask(method, path), 400, "expected a name", code="malformed")
        assert LONG not in error["message"]
    assert ask.inner.paths == []


@pytest.mark.fault(25)
@pytest.mark.parametrize("name", ["%2E%2E", "..%2F..%2Fx", "a%00", LONG, "a%20b", "%C3%BC", "a%5Cb"])
def test_names_in_paths_are_names(name: str) -> None:
    ask = Guarded()
    for prefix in ("/infer/", "/train/", "/model/", "/session/", "/activelearning/"):
        method = "GET" if prefix in ("/model/", "/session/") else "POST"
        response = ask(method, f"{prefix}{name}")
        assert response.status_code in (400, 404), response.text
        refused(response, response.status_code)
    assert ask.inner.paths == []


def test_a_session_s_image_is_only_a_word() -> None:
    """3D Slicer sends the name of its volume beside the session; it is ignored, and in no log."""
    assert Guarded()("POST", "/infer/calf?image=MR^Head 1&session_id=abc").status_code == 200


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("image=c&model=x", ("'model'", "image, output, session_id")),
        ("image=c&image=d", ("given twice",)),
        ("image=c&output=dicom_seg", ("image, json, all",)),
        ("&".join(f"k{i}=1" for i in range(40)), ("cannot be read",)),
    ],
)
def test_a_query_holds_what_is_asked_for(query: str, words: tuple[str, ...]) -> None:
    refused(Guarded()("POST", f"/infer/calf?{query}"), 400, *words, code="malformed")


def test_numbers_and_flags_in_a_query_are_checked() -> None:
    ask = Guarded()
    refused(ask("GET", "/logs/?lines=-1"), 400, "1 to 10000")
    refused(ask("GET", "/train/?all=perhaps"), 400, "true or false")
    refused(ask("GET", "/datastore/?output=train"), 400, "all, stats")
    assert ask("GET", "/train/?check_if_running=true").status_code == 200


def test_every_rule_is_found_by_its_own_path() -> None:
    for rule in RULES:
        path = rule.path.replace("{", "").replace("}", "")
        assert find_rules(path)[0][rule.method] is rule
    assert find_rules("/model/info/calf")[0]["GET"].path == "/model/info/{model}"
    roles = {(rule.method, rule.path): rule.role for rule in RULES}
    assert roles["GET", "/info/"] == Role.VIEW
    assert roles["PUT", "/datastore/label"] == Role.ANNOTATE
    assert roles["POST", "/train/{model}"] == Role.TRAIN
    assert roles["DELETE", "/datastore/image"] == roles["GET", "/logs/"] == Role.ADMIN
    assert [rule.path for rule in RULES if rule.role is None] == [
        "/health",
        "/auth/",
        "/auth/token",
        "/auth/token/valid",
    ]


@pytest.mark.fault(42)
@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("127.0.0.1:8000", True),
        ("localhost", True),
        ("LOCALHOST:9", True),
        ("[::1]:8000", True),
        ("viewer.example:443", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("10.0.0.7:8000", False),
        ("localhost@evil.example", False),
        ("", False),
    ],
)
def test_only_names_of_this_server(host: str, good: bool) -> None:
    ask = Guarded(allow_hosts=("viewer.example",))
    response = ask("GET", "/info/", headers={"host": host})
    if good:
        assert response.status_code == 200
    else:
        refused(response, 403, "Host", "--allow-host", code="forbidden")


def test_an_address_in_digits_that_was_really_dialled_is_this_server() -> None:
    sent = asyncio.run(drive(Guarded(host="0.0.0.0", home="/nowhere").guard, "GET", "/health", [chunk(b"", False)]))
    assert sent[0]["status"] == 200


@pytest.mark.fault(42)
def test_only_pages_of_this_server() -> None:
    ask = Guarded(allow_origins=("https://viewer.example",))
    for origin in ("http://evil.example", "null", "https://viewer.example.evil", f"http://{HOST}0", "file://"):
        refused(ask("GET", "/info/", headers={"origin": origin}), 403, "another origin", code="forbidden")
        refused(ask("OPTIONS", "/info/", headers={"origin": origin}), 403)
    refused(ask("GET", "/info/", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}), 403)
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert ask("GET", "/docs", headers=link).status_code == 200
    assert ask("GET", "/info/", headers={"origin": f"http://{HOST}"}).status_code == 200
    allowed = ask("GET", "/info/", headers={"origin": "https://viewer.example"})
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://viewer.example")
    preflight = ask("OPTIONS", "/datastore/label", headers={"origin": "https://viewer.example"})
    assert preflight.status_code == 204
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    assert "if-match" in preflight.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in preflight.headers


def test_every_reply_has_the_headers_that_keep_browsers_honest() -> None:
    for response in (Guarded()("GET", "/info/"), Guarded()("GET", "/nowhere")):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
        assert "server" not in response.headers
        assert len(response.headers["x-request-id"]) == 16
    given = Guarded()("GET", "/info/", headers={"x-request-id": "my-request-1"})
    assert given.headers["x-request-id"] == "my-request-1"
    odd = Guarded()("GET", "/info/", headers={"x-request-id": "a b\tc"})
    assert odd.headers["x-request-id"] != "a b\tc"


def test_large_headers_are_refused() -> None:
    refused(Guarded()("GET", "/info/", headers={"x-much": "a" * 40_000}), 413, "headers", code="too_large")


def test_what_nobody_foresaw_is_json_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError("secret detail")

    async def own(scope: Any, receive: Any, send: Any) -> None:
        raise NotFoundError("no case in /tmp/somewhere/Doe^John.nii.gz", "look")

    error = refused(Guarded(broken)("GET", "/info/"), 500, "ZeroDivisionError", "GET /info/")
    assert "secret" not in json.dumps(error)
    assert "secret detail" in records(caplog), "the log has it"
    error = refused(Guarded(own)("GET", "/info/"), 404)
    assert "/tmp" not in error["message"]
    assert "Doe" not in error["message"]


def test_websockets_are_closed() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Guard(None, GuardConfig())({"type": "websocket"}, None, send))  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_a_log_line_has_the_template_and_the_case(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rarevoxel.server.guard.middleware")
    ask = Guarded()
    ask("GET", "/datastore/image?image=case-1")
    ask("GET", "/datastore/image?image=Doe^John")
    ask("GET", "/Doe^John")
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("GET /datastore/image -> 200 in ")
    assert lines[0].endswith(" ms case=case-1")
    assert lines[1].startswith("GET /datastore/image -> 400")
    assert lines[2].startswith("GET unmatched -> 404")
    assert "Doe" not in " ".join(lines)


def test_metrics_count_by_template() -> None:
    ask = Guarded()
    ask("POST", "/infer/calf?image=case-1")
    ask("PUT", "/datastore/label?image=case-1")
    ask("PUT", "/datastore/label?image=../x")
    ask("GET", "/no/such/thing")
    text = ask.guard.metrics.text().decode()
    assert 'rarevoxel_requests_total{method="POST",route="/infer/{model}",status="200"} 1.0' in text
    assert 'rarevoxel_labels_total{outcome="accepted"} 1.0' in text
    assert 'rarevoxel_labels_total{outcome="rejected"} 1.0' in text
    assert 'rarevoxel_requests_total{method="other",route="unmatched",status="404"} 1.0' in text
    assert "rarevoxel_inference_queue 0.0" in text
    assert "process_resident_memory_bytes" in text
    assert "case-1" not in text


def test_settings_travel_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    config = GuardConfig(host="::1", allow_hosts=("a", "b"), queue=3, idle_seconds=2.5, behind_proxy=True)
    monkeypatch.setenv("RAREVOXEL_GUARD", config.to_json())
    assert GuardConfig.from_environment() == config
    monkeypatch.setenv("RAREVOXEL_GUARD", "{torn")
    with pytest.raises(ConfigError, match="RAREVOXEL_GUARD holds no settings"):
        GuardConfig.from_environment()
    with pytest.raises(ConfigError, match=r"label_mib \(0\) must be 1 to 65536"):
        GuardConfig(label_mib=0)
    with pytest.raises(ConfigError, match=r"queue \(-1\) must be 0 to 1000"):
        GuardConfig(queue=-1)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("example.org", False)],
)  # fmt: skip
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
