"""A real server as a hospital runs it: TLS, tokens, small limits. Driven by the public client, and by hand."""

from __future__ import annotations

import datetime
import ipaddress
import json
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from monailabel.client.client import MONAILabelClient, MONAILabelClientException

from rarevoxel.errors import RareVoxelError
from rarevoxel.server.guard.tokens import Role, TokenStore
from rarevoxel.server.process import ServerProcess
from rarevoxel.volumes import file_sha256, read_header, read_labels, write_labels

pytestmark = pytest.mark.server

CASE, START_S = "phantom-003", 180.0
PATIENT = "Doe^John_19600101"


@dataclass(frozen=True)
class Hospital:
    """A running server, its folders, a certificate to trust, and a token for every role."""

    process: ServerProcess
    studies: Path
    home: Path
    certificate: Path
    tokens: dict[str, str]

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.process.port}"

    def ask(self, method: str, path: str, role: str = "annotate", **kwargs: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.tokens[role]}"} if role else {}
        headers |= kwargs.pop("headers", {})
        return requests.request(
            method, f"{self.url}{path}", headers=headers, verify=str(self.certificate), timeout=60, **kwargs
        )

    def client(self, folder: Path) -> MONAILabelClient:
        return MONAILabelClient(self.url, tmpdir=str(folder), client_id="slicer")

    def connect(self) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(self.certificate))
        plain = socket.create_connection(("127.0.0.1", self.process.port), timeout=30)
        return context.wrap_socket(plain, server_hostname="127.0.0.1")

    def label(self, case: str = CASE) -> Path:
        return self.studies / "labels" / "final" / f"{case}.nii.gz"

    def logs(self) -> str:
        files = [self.process.log, *self.home.rglob("app.log")]
        return "\n".join(path.read_text(errors="replace") for path in files)

    def litter(self) -> list[Path]:
        """Uploads and results that stayed behind, after a moment to clean up."""
        deadline = time.monotonic() + 5
        while (left := [p for p in (self.home / "tmp").rglob("*") if p.is_file()]) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left


def certify(folder: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(1))
    builder = builder.not_valid_after(now + datetime.timedelta(2))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = builder.add_extension(address, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(*form))
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture(scope="module")
def hospital(
    tmp_path_factory: pytest.TempPathFactory, studies_template: Path, app_toml: str, tiny_weights: Path, main_py: Path
) -> Iterator[Hospital]:
    root = tmp_path_factory.mktemp("hospital")
    studies, home, app = root / "studies", root / "home", root / "source" / "tiny"
    shutil.copytree(studies_template, studies, symlinks=True)
    (app / "starter").mkdir(parents=True)
    shutil.copyfile(main_py, app / "main.py")
    shutil.copyfile(tiny_weights, app / "starter" / "starter.pt")
    (app / "app.toml").write_text(app_toml, encoding="utf-8")
    store = TokenStore(home / "tokens.json")
    tokens = {role.name.lower(): store.add(f"{role.name.lower()}er", role, 1) for role in Role}
    certificate, key = certify(root)
    options = ["--app", str(app), "--tls-cert", str(certificate), "--tls-key", str(key), "--queue", "1"]
    options += ["--limit-label", "1", "--limit-image", "8", "--limit-idle", "4"]
    with ServerProcess(studies, home=home, log=root / "server.log", options=options) as process:
        served = Hospital(process, studies, home, certificate, tokens)
        wait(served)
        yield served


def wait(served: Hospital) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        served.process.check()
        try:
            if served.ask("GET", "/health", role="").status_code == 200:
                return
        except requests.ConnectionError:
            time.sleep(0.25)
    raise RareVoxelError(f"no answer within {START_S:.0f} s:\n{served.process.tail()}")


def refused(response: requests.Response, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert {"code", "message", "hint"} <= set(error)
    for word in words:
        assert word in f"{error['message']} {error['hint']}", error


def a_label(hospital: Hospital, path: Path, value: int = 2) -> Path:
    grid = read_header(hospital.studies / f"{CASE}.nii.gz")
    array = np.zeros(grid.shape, np.uint8)
    array[18:24, 20:26, 18:24] = value
    write_labels(path, array, grid.affine)
    return path


def put(hospital: Hospital, path: Path, name: str = "x.nii.gz", role: str = "annotate", **kwargs: Any) -> Any:
    files = {"label": (name, path.read_bytes())}
    return hospital.ask("PUT", "/datastore/label", role, params={"image": CASE}, files=files, **kwargs)


@pytest.mark.fault(42)
def test_the_public_client_logs_in_as_3d_slicer_does(hospital: Hospital, tmp_path: Path) -> None:
    client = hospital.client(tmp_path)
    assert client.auth_enabled()
    with pytest.raises(MONAILabelClientException) as caught:
        client.info()
    assert caught.value.status_code == 401
    with pytest.raises(MONAILabelClientException) as caught:
        client.auth_token("anybody", "wrong")
    assert caught.value.status_code == 401
    assert not client.auth_valid_token()
    client.update_auth(client.auth_token("anybody", hospital.tokens["annotate"]))
    assert client.auth_valid_token()
    assert client.info()["datastore"]["total"] == 6
    sample = client.next_sample("first", {})
    assert sample["id"] == CASE
    assert "path" not in sample, "where it lies on the server is nobody's business"
    file, reply = client.infer("calf", CASE, {"result_extension": ".nrrd", "result_dtype": "uint8"})
    assert read_labels(file).shape == read_header(hospital.studies / f"{CASE}.nii.gz").shape
    assert reply["label_names"]["edema"] == 2
    label = a_label(hospital, tmp_path / "up.nii.gz", 1)
    saved = client.save_label(CASE, str(label), params={"label_info": [{"name": "edema", "idx": 1}]})
    assert saved["sha256"] == file_sha256(hospital.label())
    newest = sorted((hospital.studies / "history" / CASE / "final").glob("*.json"))[-1]
    assert json.loads(newest.read_text())["user"] == "annotateer", "the token says who it was, not the client"
    with pytest.raises(MONAILabelClientException) as caught:
        client.train_start("calf", {})
    assert "needs the role train" in str(caught.value.msg)


@pytest.mark.fault(42)
@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("POST", f"/infer/calf?image={CASE}", "view"),
        ("POST", "/activelearning/first", "annotate"),
        ("DELETE", "/train/", "train"),
        ("GET", "/logs/?lines=2", "admin"),
        ("GET", "/datastore/dataset?limit_cases=1", "admin"),
    ],
)
def test_roles(hospital: Hospital, method: str, path: str, needed: str) -> None:
    refused(hospital.ask(method, path, role=""), 401, "no token")
    refused(hospital.ask(method, path, role="", headers={"Authorization": "Bearer rv_wrong"}), 401)
    for role in Role:
        response = hospital.ask(method, path, role=role.name.lower())
        if role >= Role.named(needed):
            # The only case that is left is with the first who asked for it.
            allowed = (200, 409) if path.startswith("/activelearning") else (200,)
            assert response.status_code in allowed, response.text
        else:
            refused(response, 403, f"needs the role {needed}")
    assert hospital.litter() == []


@pytest.mark.fault(42)
def test_foreign_names_and_pages_are_refused(hospital: Hospital) -> None:
    refused(hospital.ask("GET", "/info/", headers={"Host": "evil.example"}), 403, "Host")
    refused(hospital.ask("GET", "/info/", headers={"Origin": "https://evil.example"}), 403, "another origin")
    preflight = hospital.ask("OPTIONS", "/info/", role="", headers={"Origin": "https://evil.example"})
    refused(preflight, 403)
    assert not [name for name in preflight.headers if name.lower().startswith("access-control")]
    same = hospital.ask("GET", "/info/", headers={"Origin": hospital.url})
    assert same.status_code == 200
    assert "server" not in same.headers


@pytest.mark.fault(27)
def test_two_clinicians_and_one_version(hospital: Hospital, tmp_path: Path) -> None:
    first = put(hospital, a_label(hospital, tmp_path / "a.nii.gz", 1))
    assert first.status_code == 200, first.text
    seen = hospital.ask("GET", "/datastore/label", params={"label": CASE, "tag": "final"}).headers["etag"]
    assert seen == first.headers["etag"] == f'"{file_sha256(hospital.label())}"'
    changed = put(hospital, a_label(hospital, tmp_path / "b.nii.gz", 3), headers={"If-Match": seen})
    assert changed.status_code == 200, changed.text
    late = put(hospital, a_label(hospital, tmp_path / "c.nii.gz", 2), headers={"If-Match": seen})
    refused(late, 409)
    assert f'"{file_sha256(hospital.label())}"' == changed.headers["etag"]


@pytest.mark.fault(26)
@pytest.mark.fault(43)
def test_who_removes_and_restores_a_label_is_in_its_history(hospital: Hospital, tmp_path: Path) -> None:
    sent = put(hospital, a_label(hospital, tmp_path / "label.nii.gz")).json()
    query = {"label": CASE, "tag": "final"}
    refused(hospital.ask("DELETE", "/datastore/label", "train", params={"id": CASE, "tag": "final"}), 403, "admin")
    assert hospital.ask("DELETE", "/datastore/label", "admin", params={"id": CASE, "tag": "final"}).json() == {}
    refused(hospital.ask("GET", "/datastore/label", params=query), 404, "no such label")
    back = hospital.ask("POST", "/datastore/label/restore", "train", params={**query, "version": sent["version"]})
    assert back.json()["sha256"] == sent["sha256"]
    refused(hospital.ask("GET", "/datastore/label/versions", "view", params=query), 403, "annotate")
    records = hospital.ask("GET", "/datastore/label/versions", params=query).json()["versions"]
    users = [(record["reason"], record["user"]) for record in records[-3:]]
    assert users == [
        ("submitted", "annotateer"),
        ("removed", "adminer"),
        (f"restored from version {sent['version']}", "trainer"),
    ]


def test_names_of_uploads_are_ignored_and_nowhere(hospital: Hospital, tmp_path: Path) -> None:
    label = a_label(hospital, tmp_path / "a.nii.gz")
    garbage = tmp_path / "garbage.nii.gz"
    garbage.write_bytes(b"no volume")
    replies = [put(hospital, label, name) for name in (f"{PATIENT}.nii.gz", "../../x.exe", "no-suffix", f"{PATIENT}")]
    assert [reply.status_code for reply in replies] == [200] * 4
    replies.append(put(hospital, garbage, f"{PATIENT}.nii.gz"))
    files = {"file": (f"{PATIENT}.nii.gz", garbage.read_bytes())}
    replies.append(hospital.ask("PUT", "/datastore/image", params={"image": "new"}, files=files))
    replies.append(hospital.ask("PUT", "/datastore/image", files=files))
    replies.append(hospital.ask("PUT", "/datastore/image", params={"image": PATIENT}, files=files))
    replies.append(hospital.ask("POST", "/infer/calf", files=files))
    replies.append(hospital.ask("PUT", "/session/", files={"files": files["file"]}))
    replies.append(hospital.ask("GET", f"/datastore/image?image={PATIENT}"))
    replies.append(hospital.ask("GET", f"/{PATIENT}.nii.gz"))
    several = [("files", (f"{PATIENT}_{kind}.nii.gz", label.read_bytes())) for kind in ("t1c", "t2w")]
    replies.append(hospital.ask("PUT", "/session/", files=several))
    assert [reply.status_code for reply in replies[4:]] == [422, 422, 422, 400, 422, 200, 400, 404, 200]
    for text in (*(reply.text for reply in replies), hospital.logs()):
        for word in ("Doe", "John", "19600101", str(hospital.studies), str(hospital.home)):
            assert word not in text
    found = [str(path) for folder in (hospital.studies, hospital.home) for path in folder.rglob("*")]
    assert not [path for path in found if "Doe" in path or path.endswith(".exe")]
    assert hospital.litter() == []


def test_the_public_client_s_sessions_and_uploads(hospital: Hospital, tmp_path: Path) -> None:
    client = hospital.client(tmp_path)
    client.update_auth(client.auth_token("x", hospital.tokens["annotate"]))
    volume = tmp_path / f"{PATIENT}.nii.gz"
    shutil.copyfile(hospital.studies / "sequences" / CASE / "t1c.nii.gz", volume)
    # The certificate is not in the store that this one call of the client's looks at.
    with volume.open("rb") as stream:
        made = hospital.ask("PUT", "/session/", files={"files": (volume.name, stream)}, data={"client_id": "slicer"})
    assert made.status_code == 200, made.text
    session = made.json()["session_id"]
    assert set(client.get_session(session)) == {"name", "create_ts", "last_access_ts", "expiry"}
    with pytest.raises(MONAILabelClientException) as caught:
        client.infer("calf", "MR^Head 1", {}, session_id=session)
    assert "Status: 422" in str(caught.value.msg)
    assert "t1n, t1c, t2w, t2f is missing" in str(caught.value.msg)
    client.remove_session(session)
    refused(hospital.ask("GET", f"/session/{session}"), 404, "no such session")
    with pytest.raises(MONAILabelClientException) as caught:
        client.upload_image(str(volume), "new-case")
    assert "1 channel" in str(caught.value.msg)
    refused(hospital.ask("PUT", "/session/?uncompress=true", files={"files": ("x.zip", b"PK")}), 400, "not unpacked")
    assert PATIENT not in hospital.logs()
    assert hospital.litter() == []


def test_no_reply_names_a_folder(hospital: Hospital) -> None:
    paths = (
        "/info/",
        "/datastore/",
        "/datastore/?output=all",
        "/datastore/image/info?image=" + CASE,
        "/logs/",
        "/health",
    )
    paths += ("/model/info/calf", "/metrics", "/openapi.json", "/train/", "/scoring/", "/batch/infer")
    for path in paths:
        text = hospital.ask("GET", path, role="admin").text
        for folder in (hospital.studies.parent, Path.home()):
            assert str(folder) not in text, path


def head_of(hospital: Hospital, extra: str) -> tuple[bytes, bytes]:
    lines = [f"PUT /datastore/label?image={CASE} HTTP/1.1", f"Host: 127.0.0.1:{hospital.process.port}"]
    lines += [f"Authorization: Bearer {hospital.tokens['annotate']}", "Content-Type: multipart/form-data; boundary=b"]
    part = '--b\r\nContent-Disposition: form-data; name="label"; filename="x.nii.gz"\r\n\r\n'
    return ("\r\n".join([*lines, extra]) + "\r\n\r\n").encode(), part.encode()


def reply_to(connection: ssl.SSLSocket) -> bytes:
    found = b""
    while b"\r\n\r\n" not in found:
        block = connection.recv(65536)
        if not block:
            break
        found += block
    return found


@pytest.mark.fault(30)
def test_clients_that_hang_up_or_stop(hospital: Hospital, tmp_path: Path) -> None:
    assert put(hospital, a_label(hospital, tmp_path / "a.nii.gz", 1)).status_code == 200
    before = file_sha256(hospital.label())
    head, part = head_of(hospital, "Content-Length: 500000")
    with hospital.connect() as connection:
        connection.sendall(head + part + b"x" * 100_000)
    with hospital.connect() as connection:
        connection.sendall(head + part + b"x" * 1000)
        answer = reply_to(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer.lower()
    assert file_sha256(hospital.label()) == before
    assert hospital.litter() == []
    assert hospital.ask("GET", "/info/").status_code == 200


@pytest.mark.fault(29)
def test_too_much_is_413_and_the_connection_goes_on(hospital: Hospital, tmp_path: Path) -> None:
    before = file_sha256(hospital.label()) if hospital.label().exists() else ""
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(hospital.certificate)
        session.headers["Authorization"] = f"Bearer {hospital.tokens['annotate']}"

        def pieces() -> Iterator[bytes]:
            yield b"--b\r\n" + b'Content-Disposition: form-data; name="label"; filename="x"\r\n\r\n'
            for _ in range(40):
                yield b"x" * 100_000
            yield b"\r\n--b--\r\n"

        url, kind = f"{hospital.url}/datastore/label?image={CASE}", {"Content-Type": "multipart/form-data; boundary=b"}
        refused(session.put(url, data=pieces(), headers=kind, timeout=60), 413, "expected at most 2097152")
        refused(session.put(url, files={"label": ("x", b"x" * 4_000_000)}, timeout=60), 413, "--limit-label")
        refused(session.post(f"{hospital.url}/activelearning/first", data=b" " * 2_000_000, timeout=60), 413)
        assert session.get(f"{hospital.url}/info/", timeout=60).status_code == 200
    assert (file_sha256(hospital.label()) if hospital.label().exists() else "") == before
    assert hospital.litter() == []


def test_inferences_queue_and_the_rest_is_told_when_to_come(hospital: Hospital) -> None:
    replies: list[requests.Response] = []
    together = threading.Barrier(8)

    def infer() -> None:
        together.wait()
        query = {"image": CASE, "output": "json"}
        replies.append(hospital.ask("POST", "/infer/calf", params=query))

    threads = [threading.Thread(target=infer) for _ in range(8)]
    for thread in threads:
        thread.start()
    health = hospital.ask("GET", "/health", role="")
    for thread in threads:
        thread.join()
    assert health.status_code == 200
    assert {reply.status_code for reply in replies} <= {200, 429}
    assert sum(reply.status_code == 200 for reply in replies) >= 2
    for reply in replies:
        if reply.status_code == 429:
            refused(reply, 429, "wait already", "Retry-After")
            assert 1 <= int(reply.headers["retry-after"]) <= 600
    assert hospital.litter() == []


def test_figures_and_documentation(hospital: Hospital) -> None:
    refused(hospital.ask("GET", "/metrics", role=""), 401)
    text = hospital.ask("GET", "/metrics", role="view").text
    assert 'rarevoxel_requests_total{method="GET",route="/health",status="200"}' in text
    page = hospital.ask("GET", "/docs", role="view")
    assert page.headers["content-type"].startswith("text/html")
    assert "<script" not in page.text
    assert "https://" not in page.text, "it loads nothing from elsewhere"
    assert "/datastore/label" in page.text
    paths = hospital.ask("GET", "/openapi.json", role="view").json()["paths"]
    assert "/datastore/label" in paths
    assert not [path for path in paths if "proxy" in path or "wsi" in path]


@pytest.mark.fault(42)
def test_a_revoked_token_is_out_at_once(hospital: Hospital) -> None:
    store = TokenStore(hospital.home / "tokens.json")
    token = {"Authorization": f"Bearer {store.add('guest', Role.VIEW, 1)}"}
    assert hospital.ask("GET", "/info/", role="", headers=token).status_code == 200
    store.revoke("guest")
    refused(hospital.ask("GET", "/info/", role="", headers=token), 401, "revoked")
