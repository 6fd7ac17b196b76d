"""An endless stream of training crops, each from an examination of its own of a synthetic head."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.utils.data import IterableDataset

from rarevoxel.config import AppConfig
from rarevoxel.labels import labels_to_regions
from rarevoxel.phantom.examine import examine
from rarevoxel.phantom.scene import Scene, draw_scene
from rarevoxel.transforms.normalize import NormalizeBrain

Sample = tuple[torch.Tensor, torch.Tensor]
Examined = tuple[torch.Tensor, torch.Tensor]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class StreamSpec:
    """What the samples of a stream are like.

    Args:
        head_mm: field of view a head is drawn into.
        block: scenes that are mixed with each other.
        reuse: examinations made of each scene.
        views: samples made of each examination: mirrored or not, with other sequences missing.
        apart: examinations that lie between two views of the same one.
        edges: edges of a crop in voxels, for each axis those that are drawn from; from left to right they are long, so
            that many crops hold the other side of the head.
        large: a crop that holds most of a head.
        large_share: how many samples are large.
        late_large_share: the same in the last fifth.
        diseased_share: how many crops are centred on disease.
        coarse_share: how many samples come from half the resolution.
        strength: how imperfect the acquisitions are, from and to, see `draw_acquisition`: with nothing but difficult
            scans a network that small learns what is large, and never what is small.
        missing: probabilities of 0, 1, 2 and 3 missing sequences.
        missed: how likely each sequence is the one that is missing. FLAIR shows the most, so a network that seldom does
            without it never learns what the others show.
        emptied_share: how many samples lack brain on some sides, as in a window that reaches beyond the head. Instance
            normalisation sees how much of a window is empty, and must not mind.
        emptied: the most that is taken from one side, as a share of the edge.
    """

    head_mm: tuple[float, float, float] = (144.0, 184.0, 144.0)
    block: int = 16
    reuse: int = 8
    views: int = 3
    apart: int = 8
    edges: tuple[tuple[int, ...], ...] = ((64, 80, 96, 128), (64, 80, 96, 112), (64, 80, 96))
    large: tuple[int, int, int] = (144, 160, 112)
    large_share: float = 0.15
    late_large_share: float = 0.6
    diseased_share: float = 0.7
    coarse_share: float = 0.1
    strength: tuple[float, float] = (0.1, 1.0)
    missing: tuple[float, ...] = (0.46, 0.37, 0.13, 0.04)
    missed: tuple[float, ...] = (0.12, 0.13, 0.27, 0.48)
    emptied_share: float = 0.2
    emptied: float = 0.35


class PhantomStream(IterableDataset[Sample]):
    """Pairs `(image (4, H, W, D), regions (3, H, W, D))`, one for each step of a training.

    Sample i depends on the seed, i and the number of loader workers, which share the scenes, and on whether it is one
    of the last fifth, so a stream can be taken up anywhere.

    Args:
        config: gives spacing and normalisation.
        seed: of the whole stream.
        steps: its length.
        start: first sample.
        spec: what the samples are like.

    Attributes:
        head_shape: voxels a head is drawn into.
    """

    def __init__(
        self, config: AppConfig, seed: int, steps: int, start: int = 0, spec: StreamSpec = StreamSpec()
    ) -> None:
        low, high = config.preprocessing.percentiles
        self.normalize = NormalizeBrain((low, high))
        self.spacing = config.preprocessing.spacing
        self.seed, self.steps, self.start, self.spec = seed, steps, start, spec
        x, y, z = (round(mm / s) for mm, s in zip(spec.head_mm, self.spacing, strict=True))
        self.head_shape = (x, y, z)

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples that are due from this worker."""
        worker = torch.utils.data.get_worker_info()
        number, count = (worker.id, worker.num_workers) if worker else (0, 1)
        spec = self.spec
        # The loader asks the workers in turn, the first one first wherever the stream starts.
        owner = (self.start + number) % count
        examinations = lru_cache(maxsize=spec.apart)(self._examinations(owner, count))
        for step in range(self.start + number, self.steps, count):
            group, place = divmod(step // count, spec.apart * spec.views)
            image, labels = examinations(group * spec.apart + place % spec.apart)
            yield self.view(image, labels, np.random.default_rng([self.seed, 2, step]))

    def _examinations(self, number: int, count: int) -> Callable[[int], Examined]:
        """What makes the examinations of worker `number` of `count`, by their turn."""
        spec = self.spec
        size = spec.block * spec.reuse
        scenes = lru_cache(maxsize=spec.block)(lambda block, slot: self.scene(number, block, slot))

        def examination(turn: int) -> Examined:
            block, place = divmod(turn, size)
            order = np.random.default_rng([self.seed, 1, number, block]).permutation(size)
            late = turn * spec.views * count >= 0.8 * self.steps
            rng = np.random.default_rng([self.seed, 4, number, turn])
            return self.examination(scenes(block, int(order[place]) % spec.block), rng, late=late)

        return examination

    def scene(self, *key: int) -> Scene:
        """Draw the scene of a key: another head size each time, by a voxel size that is not told."""
        rng = np.random.default_rng([self.seed, 3, *key])
        step = [float(s * rng.uniform(0.9, 1.12)) for s in self.spacing]
        return draw_scene(rng, self.head_shape, (step[0], step[1], step[2]))

    def examination(self, scene: Scene, rng: np.random.Generator, *, late: bool = False) -> Examined:
        """Examine a crop of a scene; returns images `(4, H, W, D)`, not yet normalised, and labels `(H, W, D)`.

        Args:
            scene: a whole head.
            rng: source of randomness.
            late: whether the training is in its last fifth.
        """
        spec = self.spec
        large = rng.random() < (spec.late_large_share if late else spec.large_share)
        size = spec.large if large else tuple(int(rng.choice(edges)) for edges in spec.edges)
        crop = scene.crop(crop_box(scene, size, rng, spec.diseased_share))
        strength = float(rng.uniform(*spec.strength))
        if rng.random() < spec.coarse_share and not large:
            images, labels = _coarse(crop, rng, strength)
        else:
            images, shown = examine(crop, rng, strength=strength, missing=())
            labels = shown.labels
        return _padded(self.normalize(torch.from_numpy(images)), size), _padded(torch.from_numpy(labels.copy()), size)

    def view(self, image: torch.Tensor, labels: torch.Tensor, rng: np.random.Generator) -> Sample:
        """Return image and regions of an examination, mirrored or not, with what sequences are there."""
        count = int(rng.choice(len(self.spec.missing), p=self.spec.missing))
        image = image.clone()
        image[rng.choice(4, size=count, replace=False, p=self.spec.missed)] = 0
        regions = torch.from_numpy(labels_to_regions(labels.numpy()).astype(np.float32))
        if rng.random() < self.spec.emptied_share:
            kept = kept_box(image.shape[1:], rng, self.spec.emptied)
            image, regions = _only(image, kept), _only(regions, kept)
        if rng.random() < 0.5:
            image, regions = image.flip(1), regions.flip(1)
        return image, regions


def crop_box(scene: Scene, size: tuple[int, ...], rng: np.random.Generator, diseased_share: float) -> Box:
    """Draw a box of at most `size` voxels that holds a voxel of disease, or of the head, in its middle half.

    Args:
        scene: the whole head.
        size: voxels along each axis; the box is cut to the volume and moved into it.
        rng: source of randomness.
        diseased_share: probability of a voxel of disease, where there is any; every label present is as likely.
    """
    labels = scene.labels
    present = np.flatnonzero(np.bincount(labels.ravel(), minlength=1)[1:]) + 1
    if len(present) and rng.random() < diseased_share:
        among = np.flatnonzero(labels == rng.choice(present))
    else:
        among = np.flatnonzero(scene.healthy)
    centre = np.unravel_index(int(among[rng.integers(among.size)]), labels.shape)
    starts = [
        int(np.clip(c - rng.integers(s // 4, 3 * s // 4 + 1), 0, max(0, n - s)))
        for c, s, n in zip(centre, size, labels.shape, strict=True)
    ]
    x, y, z = (slice(start, start + s) for start, s in zip(starts, size, strict=True))
    return x, y, z


def kept_box(shape: Sequence[int], rng: np.random.Generator, most: float) -> Box:
    """Draw a box that leaves up to `most` of the edge out on each side; on half of the sides nothing."""
    starts, stops = ([int(rng.uniform(0, most) * n) if rng.random() < 0.5 else 0 for n in shape] for _ in range(2))
    x, y, z = (slice(start, n - stop) for start, stop, n in zip(starts, stops, shape, strict=True))
    return x, y, z


def _only(tensor: torch.Tensor, box: Box) -> torch.Tensor:
    """Return a copy that is 0 outside the box."""
    kept = torch.zeros_like(tensor)
    kept[(slice(None), *box)] = tensor[(slice(None), *box)]
    return kept


def _coarse(
    crop: Scene, rng: np.random.Generator, strength: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Examine every second voxel along each axis, and bring images and labels back to full size."""
    few = crop.crop((slice(None, None, 2),) * 3)
    double = (2 * crop.spacing[0], 2 * crop.spacing[1], 2 * crop.spacing[2])
    images, shown = examine(
        Scene(few.healthy, few.disease, few.density, few.labels, double), rng, strength=strength, missing=()
    )
    labels, inside = shown.labels, images[0] != 0
    for axis in range(3):
        labels, inside = labels.repeat(2, axis=axis), inside.repeat(2, axis=axis)
    cut = tuple(slice(0, n) for n in crop.labels.shape)
    fine = [ndimage.zoom(image, 2, order=1, mode="nearest", grid_mode=True)[cut] for image in images]
    return np.where(inside[cut], np.maximum(np.stack(fine), 1e-3), 0).astype(np.float32), labels[cut]


def _padded(tensor: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """Fill a crop that the head was too small for with zeros up to its size."""
    lacking = [max(0, s - n) for s, n in zip(size, tensor.shape[-3:], strict=True)]
    flat = [p for more in reversed(lacking) for p in (0, more)]
    return torch.nn.functional.pad(tensor, flat).contiguous()
