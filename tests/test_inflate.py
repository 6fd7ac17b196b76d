"""Inflating in one go gives what a stream gives, within bounds, and leaves every doubt to the stream."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rarevoxel.errors import InputError
from rarevoxel.volumes import inflate, nifti, read_voxels
from rarevoxel.volumes.inflate import inflate_whole

CONTENT = np.random.default_rng(0).integers(0, 9, 5000).astype(np.uint8).tobytes()


@pytest.fixture(params=["libdeflate", "zlib"])
def tool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "zlib":
        monkeypatch.setattr(inflate, "deflate", None)
    else:
        pytest.importorskip("deflate", reason="libdeflate has no wheel here")
    return str(request.param)


def opened(path: Path, content: bytes, at_least: int = 0, at_most: int = 1 << 20) -> bytearray | None:
    path.write_bytes(content)
    with path.open("rb") as file:
        file.seek(7)
        found = inflate_whole(file, at_least, at_most)
        assert file.tell() == 7
    return found


def member(content: bytes, flags: int = 0, fields: bytes = b"") -> bytes:
    plain = gzip.compress(content, mtime=0)
    return plain[:3] + bytes([flags]) + plain[4:10] + fields + plain[10:]


@pytest.mark.usefixtures("tool")
@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        (0, b""),
        (8, b"name.nii\0"),
        (8 + 16, b"name\0comment\0"),
        (4, b"\x03\x00abc"),
        (4 + 8 + 2, b"\x01\x00anom\0\x12\x34"),
        (1, b""),
    ],
)
def test_every_optional_field_is_passed_over(tmp_path: Path, flags: int, fields: bytes) -> None:
    found = opened(tmp_path / "x", member(CONTENT, flags, fields))
    assert found == CONTENT
    assert isinstance(found, bytearray)


@pytest.mark.usefixtures("tool")
@pytest.mark.parametrize("length", [1, 70_000])
@pytest.mark.parametrize("level", [0, 9])
def test_any_length_and_level(tmp_path: Path, length: int, level: int) -> None:
    content = np.random.default_rng(1).integers(0, 256, length).astype(np.uint8).tobytes()
    assert opened(tmp_path / "x", gzip.compress(content, level)) == content


@pytest.mark.usefixtures("tool")
def test_every_doubt_is_left_to_the_stream(tmp_path: Path) -> None:
    whole = gzip.compress(CONTENT)
    path = tmp_path / "x"
    assert opened(path, whole, len(CONTENT), len(CONTENT)) == CONTENT
    doubts = {
        "too short": opened(path, whole, len(CONTENT) + 1),
        "too long": opened(path, whole, 0, len(CONTENT) - 1),
        "cut": opened(path, whole[:-9]),
        "two members": opened(path, whole + gzip.compress(b"more")),
        "something after it": opened(path, whole + b"\0" * 8),
        "a wrong checksum": opened(path, whole[:-8] + b"\0\0\0\0" + whole[-4:]),
        "a wrong length": opened(path, whole[:-4] + (len(CONTENT) - 1).to_bytes(4, "little")),
        "a longer length": opened(path, whole[:-4] + (len(CONTENT) + 1).to_bytes(4, "little")),
        "no gzip": opened(path, b"x" * 40),
        "hardly anything": opened(path, whole[:12]),
        "a name without end": opened(path, whole[:3] + b"\x08" + b"\x01" * 40),
        "reserved flags": opened(path, member(CONTENT, 0x20)),
        "an extra field past the end": opened(path, member(CONTENT, 4, b"\xff\xff")),
        "four gigabytes": opened(path, whole, 0, 1 << 32),
    }
    assert {name for name, found in doubts.items() if found is not None} == set()


@pytest.mark.usefixtures("tool")
def test_a_file_that_is_larger_than_what_it_may_hold_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.write(gzip.compress(b"abc"))
        file.truncate(1 << 30)
    tracemalloc.start()
    with path.open("rb") as file:
        assert inflate_whole(file, 0, 1 << 20) is None
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.usefixtures("tool")
def test_no_more_memory_is_taken_than_was_promised(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(32 << 20))
    lie = bomb[:-4] + (1000).to_bytes(4, "little")
    tracemalloc.start()
    assert opened(tmp_path / "x", lie, 0, 1 << 16) is None
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.usefixtures("tool")
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dtype=st.sampled_from(["u1", "i1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"]),
    order=st.sampled_from("<>"),
    scaling=st.sampled_from([(np.nan, np.nan), (1.0, 0.0), (0.25, -3.0), (2.0, 0.0)]),
    shape=st.sampled_from([(3, 4, 5), (1, 1, 1), (2, 3, 4, 1), (2, 3, 4, 3)]),
)
def test_voxels_are_those_of_nibabel(tmp_path: Path, dtype: str, order: str, scaling, shape) -> None:
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(np.dtype(order + dtype))
    stored = np.random.default_rng(0).integers(0, 100, shape).astype(order + dtype)
    header.set_data_shape(shape)
    header.set_sform(np.eye(4), 1)
    header["scl_slope"], header["scl_inter"], header["vox_offset"] = *scaling, 352
    header["magic"] = b"n+1"
    path = tmp_path / "x.nii.gz"
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4) + stored.tobytes(order="F")))
    expected = np.asarray(nib.load(path).dataobj)
    found = read_voxels(path, allow_4d=True).array
    assert found.dtype == expected.dtype
    assert found.flags.writeable
    assert np.array_equal(found, expected.reshape(found.shape, order="F"))


@pytest.mark.usefixtures("tool")
def test_sound_files_never_take_the_slow_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6), np.int16), np.eye(4)), path)

    def slow(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(nifti, "_read_to_end", slow)
    assert read_voxels(path).array.sum() == 120


@pytest.mark.usefixtures("tool")
def test_what_is_wrong_is_said_as_ever(tmp_path: Path) -> None:
    buffer = io.BytesIO(nib.Nifti1Image(np.ones((8, 9, 10), np.int16), np.eye(4)).to_bytes())
    whole = gzip.compress(buffer.getvalue())
    path = tmp_path / "x.nii.gz"
    path.write_bytes(whole[:-8] + b"\0\0\0\0" + whole[-4:])
    with pytest.raises(InputError, match=r"x\.nii\.gz: is truncated or corrupt \(BadGzipFile: CRC check failed"):
        read_voxels(path)
    path.write_bytes(whole[:-20])
    with pytest.raises(InputError, match=r"x\.nii\.gz: is truncated or corrupt"):
        read_voxels(path)
