"""Loading a case: four files or one 4-D file, each fault with its own sentence."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import list_data_collate

from rarevoxel.cases import SEQUENCES
from rarevoxel.errors import GeometryError, InputError, LabelError
from rarevoxel.phantom import Phantom
from rarevoxel.transforms import LoadLabeld, LoadSequencesd, NormalizeBrain, load_sequences, missing_of


def rewrite(path: Path, change: object = None, affine: np.ndarray | None = None) -> None:
    image = nib.load(path)
    array = np.asarray(image.dataobj).astype(np.float32)
    if callable(change):
        array = change(array)
    nib.save(nib.Nifti1Image(array, image.affine if affine is None else affine), path)


def test_channels_come_in_the_order_of_the_sequences(case_folder: Path, phantom: Phantom) -> None:
    image = load_sequences(case_folder / "t2f.nii.gz")
    assert SEQUENCES == ("t1n", "t1c", "t2w", "t2f")
    assert image.dtype == torch.float32
    np.testing.assert_allclose(image.numpy(), phantom.images, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(image.affine), phantom.affine)


def test_folder_display_and_sibling_are_one_case(case_folder: Path) -> None:
    images = [load_sequences(case_folder / name) for name in ("t1n.nii.gz", "t1c.nii.gz", "")]
    for image in images[1:]:
        assert torch.equal(images[0].as_tensor(), image.as_tensor())


def test_a_4d_file_equals_four_files(tmp_path: Path, case_folder: Path, phantom: Phantom) -> None:
    path = tmp_path / "four.nii.gz"
    nib.save(nib.Nifti1Image(np.moveaxis(phantom.images, 0, 3), phantom.affine), path)
    four, files = load_sequences(path), load_sequences(case_folder)
    assert torch.equal(four.as_tensor(), files.as_tensor())
    assert torch.equal(four.affine, files.affine)


@pytest.mark.parametrize("missing", [["t1n"], ["t1c"], ["t2f"], ["t1n", "t1c", "t2f"]])
def test_a_missing_sequence_is_a_named_channel_of_zeros(
    case_folder: Path, phantom: Phantom, missing: list[str]
) -> None:
    for sequence in missing:
        (case_folder / f"{sequence}.nii.gz").unlink()
    image = load_sequences(case_folder)
    assert missing_of(image) == tuple(missing)
    assert image.shape == phantom.images.shape
    for index, sequence in enumerate(SEQUENCES):
        expected = np.zeros_like(phantom.images[0]) if sequence in missing else phantom.images[index]
        np.testing.assert_array_equal(image[index].numpy(), expected)
    kept = NormalizeBrain()(image)
    assert [bool(channel.any()) for channel in kept] == [sequence not in missing for sequence in SEQUENCES]


def test_a_complete_case_lacks_nothing_and_neither_does_a_tensor(case_folder: Path) -> None:
    assert missing_of(load_sequences(case_folder)) == ()
    assert missing_of(torch.zeros(4, 2, 2, 2)) == ()


def test_without_any_sequence_there_is_no_case(case_folder: Path) -> None:
    for sequence in SEQUENCES:
        (case_folder / f"{sequence}.nii.gz").unlink()
    with pytest.raises(InputError, match="sequence t1n, t1c, t2w, t2f is missing"):
        load_sequences(case_folder)
    with pytest.raises(InputError, match=r"no sequence among \['adc'\], expected at least one of t1n, t1c, t2w, t2f"):
        load_sequences({"adc": case_folder / "seg.nii.gz"})


def test_a_mapping_may_lack_a_sequence_but_not_a_file(case_folder: Path) -> None:
    files = {"t2f": case_folder / "t2f.nii.gz", "t1n": case_folder / "t1n.nii.gz"}
    assert missing_of(load_sequences(files)) == ("t1c", "t2w")
    with pytest.raises(InputError, match=r"gone\.nii\.gz: file is missing"):
        load_sequences({**files, "t1c": case_folder / "gone.nii.gz"})


def test_cases_with_and_without_gaps_make_one_batch(case_folder: Path) -> None:
    whole = load_sequences(case_folder)
    (case_folder / "t1c.nii.gz").unlink()
    batch = list_data_collate([{"image": whole}, {"image": load_sequences(case_folder)}])["image"]
    assert batch.shape[0] == 2
    assert not batch[1, 1].any()


def test_differing_grids_are_both_described(case_folder: Path, phantom: Phantom) -> None:
    moved = phantom.affine.copy()
    moved[0, 3] += 3.0
    rewrite(case_folder / "t2w.nii.gz", affine=moved)
    with pytest.raises(GeometryError, match=r"t2w\.nii\.gz: grid 40x48x40 .* differs from t1n\.nii\.gz: 40x48x40"):
        load_sequences(case_folder)


def test_differing_shapes_are_refused(case_folder: Path) -> None:
    rewrite(case_folder / "t2f.nii.gz", lambda array: array[:-1])
    with pytest.raises(GeometryError, match=r"t2f\.nii\.gz: grid 39x48x40"):
        load_sequences(case_folder)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_no_numbers_are_counted(case_folder: Path, value: float) -> None:
    def spoil(array: np.ndarray) -> np.ndarray:
        array[0, 0, :2] = value
        return array

    rewrite(case_folder / "t1c.nii.gz", spoil)
    with pytest.raises(InputError, match=r"t1c\.nii\.gz: 2 of 76800 voxels are NaN or infinite"):
        load_sequences(case_folder)


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_a_constant_sequence_is_refused(case_folder: Path, value: float) -> None:
    rewrite(case_folder / "t2w.nii.gz", lambda array: np.full_like(array, value))
    with pytest.raises(InputError, match=rf"t2w\.nii\.gz: image is constant, all 76800 voxels are {value:g}"):
        load_sequences(case_folder)


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_a_4d_file_needs_four_channels(tmp_path: Path, phantom: Phantom, channels: int) -> None:
    array = np.stack([phantom.images[i % 4] for i in range(channels)], axis=3)
    nib.save(nib.Nifti1Image(array, phantom.affine), tmp_path / "x.nii.gz")
    with pytest.raises(InputError, match=f"4-D image with {channels} channels, expected 4"):
        load_sequences(tmp_path / "x.nii.gz")


def test_a_trailing_axis_of_one_is_dropped(case_folder: Path, phantom: Phantom) -> None:
    rewrite(case_folder / "t1n.nii.gz", lambda array: array[..., None])
    assert load_sequences(case_folder).shape == (4, *phantom.labels.shape)


def test_a_slice_is_no_volume(case_folder: Path) -> None:
    rewrite(case_folder / "t1c.nii.gz", lambda array: array[:, :, 0])
    with pytest.raises(InputError, match=r"t1c\.nii\.gz: volume is 2-D \(40x48\), expected 3-D"):
        load_sequences(case_folder)


@pytest.mark.parametrize("kind", ["truncated", "text", "empty"])
def test_a_broken_file_is_named(case_folder: Path, kind: str) -> None:
    path = case_folder / "t2f.nii.gz"
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[: len(whole) // 2], "text": gzip.compress(b"hello" * 99), "empty": b""}[kind])
    expected = {"truncated": "truncated or corrupt", "text": "not a NIfTI", "empty": "0 bytes"}[kind]
    with pytest.raises(InputError, match=rf"t2f\.nii\.gz.*{expected}"):
        load_sequences(case_folder)


def loaded(case_folder: Path) -> dict[object, object]:
    data = {"image": str(case_folder / "t1c.nii.gz"), "label": str(case_folder / "seg.nii.gz")}
    return LoadLabeld("label")(LoadSequencesd("image")(data))


def test_a_label_is_one_channel_on_the_image_s_grid(case_folder: Path, phantom: Phantom) -> None:
    data = loaded(case_folder)
    assert data["label"].dtype == torch.uint8
    assert np.array_equal(data["label"][0].numpy(), phantom.labels)
    assert torch.equal(data["label"].affine, data["image"].affine)


def test_a_label_on_another_grid_is_refused(case_folder: Path, phantom: Phantom) -> None:
    flipped = phantom.affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
    rewrite(case_folder / "seg.nii.gz", affine=flipped)
    with pytest.raises(GeometryError, match=r"label grid 40x48x40 at 4x4x4 mm LAS.* is not the image's .* RAS"):
        loaded(case_folder)


def test_a_foreign_label_value_is_refused(case_folder: Path) -> None:
    def spoil(array: np.ndarray) -> np.ndarray:
        array[0, 0, :3] = 9
        return array

    rewrite(case_folder / "seg.nii.gz", spoil)
    with pytest.raises(LabelError, match=r"seg\.nii\.gz: label value 9 \(3 voxels\)"):
        loaded(case_folder)
