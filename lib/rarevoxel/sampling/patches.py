"""Patches whose centres are drawn by class.

The class of a patch is the class of the voxel its centre was drawn on. Let n_c be the voxels of class c in a case and N
all its voxels. Centres drawn uniformly meet class c in a fraction n_c / N of the patches, so n_c is also the count of
patches of class c in the instance stream, and weighing every patch by n_c^-q draws class c with probability

    P(c) = n_c^(1 - q) / sum_k n_k^(1 - q),  over the classes present in the case.

q = 0 is the instance stream again, q = 1/2 the square root of the counts, q = 1 every present class alike. With a
share f of patches for the foreground, the classes but 0 keep their proportions and have f together, class 0 has 1 - f.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, MultiSampleTrait, Randomizable

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses.checks import unknown_name
from rarevoxel.sampling.centres import Centres, readable_in_parts

Stream = Literal["balanced", "instance"]

SAMPLER_NAMES: tuple[str, ...] = ("pos_neg", "balanced", "instance", "square_root", "balanced_mixup")
"""How a training run draws its patches.

==================  ============================================  =====================================================
name                `RandPatchesd`                                meaning
==================  ============================================  =====================================================
`pos_neg`           `stream="balanced"`, `foreground=0.5`         tumour and background 1:1, tumour classes alike
`balanced`          `stream="balanced"`, `exponent=1.0`           every class of a case alike, the rare as the common
`instance`          `stream="instance"`                           centres uniform over the volume, mostly background
`square_root`       `stream="balanced"`, `exponent=0.5`           classes by the square root of their voxels, between
`balanced_mixup`    one of `instance` and one of `balanced`       both, mixed by `BalancedMixUp`, in training only
==================  ============================================  =====================================================
"""

PATCH_CLASS = "patch_class"
"""Entry of a patch: the class (int) of the voxel its centre was drawn on."""


class RandPatchesd(Randomizable, MapTransform, MultiSampleTrait):
    """Crop patches around centres drawn by class, or uniformly; see the module for the probabilities.

    The centre voxel of a patch is at `size // 2`; near a border the patch is shifted into the volume, so that the
    drawn voxel is always inside it but not always at its centre. Image and label are cropped alike, as plain
    contiguous tensors of their own memory: slicing a `MetaTensor` costs more than the crop itself, a patch in training
    needs no affine, and a cached volume is never written to, so `CacheDataset(copy_cache=False)` is safe with it. A
    volume may be anything with a `shape` that returns tensors of its own for its parts, such as one on disk.

    Every call takes two numbers per patch from `self.R`, whatever the case and the stream, so the patches of one case
    do not depend on the voxels of another.

    Args:
        keys: entries to crop, `(C, H, W, D)`, all of one spatial shape.
        centres_key: the entry made by `ClassCentresd`; removed from the result. Not needed by stream `instance`.
        size: patch size in voxels, one number per spatial dimension.
        num_patches: patches per call.
        stream: `balanced` draws a class that is present in the case, then one of its voxels; `instance` draws a voxel
            of the whole volume.
        exponent: q >= 0 of stream `balanced`; 1 every class alike, 0.5 square root, 0 as `instance`.
        foreground: share in (0, 1) of the patches of stream `balanced` that have a class other than 0, where the case
            has both; None leaves it to the exponent. 0.5 is the usual one to one of positive and negative patches.
        label_key: label map that stream `instance` reads the class of the drawn voxel from (that one voxel only).

    Raises:
        RequestError: if the stream is unknown, or a size, `num_patches`, `exponent` or `foreground` is out of range.

    Example:
        >>> from rarevoxel.sampling import ClassCentresd
        >>> case = {"image": torch.rand(4, 8, 8, 8), "label": torch.zeros(1, 8, 8, 8)}
        >>> crop = RandPatchesd(size=(4, 4, 4), num_patches=2).set_random_state(seed=0)
        >>> [tuple(patch["image"].shape) for patch in crop(ClassCentresd()(case))]
        [(4, 4, 4, 4), (4, 4, 4, 4)]
    """

    def __init__(
        self,
        keys: KeysCollection = ("image", "label"),
        centres_key: str = "centres",
        *,
        size: Sequence[int],
        num_patches: int,
        stream: Stream = "balanced",
        exponent: float = 1.0,
        foreground: float | None = None,
        label_key: str = "label",
    ) -> None:
        super().__init__(keys)
        if stream not in get_args(Stream):
            raise unknown_name("patch stream", stream, get_args(Stream))
        if not size or min(size) < 1 or num_patches < 1:
            msg = f"RandPatchesd: size ({tuple(size)}) and num_patches ({num_patches}) must be >= 1"
            raise RequestError(msg)
        if not 0 <= exponent < math.inf:
            raise RequestError(f"RandPatchesd: exponent ({exponent}) must be >= 0 and finite")
        if foreground is not None and not 0 < foreground < 1:
            raise RequestError(f"RandPatchesd: foreground ({foreground}) must be between 0 and 1, or None")
        self.foreground = foreground
        self.centres_key = centres_key
        self.size = tuple(int(n) for n in size)
        self.num_patches = num_patches
        self.stream: Stream = stream
        self.exponent = float(exponent)
        self.label_key = label_key
        self._drawn: list[tuple[int, tuple[int, ...]]] = []

    def randomize(self, data: Mapping[Hashable, Any]) -> None:
        """Draw class and centre voxel of every patch for a case."""
        shape = self._shape(data)
        class_draws, voxel_draws = self.R.random_sample((2, self.num_patches))
        if self.stream == "instance":
            label = readable_in_parts(data[self.label_key])
            voxels = [_voxel(int(u * math.prod(shape)), shape) for u in voxel_draws]
            self._drawn = [(int(label[(0, *voxel)]), voxel) for voxel in voxels]
            return
        centres = self._centres(data, shape)
        bounds = _class_probabilities(centres["counts"], self.exponent, self.foreground).cumsum()
        values = np.searchsorted(bounds / bounds[-1], class_draws, side="right")
        chosen = [centres["indices"][value] for value in values]
        flat = [int(indices[int(u * len(indices))]) for indices, u in zip(chosen, voxel_draws, strict=True)]
        self._drawn = [(int(value), _voxel(index, shape)) for value, index in zip(values, flat, strict=True)]

    def __call__(self, data: Mapping[Hashable, Any]) -> list[dict[Hashable, Any]]:
        """Return `num_patches` dictionaries: the crops, copies of all other entries, and the drawn `patch_class`.

        Raises:
            InputError: if the volumes differ in shape or are smaller than the patch, or the centres are missing or
                belong to another grid.
        """
        self.randomize(data)
        volumes = {key: readable_in_parts(data[key]) for key in self.key_iterator(data)}
        others = {key: value for key, value in data.items() if key not in volumes and key != self.centres_key}
        patches = []
        for value, voxel in self._drawn:
            patch: dict[Hashable, Any] = deepcopy(others)
            for key, volume in volumes.items():
                part = volume[self._window(voxel, volume.shape[1:])]
                own = not isinstance(volume, torch.Tensor)
                patch[key] = part if own else part.clone(memory_format=torch.contiguous_format)
            patch[PATCH_CLASS] = value
            patches.append(patch)
        return patches

    def _window(self, voxel: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
        starts = (min(max(v - s // 2, 0), n - s) for v, s, n in zip(voxel, self.size, shape, strict=True))
        return (slice(None), *(slice(a, a + s) for a, s in zip(starts, self.size, strict=True)))

    def _shape(self, data: Mapping[Hashable, Any]) -> tuple[int, ...]:
        shapes = {str(key): tuple(data[key].shape[1:]) for key in self.key_iterator(data)}
        shape = next(iter(shapes.values()))
        if set(shapes.values()) != {shape}:
            raise InputError(f"RandPatchesd: spatial shapes {shapes} differ, expected one grid for all entries")
        if len(shape) != len(self.size) or any(n < s for n, s in zip(shape, self.size, strict=True)):
            msg = f"RandPatchesd: volume {shape} holds no patch of size {self.size}"
            raise InputError(msg, "put SpatialPadd before ClassCentresd, or take smaller patches")
        return shape

    def _centres(self, data: Mapping[Hashable, Any], shape: tuple[int, ...]) -> Centres:
        if self.centres_key not in data:
            msg = f"RandPatchesd: no entry {self.centres_key!r}, which stream 'balanced' draws from"
            raise InputError(msg, "put ClassCentresd before it")
        centres: Centres = data[self.centres_key]
        if tuple(centres["shape"]) != shape:
            msg = f"RandPatchesd: centres of a {tuple(centres['shape'])} grid, but the volume is {shape}"
            raise InputError(msg, "put ClassCentresd after every step that changes the grid")
        return centres


def _class_probabilities(
    counts: Sequence[int], exponent: float, foreground: float | None = None
) -> npt.NDArray[np.float64]:
    """Return P(c) of the module docstring; 0 for a class without voxels."""
    n = np.asarray(counts, dtype=np.float64)
    present = n > 0
    # Relative to the smallest count present, so that no power overflows or vanishes as a whole for a large exponent.
    weights = np.where(present, np.where(present, n / n[present].min(), 1.0) ** (1.0 - exponent), 0.0)
    if foreground is not None and weights[0] and weights[1:].any():
        weights = np.concatenate([[1 - foreground], foreground * weights[1:] / weights[1:].sum()])
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def _voxel(index: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(index, shape))
