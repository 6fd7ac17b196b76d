"""Uploads are called by their content, unfold to a bounded size, and are gone afterwards."""

from __future__ import annotations

import gzip
import io
import tempfile
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from rarevoxel.errors import InputError, StorageError, TooLargeError
from rarevoxel.server.guard.uploads import LABEL_VOXELS, stored, suffix_of
from rarevoxel.volumes import read_label_volume


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "tmp"
    made.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(made))
    return made


def nifti(shape: tuple[int, ...] = (4, 5, 6)) -> bytes:
    return bytes(nib.Nifti1Image(np.zeros(shape, np.uint8), np.eye(4)).to_bytes())


def bomb(shape: tuple[int, int, int], zeros: int) -> bytes:
    """A NIfTI that claims a shape and is followed by so many zero bytes, compressed."""
    header = nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), np.eye(4)).header.copy()
    header["dim"][1:4] = shape
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=9) as stream:
        stream.write(header.binaryblock + bytes(4))
        block = bytes(1 << 20)
        for _ in range(zeros >> 20):
            stream.write(block)
    return out.getvalue()


@pytest.mark.fault(26)
@pytest.mark.parametrize("name", ["x.exe", "../../x", "", "label", "x.nrrd", "Doe^John_19600101.nii.gz", "a" * 400])
def test_the_content_says_what_it_is(name: str, folder: Path) -> None:
    for content, suffix in ((gzip.compress(nifti()), ".nii.gz"), (nifti(), ".nii"), (b"NRRD0004\n", ".nrrd")):
        with stored(io.BytesIO(content), name, LABEL_VOXELS, "label of case c") as path:
            assert path.parent == folder
            assert path.name.startswith("upload-")
            assert path.name.endswith(suffix)
            assert path.read_bytes() == content
        assert list(folder.iterdir()) == []


def test_only_a_file_that_says_nothing_is_called_by_its_name() -> None:
    assert suffix_of(b"garbage", "x.nrrd") == ".nrrd"
    assert suffix_of(b"garbage", "x.exe") == ".nii.gz"
    assert suffix_of(b"", "x.mhd") == ".nii.gz"
    assert suffix_of(b"ObjectType = Image", "x") == ".mha"
    assert suffix_of((348).to_bytes(4, "big"), "x") == ".nii"


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x1f\x8b\x08 torn", nifti()[:300]])
def test_what_cannot_be_read_passes_on_to_whoever_says_why(content: bytes) -> None:
    with stored(io.BytesIO(content), "x", LABEL_VOXELS, "label of case c") as path:
        assert path.read_bytes() == content


def test_an_error_in_the_block_removes_the_file(folder: Path) -> None:
    with pytest.raises(ValueError, match="inside"), stored(io.BytesIO(nifti()), "x", 1000, "image"):
        raise ValueError("inside")
    assert list(folder.iterdir()) == []


@pytest.mark.fault(29)
def test_a_volume_that_unfolds_to_too_much_is_refused(folder: Path) -> None:
    with (
        pytest.raises(TooLargeError, match=r"label of case c has 120 voxels \(4x5x6, 1 channel"),
        stored(io.BytesIO(nifti()), "x", 119, "label of case c"),
    ):
        raise AssertionError
    with (
        pytest.raises(TooLargeError, match="has 360 voxels"),
        stored(io.BytesIO(nifti((4, 5, 6, 3))), "x", 359, "image"),
    ):
        raise AssertionError
    assert list(folder.iterdir()) == []


@pytest.mark.fault(29)
def test_bombs_stay_small_in_memory(folder: Path) -> None:
    kept, lied = bomb((1024, 1024, 128), 128 << 20), bomb((30000, 30000, 30000), 1 << 20)
    endless = bomb((64, 64, 64), 64 << 20)
    assert len(kept) < 1 << 18
    tracemalloc.start()
    with pytest.raises(TooLargeError, match="134217728 voxels"), stored(io.BytesIO(kept), "x", 1 << 26, "label"):
        raise AssertionError
    with stored(io.BytesIO(lied), "x", LABEL_VOXELS, "label") as path, pytest.raises(InputError, match="truncated"):
        read_label_volume(path)
    with stored(io.BytesIO(endless), "x", LABEL_VOXELS, "label") as path, pytest.raises(InputError, match="goes on"):
        read_label_volume(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_header_that_names_another_file_is_refused(suffix: str, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.zeros((4, 4, 4), np.uint8))
    whole = tmp_path / f"whole{suffix}"
    sitk.WriteImage(image, str(whole))
    with stored(io.BytesIO(whole.read_bytes()), "x", LABEL_VOXELS, "image") as path:
        assert path.suffix == suffix
    if suffix == ".nrrd":
        text = b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 4 4\nencoding: raw\nData File: /etc/passwd\n"
    else:
        text = b"ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementDataFile = ../secret\n"
    with pytest.raises(InputError, match="names another file"), stored(io.BytesIO(text), "x", LABEL_VOXELS, "image"):
        raise AssertionError


@pytest.mark.fault(32)
def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(StorageError, match="receiving the image: No space"), stored(io.BytesIO(b"x"), "x", 1, "image"):
        raise AssertionError
    assert list(folder.iterdir()) == []
