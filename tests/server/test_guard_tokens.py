"""Tokens: made once, kept as hashes, good for a role and a time."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path

import pytest

from rarevoxel.errors import ConfigError, ConflictError, InputError, NotFoundError, UnavailableError
from rarevoxel.server.guard.access import FAILURES, Access
from rarevoxel.server.guard.config import GuardConfig
from rarevoxel.server.guard.tokens import DAY, Role, TokenStore
from rarevoxel.server.launcher import check_exposure, private_folder
from server.guarded import Guarded, refused

ROLES = {"view": "GET /info/", "annotate": "PUT /datastore/label", "train": "POST /train/calf", "admin": "GET /logs/"}


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return TokenStore(tmp_path / "home" / "tokens.json")


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_a_token_is_long_random_and_nowhere_on_disk(store: TokenStore) -> None:
    token, other = store.add("anna", Role.ANNOTATE, 30), store.add("ben", Role.VIEW, 30)
    assert len(token) == len("rv_") + 43, "256 bits in base64"
    assert token != other
    content = store.path.read_text()
    assert token not in content
    assert token[3:] not in content
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    found = store.find(token)
    assert found is not None
    assert (found.name, found.role) == ("anna", "annotate")
    assert found.expires - found.created == 30 * DAY
    assert store.find(token[:-1]) is None
    assert store.find("") is None
    assert store.find("\udcff") is None


def test_a_token_ends(store: TokenStore) -> None:
    token = store.add("anna", Role.VIEW, 30)
    entry = store.tokens()[0]
    assert not entry.expired(time.time() + 30 * DAY - 60)
    assert entry.expired(time.time() + 30 * DAY + 60)
    content = json.loads(store.path.read_text())
    content["tokens"][0]["expires"] = time.time() - 1
    store.path.write_text(json.dumps(content))
    assert store.find(token) is None, "the changed file was read again"


def test_a_revoked_token_ends_at_once_and_for_everybody_who_has_the_file_open(store: TokenStore) -> None:
    token = store.add("anna", Role.VIEW, 30)
    running = TokenStore(store.path)
    assert running.find(token) is not None
    assert store.revoke("anna").name == "anna"
    assert running.find(token) is None
    assert running.exists(), "a file without tokens lets nobody in"


def test_mistakes_are_told(store: TokenStore) -> None:
    with pytest.raises(NotFoundError, match="no token of 'anna', there are: none"):
        store.revoke("anna")
    assert not store.path.exists(), "a mistake must not close an open server"
    store.add("anna", Role.VIEW, 1)
    with pytest.raises(ConflictError, match="anna has a token already"):
        store.add("anna", Role.VIEW, 1)
    with pytest.raises(InputError, match="token name 'a b'"):
        store.add("a b", Role.VIEW, 1)
    with pytest.raises(InputError, match="a token for 0 days"):
        store.add("ben", Role.VIEW, 0)
    with pytest.raises(InputError, match="no role 'king', expected one of view, annotate, train, admin"):
        Role.named("king")
    assert [entry.name for entry in store.tokens()] == ["anna"]


@pytest.mark.parametrize("content", [b"", b"{torn", b"[]", b'{"tokens": [{"name": "x"}]}', b"\xff"])
def test_a_torn_file_lets_nobody_in(store: TokenStore, content: bytes) -> None:
    token = store.add("anna", Role.ADMIN, 1)
    store.path.write_bytes(content)
    with pytest.raises(UnavailableError, match="the tokens file cannot be read"):
        store.find(token)
    ask = Guarded(home=str(store.path.parent))
    refused(ask("GET", "/info/", headers=bearer(token)), 503, "nobody is let in")
    assert ask("GET", "/health").status_code == 200
    assert ask.inner.paths == ["/health"]


@pytest.mark.fault(42)
@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_its_own_and_what_is_below(store: TokenStore, role: str) -> None:
    token = store.add(role, Role.named(role), 1)
    ask = Guarded(home=str(store.path.parent))
    for needed, request in ROLES.items():
        method, path = request.split()
        refused(ask(method, path), 401, "no token", code="unauthorized")
        response = ask(method, path, headers=bearer(token))
        if Role.named(role) >= Role.named(needed):
            assert response.status_code == 200
            assert ask.inner.user == role
        else:
            refused(response, 403, f"needs the role {needed}", f"has {role}", code="forbidden")


@pytest.mark.fault(42)
def test_without_a_good_token_nobody_comes_in(store: TokenStore) -> None:
    token = store.add("anna", Role.ADMIN, 1)
    ask = Guarded(home=str(store.path.parent))
    for header in ("", "Bearer", "Bearer ", "Basic YTpi", f"Bearer {token}x", f"Token {token}", token):
        response = ask("GET", "/info/", headers={"authorization": header})
        refused(response, 401, code="unauthorized")
        assert response.headers["www-authenticate"] == "Bearer"
    assert ask("GET", f"/info/?token={token}").status_code == 401
    assert ask.inner.paths == []
    assert ask("GET", "/info/", headers={"authorization": f"bearer   {token}"}).status_code == 200
    store.revoke("anna")
    refused(ask("GET", "/info/", headers=bearer(token)), 401, "revoked")


def test_a_browser_asks_for_the_token_where_pages_only_show(store: TokenStore) -> None:
    token, weak = store.add("anna", Role.TRAIN, 30), "rv_wrong"
    ask = Guarded(home=str(store.path.parent))
    refusal = ask("GET", "/dashboard")
    refused(refusal, 401, "no token")
    assert refusal.headers["www-authenticate"].startswith('Basic realm="rarevoxel')
    for path in ("/dashboard", "/dashboard?queue=2&labels=3", "/dashboard/cases/c-1", "/dashboard/cases/c-1/picture"):
        assert ask("GET", path, auth=("anybody", token)).status_code == 200, path
        assert ask("GET", path, headers=bearer(token)).status_code == 200
    assert ask.inner.user == "anna"
    refused(ask("GET", "/dashboard", auth=("anna", weak)), 401, "unknown, revoked or expired")
    for header in ("Basic", "Basic ***", "Basic " + "x" * 5, "Basic /w=="):
        refused(ask("GET", "/dashboard", headers={"authorization": header}), 401, "no token")
    # A browser would send it along with whatever another page makes it send.
    for method, path in (("GET", "/info/"), ("POST", "/train/calf"), ("DELETE", "/datastore/label?id=c&tag=final")):
        refusal = ask(method, path, auth=("anna", token))
        refused(refusal, 401, "no token")
        assert refusal.headers["www-authenticate"] == "Bearer"
    refused(ask("GET", "/dashboard?queue=0", headers=bearer(token)), 400, "1 to 99999")
    refused(ask("GET", "/dashboard/cases/..%2Fx", headers=bearer(token)), 400)


def test_an_open_server_is_open_to_this_machine_only(tmp_path: Path) -> None:
    assert Guarded(home=str(tmp_path))("DELETE", "/datastore/image?id=a").status_code == 200
    refused(Guarded(home=str(tmp_path), client="10.0.0.9")("GET", "/info/"), 401, "other machines")
    for settings in ({"host": "0.0.0.0"}, {"behind_proxy": True}):
        refused(Guarded(home=str(tmp_path), **settings)("GET", "/info/"), 401, "no token")
        assert Guarded(home=str(tmp_path), **settings)("GET", "/health").status_code == 200


def test_guessing_is_slowed_down_and_owners_are_not(store: TokenStore) -> None:
    token = store.add("anna", Role.VIEW, 1)
    now = [0.0]
    ask = Guarded(home=str(store.path.parent))
    ask.guard.access = Access(GuardConfig(home=str(store.path.parent)), lambda: now[0])
    for _ in range(FAILURES):
        refused(ask("GET", "/info/", headers=bearer("wrong")), 401)
        now[0] += 1.0
    response = ask("GET", "/info/", headers=bearer("wrong"))
    refused(response, 429, f"{FAILURES} wrong tokens within 60 s", code="too_many_attempts")
    assert response.headers["retry-after"] == "40"
    assert ask("GET", "/info/", headers=bearer(token)).status_code == 200
    assert ask("GET", "/info/").status_code == 401, "no token at all is no attempt"
    now[0] += 61.0
    refused(ask("GET", "/info/", headers=bearer("wrong")), 401)


@pytest.mark.fault(42)
def test_the_annotation_tool_s_log_in(store: TokenStore) -> None:
    home = str(store.path.parent)
    refused(Guarded(home=home)("GET", "/auth/"), 404)
    token = store.add("anna", Role.ANNOTATE, 1)
    ask = Guarded(home=home)
    assert ask("GET", "/auth/").json()["enabled"] is True
    form = {"username": "whoever", "password": token, "grant_type": "password"}
    assert ask("POST", "/auth/token", data=form).json() == {"access_token": token, "token_type": "bearer"}
    refused(ask("POST", "/auth/token", data={**form, "password": "wrong"}), 401, "unknown, revoked or expired")
    refused(ask("POST", "/auth/token", data={"username": "x"}), 401, "no password")
    refused(ask("POST", "/auth/token", content=b"\xff=\xff"), 400, "form")
    valid = ask("GET", "/auth/token/valid", headers=bearer(token))
    assert valid.json() == {"username": "anna", "name": "anna", "roles": ["annotate"]}
    refused(ask("GET", "/auth/token/valid"), 401)
    assert ask.inner.paths == [], "the inner application knows nothing of tokens"


@pytest.mark.fault(42)
def test_a_server_for_others_does_not_start_without_tokens_and_tls(store: TokenStore) -> None:
    home = str(store.path.parent)
    check_exposure(GuardConfig(home=home), tls=False, insecure=False)
    network, proxied = GuardConfig(home=home, host="0.0.0.0"), GuardConfig(home=home, behind_proxy=True)
    with pytest.raises(ConfigError, match=r"a server on 0\.0\.0\.0 is reached by others, and there are no tokens"):
        check_exposure(network, tls=True, insecure=True)
    with pytest.raises(ConfigError, match="a server behind a proxy is reached by others"):
        check_exposure(proxied, tls=False, insecure=False)
    store.add("anna", Role.VIEW, 1)
    check_exposure(proxied, tls=False, insecure=False)
    with pytest.raises(ConfigError, match=r"without TLS sends images and tokens in the clear \(pass --tls-cert"):
        check_exposure(network, tls=False, insecure=False)
    check_exposure(network, tls=True, insecure=False)
    check_exposure(network, tls=False, insecure=True)


def test_the_folder_for_uploads_is_empty_and_private(tmp_path: Path) -> None:
    folder = private_folder(tmp_path, 8000)
    assert folder == tmp_path / "tmp" / "8000"
    (folder / "left.nii.gz").write_text("of a server that was killed")
    other = private_folder(tmp_path, 8001)
    (other / "used").write_text("by a server that runs")
    assert list(private_folder(tmp_path, 8000).iterdir()) == []
    assert (other / "used").exists()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)] == [0o700, 0o700]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be used for uploads"):
        private_folder(tmp_path / "file", 1)
