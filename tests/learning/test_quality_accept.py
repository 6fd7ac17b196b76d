"""What refuses a label: each with a code, a number and a place, and no path in any message."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from rarevoxel.errors import GeometryError, InputError, LabelError, RareVoxelError, RejectedLabelError, RequestError
from rarevoxel.labels import CLIENT_SCHEME, LabelScheme
from rarevoxel.learning.quality import Checked, check_for_training, check_label, declared_empty
from rarevoxel.volumes import write_volume

SHAPE = (12, 14, 10)
AFFINE = np.array([[-2.0, 0, 0, 11], [0, 1.5, 0, -9], [0, 0, 3, 4], [0, 0, 0, 1]])
APP = LabelScheme("app", {"necrosis": 1, "edema": 2, "enhancing tumor": 3})
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("studies") / "case-7.nii.gz"
    write_volume(path, np.random.default_rng(0).integers(1, 99, SHAPE).astype(np.int16), AFFINE)
    return path


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def save(array: Any = None, affine: Any = AFFINE, name: str = "secret-name.nii.gz") -> Path:
        array = labels() if array is None else array
        nib.save(nib.Nifti1Image(np.asarray(array), affine), tmp_path / name)
        return tmp_path / name

    return save


def labels(values: tuple[int, ...] = (1, 2, 3), dtype: Any = np.uint8) -> np.ndarray:
    array = np.zeros(SHAPE, dtype)
    for index, value in enumerate(values):
        array[3 + index, 4:6, 5] = value
    return array


def refused(error: type[RareVoxelError], match: str, path: Path, image: Path, info: Any = None) -> dict[str, Any]:
    """Return the one finding of a label that is refused."""
    with pytest.raises(error, match=match) as caught:
        check_label(path, image, info or {}, scheme=APP)
    assert str(path.parent) not in str(caught.value)
    assert "secret-name" not in str(caught.value)
    (finding,) = caught.value.findings
    assert caught.value.to_dict()["findings"] == [finding]
    assert finding["severity"] == "error"
    assert finding["message"] == caught.value.message
    return finding


def test_a_good_label_is_accepted_as_it_is(image: Path, write: Write) -> None:
    checked = check_label(write(), image, {}, scheme=APP)
    assert isinstance(checked, Checked)
    assert np.array_equal(checked.labels, labels())
    assert checked.labels.dtype == np.uint8
    assert np.allclose(checked.affine, AFFINE)
    assert (checked.empty, checked.verbatim) == (False, True)
    assert checked.volumes_ml == {"WT": 0.054, "TC": 0.036, "ET": 0.018}  # six, four and two voxels of 9 mm^3


@pytest.mark.fault(18)
@pytest.mark.parametrize("kind", ["text", "nothing", "truncated", "gzip of text", "a flipped bit"])
def test_a_file_that_is_no_volume(image: Path, write: Write, kind: str) -> None:
    path = write(np.random.default_rng(1).integers(0, 4, SHAPE).astype(np.uint8))
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(
        {
            "text": b"no volume",
            "nothing": b"",
            "truncated": whole[:middle],
            "gzip of text": gzip.compress(b"hello" * 500),
            "a flipped bit": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        }[kind]
    )
    finding = refused(InputError, "label of case case-7: ", path, image)
    assert (finding["code"], finding["number"], finding["voxel"]) == ("unreadable", path.stat().st_size, None)


@pytest.mark.fault(18)
def test_a_file_of_no_known_kind(image: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.exe"
    path.write_bytes(b"MZ")
    assert refused(InputError, "label of case case-7: file name ends in '.exe'", path, image)["code"] == "unreadable"


@pytest.mark.fault(19)
def test_another_shape_is_named_beside_the_image_s(image: Path, write: Write) -> None:
    finding = refused(
        GeometryError, "12x14x11 .*expected the image's 12x14x10", write(np.ones((12, 14, 11), np.uint8)), image
    )
    assert (finding["code"], finding["number"]) == ("grid", 3.0)  # the far corner lies one slice of 3 mm further


@pytest.mark.fault(19)
def test_a_finer_grid_of_the_same_corners_is_another_shape(image: Path, write: Write) -> None:
    finer = AFFINE @ np.diag([0.5, 1.0, 1.0, 1.0])
    path = write(np.ones((23, 14, 10), np.uint8), finer)
    finding = refused(GeometryError, "grid 23x14x10 at 1x1.5x3 mm", path, image)
    assert finding["number"] == 0.0


@pytest.mark.fault(20)
def test_a_label_that_lies_elsewhere(image: Path, write: Write) -> None:
    finding = refused(GeometryError, "up to 3 mm apart", write(affine=AFFINE + 3.0 * np.eye(4, k=3)), image)
    assert (finding["code"], finding["number"]) == ("grid", 3.0)
    flipped = AFFINE @ np.diag([-1.0, 1.0, 1.0, 1.0])
    # Eleven voxels of 2 mm, to one side instead of to the other.
    assert refused(GeometryError, "up to 44 mm apart", write(affine=flipped), image)["number"] == 44.0
    turned = AFFINE.copy()
    turned[:3, :3] = np.array([[0.9998, -0.02, 0], [0.02, 0.9998, 0], [0, 0, 1]]) @ turned[:3, :3]
    assert refused(GeometryError, "apart", write(affine=turned), image)["code"] == "grid"


@pytest.mark.fault(20)
def test_round_off_is_no_other_place(image: Path, write: Write) -> None:
    checked = check_label(write(affine=AFFINE + 1e-5 * np.eye(4, k=3)), image, {}, scheme=APP)
    assert np.array_equal(checked.affine, nib.load(image).affine)
    assert not checked.verbatim  # The bytes say another affine than the image's.


@pytest.mark.fault(19)
def test_voxels_are_not_read_before_the_header_fits(image: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("read")

    monkeypatch.setattr("rarevoxel.learning.quality.accept.read_label_volume", fail)
    refused(GeometryError, "grid", write(np.ones((120, 140, 10), np.uint8)), image)


@pytest.mark.fault(21)
def test_a_value_outside_the_scheme(image: Path, write: Write) -> None:
    path = write(labels((1, 2, 4)))
    finding = refused(LabelError, r"label value 4 \(2 voxels\) is not in scheme 'app'", path, image)
    assert (finding["code"], finding["number"], finding["voxel"]) == ("value", 2.0, [5, 4, 5])
    assert finding["mm"] == [1.0, -3.0, 19.0]  # 11 - 2 * 5, -9 + 1.5 * 4, 4 + 3 * 5
    assert check_label(path, image, {"scheme": "brats2020"}, scheme=APP).labels.max() == 3
    assert refused(LabelError, "scheme 'brats2023'", path, image, {"scheme": "brats2023"})["code"] == "value"
    finding = refused(LabelError, "value 3 .* scheme 'brats2020'", write(), image, {"scheme": "brats2020"})
    assert finding["voxel"] == [5, 4, 5]
    assert refused(LabelError, "unknown label scheme 'x'", path, image, {"scheme": "x"})["code"] == "scheme"


@pytest.mark.fault(21)
def test_negative_and_large_values(image: Path, write: Write) -> None:
    for value in (-1, 300, 2**31 - 1):
        finding = refused(
            LabelError, f"label value {value:g}".replace("+", r"\+"), write(labels((1, value), np.int32)), image
        )
        assert (finding["number"], finding["voxel"]) == (2.0, [4, 4, 5])


@pytest.mark.fault(21)
def test_fractions_and_nan(image: Path, write: Write) -> None:
    array = labels(dtype=np.float32)
    array[8, 2, 1:4] = 0.5
    finding = refused(RejectedLabelError, "3 label voxels are not whole numbers", write(array), image)
    assert (finding["code"], finding["number"], finding["voxel"]) == ("not_whole", 3.0, [8, 2, 1])
    array[2, 1, 7] = np.nan
    array[9, 1, 7] = np.inf
    finding = refused(RejectedLabelError, "2 of 1680 voxels are NaN or infinite", write(array), image)
    assert (finding["code"], finding["number"], finding["voxel"]) == ("nan", 2.0, [2, 1, 7])
    checked = check_label(write(labels(dtype=np.float32)), image, {}, scheme=APP)
    assert np.array_equal(checked.labels, labels())
    assert not checked.verbatim


def test_segments_by_name(image: Path, write: Write) -> None:
    segments = [{"name": "enhancing tumor", "idx": 1}, {"name": "edema", "idx": 2}, {"name": "necrosis", "idx": 3}]
    checked = check_label(write(), image, {"label_info": segments}, scheme=APP)
    assert checked.labels[3:6, 4, 5].tolist() == [3, 2, 1]
    assert not checked.verbatim
    segments[1]["name"] = "my segment"
    finding = refused(LabelError, "'my segment'", write(), image, {"label_info": segments})
    assert (finding["code"], finding["number"], finding["voxel"]) == ("segment", 2.0, [4, 4, 5])
    finding = refused(LabelError, "has no segment in label_info", write(), image, {"label_info": segments[:1]})
    assert (finding["code"], finding["number"], finding["voxel"]) == ("value", 4.0, [4, 4, 5])


@pytest.mark.parametrize("segments", [{"name": "edema"}, "edema", [1], [["edema"]], [{"name": "edema", "idx": "x"}]])
def test_segments_that_are_none(image: Path, write: Write, segments: Any) -> None:
    with pytest.raises(RequestError, match="expected a list of"):
        check_label(write(), image, {"label_info": segments}, scheme=APP)


@pytest.mark.fault(22)
def test_an_empty_label_must_be_meant(image: Path, write: Write) -> None:
    path = write(np.zeros(SHAPE, np.uint8))
    finding = refused(RejectedLabelError, r'no voxel of 1680 .*params {"empty": true} or .*"no tumor"', path, image)
    assert (finding["code"], finding["number"], finding["voxel"]) == ("empty", 0.0, None)
    for info in ({"empty": True}, {"label_info": [{"name": "No tumor", "idx": 1}]}):
        checked = check_label(path, image, info, scheme=APP)
        assert (checked.empty, checked.verbatim, checked.findings) == (True, True, ())
        assert checked.volumes_ml == {"WT": 0.0, "TC": 0.0, "ET": 0.0}
    for info in ({"empty": "yes"}, {"empty": 1}, {"label_info": [{"name": "edema"}]}, {"label_info": []}):
        assert not declared_empty(info)
        refused(RejectedLabelError, "no voxel", path, image, info)


@pytest.mark.fault(22)
def test_declared_empty_but_is_not(image: Path, write: Write) -> None:
    finding = refused(RejectedLabelError, "declared empty, but 6 voxels", write(), image, {"empty": True})
    assert (finding["number"], finding["voxel"]) == (6.0, [3, 4, 5])


def seg_nrrd(path: Path, array: np.ndarray, fields: dict[str, str]) -> Path:
    """Write `(H, W, D)` or, as layers, `(H, W, D, C)` the way 3D Slicer does."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ AFFINE
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    axes = (2, 1, 0, 3)[: array.ndim]
    made = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(axes)), isVector=array.ndim == 4)
    made.SetSpacing(spacing.tolist())
    made.SetOrigin(lps[:3, 3].tolist())
    made.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    for key, value in fields.items():
        made.SetMetaData(key, value)
    sitk.WriteImage(made, str(path), useCompression=True)
    return path


def segment(number: int, name: str, value: int, layer: int = 0) -> dict[str, str]:
    fields = {"ID": f"Segment_{number}", "Name": name, "LabelValue": str(value), "Layer": str(layer)}
    return {f"Segment{number}_{key}": text for key, text in fields.items()}


@pytest.mark.fault(23)
def test_a_segmentation_of_slicer_names_its_own_values(image: Path, tmp_path: Path) -> None:
    fields = segment(0, "Edema", 3) | segment(1, "enhancing tumor", 1) | segment(2, "necrosis", 2)
    path = seg_nrrd(tmp_path / "secret-name.seg.nrrd", labels(), fields)
    for info in ({}, {"label_info": [{"name": "necrosis"}, {"name": "edema"}, {"name": "enhancing tumor"}]}):
        checked = check_label(path, image, info, scheme=APP)
        assert checked.labels[3:6, 4, 5].tolist() == [3, 1, 2]
        assert not checked.verbatim


@pytest.mark.fault(23)
def test_a_segmentation_without_names_needs_the_client_s(image: Path, tmp_path: Path) -> None:
    path = seg_nrrd(tmp_path / "secret-name.seg.nrrd", labels(), segment(0, "Segment_1", 1))
    named = [{"name": "necrosis"}, {"name": "enhancing tumor"}, {"name": "edema"}]
    assert check_label(path, image, {"label_info": named}, scheme=APP).labels[3:6, 4, 5].tolist() == [1, 3, 2]
    finding = refused(RejectedLabelError, "segment 'Segment_1' is unknown", path, image)
    assert (finding["code"], finding["number"], finding["voxel"]) == ("segment", 2.0, [3, 4, 5])
    plain = seg_nrrd(tmp_path / "plain.nrrd", labels(), {})
    assert np.array_equal(check_label(plain, image, {}, scheme=APP).labels, labels())


@pytest.mark.fault(23)
def test_layers_are_merged_by_name(image: Path, tmp_path: Path) -> None:
    layers = np.zeros((*SHAPE, 2), np.uint8)
    layers[3, 4:6, 5, 0], layers[4, 4:6, 5, 0], layers[5, 4:6, 5, 1] = 1, 2, 1
    fields = segment(0, "necrosis", 1) | segment(1, "edema", 2) | segment(2, "enhancing tumor", 1, layer=1)
    path = seg_nrrd(tmp_path / "secret-name.seg.nrrd", layers, fields)
    assert np.array_equal(check_label(path, image, {}, scheme=APP).labels, labels())
    layers[3, 4, 5, 1] = 1
    finding = refused(
        RejectedLabelError, "shares 1 voxels", seg_nrrd(tmp_path / "secret-name.seg.nrrd", layers, fields), image
    )
    assert (finding["code"], finding["number"], finding["voxel"]) == ("overlap", 1.0, [3, 4, 5])


@pytest.mark.fault(23)
def test_channels_without_names_are_refused(image: Path, write: Write, tmp_path: Path) -> None:
    one_hot = np.stack([labels() == value for value in range(4)], axis=3).astype(np.uint8)
    for path in (write(one_hot), seg_nrrd(tmp_path / "secret-name.seg.nrrd", one_hot, segment(0, "edema", 1))):
        finding = refused(RejectedLabelError, r"4-D \(12x14x10x4\), expected 3-D", path, image)
        assert (finding["code"], finding["number"]) == ("channels", 4.0)
    trailing = check_label(write(labels()[..., None]), image, {}, scheme=APP)
    assert np.array_equal(trailing.labels, labels())
    assert not trailing.verbatim


def test_bytes_are_kept_only_when_they_say_all_there_is(image: Path, write: Write) -> None:
    def verbatim(
        change: Callable[[nib.Nifti1Image], None], name: str = "secret-name.nii.gz", dtype: Any = np.uint8
    ) -> bool:
        made = nib.Nifti1Image(labels(dtype=dtype), AFFINE)
        change(made)
        path = write()
        path = path.with_name(name)
        nib.save(made, path)
        return check_label(path, image, {}, scheme=APP).verbatim

    assert verbatim(lambda made: None)
    assert not verbatim(lambda made: None, name="x.nii")
    assert not verbatim(lambda made: None, dtype=np.int16)
    note = nib.nifti1.Nifti1Extension("comment", b"Doe^John")
    assert not verbatim(lambda made: made.header.extensions.append(note))


def test_training_takes_client_values(image: Path, write: Write) -> None:
    assert check_for_training(image, write(), "case-7", declared_empty=False) == ()
    path = write(np.zeros(SHAPE, np.uint8))
    assert check_for_training(image, path, "case-7", declared_empty=True) == ()
    with pytest.raises(RejectedLabelError, match="label of case case-7: no voxel"):
        check_for_training(image, path, "case-7", declared_empty=False)
    with pytest.raises(LabelError, match=r"label value 5 .* scheme 'client'"):
        check_for_training(image, write(labels((5,))), "case-7", declared_empty=False)
    assert CLIENT_SCHEME.values["resection cavity"] == 4


def test_an_image_that_cannot_be_read_is_named_by_its_case(tmp_path: Path, write: Write) -> None:
    with pytest.raises(InputError, match=r"^image of case here: file is missing"):
        check_label(write(), tmp_path / "none.nii.gz", {}, case="here")
