"""Faults 18 to 30: labels and uploads that must not harm what is there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import pytest
import SimpleITK as sitk

from faults.sent import RawRequest, decode, encode, foreign_label, multipart, promising, unfolding
from faults.served import Served, check_refusal, refusing
from rarevoxel.volumes import file_sha256, read_labels

pytestmark = pytest.mark.server

CASE, OTHER = "phantom-001", "phantom-003"
MIB = 1 << 20
Change = Callable[[Any, Any], tuple[Any, Any]]


@pytest.fixture(scope="module")
def good(label_server: Served) -> bytes:
    return label_server.label(CASE).read_bytes()


def _shift(affine: Any, mm: float) -> Any:
    moved = affine.copy()
    moved[0, 3] += mm
    return moved


def _with(array: Any, value: float) -> Any:
    changed = array.astype(np.float32)
    changed[20, 20, 20] = value
    return changed


BAD: dict[str, tuple[int, Change, tuple[str, ...]]] = {
    "shape": (19, lambda a, m: (a[:-1], m), ("39x48x40", "40x48x40")),
    "flip": (20, lambda a, m: (a, m @ np.diag([-1.0, 1, 1, 1])), ("grid",)),
    "moved": (20, lambda a, m: (a, _shift(m, 3.0)), ("grid",)),
    "foreign": (21, lambda a, m: (np.where(a == 3, 4, a).astype(np.uint8), m), ("4",)),
    "half": (21, lambda a, m: (_with(a, 0.5), m), ("0.5",)),
    "nan": (21, lambda a, m: (_with(a, np.nan), m), ("NaN",)),
    "empty": (22, lambda a, m: (np.zeros_like(a), m), ("empty",)),
    "one-hot": (23, lambda a, m: (np.stack([a == v for v in range(4)], 3).astype(np.uint8) * 2, m), ("4-D",)),
}


@pytest.mark.fault(18)
@pytest.mark.parametrize("kind", ["garbage", "nobytes", "truncated"])
def test_a_file_that_is_no_label(label_server: Served, good: bytes, kind: str) -> None:
    data = {"garbage": b"this is no volume", "nobytes": b"", "truncated": good[: len(good) // 2]}[kind]
    with refusing(label_server):
        check_refusal(label_server.put_label(CASE, data), 422, CASE, server=label_server)
    assert label_server.label(CASE).read_bytes() == good
    kept = [
        path.read_bytes() for path in (label_server.studies / "rejected" / CASE).iterdir() if path.suffix != ".json"
    ]
    assert data in kept, "nobody's work is lost to a refusal"


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.fault(row[0])) for kind, row in BAD.items()])
def test_a_label_that_does_not_fit(label_server: Served, good: bytes, kind: str) -> None:
    _, change, words = BAD[kind]
    array, affine = change(*decode(good))
    with refusing(label_server):
        error = check_refusal(label_server.put_label(CASE, encode(array, affine)), 422, *words, server=label_server)
    assert error["hint"]
    assert label_server.label(CASE).read_bytes() == good


@pytest.mark.fault(20)
def test_an_affine_off_by_rounding_is_fine(label_server: Served, good: bytes) -> None:
    array, affine = decode(good)
    response = label_server.put_label(OTHER, encode(*_like(label_server, OTHER, array, _shift(affine, 1e-5))))
    assert response.status_code == 200, response.text


def _like(server: Served, case: str, array: Any, affine: Any) -> tuple[Any, Any]:
    """All phantoms lie on one grid."""
    assert nib.load(server.studies / f"{case}.nii.gz").shape == array.shape
    return array, affine


@pytest.mark.fault(21)
def test_a_declared_scheme_maps_the_values(label_server: Served, good: bytes) -> None:
    data = foreign_label(label_server.label(CASE))
    response = label_server.put_label(OTHER, data, json.dumps({"scheme": "brats2020"}))
    if response.status_code == 422:
        response = label_server.put_label(OTHER, data, json.dumps({"scheme": "BraTS2020"}))
    assert response.status_code == 200, response.text
    stored, sent = read_labels(label_server.label(OTHER)), decode(data)[0]
    assert (stored[sent == 4] == 3).all()
    assert set(np.unique(stored)) <= {0, 1, 2, 3}


@pytest.mark.fault(22)
@pytest.mark.parametrize("declared", [{"empty": True}, {"label_info": [{"name": "no tumor", "idx": 1}]}])
def test_an_empty_label_that_is_declared(label_server: Served, good: bytes, declared: dict[str, Any]) -> None:
    array, affine = decode(good)
    response = label_server.put_label(OTHER, encode(np.zeros_like(array), affine), json.dumps(declared))
    assert response.status_code == 200, response.text
    assert not read_labels(label_server.label(OTHER)).any()


@pytest.mark.fault(23)
def test_a_segmentation_of_3d_slicer(label_server: Served, good: bytes, tmp_path: Path) -> None:
    (tmp_path / "label.nii.gz").write_bytes(good)
    image = sitk.ReadImage(str(tmp_path / "label.nii.gz"))
    sitk.WriteImage(image, str(tmp_path / "up.seg.nrrd"), useCompression=True)
    segments = [{"name": n, "idx": i} for i, n in enumerate(("necrosis", "edema", "enhancing tumor"), 1)]
    params = json.dumps({"label_info": segments})
    response = label_server.put_label(OTHER, tmp_path / "up.seg.nrrd", params, name="up.seg.nrrd")
    assert response.status_code == 200, response.text
    np.testing.assert_array_equal(read_labels(label_server.label(OTHER)), decode(good)[0])


@pytest.mark.fault(24)
def test_a_label_for_a_case_that_is_not_there(label_server: Served, good: bytes) -> None:
    with refusing(label_server):
        check_refusal(label_server.put_label("nobody", good), 404, "nobody", server=label_server)
    assert not (label_server.studies / "rejected" / "nobody").exists()


@pytest.mark.fault(24)
def test_a_label_for_a_case_that_was_deleted(label_server: Served, good: bytes) -> None:
    server = label_server
    upload = _four_sequences(server, CASE)
    added = server.ask("PUT", "/datastore/image", params={"image": "fresh"}, files={"file": ("a.nii.gz", upload)})
    assert added.status_code == 200, added.text
    assert server.ask("DELETE", "/datastore/image", params={"id": "fresh"}).status_code == 200
    with refusing(server):
        check_refusal(server.put_label("fresh", good), 404, "fresh", server=server)


def _four_sequences(server: Served, case: str) -> bytes:
    folder = server.studies / "sequences" / case
    parts = [nib.load(folder / f"{name}.nii.gz") for name in ("t1n", "t1c", "t2w", "t2f")]
    return encode(np.stack([np.asarray(part.dataobj) for part in parts], 3).astype(np.int16), parts[0].affine)


NAMES = ("../x", "../../evil", "/tmp/evil", "a\x00b", "x" * 300, "étiquette", "..", ".", "a/b", "a\\b", "-x", "a b")


@pytest.mark.fault(25)
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_that_are_none(label_server: Served, good: bytes, name: str) -> None:
    server = label_server
    with refusing(server):
        check_refusal(server.put_label(name, good), 400, server=server)
        if name:  # An empty tag is none, which means final.
            check_refusal(server.put_label(CASE, good, tag=name), 400, server=server)
        upload = {"file": ("a.nii.gz", b"x")}
        if name:
            check_refusal(
                server.ask("PUT", "/datastore/image", params={"image": name}, files=upload), 400, server=server
            )
        check_refusal(server.ask("GET", "/datastore/label", params={"label": name, "tag": "final"}), 400, server=server)
        check_refusal(server.ask("DELETE", "/datastore/image", params={"id": name}), 400, server=server)


@pytest.mark.fault(26)
@pytest.mark.parametrize("name", ["x.exe", "../../x.nii.gz", "/etc/x.nii.gz", "label", ".nii.gz", "a\\..\\b.nii.gz"])
def test_the_name_of_a_file_means_nothing(label_server: Served, good: bytes, name: str) -> None:
    beside, number = label_server.beside(), sum(1 for _ in (label_server.studies / "labels").rglob("*.nii.gz"))
    response = label_server.put_label(CASE, good, name=name)
    assert response.status_code in (200, 422), response.text
    assert read_labels(label_server.label(CASE)).any()
    assert label_server.beside() == beside
    assert sum(1 for _ in (label_server.studies / "labels").rglob("*.nii.gz")) == number
    assert label_server.litter() == []


@pytest.mark.fault(27)
def test_two_clinicians(label_server: Served, good: bytes) -> None:
    server, case = label_server, "phantom-002"
    array, affine = decode(good)
    first = encode(np.where(array == 1, 2, array).astype(np.uint8), affine)
    second = encode(np.where(array == 2, 1, array).astype(np.uint8), affine)
    one = server.put_label(case, first).json()
    again = server.put_label(case, first).json()
    assert again["version"] == one["version"], "the same label again is no new version"
    assert again["sha256"] == one["sha256"] == file_sha256(server.label(case))
    two = server.put_label(case, second, headers={"If-Match": f'"{one["sha256"]}"'})
    assert two.status_code == 200, two.text
    assert two.json()["version"] == one["version"] + 1
    with refusing(server):
        late = server.put_label(case, encode(array, affine), headers={"If-Match": f'"{one["sha256"]}"'})
        check_refusal(late, 409, server=server)
    kept = [path.read_bytes() for path in (server.studies / "rejected" / case).iterdir()]
    assert encode(array, affine) in kept
    versions = {file_sha256(path) for path in (server.studies / "history" / case / "final").glob("*.nii.gz")}
    assert {one["sha256"], two.json()["sha256"]} <= versions


@pytest.mark.fault(28)
def test_replacing_an_image_that_has_labels(label_server: Served) -> None:
    server, case = label_server, "phantom-004"
    upload = {"file": ("new.nii.gz", _four_sequences(server, CASE))}
    before = file_sha256(server.studies / f"{case}.nii.gz")
    with refusing(server):
        response = server.ask("PUT", "/datastore/image", params={"image": case}, files=upload)
        check_refusal(response, 409, case, server=server)
    forced = {"params": {"image": case}, "data": {"params": '{"force": true}'}}
    response = server.ask("PUT", "/datastore/image", **forced, files=upload)
    assert response.status_code == 200, response.text
    assert before in {file_sha256(path) for path in server.studies.rglob("*.nii.gz")}
    (record,) = (server.studies / "history" / case / "image").glob("*.json")
    assert json.loads(record.read_text())["case"] == case
    assert server.label(case).is_file() or list((server.studies / "history" / case / "final").glob("*.nii.gz"))


@pytest.fixture
def bounded(label_server: Served) -> Iterator[None]:
    """What goes on must neither grow the server's memory by much nor leave anything."""
    process = psutil.Process(label_server.process.pid)
    before = process.memory_info().rss
    yield
    assert process.memory_info().rss < before + 200 * MIB
    assert label_server.litter() == []


@pytest.mark.fault(29)
@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize(("path", "field"), [("/datastore/label?image=phantom-001", "label"), ("/infer/calf", "file")])
def test_a_body_that_says_it_is_too_large(label_server: Served, path: str, field: str) -> None:
    kind, start, _ = multipart(field, "a.nii.gz")
    headers = {"Content-Type": kind, "Content-Length": str(10**12)}
    method = "PUT" if field == "label" else "POST"
    with refusing(label_server), RawRequest(label_server, method, path, headers) as request:
        request.socket.sendall(start)
        answer = request.answer()
    assert b" 413 " in answer.split(b"\r\n")[0], answer
    assert b'"too_large"' in answer


@pytest.mark.fault(29)
@pytest.mark.usefixtures("bounded")
def test_a_body_that_never_ends(label_server: Served) -> None:
    kind, start, _ = multipart("label", "a.nii.gz")
    headers = {"Content-Type": kind, "Transfer-Encoding": "chunked"}

    def endless() -> Iterator[bytes]:
        yield start
        for _ in range(400):
            yield bytes(MIB)

    with refusing(label_server), RawRequest(label_server, "PUT", f"/datastore/label?image={CASE}", headers) as request:
        sent = request.chunks(endless())
        answer = request.answer()
    assert sent < 100 * MIB, "the server read on"
    assert not answer or b" 413 " in answer.split(b"\r\n")[0], answer


@pytest.mark.fault(29)
@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("kind", ["header", "zeros"])
def test_a_volume_that_unfolds_without_end(label_server: Served, good: bytes, kind: str) -> None:
    data = promising((30000, 30000, 30000)) if kind == "header" else unfolding(good, 600 * MIB)
    with refusing(label_server):
        response = label_server.put_label(CASE, data)
        assert response.status_code in (413, 422), response.text
        check_refusal(response, response.status_code, server=label_server)
        response = label_server.ask("POST", "/infer/calf", files={"file": ("a.nii.gz", data)})
        assert response.status_code in (413, 422), response.text
        check_refusal(response, response.status_code, server=label_server)


@pytest.mark.fault(29)
def test_archives_are_not_unpacked(label_server: Served) -> None:
    with refusing(label_server):
        files = {"files": ("a.zip", b"PK\x03\x04" + bytes(100))}
        response = label_server.ask("PUT", "/session/", params={"uncompress": "true"}, files=files)
        check_refusal(response, 400, server=label_server)


@pytest.mark.fault(30)
@pytest.mark.parametrize("how", ["hangs up", "stalls"])
def test_a_client_that_stops_halfway(label_server: Served, good: bytes, how: str) -> None:
    kind, start, end = multipart("label", "a.nii.gz")
    length = len(start) + len(good) + len(end)
    headers = {"Content-Type": kind, "Content-Length": str(length)}
    answer = b""
    with (
        refusing(label_server),
        RawRequest(label_server, "PUT", f"/datastore/label?image={CASE}", headers) as request,
    ):
        request.socket.sendall(start + good[: len(good) // 2])
        if how == "stalls":
            started = time.monotonic()
            answer = request.answer()
            assert time.monotonic() - started < 30
        request.socket.close()
    if how == "stalls":
        assert b" 408 " in answer.split(b"\r\n")[0], answer
        assert b'"error"' in answer
