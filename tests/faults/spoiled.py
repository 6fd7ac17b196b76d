"""Cases that a scanner, a converter or a disk has spoiled, and odd ones that are fine."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from rarevoxel.cases import SEQUENCES
from rarevoxel.cases.table import load_table, save_table

Edit = Callable[[Path], None]
Images = npt.NDArray[Any]


def add_case(studies: Path, name: str, like: str) -> Path:
    """Copy the sequences of case `like` to a new case, which the server finds by its display link."""
    folder = studies / "sequences" / name
    shutil.copytree(studies / "sequences" / like, folder)
    (studies / f"{name}.nii.gz").symlink_to(Path("sequences") / name / "t1c.nii.gz")
    return folder


def add_images(studies: Path, name: str, images: Images, affine: Any, suffix: str = ".nii.gz") -> Path:
    """Add a case of four sequences `(4, H, W, D)`."""
    folder = studies / "sequences" / name
    folder.mkdir(parents=True)
    for sequence, image in zip(SEQUENCES, images, strict=True):
        save(folder / f"{sequence}{suffix}", image, affine)
    (studies / f"{name}{suffix}").symlink_to(Path("sequences") / name / f"t1c{suffix}")
    return folder


def save(path: Path, array: Any, affine: Any) -> None:
    """Write a NIfTI with the affine as sform and qform."""
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    nib.save(image, path)


def read(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Read voxels and affine."""
    image = nib.load(path)
    return image.get_fdata(dtype=np.float32), image.affine


def header(**fields: Any) -> Edit:
    """Return an edit that changes raw header fields, past every check of nibabel."""

    def edit(path: Path) -> None:
        data = bytearray(gzip.decompress(path.read_bytes()))
        found = nib.Nifti1Header(bytes(data[:348]), check=False)
        for key, value in fields.items():
            found[key] = value
        data[:348] = found.binaryblock
        path.write_bytes(gzip.compress(bytes(data)))

    return edit


def voxels(change: Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]) -> Edit:
    """Return an edit that changes the voxels and keeps the affine."""

    def edit(path: Path) -> None:
        array, affine = read(path)
        save(path, change(array.copy()), affine)

    return edit


def _set(value: float, count: int) -> Edit:
    def change(array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        array[20, 20, 20 : 20 + count] = value
        return array

    return voxels(change)


def _flip_bytes(path: Path) -> None:
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(255 - b for b in data[middle : middle + 64])
    path.write_bytes(bytes(data))


def _coarse(path: Path) -> None:
    array, affine = read(path)
    save(path, array[:, :, ::2], affine @ np.diag([1.0, 1.0, 2.0, 1.0]))


_SHEARED = [[4.0, 1.5, 0, 0], [0, 4.0, 0, 0], [0, 0, 4.0, 0]]

TORN: dict[str, tuple[Edit, str]] = {
    "corrupt": (_flip_bytes, "corrupt"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:2000]) and None, "truncated"),
    "nobytes": (lambda path: path.write_bytes(b"") and None, "0 bytes"),
    "text": (lambda path: path.write_text("this is no scan") and None, "not gzip"),
    "pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n") and None,
        "git-LFS pointer",
    ),
}
"""Case -> how its t2w is spoiled, and what the answer says. All of it is fault 6."""

SPOILED: dict[int, dict[str, tuple[Edit, str]]] = {
    6: TORN,
    7: {"flat": (voxels(lambda array: array[:, :, 20]), "2-D")},
    8: {"channels": (voxels(lambda array: np.stack([array] * 3, axis=3)), "4-D")},
    9: {"lost-t1c": (lambda path: path.unlink(), "t1c is missing; studies.json lists")},
    10: {"grids": (_coarse, "40x48x20")},
    11: {"nan": (_set(np.nan, 3), "3 of 76800 voxels"), "inf": (_set(np.inf, 2), "2 of 76800 voxels")},
    12: {
        "constant": (voxels(lambda array: np.full_like(array, 7)), "constant"),
        "zero": (voxels(np.zeros_like), "constant"),
    },
    13: {
        "singular": (header(srow_x=[0, 4, 0, 0], srow_y=[0, 4, 0, 0], srow_z=[0, 0, 4, 0], qform_code=0), "spacing"),
        "nowhere": (header(srow_x=[np.nan, 0, 0, 0], qform_code=0), "NaN"),
        "zero-spacing": (header(pixdim=[1, 4, 4, 0, 0, 0, 0, 0], sform_code=0, qform_code=1), "zero spacing"),
        "sheared": (header(srow_x=_SHEARED[0], srow_y=_SHEARED[1], srow_z=_SHEARED[2], qform_code=0), "sheared"),
        "contradicts": (header(srow_x=[4, 0, 0, 55]), "sform and qform differ"),
    },
}
"""Fault -> case -> how one sequence of it is spoiled, and a word of the answer."""

SEQUENCE_OF = {"lost-t1c": "t1c"}
"""Which sequence is spoiled; t2w unless named here."""

GAPS = {"no-t1c": ("t1c",), "no-t2f": ("t2f",), "only-t2w": ("t1n", "t1c", "t2f")}
"""Case -> the sequences it was never given."""


def spoil(studies: Path, like: str) -> None:
    """Add every spoiled case to a studies folder."""
    for cases in SPOILED.values():
        for name, (edit, _) in cases.items():
            folder = add_case(studies, name, like)
            if name == "lost-t1c":
                table = load_table(studies)
                listed = {kind: f"sequences/{name}/{kind}.nii.gz" for kind in SEQUENCES}
                save_table(studies, {**table, name: replace(table[like], sequences=listed, display=f"{name}.nii.gz")})
                show(studies, name, "t2f")
            edit(folder / f"{SEQUENCE_OF.get(name, 't2w')}.nii.gz")
    for name, missing in GAPS.items():
        folder = add_case(studies, name, like)
        for sequence in missing:
            (folder / f"{sequence}.nii.gz").unlink()
        show(studies, name, next(kind for kind in ("t1c", "t2f", "t2w") if kind not in missing))
    shutil.copyfile(studies / "sequences" / like / "t2f.nii.gz", studies / "nameless.nii.gz")


def show(studies: Path, name: str, sequence: str) -> None:
    """Let a case show another of its sequences."""
    link = studies / f"{name}.nii.gz"
    link.unlink()
    link.symlink_to(Path("sequences") / name / f"{sequence}.nii.gz")


ORIENTATIONS = ("RAS", "LPS", "LAS", "SRA")
SPACINGS = {"thick": (1.0, 1.0, 5.5), "fine": (0.3, 0.3, 0.3), "mixed": (0.5, 2.0, 4.0)}
SMALL = {"tiny": (3, 3, 3), "wide": (600, 600, 5)}


def reorient(array: Images, affine: Any, codes: str) -> tuple[Images, npt.NDArray[np.float64]]:
    """Turn a volume to other axis codes without moving anything in the world."""
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(tuple(codes)))
    return nib.apply_orientation(array, turn), affine @ inv_ornt_aff(turn, array.shape)


def add_odd(studies: Path, images: Images, affine: npt.NDArray[np.float64]) -> None:
    """Add cases that look odd and are fine: small, turned, of other spacings, stored in other ways."""
    rng = np.random.default_rng(0)
    for name, size in SMALL.items():
        noise = rng.integers(1, 150, (4, *size)).astype(np.int16)
        add_images(studies, name, noise, np.diag([4.0, 4.0, 4.0, 1.0]))
    add_images(studies, "one-voxel", np.full((4, 1, 1, 1), 9, np.int16), np.diag([4.0, 4.0, 4.0, 1.0]))
    for codes in ORIENTATIONS:
        turned = [reorient(image, affine, codes) for image in images]
        add_images(studies, f"turned-{codes}", np.stack([t[0] for t in turned]), turned[0][1])
    for name, spacing in SPACINGS.items():
        add_images(studies, name, images, np.diag([*spacing, 1.0]))
    add_case(studies, "singleton", "turned-RAS")
    voxels(lambda array: array[..., None])(studies / "sequences" / "singleton" / "t2w.nii.gz")
    add_stored(studies, np.clip(images, 0, 255).astype(np.uint8), affine)


STORED = ("as-uint8", "as-int16-scaled", "as-float64", "as-big-endian", "as-nii")


def add_stored(studies: Path, images: npt.NDArray[np.uint8], affine: npt.NDArray[np.float64]) -> None:
    """Add one case stored in five ways; the first is the plainest."""
    add_images(studies, "as-uint8", images, affine)
    add_images(studies, "as-float64", images.astype(np.float64), affine)
    add_images(studies, "as-nii", images, affine, suffix=".nii")
    add_images(studies, "as-big-endian", images, affine)
    add_images(studies, "as-int16-scaled", images, affine)
    for sequence, image in zip(SEQUENCES, images, strict=True):
        big = nib.Nifti1Image(image.astype(">i2"), affine, nib.Nifti1Header(endianness=">"))
        nib.save(big, studies / "sequences" / "as-big-endian" / f"{sequence}.nii.gz")
        path = studies / "sequences" / "as-int16-scaled" / f"{sequence}.nii.gz"
        save(path, (image.astype(np.int16) * 2 - 100).astype(np.int16), affine)
        header(scl_slope=0.5, scl_inter=50.0)(path)
