from __future__ import annotations

import gzip
import stat
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monai.transforms import LoadImage

from rarevoxel.errors import GeometryError, InputError
from rarevoxel.volumes import (
    Grid,
    check_affine,
    check_image,
    read_channels,
    read_header,
    read_label_volume,
    read_labels,
    read_volume,
    replace_file,
    volume_stem,
    volume_suffix,
    write_labels,
    write_volume,
)

SHAPE = (8, 9, 10)
# Oblique, anisotropic and left-handed: nothing cancels.
ROTATION = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
AFFINE = np.eye(4)
AFFINE[:3, :3] = ROTATION @ np.diag([-1.0, 0.5, 5.5])
AFFINE[:3, 3] = [12.5, -30.0, 7.25]
INTEGERS = np.random.default_rng(0).integers(0, 120, SHAPE).astype(np.int16)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE, **header: object) -> Path:
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, path)
    return path


def header_bytes(path: Path, **fields: object) -> Path:
    """Change raw header fields of an uncompressed NIfTI, past every check of nibabel."""
    data = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(data[:348]), check=False)
    for key, value in fields.items():
        header[key] = value
    data[:348] = header.binaryblock
    path.write_bytes(bytes(data))
    return path


# ------------------------------------------------------------------------------------------------------------- grids


def test_grid_describes_itself() -> None:
    grid = Grid((240, 240, 155), np.array([[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]]))
    assert grid.describe() == "240x240x155 at 1x1x1 mm LPS, origin (0, 239, 0)"
    assert grid.spacing == (1.0, 1.0, 1.0)
    assert grid.orientation == "LPS"


def test_grid_spacing_and_volume_of_an_oblique_grid() -> None:
    grid = Grid(SHAPE, AFFINE)
    assert grid.spacing == pytest.approx((1.0, 0.5, 5.5))
    assert grid.voxel_volume == pytest.approx(2.75)
    assert grid.orientation == "LAS"


def test_grid_affine_is_a_read_only_copy() -> None:
    affine = AFFINE.copy()
    grid = Grid(SHAPE, affine)
    affine[0, 3] = 99
    assert grid.affine[0, 3] == 12.5
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 3] = 1


@pytest.mark.parametrize(("shift", "same"), [(0.0, True), (1e-5, True), (1e-3, False), (3.0, False)])
def test_grid_matches_within_tolerance(shift: float, same: bool) -> None:
    moved = AFFINE.copy()
    moved[1, 3] += shift
    assert Grid(SHAPE, AFFINE).matches(Grid(SHAPE, moved)) is same


def test_grid_does_not_match_another_shape_or_a_flip() -> None:
    assert not Grid(SHAPE, AFFINE).matches(Grid((8, 9, 11), AFFINE))
    assert not Grid(SHAPE, AFFINE).matches(Grid(SHAPE, AFFINE @ np.diag([-1.0, 1, 1, 1])))


def bad_affine(kind: str) -> np.ndarray:
    affine = AFFINE.copy()
    if kind == "nan":
        affine[0, 0] = np.nan
    elif kind == "zero":
        affine[:3, 1] = 0
    elif kind == "singular":
        affine[:3, 1] = affine[:3, 0]
    elif kind == "sheared":
        affine[:3, 1] += 0.01 * affine[:3, 0]
    return affine


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("nan", r"scan: affine has 1 NaN or infinite"),
        ("zero", r"scan: zero spacing, found 1x0x5.5 mm"),
        ("singular", r"scan: affine is singular"),
        ("sheared", r"scan: affine is sheared \(cosine 0\.0200"),
    ],
)
def test_bad_affines_are_named(kind: str, match: str) -> None:
    with pytest.raises(GeometryError, match=match):
        check_affine(bad_affine(kind), "scan")


def test_a_shear_below_tolerance_is_no_shear() -> None:
    affine = AFFINE.copy()
    affine[:3, 1] += 0.0002 * affine[:3, 0]
    check_affine(affine)


def test_affine_of_wrong_shape() -> None:
    with pytest.raises(GeometryError, match=r"affine has shape \(3, 3\), expected \(4, 4\)"):
        check_affine(np.eye(3))


# ------------------------------------------------------------------------------------------------- equal content, read


def variants() -> dict[str, dict[str, object]]:
    big = nib.Nifti1Header(endianness=">")
    return {
        "int16.nii": {"array": INTEGERS},
        "int16.nii.gz": {"array": INTEGERS},
        "uint8.nii.gz": {"array": INTEGERS.astype(np.uint8)},
        "float32.nii": {"array": INTEGERS.astype(np.float32)},
        "float64.nii.gz": {"array": INTEGERS.astype(np.float64)},
        "big.nii": {"array": INTEGERS.astype(">i2"), "header": big},
        "big.nii.gz": {"array": INTEGERS.astype(">f8"), "header": big},
    }


@pytest.mark.parametrize("name", variants())
def test_storage_does_not_change_what_is_read(tmp_path: Path, name: str) -> None:
    kwargs = variants()[name]
    image = nib.Nifti1Image(kwargs["array"], AFFINE, header=kwargs.get("header"))
    image.set_data_dtype(kwargs["array"].dtype)
    image.set_qform(AFFINE, 1)
    nib.save(image, tmp_path / name)
    if name.startswith("big"):
        raw = (gzip.decompress if name.endswith("gz") else bytes)((tmp_path / name).read_bytes())
        assert raw[:4] == b"\x00\x00\x01\x5c"
    volume = read_volume(tmp_path / name)
    assert volume.array.dtype == np.float32
    assert volume.array.dtype.isnative
    assert np.array_equal(volume.array, INTEGERS)
    assert volume.grid.matches(Grid(SHAPE, AFFINE))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_slope_and_intercept_are_applied(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    image = nib.Nifti1Image(INTEGERS, AFFINE)
    image.header.set_slope_inter(0.25, -3)
    image = nib.Nifti1Image(INTEGERS * 0.25 - 3, AFFINE, image.header)
    image.set_data_dtype(np.int16)
    data = bytearray(image.to_bytes())
    header = nib.Nifti1Header(bytes(data[:348]), check=False)
    header["scl_slope"], header["scl_inter"] = 0.25, -3
    data[:348] = header.binaryblock
    data[352:] = INTEGERS.tobytes(order="F")
    path.write_bytes(gzip.compress(bytes(data)) if suffix == ".nii.gz" else bytes(data))
    assert np.array_equal(read_volume(path).array, INTEGERS * np.float32(0.25) - np.float32(3))


def test_nifti2_is_read(tmp_path: Path) -> None:
    nib.save(nib.Nifti2Image(INTEGERS, AFFINE), tmp_path / "x.nii.gz")
    assert np.array_equal(read_volume(tmp_path / "x.nii.gz").array, INTEGERS)


@pytest.mark.parametrize("name", ["x.nii.gz", "x.nrrd"])
def test_same_as_monai_reads(tmp_path: Path, name: str) -> None:
    write_volume(tmp_path / name, INTEGERS, AFFINE)
    ours = read_volume(tmp_path / name)
    theirs = LoadImage(image_only=True)(tmp_path / name)
    assert np.array_equal(ours.array, theirs.numpy())
    assert np.allclose(ours.grid.affine, theirs.affine.numpy(), atol=1e-5)


def test_uncompressed_volume_is_no_view_of_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "x.nii", INTEGERS.astype(np.float32))
    volume = read_volume(path)
    path.unlink()
    volume.array[0, 0, 0] = 5.0
    assert volume.array[0, 0, 0] == 5.0
    assert not isinstance(volume.array, np.memmap)


@pytest.mark.parametrize("shape", [(*SHAPE, 1), (*SHAPE, 1, 1), (3, 3, 1), (1, 1, 1)])
def test_trailing_singletons_are_dropped_and_thin_volumes_kept(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    volume = read_volume(save(tmp_path / "x.nii.gz", array))
    assert volume.array.shape == shape[:3]
    assert np.array_equal(volume.array, array.reshape(shape[:3]))


def test_four_dimensions_only_when_allowed(tmp_path: Path) -> None:
    array = np.arange(np.prod(SHAPE) * 4, dtype=np.int16).reshape(*SHAPE, 4)
    path = save(tmp_path / "x.nii.gz", array)
    assert np.array_equal(read_volume(path, allow_4d=True).array, array)
    assert read_header(path, allow_4d=True).shape == SHAPE
    assert read_channels(path) == 4
    with pytest.raises(InputError, match=r"x\.nii\.gz: volume is 4-D \(8x9x10x4\), expected 3-D"):
        read_volume(path)
    with pytest.raises(InputError, match=r"one map of whole numbers"):
        read_labels(path)


def test_channels_of_a_plain_volume(tmp_path: Path) -> None:
    assert read_channels(save(tmp_path / "x.nii", INTEGERS)) == 1


def test_two_and_five_dimensions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"volume is 2-D \(8x9\), expected 3-D.*not a single slice"):
        read_header(save(tmp_path / "x.nii", INTEGERS[:, :, 0]))
    with pytest.raises(InputError, match=r"volume is 5-D \(8x9x10x1x3\)"):
        read_volume(save(tmp_path / "y.nii", np.zeros((*SHAPE, 1, 3), np.int16)), allow_4d=True)


# -------------------------------------------------------------------------------------------------------- broken files


def test_missing_file_folder_and_dangling_link(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.nii\.gz: file is missing"):
        read_volume(tmp_path / "no.nii.gz")
    (tmp_path / "d.nii").mkdir()
    with pytest.raises(InputError, match=r"d\.nii: is a folder"):
        read_volume(tmp_path / "d.nii")
    (tmp_path / "l.nii").symlink_to(tmp_path / "gone.nii")
    with pytest.raises(InputError, match=r"l\.nii: file is a link to .*gone\.nii, which does not exist"):
        read_volume(tmp_path / "l.nii")


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.nrrd", "x.mha"])
@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", r"file is empty \(0 bytes\)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a git-LFS pointer.*git lfs pull"),
        (b"Dear colleague, please find the scan attached.\n" * 20, r"x\.(nii|nii\.gz|nrrd|mha): is "),
        (b"\x1f\x8b\x08\x00garbage garbage garbage", r"x\.(nii|nii\.gz|nrrd|mha): is "),
    ],
)
def test_files_that_are_no_volumes(tmp_path: Path, name: str, content: bytes, match: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=match) as caught:
        read_volume(tmp_path / name)
    assert str(tmp_path / name) in caught.value.message
    assert caught.value.hint


def test_text_and_wrong_compression_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "x.nii").write_text("hello " * 100)
    with pytest.raises(InputError, match=r"is not a NIfTI file, it starts with text .'hello"):
        read_volume(tmp_path / "x.nii")
    plain, packed = save(tmp_path / "a.nii", INTEGERS), save(tmp_path / "a.nii.gz", INTEGERS)
    (tmp_path / "b.nii.gz").write_bytes(plain.read_bytes())
    with pytest.raises(InputError, match=r"is not gzip-compressed though it is called \.nii\.gz"):
        read_volume(tmp_path / "b.nii.gz")
    (tmp_path / "b.nii").write_bytes(packed.read_bytes())
    with pytest.raises(InputError, match=r"is gzip-compressed though it is called \.nii"):
        read_volume(tmp_path / "b.nii")


def test_half_of_a_pair_and_unknown_suffix(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(INTEGERS, AFFINE), tmp_path / "x.hdr")
    (tmp_path / "x.nii").write_bytes((tmp_path / "x.hdr").read_bytes() + bytes(1000))
    with pytest.raises(InputError, match=r"one half of a \.hdr/\.img pair"):
        read_volume(tmp_path / "x.nii")
    with pytest.raises(InputError, match=r"x\.dcm: file name ends in '\.dcm', expected one of \.nii\.gz"):
        read_volume(tmp_path / "x.dcm")


@pytest.mark.parametrize("cut", [20, 200, -200, -5])
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_truncated_files(tmp_path: Path, name: str, cut: int) -> None:
    path = save(tmp_path / name, INTEGERS)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"x\.nii(\.gz)?: is (truncated|not a NIfTI)"):
        read_volume(path)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0.0, 1.0, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_in_compressed_voxels_never_passes(tmp_path: Path, where: float, bit: int) -> None:
    path = tmp_path / "x.nii.gz"
    write_volume(path, INTEGERS, AFFINE)
    data = bytearray(path.read_bytes())
    # The gzip header's name, time and OS bytes may change without harm.
    index = 10 + int(where * (len(data) - 10))
    data[index] ^= 1 << bit
    path.write_bytes(bytes(data))
    try:
        volume = read_volume(path)
    except InputError:
        return
    # A padding bit between the last block and the checksum.
    assert np.array_equal(volume.array, INTEGERS)
    assert volume.grid.matches(Grid(SHAPE, AFFINE))


def test_header_that_promises_more_than_the_file_can_hold(tmp_path: Path) -> None:
    path = header_bytes(save(tmp_path / "x.nii", INTEGERS), dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])
    with pytest.raises(InputError, match="is truncated or its header is wrong: 1792 bytes on disk, 54000000000352"):
        read_header(path)
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match="54000000000352 expected when decompressed"):
        read_header(tmp_path / "x.nii.gz")


def test_colour_and_empty_volumes(tmp_path: Path) -> None:
    colour = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(InputError, match="expected one number a voxel"):
        read_volume(save(tmp_path / "x.nii", colour))
    path = header_bytes(save(tmp_path / "y.nii", INTEGERS), dim=[3, 8, 0, 10, 1, 1, 1, 1])
    with pytest.raises(InputError, match="volume of 8x0x10 voxels is empty"):
        read_header(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_counted(tmp_path: Path, value: float) -> None:
    array = INTEGERS.astype(np.float32)
    array[2, 3, 4:7] = value
    path = save(tmp_path / "x.nii.gz", array)
    with pytest.raises(InputError, match=r"x\.nii\.gz: 3 of 720 voxels are NaN or infinite"):
        read_volume(path)
    with pytest.raises(InputError, match="3 of 720 voxels are NaN or infinite"):
        read_labels(path)


def test_values_beyond_float32_count_as_infinite(tmp_path: Path) -> None:
    array = INTEGERS.astype(np.float64)
    array[0, 0, 0] = 1e200
    with pytest.raises(InputError, match="1 of 720 voxels are NaN or infinite"):
        read_volume(save(tmp_path / "x.nii", array))


def test_constant_images_are_refused_apart_from_labels(tmp_path: Path) -> None:
    path = save(tmp_path / "x.nii.gz", np.full(SHAPE, 7, np.int16))
    with pytest.raises(InputError, match=r"x\.nii\.gz: image is constant, all 720 voxels are 7"):
        check_image(read_volume(path), path)
    channels = np.stack([INTEGERS, np.zeros_like(INTEGERS)], axis=-1)
    path = save(tmp_path / "y.nii.gz", channels)
    with pytest.raises(InputError, match=r"y\.nii\.gz, channel 1: image is constant"):
        check_image(read_volume(path, allow_4d=True), path)
    assert not read_labels(save(tmp_path / "z.nii.gz", np.zeros(SHAPE, np.uint8))).any()


# ------------------------------------------------------------------------------------------------------------- affines


@pytest.mark.parametrize(
    ("kind", "match"),
    [("nan", "NaN or infinite"), ("zero", "zero spacing"), ("singular", "singular"), ("sheared", "sheared")],
)
def test_bad_sform_in_a_file(tmp_path: Path, kind: str, match: str) -> None:
    affine = bad_affine(kind)
    rows = {f"srow_{axis}": affine[i] for i, axis in enumerate("xyz")}
    path = header_bytes(save(tmp_path / "x.nii", INTEGERS), qform_code=0, **rows)
    with pytest.raises(GeometryError, match=rf"x\.nii \(sform\).*{match}"):
        read_header(path)


@pytest.mark.parametrize("codes", [(1, 0), (0, 0)])
def test_zero_pixdim_is_not_repaired_in_silence(tmp_path: Path, codes: tuple[int, int]) -> None:
    path = save(tmp_path / "x.nii", INTEGERS)
    header_bytes(path, qform_code=codes[0], sform_code=codes[1], pixdim=[1, 1, 0, 1, 1, 1, 1, 1])
    with pytest.raises(GeometryError, match=r"x\.nii \(pixdim\): zero spacing, found 1x0x1 mm"):
        read_header(path)


def test_zero_pixdim_is_no_matter_where_only_the_sform_counts(tmp_path: Path) -> None:
    path = header_bytes(save(tmp_path / "x.nii", INTEGERS), qform_code=0, pixdim=[1, 1, 0, 1, 1, 1, 1, 1])
    assert read_header(path).matches(Grid(SHAPE, AFFINE))


def test_sform_differing_from_qform(tmp_path: Path) -> None:
    moved = AFFINE.copy()
    moved[2, 3] += 3
    image = nib.Nifti1Image(INTEGERS, AFFINE)
    image.set_sform(AFFINE, 1)
    image.set_qform(moved, 1)
    nib.save(image, tmp_path / "x.nii.gz")
    with pytest.raises(GeometryError, match=r"x\.nii\.gz: sform and qform differ by 3, expected at most 0\.001"):
        read_header(tmp_path / "x.nii.gz")
    image.set_qform(moved, 0)
    nib.save(image, tmp_path / "x.nii.gz")
    assert read_header(tmp_path / "x.nii.gz").matches(Grid(SHAPE, AFFINE))


def test_allowed_shear_survives_writing_and_reading(tmp_path: Path) -> None:
    affine = AFFINE.copy()
    affine[:3, 2] += 0.0004 * 5.5 * ROTATION[:, 0]
    write_labels(tmp_path / "x.nii.gz", INTEGERS.astype(np.uint8), affine)
    assert read_header(tmp_path / "x.nii.gz").matches(Grid(SHAPE, affine))


# -------------------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_labels_are_uint8_whatever_their_storage(tmp_path: Path, dtype: type) -> None:
    labels = read_labels(save(tmp_path / "x.nii.gz", (INTEGERS % 4).astype(dtype)[..., None]))
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, INTEGERS % 4)


def test_labels_outside_uint8_are_kept_for_the_scheme_to_refuse(tmp_path: Path) -> None:
    array = INTEGERS.copy()
    array[0, 0, :2] = [-1, 300]
    labels = read_labels(save(tmp_path / "x.nii", array))
    assert labels[0, 0, :2].tolist() == [-1, 300]


def test_fractions_are_no_labels(tmp_path: Path) -> None:
    array = (INTEGERS % 2).astype(np.float32)
    array[0, 0, :2] = 0.5
    with pytest.raises(InputError, match=r"x\.nii: 2 label voxels are not whole numbers \(0\.5\)"):
        read_labels(save(tmp_path / "x.nii", array))


# ------------------------------------------------------------------------------------------------------------- writing


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from([".nii", ".nii.gz", ".nrrd", ".seg.nrrd"]),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    axes=st.permutations([0, 1, 2]),
    flips=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    spacing=st.tuples(*[st.floats(0.3, 6.0)] * 3),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    seed=st.integers(0, 99),
)
def test_write_then_read_is_identity(tmp_path, suffix, shape, axes, flips, spacing, origin, seed) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, list(axes)] * np.array(flips) * np.array(spacing)
    affine[:3, 3] = origin
    labels = np.random.default_rng(seed).integers(0, 5, shape).astype(np.uint8)
    path = tmp_path / f"x{suffix}"
    write_labels(path, labels, affine)
    volume = read_label_volume(path)
    assert volume.array.dtype == np.uint8
    assert np.array_equal(volume.array, labels)
    assert volume.grid.matches(Grid(shape, affine))


def test_nrrd_and_nifti_place_a_voxel_at_the_same_point(tmp_path: Path) -> None:
    write_labels(tmp_path / "x.nrrd", INTEGERS.astype(np.uint8), AFFINE)
    image = sitk.ReadImage(str(tmp_path / "x.nrrd"))
    lps = np.array(image.TransformIndexToPhysicalPoint((3, 4, 5)))
    assert np.allclose(lps * [-1, -1, 1], (AFFINE @ [3, 4, 5, 1])[:3], atol=1e-4)
    assert image[3, 4, 5] == INTEGERS[3, 4, 5]


def test_mha_is_read_with_its_world(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(INTEGERS.transpose(2, 1, 0))
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((10.0, 20.0, 30.0))
    sitk.WriteImage(image, str(tmp_path / "x.mha"))
    volume = read_volume(tmp_path / "x.mha")
    assert np.array_equal(volume.array, INTEGERS)
    assert np.allclose(volume.grid.affine, [[-1, 0, 0, -10], [0, -2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]])


def test_nrrd_with_channels_and_slices(tmp_path: Path) -> None:
    vector = sitk.GetImageFromArray(np.stack([INTEGERS.transpose(2, 1, 0)] * 3, axis=-1), isVector=True)
    sitk.WriteImage(vector, str(tmp_path / "v.nrrd"))
    assert read_volume(tmp_path / "v.nrrd", allow_4d=True).array.shape == (*SHAPE, 3)
    with pytest.raises(InputError, match=r"v\.nrrd: volume is 4-D \(8x9x10x3\)"):
        read_labels(tmp_path / "v.nrrd")
    sitk.WriteImage(vector[:, :, 0], str(tmp_path / "s.nrrd"))
    with pytest.raises(InputError, match=r"s\.nrrd: volume is 2-D \(8x9\)"):
        read_volume(tmp_path / "s.nrrd")


@pytest.mark.parametrize("cut", [60, -30])
def test_truncated_nrrd(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.nrrd"
    write_volume(path, INTEGERS, AFFINE)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"x\.nrrd: is truncated"):
        read_volume(path)


def test_writing_sets_both_forms_and_repeats_its_bytes(tmp_path: Path) -> None:
    write_labels(tmp_path / "a.nii.gz", INTEGERS.astype(np.uint8), AFFINE)
    write_labels(tmp_path / "b.nii.gz", INTEGERS.astype(np.uint8), AFFINE)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    header = nib.load(tmp_path / "a.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert np.allclose(header.get_sform(), AFFINE, atol=1e-5)
    assert np.allclose(header.get_qform(), AFFINE, atol=1e-5)
    assert header.get_data_dtype() == np.uint8


def test_writing_refuses_what_is_no_label_map(tmp_path: Path) -> None:
    labels = INTEGERS.astype(np.uint8)
    with pytest.raises(InputError, match="labels have type int16, expected uint8"):
        write_labels(tmp_path / "x.nii.gz", INTEGERS, AFFINE)
    with pytest.raises(InputError, match=r"array is 2-D with shape \(8, 9\)"):
        write_labels(tmp_path / "x.nii.gz", labels[..., 0], AFFINE)
    with pytest.raises(InputError, match=r"cannot write \.mha"):
        write_labels(tmp_path / "x.mha", labels, AFFINE)
    with pytest.raises(GeometryError, match=r"x\.nii\.gz: affine is singular"):
        write_labels(tmp_path / "x.nii.gz", labels, bad_affine("singular"))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.bin"
    replace_file(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.bin"]


def test_replacing_follows_the_umask_and_makes_folders(tmp_path: Path) -> None:
    replace_file(tmp_path / "a" / "b" / "x", b"1")
    (tmp_path / "plain").write_bytes(b"1")
    mode = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert stat.S_IMODE((tmp_path / "a" / "b" / "x").stat().st_mode) == mode


@pytest.mark.parametrize(
    ("name", "suffix", "stem"),
    [
        ("a.nii.gz", ".nii.gz", "a"),
        ("A.B.NII", ".nii", "A.B"),
        ("c.seg.nrrd", ".nrrd", "c"),
        ("d.nrrd", ".nrrd", "d"),
    ],
)
def test_suffix_and_stem(name: str, suffix: str, stem: str) -> None:
    assert volume_suffix(name) == suffix
    assert volume_stem(name) == stem
