"""Display volumes that are replaced or removed stay in the history."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from small_studies import AFFINE, SHAPE, leftovers, snapshot

from rarevoxel.cases import SEQUENCES, scan
from rarevoxel.datastore import images as images_module
from rarevoxel.datastore.history import History
from rarevoxel.datastore.studies import StudiesDatastore
from rarevoxel.errors import ConflictError, StorageError
from rarevoxel.studies import load_table
from rarevoxel.volumes import file_sha256

Upload = Callable[..., str]


@pytest.fixture
def image(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a 4-D volume and returns its path."""

    def write(seed: int, shape: tuple[int, int, int] = SHAPE) -> str:
        path = tmp_path / f"image-{seed}.nii.gz"
        voxels = np.random.default_rng(seed).normal(100, 10, (*shape, 4)).astype(np.float32)
        nib.save(nib.Nifti1Image(voxels, AFFINE), path)
        return str(path)

    return write


@pytest.mark.fault(28)
def test_an_image_with_labels_is_replaced_only_by_force(
    store: StudiesDatastore, folder: Path, upload: Upload, image: Callable[..., str]
) -> None:
    store.save_label("a", upload(1), "final", {})
    before = file_sha256(folder / "a.nii.gz")
    with pytest.raises(ConflictError, match=r"case 'a' is there already and has labels \(final\)"):
        store.add_image("a", image(1), {})
    with pytest.raises(ConflictError, match=r"case 'b' is there already \("):
        store.add_image("b", image(1), {"force": False})
    assert file_sha256(folder / "a.nii.gz") == before
    assert store.add_image("a", image(1), {"force": True, "user": "ada", "from": "me"}) == "a"
    assert file_sha256(folder / "a.nii.gz") == file_sha256(image(1))
    (record,) = History(folder).records("a", "image")
    assert (record.reason, record.user, record.sha256) == ("replaced", "ada", before)
    assert file_sha256(folder / "history" / "a" / "image" / "000001.nii.gz") == before
    assert store.get_image_info("a")["from"] == "me"
    assert "force" not in store.get_image_info("a")
    assert store.get_labeled_images() == ["a"]
    assert leftovers(folder) == []


def test_labels_on_another_grid_go_to_the_history(
    store: StudiesDatastore, folder: Path, upload: Upload, image: Callable[..., str]
) -> None:
    store.save_label("a", upload(1), "final", {})
    store.add_image("a", image(1, (6, 6, 6)), {"force": "true"})
    assert store.get_labeled_images() == []
    assert not (folder / "labels" / "final" / "a.nii.gz").exists()
    newest = History(folder).newest("a", "final")
    assert (newest.version, newest.comment) == (2, "the image was replaced by one on another grid")


def test_a_link_is_written_down_and_never_written_through(
    studies: Path, image: Callable[..., str], tmp_path: Path
) -> None:
    store, case = StudiesDatastore(str(studies)), "phantom-001"
    target = (studies / f"{case}.nii.gz").resolve()
    before, patient = file_sha256(target), store.patient_of(case)
    name = str((studies / f"{case}.nii.gz").readlink())
    store.add_image(case, image(1), {"force": True})
    assert file_sha256(target) == before
    assert not (studies / f"{case}.nii.gz").is_symlink()
    assert History(studies).newest(case, "image").info == {"link": name}
    study = load_table(studies)[case]
    assert (study.patient, study.source) == (patient, "uploaded")
    assert dict(study.sequences) == dict.fromkeys(SEQUENCES, f"{case}.nii.gz")
    assert case in {found.id for found in scan(studies, detect=False).cases}
    assert case in StudiesDatastore(str(studies)).list_images()


def test_a_removed_case_comes_back_with_its_history(
    store: StudiesDatastore, folder: Path, upload: Upload, image: Callable[..., str]
) -> None:
    store.save_label("a", upload(1), "final", {})
    store.remove_image("a")
    store.add_image("a", image(1), {})
    store.save_label("a", upload(2), "final", {})
    assert [record.version for record in History(folder).records("a", "final")] == [1, 2, 3]
    assert [record.reason for record in History(folder).records("a", "image")] == ["removed"]


def test_the_same_image_again_changes_nothing(store: StudiesDatastore, folder: Path, image: Callable[..., str]) -> None:
    store.add_image("new", image(1), {})
    assert store.add_image("new", image(1), {}) == "new"
    assert not (folder / "history").exists()


def test_an_image_in_another_format_takes_the_old_one_s_place(
    store: StudiesDatastore, folder: Path, image: Callable[..., str]
) -> None:
    plain = Path(image(2)).with_name("plain.nii")
    nib.save(nib.load(image(2)), plain)
    store.add_image("a", str(plain), {"force": True})
    assert [path.name for path in folder.glob("a.*")] == ["a.nii"]
    assert StudiesDatastore(str(folder)).get_image_uri("a") == str(folder / "a.nii")
    assert (folder / "history" / "a" / "image" / "000001.nii.gz").is_file()


@pytest.mark.fault(32)
def test_a_full_disk_leaves_the_old_image(
    store: StudiesDatastore, folder: Path, image: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path, before = image(1), snapshot(folder)
    monkeypatch.setattr(images_module.os, "fsync", full)
    with pytest.raises(StorageError, match="saving the image of case a: No space left on device; nothing was changed"):
        store.add_image("a", path, {"force": True})
    assert snapshot(folder) == before
