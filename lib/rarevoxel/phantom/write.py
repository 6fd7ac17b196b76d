"""Phantoms on disk: one folder per case, the way data sets are handed round."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from rarevoxel.errors import ConfigError, ConflictError
from rarevoxel.labels import REGIONS, labels_to_regions
from rarevoxel.phantom.appearance import SEQUENCES
from rarevoxel.phantom.generate import Phantom, PhantomSpec, make_phantom
from rarevoxel.volumes import write_volume

INTENSITY_SCALE = 175.0
"""Units of the brightest tissue in the files. With the usual noise of 0.02 the noise has a standard deviation of 3.5
units: rounding to whole numbers adds next to nothing to it, and files still compress well."""

_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class WrittenPhantom:
    """One case that was written.

    Attributes:
        id: name of the case and of its folder.
        seed: the seed `make_phantom` reproduces it from.
        labelled: whether the folder holds its label map.
        regions_ml: volume of each region in ml.
    """

    id: str
    seed: int
    labelled: bool
    regions_ml: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain data, for JSON."""
        return asdict(self)


def write_phantoms(
    out: str | Path,
    count: int,
    seed: int = 0,
    spec: PhantomSpec = PhantomSpec(),  # noqa: B008
    *,
    labelled: int | None = None,
    prefix: str = "phantom",
    force: bool = False,
    progress: bool = False,
) -> tuple[WrittenPhantom, ...]:
    """Write phantoms as `OUT/<prefix>-001/{t1n,t1c,t2w,t2f,seg}.nii.gz` and so on.

    Images are int16, 0 exactly outside the brain and at least 1 inside; `seg` is uint8 with the values of
    `CLIENT_LABELS`, which are those of BraTS 2023. The same arguments give the same bytes.

    Args:
        out: folder of the cases; made when absent.
        count: how many cases.
        seed: of the first case; case `<prefix>-00k` is `make_phantom(seed + k - 1, spec)`.
        spec: what to generate.
        labelled: how many cases get a `seg`, spread evenly over the set; all when None.
        prefix: of the case names.
        force: replace case folders that exist.
        progress: show a bar on stderr when that is a terminal.

    Returns:
        What was written, in order.

    Raises:
        ConfigError: if `count` is below 1, `seed` below 0, `labelled` not between 0 and `count`, or `prefix` no name.
        ConflictError: before anything is written, if a case folder exists and `force` is false.
        OSError: if a folder cannot be written.
    """
    out = Path(out)
    _check(count, seed, labelled, prefix)
    width = max(3, len(str(count)))
    names = [f"{prefix}-{number:0{width}d}" for number in range(1, count + 1)]
    existing = [name for name in names if (out / name).exists()]
    if existing and not force:
        msg = f"{out}: {len(existing)} of {count} case folders exist already ({existing[0]}), expected none of them"
        raise ConflictError(msg, "choose another folder or prefix, or replace them with --force")
    with_labels = set(spread_evenly(count, count if labelled is None else labelled))
    written = []
    for index, name in enumerate(tqdm(names, desc="phantoms", disable=None if progress else True)):
        phantom = make_phantom(seed + index, spec)
        _write_case(out / name, phantom, with_label=index in with_labels)
        written.append(WrittenPhantom(name, seed + index, index in with_labels, _regions_ml(phantom)))
    return tuple(written)


def spread_evenly(count: int, chosen: int) -> Iterator[int]:
    """Yield `chosen` of the indices `0 .. count - 1` at even distances, the first being 0."""
    return (index * count // chosen for index in range(chosen))


def to_integers(images: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """Return images `(4, H, W, D)` in whole units of `1 / INTENSITY_SCALE`; 0 stays 0, all else is at least 1."""
    scaled = np.clip(np.rint(images * INTENSITY_SCALE), 1, np.iinfo(np.int16).max)
    return np.where(images > 0, scaled, 0).astype(np.int16)


def _check(count: int, seed: int, labelled: int | None, prefix: str) -> None:
    if count < 1:
        raise ConfigError(f"number of phantoms ({count}) must be >= 1")
    if seed < 0:
        raise ConfigError(f"seed ({seed}) must be >= 0")
    if labelled is not None and not 0 <= labelled <= count:
        raise ConfigError(f"number of labelled phantoms ({labelled}) must be from 0 to {count}, the number of cases")
    if not _PREFIX.fullmatch(prefix):
        msg = f"prefix {prefix!r} cannot begin a case name, expected letters, digits, '_', '.' and '-'"
        raise ConfigError(msg, "start with a letter or digit and use at most 100 characters")


def _write_case(folder: Path, phantom: Phantom, *, with_label: bool) -> None:
    # In a folder of its own first: an interrupted run leaves no case that looks whole and is not.
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    temporary.mkdir(parents=True)
    try:
        for name, image in zip(SEQUENCES, to_integers(phantom.images), strict=True):
            write_volume(temporary / f"{name}.nii.gz", image, phantom.affine)
        if with_label:
            write_volume(temporary / "seg.nii.gz", phantom.labels, phantom.affine)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _regions_ml(phantom: Phantom) -> dict[str, float]:
    voxel_ml = abs(float(np.linalg.det(phantom.affine[:3, :3]))) / 1000.0
    masks = zip(REGIONS, labels_to_regions(phantom.labels), strict=True)
    return {name: round(float(np.count_nonzero(mask)) * voxel_ml, 3) for name, mask in masks}
