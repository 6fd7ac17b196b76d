"""Every accepted label becomes a version that stays; what a client gets back says which."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from small_studies import AFFINE, SHAPE, label_data, leftovers

from rarevoxel.datastore.history import History, Record, parse_record
from rarevoxel.datastore.proposals import Proposals
from rarevoxel.datastore.studies import StudiesDatastore
from rarevoxel.errors import ConflictError, InputError, NotFoundError, RejectedLabelError, RequestError
from rarevoxel.volumes import file_sha256, read_labels

Upload = Callable[..., str]


def current(folder: Path, case: str = "a", tag: str = "final") -> Path:
    return folder / "labels" / tag / f"{case}.nii.gz"


def test_two_labels_are_two_versions_and_the_receipt_says_which(
    store: StudiesDatastore, folder: Path, upload: Upload
) -> None:
    info = {"client_id": "slicer", "user": "ada", "comment": "first", "model": "calf", "params": {"x": 1}}
    assert store.save_label("a", upload(1), "final", info) == "a"
    first = store.receipt("a")
    assert (first["version"], first["tag"], first["image"]) == (1, "final", "a")
    assert first["sha256"] == first["received_sha256"] == hashlib.sha256(label_data(1)).hexdigest()
    assert "unchanged" not in first
    store.save_label("a", upload(2), "final", {})
    records = History(folder).records("a", "final")
    assert [record.version for record in records] == [1, 2]
    assert file_sha256(folder / "history" / "a" / "final" / "000001.nii.gz") == first["sha256"] == records[0].sha256
    assert current(folder).read_bytes() == label_data(2)
    one = records[0]
    assert (one.user, one.client_id, one.comment, one.model, one.reason) == (
        "ada",
        "slicer",
        "first",
        "calf",
        "submitted",
    )
    assert one.info == {"params": {"x": 1}}
    assert sum(one.sizes.values()) == int(np.count_nonzero(read_labels(folder / "history/a/final/000001.nii.gz")))
    assert one.ts.endswith("+00:00")
    assert records[1].user == "unknown"
    assert store.get_label_info("a", "final")["version"] == 2


def test_a_label_that_must_be_written_anew_says_both_checksums(store: StudiesDatastore, upload: Upload) -> None:
    array = np.random.default_rng(1).integers(0, 4, SHAPE).astype(np.int16)
    sent = nib.Nifti1Image(array, AFFINE).to_bytes()
    store.save_label("a", upload(0, "up.nii", sent), "final", {})
    receipt = store.receipt("a")
    assert receipt["received_sha256"] == hashlib.sha256(sent).hexdigest()
    assert (
        receipt["sha256"] == file_sha256(store.get_label_uri("a", "final")) == hashlib.sha256(label_data(1)).hexdigest()
    )


def test_a_receipt_is_of_one_case_and_one_thread(store: StudiesDatastore, upload: Upload) -> None:
    import threading

    assert store.receipt("a") == {}
    store.save_label("a", upload(1), "final", {})
    assert store.receipt("b") == {}
    seen: list[dict[str, object]] = []
    thread = threading.Thread(target=lambda: seen.append(store.receipt("a")))
    thread.start()
    thread.join()
    assert seen == [{}]


@pytest.mark.fault(27)
def test_the_same_label_twice_is_one_version(store: StudiesDatastore, folder: Path, upload: Upload) -> None:
    store.save_label("a", upload(1), "final", {"user": "ada"})
    first = store.receipt("a")
    store.save_label("a", upload(1), "final", {"user": "bob", "if_match": 0})
    assert store.receipt("a") == {**first, "unchanged": True}
    assert len(History(folder).records("a", "final")) == 1
    assert not (folder / "rejected").exists()


@pytest.mark.fault(27)
@pytest.mark.parametrize("old", ["sha", '"sha"', 'W/"sha"', "1", 1])
def test_two_people_and_if_match(store: StudiesDatastore, folder: Path, upload: Upload, old: str | int) -> None:
    store.save_label("a", upload(1), "final", {"user": "ada"})
    first = store.receipt("a")
    wanted = old.replace("sha", first["sha256"]) if isinstance(old, str) else old
    store.save_label("a", upload(2), "final", {"user": "ada", "if_match": wanted})
    second = store.receipt("a")
    with pytest.raises(
        ConflictError, match=rf"changed .*, but the valid one is version 2 \({second['sha256'][:12]}\) by"
    ):
        store.save_label("a", upload(3), "final", {"user": "bob", "if_match": wanted})
    assert current(folder).read_bytes() == label_data(2)
    kept = list((folder / "rejected" / "a").glob("*.nii.gz"))
    assert [path.read_bytes() for path in kept] == [label_data(3)]
    why = json.loads(kept[0].with_name(kept[0].name + ".json").read_text())
    assert (why["user"], why["error"]["code"], why["tag"]) == ("bob", "conflict", "final")
    store.save_label("a", upload(3), "final", {"user": "bob"})
    assert [record.version for record in History(folder).records("a", "final")] == [1, 2, 3]


def test_if_match_of_what_is_not_there(store: StudiesDatastore, upload: Upload) -> None:
    with pytest.raises(ConflictError, match=r"you have changed version 3, but there is none"):
        store.save_label("a", upload(1), "final", {"if_match": 3})
    with pytest.raises(ConflictError, match=r"but there is none"):
        store.save_label("a", upload(1), "final", {"if_match": "*"})
    with pytest.raises(RequestError, match="expected the sha256 or the number"):
        store.save_label("a", upload(1), "final", {"if_match": "abc"})
    store.save_label("a", upload(1), "final", {"if_match": 0})
    store.save_label("a", upload(2), "final", {"if_match": "*"})


def test_an_empty_label_is_recorded_as_declared(store: StudiesDatastore, folder: Path, upload: Upload) -> None:
    from rarevoxel.volumes import label_bytes

    empty = label_bytes(np.zeros(SHAPE, np.uint8), AFFINE)
    with pytest.raises(RejectedLabelError, match="no voxel"):
        store.save_label("a", upload(0, data=empty), "final", {})
    store.save_label("a", upload(0, data=empty), "original", {})
    store.save_label("a", upload(0, data=empty), "final", {"empty": True})
    assert History(folder).records("a", "final")[-1].empty
    assert store.get_label_info("a", "final")["empty"] is True


def test_findings_and_volumes_are_kept_with_the_version(store: StudiesDatastore, folder: Path, upload: Upload) -> None:
    Proposals(folder).save("a", np.ones(SHAPE, np.uint8), AFFINE, {})
    store.save_label("a", upload(1), "final", {})
    record = History(folder).records("a", "final")[0]
    assert {"code", "severity", "message", "number", "voxel", "mm", "label"} <= set(record.findings[0])
    assert store.receipt("a")["findings"] == [dict(finding) for finding in record.findings]
    assert store.get_label_info("a", "final")["volumes_ml"] == record.scores["volumes_ml"]


@pytest.mark.fault(24)
def test_a_label_for_nobody_is_not_kept(store: StudiesDatastore, folder: Path, upload: Upload) -> None:
    with pytest.raises(NotFoundError, match="no case 'nobody'"):
        store.save_label("nobody", upload(1), "final", {})
    store.remove_image("b")
    with pytest.raises(NotFoundError, match="no case 'b'"):
        store.save_label("b", upload(1), "final", {})
    assert not (folder / "rejected").exists()
    assert not (folder / "history" / "nobody").exists()


def test_a_refused_label_is_kept_byte_for_byte(store: StudiesDatastore, folder: Path, upload: Upload) -> None:
    for name, suffix in (("up.nii.gz", ".nii.gz"), ("up.exe", ".bin"), ("up.seg.nrrd", ".seg.nrrd")):
        with pytest.raises(InputError, match="label of case a"):
            store.save_label("a", upload(0, name, b"garbage " + name.encode()), "final", {"user": "ada"})
        (kept,) = [p for p in (folder / "rejected" / "a").iterdir() if p.name.endswith(suffix)]
        assert kept.read_bytes() == b"garbage " + name.encode()
        why = json.loads(kept.with_name(kept.name + ".json").read_text())
        assert (why["case"], why["user"], why["sha256"]) == ("a", "ada", file_sha256(kept))
        assert why["error"]["message"].startswith("label of case a")
        assert why["findings"][0]["code"] == "unreadable"
    assert leftovers(folder) == []


def test_removing_keeps_every_version(store: StudiesDatastore, folder: Path, upload: Upload) -> None:
    store.save_label("a", upload(1), "final", {})
    store.remove_label("a", "final", "eve")
    assert not current(folder).exists()
    store.save_label("a", upload(1), "final", {})
    assert [(r.version, r.reason, r.user) for r in History(folder).records("a", "final")] == [
        (1, "submitted", "unknown"),
        (2, "removed", "eve"),
        (3, "submitted", "unknown"),
    ]
    store.remove_image("a", "mallory")
    assert "a" not in store.list_images()
    assert History(folder).newest("a", "final").comment == "the case was removed"
    assert {History(folder).newest("a", tag).user for tag in ("final", "image")} == {"mallory"}
    kept = folder / "history" / "a" / "image" / "000001.nii.gz"
    assert kept.is_file()
    assert not (folder / "a.nii.gz").exists()


def test_what_was_there_before_becomes_the_first_version(store: StudiesDatastore, folder: Path, upload: Upload) -> None:
    current(folder).write_bytes(label_data(9))
    store.refresh()
    assert not (folder / "history").exists()
    store.save_label("a", upload(1), "final", {"if_match": hashlib.sha256(label_data(9)).hexdigest()})
    assert [(r.version, r.reason) for r in History(folder).records("a", "final")] == [
        (1, "found in the folder"),
        (2, "submitted"),
    ]
    assert (folder / "history/a/final/000001.nii.gz").read_bytes() == label_data(9)


def test_what_lies_there_in_another_format_is_kept_as_it_is(
    store: StudiesDatastore, folder: Path, upload: Upload
) -> None:
    array = np.random.default_rng(9).integers(0, 4, SHAPE).astype(np.uint8)
    plain = nib.Nifti1Image(array, AFFINE).to_bytes()
    current(folder).with_name("a.nii").write_bytes(plain)
    store.refresh()
    store.save_label("a", upload(1), "final", {})
    assert (folder / "history/a/final/000001.nii").read_bytes() == plain
    assert not current(folder).with_name("a.nii").exists()
    assert [record.version for record in History(folder).records("a", "final")] == [1, 2]


def test_own_entries_of_the_index_are_not_a_clients_to_change(store: StudiesDatastore, upload: Upload) -> None:
    store.save_label("a", upload(1), "final", {"sha256": "x", "version": 7, "other": 1})
    before = store.get_label_info("a", "final")
    assert (before["version"], before["other"]) == (1, 1)
    store.update_label_info("a", "final", {"version": 9, "sha256": "0", "ts": 0, "name": "x", "dice": {"calf": 0.5}})
    assert store.get_label_info("a", "final") == {**before, "dice": {"calf": 0.5}}
    store.get_label_info("a", "final")["dice"]["calf"] = 9
    assert store.get_label_info("a", "final")["dice"] == {"calf": 0.5}


def test_no_label_can_be_called_image(store: StudiesDatastore, upload: Upload) -> None:
    with pytest.raises(RequestError, match="label tag 'image' is not allowed"):
        store.save_label("a", upload(1), "image", {})


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "is torn"),
        (b"[]", "is torn"),
        (b'{"case": "a"}', "is torn"),
        (b'{"case": "b", "tag": "final", "version": 1, "sha256": "x"}', "is of version 1 of case b"),
        (b'{"case": "a", "tag": "final", "version": 1, "sha256": "x", "ts": "yesterday"}', "is torn"),
    ],
)
def test_a_torn_record_is_told(data: bytes, match: str) -> None:
    with pytest.raises(InputError, match=match):
        parse_record(data, "a", "final", 1)


def test_a_record_survives_its_file() -> None:
    record = Record("a", "final", 3, "ab", findings=({"code": "islands"},), sizes={"edema": 4}, info={"x": [1]})
    assert parse_record(record.to_json(), "a", "final", 3) == record


def test_an_earlier_version_comes_back_through_the_datastore(
    store: StudiesDatastore, folder: Path, upload: Upload
) -> None:
    assert store.versions("a", "final") == []
    for seed in (1, 2):
        store.save_label("a", upload(seed), "final", {"user": "ada"})
    assert [entry["version"] for entry in store.versions("a", "final")] == [1, 2]
    store.restore_label("a", "final", 1, user="eve", comment="better")
    assert current(folder).read_bytes() == label_data(1)
    receipt = store.receipt("a")
    assert (receipt["version"], receipt["sha256"]) == (3, hashlib.sha256(label_data(1)).hexdigest())
    newest = store.versions("a", "final")[-1]
    assert (newest["user"], newest["reason"], newest["comment"]) == ("eve", "restored from version 1", "better")
    assert store.get_label_info("a", "final")["version"] == 3
    store.restore_label("a", "final", 3, user="eve")
    assert store.receipt("a")["unchanged"] is True
    with pytest.raises(NotFoundError, match=r"has no version 9, there are \[1, 2, 3\]"):
        store.restore_label("a", "final", 9, user="eve")
    with pytest.raises(NotFoundError, match="no case 'zz'"):
        store.versions("zz", "final")
