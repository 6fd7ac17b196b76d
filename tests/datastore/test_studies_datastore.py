"""Labels are checked, mapped by name and put in place whole; nothing is ever written outside the folder."""

from __future__ import annotations

import gzip
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from rarevoxel.cases import discover
from rarevoxel.datastore.studies import StudiesDatastore
from rarevoxel.errors import ConflictError, GeometryError, InputError, LabelError, NotFoundError, RequestError
from rarevoxel.labels import LabelScheme
from rarevoxel.phantom import Phantom, PhantomSpec, write_phantoms
from rarevoxel.studies import write_studies
from rarevoxel.volumes import read_label_volume, read_labels

CASE, OPEN = "phantom-001", "phantom-003"
"""A case with a label, and one without."""


@pytest.fixture
def datastore(studies: Path) -> StudiesDatastore:
    return StudiesDatastore(str(studies))


@pytest.fixture
def label(tmp_path: Path, studies: Path) -> Callable[..., Path]:
    """Return a function that writes a label map on the studies' grid with some values changed."""
    image = nib.load(studies / "labels" / "final" / f"{CASE}.nii.gz")
    affine = image.affine
    original = np.asarray(image.dataobj)

    def write(values: dict[int, int] | None = None, array: Any = None, name: str = "up.nii.gz", **kw: Any) -> Path:
        array = np.zeros(original.shape, np.uint8) if array is None else array
        for corner, value in (values or {}).items():
            array[corner, 0, 0] = value
        path = tmp_path / name
        nib.save(nib.Nifti1Image(array, kw.get("affine", affine)), path)
        return path

    return write


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def final(studies: Path, case: str = CASE) -> Path:
    return studies / "labels" / "final" / f"{case}.nii.gz"


def files(studies: Path) -> set[str]:
    found = {path.relative_to(studies) for path in studies.rglob("*") if path.name != ".lock"}
    return {str(path) for path in found if path.parts[0] != "rejected"}


def test_what_prepare_wrote_is_what_it_shows(datastore: StudiesDatastore, studies: Path) -> None:
    assert datastore.status() == {"total": 6, "completed": 4, "label_tags": {"final": 4}}
    assert datastore.get_image_uri(CASE) == str(studies / f"{CASE}.nii.gz")
    assert datastore.get_image_uri("nobody") == ""
    assert datastore.get_image_info(CASE)["path"] == str(studies / f"{CASE}.nii.gz")
    assert datastore.get_image_info("nobody") == {}
    assert datastore.patient_of(CASE) == json.loads((studies / "studies.json").read_text())["cases"][CASE]["patient"]
    assert datastore.patient_of("nobody") == "nobody"


def test_segments_are_mapped_by_name_not_by_value(
    datastore: StudiesDatastore, studies: Path, label: Callable[..., Path]
) -> None:
    segments = [{"name": "enhancing tumor", "idx": 1}, {"name": "Edema", "idx": 2}, {"name": "necrosis", "idx": 3}]
    path = label({0: 1, 1: 2, 2: 3})
    assert datastore.save_label(OPEN, str(path), "final", {"label_info": segments, "client_id": "x"}) == OPEN
    assert read_labels(final(studies, OPEN))[:3, 0, 0].tolist() == [3, 2, 1]
    info = datastore.get_label_info(OPEN, "final")
    assert info["label_info"] == segments
    assert info["name"] == f"{OPEN}.nii.gz"
    assert OPEN in datastore.get_labeled_images()


def test_an_idx_that_counts_the_background_is_no_value(
    datastore: StudiesDatastore, studies: Path, label: Callable[..., Path]
) -> None:
    segments = [{"name": "background", "idx": 1}, {"name": "edema", "idx": 2}, {"name": "necrosis", "idx": 3}]
    datastore.save_label(OPEN, str(label({0: 1, 1: 2})), "final", {"label_info": segments})
    assert read_labels(final(studies, OPEN))[:2, 0, 0].tolist() == [2, 1]


def test_an_unknown_segment_with_voxels_is_refused(datastore: StudiesDatastore, label: Callable[..., Path]) -> None:
    segments = [{"name": "edema", "idx": 1}, {"name": "my segment", "idx": 2}]
    with pytest.raises(LabelError, match=f"label of case {OPEN}.*my segment"):
        datastore.save_label(OPEN, str(label({0: 2})), "final", {"label_info": segments})
    datastore.save_label(OPEN, str(label({0: 1})), "final", {"label_info": segments})


@pytest.mark.parametrize("segments", [{"name": "edema"}, "edema", [1, 2], [["edema"]]])
def test_segments_must_be_a_list_of_objects(
    datastore: StudiesDatastore, label: Callable[..., Path], segments: Any
) -> None:
    with pytest.raises(RequestError, match="expected a list of"):
        datastore.save_label(OPEN, str(label({0: 1})), "final", {"label_info": segments})


@pytest.mark.parametrize("idx", ["x", None, [1]])
def test_an_idx_that_is_no_number_is_refused(datastore: StudiesDatastore, label: Callable[..., Path], idx: Any) -> None:
    with pytest.raises((RequestError, LabelError), match="idx"):
        datastore.save_label(OPEN, str(label({0: 7})), "final", {"label_info": [{"name": "edema", "idx": idx}]})


def test_a_value_outside_the_app_s_labels_needs_a_scheme(
    datastore: StudiesDatastore, studies: Path, label: Callable[..., Path]
) -> None:
    datastore.scheme = LabelScheme("app", {"necrosis": 1, "edema": 2, "enhancing tumor": 3})
    path = str(label({0: 1, 1: 2, 2: 4}))
    with pytest.raises(LabelError, match=rf"label of case {OPEN}: label value 4 \(1 voxels\) is not in scheme 'app'"):
        datastore.save_label(OPEN, path, "final", {})
    assert not final(studies, OPEN).exists()
    datastore.save_label(OPEN, path, "final", {"scheme": "brats2020"})
    assert read_labels(final(studies, OPEN))[:3, 0, 0].tolist() == [1, 2, 3]
    with pytest.raises(LabelError, match="unknown label scheme 'brats1999'"):
        datastore.save_label(OPEN, path, "final", {"scheme": "brats1999"})


def garbage(kind: str, whole: bytes) -> bytes:
    return {
        "text": b"not a volume at all",
        "empty": b"",
        "truncated": whole[: len(whole) // 2],
        "gzip of text": gzip.compress(b"hello" * 400),
        "one flipped bit": whole[: len(whole) // 2]
        + bytes([whole[len(whole) // 2] ^ 1])
        + whole[len(whole) // 2 + 1 :],
    }[kind]


@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "gzip of text", "one flipped bit"])
def test_a_bad_file_leaves_the_old_label_as_it_was(
    datastore: StudiesDatastore, studies: Path, tmp_path: Path, phantom: Phantom, kind: str
) -> None:
    upload = tmp_path / "up.nii.gz"
    noise = np.random.default_rng(0).integers(0, 4, phantom.labels.shape).astype(np.uint8)
    nib.save(nib.Nifti1Image(noise, phantom.affine), upload)
    upload.write_bytes(garbage(kind, upload.read_bytes()))
    before, names, info = sha(final(studies)), files(studies), dict(datastore.get_label_info(CASE, "final"))
    with pytest.raises(InputError, match=f"label of case {CASE}: .*"):
        datastore.save_label(CASE, str(upload), "final", {})
    assert sha(final(studies)) == before
    assert files(studies) == names
    assert datastore.get_label_info(CASE, "final") == info


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.full((40, 48, 40), 0.5, np.float32), InputError, "are not whole numbers"),
        (np.full((40, 48, 40), np.nan, np.float32), InputError, "NaN or infinite"),
        (np.full((40, 48, 40), 9, np.uint8), LabelError, r"label value 9 \(76800 voxels\)"),
        (np.zeros((40, 48, 40, 3), np.uint8), InputError, "volume is 4-D"),
        (np.zeros((40, 48, 41), np.uint8), GeometryError, "grid 40x48x41 .* expected the image's 40x48x40"),
        (np.zeros((48, 40, 40), np.uint8), GeometryError, "grid 48x40x40 .* expected the image's 40x48x40"),
    ],
)
def test_bad_voxels_leave_the_old_label_as_it_was(
    datastore: StudiesDatastore,
    studies: Path,
    label: Callable[..., Path],
    array: np.ndarray,
    error: type[Exception],
    message: str,
) -> None:
    before = sha(final(studies))
    with pytest.raises(error, match=message):
        datastore.save_label(CASE, str(label(array=array)), "final", {})
    assert sha(final(studies)) == before


def test_a_label_that_lies_elsewhere_is_refused_and_round_off_is_not(
    datastore: StudiesDatastore, studies: Path, label: Callable[..., Path], phantom: Phantom
) -> None:
    before = sha(final(studies))
    for affine in (phantom.affine @ np.diag([-1.0, 1.0, 1.0, 1.0]), phantom.affine + 3.0 * np.eye(4, k=3)):
        with pytest.raises(GeometryError, match=f"label of case {CASE}: grid .*, expected the image's"):
            datastore.save_label(CASE, str(label({0: 1}, affine=affine)), "final", {})
        assert sha(final(studies)) == before
    datastore.save_label(CASE, str(label({0: 1}, affine=phantom.affine + 1e-5 * np.eye(4, k=3))), "final", {})
    saved = read_label_volume(final(studies))
    np.testing.assert_allclose(saved.grid.affine, phantom.affine, atol=1e-6)


@pytest.mark.parametrize(
    "tag", ["../evil", "../../evil", "/tmp/evil", "", "a/b", ".hidden", "x" * 300, "a\0b", "ä b", "fïnal", "final\n"]
)
def test_tags_stay_inside_the_folder(
    datastore: StudiesDatastore, studies: Path, label: Callable[..., Path], tag: str
) -> None:
    path, before = str(label({0: 1})), sorted(studies.parent.rglob("*"))
    with pytest.raises(RequestError, match=r"label tag .* is not allowed"):
        datastore.save_label(CASE, path, tag, {})
    assert sorted(studies.parent.rglob("*")) == before


def test_other_tags_are_kept_apart(datastore: StudiesDatastore, studies: Path, label: Callable[..., Path]) -> None:
    before = sha(final(studies))
    datastore.save_label(CASE, str(label({0: 1})), "original", {})
    assert sha(final(studies)) == before
    assert read_labels(studies / "labels" / "original" / f"{CASE}.nii.gz")[0, 0, 0] == 1


@pytest.mark.parametrize("case", ["nobody", "", "../phantom-001"])
def test_an_unknown_case_is_not_found(datastore: StudiesDatastore, label: Callable[..., Path], case: str) -> None:
    with pytest.raises(NotFoundError, match="no case"):
        datastore.save_label(case, str(label({0: 1})), "final", {})
    with pytest.raises(NotFoundError, match="no case"):
        datastore.remove_image(case)
    with pytest.raises(NotFoundError, match="no label of case"):
        datastore.remove_label(case, "final")


@pytest.mark.parametrize("name", ["up.exe", "up", "up.nii.gz.txt"])
def test_a_file_that_is_no_volume_by_name_is_refused(
    datastore: StudiesDatastore, label: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    label({0: 1}).rename(tmp_path / name)
    with pytest.raises(InputError, match="file name ends in"):
        datastore.save_label(CASE, str(tmp_path / name), "final", {})


def test_a_slicer_nrrd_becomes_the_one_label_of_the_case(
    datastore: StudiesDatastore, studies: Path, label: Callable[..., Path], tmp_path: Path
) -> None:
    import SimpleITK as sitk

    upload = tmp_path / "up.seg.nrrd"
    sitk.WriteImage(sitk.ReadImage(str(label({5: 2}))), str(upload))
    old = studies / "labels" / "final" / f"{CASE}.nii"
    old.write_bytes(gzip.decompress(final(studies).read_bytes()))
    datastore.save_label(CASE, str(upload), "final", {})
    assert read_labels(final(studies))[5, 0, 0] == 2
    assert not old.exists()
    assert StudiesDatastore(str(studies)).get_label_uri(CASE, "final") == str(final(studies).resolve())


def test_labels_survive_a_restart(datastore: StudiesDatastore, studies: Path, label: Callable[..., Path]) -> None:
    datastore.save_label(OPEN, str(label({0: 1})), "final", {"client_id": "me"})
    again = StudiesDatastore(str(studies))
    assert OPEN in again.get_labeled_images()
    assert again.get_label_info(OPEN, "final")["client_id"] == "me"


def test_a_reader_of_the_index_never_meets_half_of_it(datastore: StudiesDatastore, studies: Path) -> None:
    import threading

    index, broken, done = studies / "datastore_v2.json", [], threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                json.loads(index.read_text())
            except ValueError as error:
                broken.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for i in range(60):
            datastore.update_image_info(CASE, {"filler": "x" * 50_000, "i": i})
    finally:
        done.set()
        thread.join()
    assert not broken


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.fixture
def watching(studies: Path) -> Iterator[StudiesDatastore]:
    """A datastore that notices changes of the folder, as a server's does."""
    datastore = StudiesDatastore(str(studies), auto_reload=True)
    yield datastore
    datastore.close()


def test_a_case_prepared_meanwhile_is_noticed(watching: StudiesDatastore, studies: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path / "more", 1, seed=9, spec=PhantomSpec(size=(16, 16, 16)), prefix="later")
    write_studies(discover(tmp_path / "more"), studies, labels=True)
    assert eventually(lambda: "later-001" in watching.get_labeled_images())
    assert watching.status()["total"] == 7


def test_what_another_process_says_is_kept(watching: StudiesDatastore, studies: Path) -> None:
    StudiesDatastore(str(studies)).update_label_info(CASE, "final", {"dice": {"calf": 0.5}})
    watching.update_image_info(CASE, {"seen": True})
    again = StudiesDatastore(str(studies))
    assert again.get_label_info(CASE, "final")["dice"] == {"calf": 0.5}
    assert again.get_image_info(CASE)["seen"] is True
    StudiesDatastore(str(studies)).update_label_info(CASE, "final", {"dice": {"calf": 0.7}})
    assert eventually(lambda: watching.get_label_info(CASE, "final")["dice"] == {"calf": 0.7})


def test_saving_while_others_watch_loses_nothing(
    watching: StudiesDatastore, studies: Path, label: Callable[..., Path]
) -> None:
    other = StudiesDatastore(str(studies))
    upload = str(label({0: 1}))
    for i in range(15):
        other.update_image_info(CASE, {"i": i})
        watching.save_label(OPEN, upload, f"tag-{i}", {"number": i})
        assert watching.get_image_uri(CASE), "a case must not vanish while the folder is looked through"
    entry = json.loads((studies / "datastore_v2.json").read_text())["objects"][OPEN]["labels"]
    assert {tag: info["info"]["number"] for tag, info in entry.items()} == {f"tag-{i}": i for i in range(15)}


def test_info_about_nobody_is_not_found(datastore: StudiesDatastore) -> None:
    with pytest.raises(NotFoundError, match="no case 'nobody'"):
        datastore.update_image_info("nobody", {})
    with pytest.raises(NotFoundError, match=f"no label of case '{OPEN}' with tag 'final'"):
        datastore.update_label_info(OPEN, "final", {})


def test_removing_an_image_leaves_what_its_link_points_to(datastore: StudiesDatastore, studies: Path) -> None:
    display = studies / f"{CASE}.nii.gz"
    assert display.is_symlink()
    target = display.resolve()
    before = sha(target)
    datastore.remove_image(CASE)
    assert not display.is_symlink()
    assert not final(studies).exists()
    assert sha(target) == before
    assert CASE not in datastore.list_images()
    assert CASE not in StudiesDatastore(str(studies)).list_images()


def test_removing_a_label_makes_the_case_open_again(datastore: StudiesDatastore, studies: Path) -> None:
    datastore.remove_label(CASE, "final")
    assert not final(studies).exists()
    assert CASE in datastore.get_unlabeled_images()
    with pytest.raises(NotFoundError, match=f"no label of case '{CASE}' with tag 'final'"):
        datastore.remove_label(CASE, "final")


def test_one_sequence_is_no_case(datastore: StudiesDatastore, tmp_path: Path, phantom: Phantom, studies: Path) -> None:
    upload = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(phantom.images[0], phantom.affine), upload)
    names = files(studies)
    with pytest.raises(InputError, match=r"new: upload has 1 channel\(s\), expected the four sequences t1n, t1c"):
        datastore.add_image("new", str(upload), {})
    assert files(studies) == names


def four(tmp_path: Path, phantom: Phantom) -> Path:
    upload = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(np.moveaxis(phantom.images, 0, 3), phantom.affine), upload)
    return upload


def test_four_sequences_in_one_file_are_a_case(
    datastore: StudiesDatastore, tmp_path: Path, phantom: Phantom, studies: Path
) -> None:
    assert datastore.add_image("new", str(four(tmp_path, phantom)), {"from": "me"}) == "new"
    assert datastore.add_image("", str(four(tmp_path, phantom)), {}) == "scan"
    assert sha(studies / "new.nii.gz") == sha(tmp_path / "scan.nii.gz")
    assert {"new", "scan"} <= set(StudiesDatastore(str(studies)).get_unlabeled_images())


@pytest.mark.parametrize("case", ["../escaped", "a/b", "x" * 200, ".hidden"])
def test_image_ids_stay_inside_the_folder(
    datastore: StudiesDatastore, tmp_path: Path, phantom: Phantom, case: str
) -> None:
    upload = four(tmp_path, phantom)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RequestError, match=r"image id .* is not allowed"):
        datastore.add_image(case, str(upload), {})
    assert sorted(tmp_path.rglob("*")) == before


def test_a_case_is_not_replaced_by_an_upload(
    datastore: StudiesDatastore, tmp_path: Path, phantom: Phantom, studies: Path
) -> None:
    display = studies / f"{CASE}.nii.gz"
    before = sha(display)
    with pytest.raises(ConflictError, match=f"case '{CASE}' is there already"):
        datastore.add_image(CASE, str(four(tmp_path, phantom)), {})
    assert display.is_symlink()
    assert sha(display) == before
    assert CASE in datastore.get_labeled_images()
