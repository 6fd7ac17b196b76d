"""From the network's probabilities to labels on the display volume's voxels, and back to its whole grid."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose, InvertibleTransform, Orientationd

from rarevoxel.inference.pieces import Dropped
from rarevoxel.inference.rule import Rule
from rarevoxel.inference.self_check import region_confidence, region_masks, tell
from rarevoxel.inference.two_stage import combine
from rarevoxel.labels import CLIENT_LABELS, REGIONS
from rarevoxel.networks import TwoStage
from rarevoxel.transforms import CropBraind


@dataclass(frozen=True)
class Decided:
    """A mask on the voxels of the display volume, as yet cropped to the brain and turned as the network sees it.

    Attributes:
        regions: probabilities of WT, TC, ET, float32 `(3, h, w, d)`.
        labels: uint8 `(h, w, d)` of `CLIENT_LABELS`.
        dropped: the pieces that were left out.
        spacing: voxel size in mm.
    """

    regions: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    dropped: Dropped
    spacing: tuple[float, ...]
    _grid: MetaTensor
    _steps: tuple[InvertibleTransform, ...]

    def paste(self, values: npt.NDArray[Any]) -> MetaTensor:
        """Return `(C, h, w, d)` turned back and padded with 0 to the whole display grid."""
        # Going back uses up what it finds, and there may be more than one to paste.
        done = deepcopy(self._grid.applied_operations)
        data = MetaTensor(torch.from_numpy(values), meta=self._grid.meta, applied_operations=done)
        for step in self._steps:
            data = step.inverse({"image": data})["image"]
        return data

    def measure(self) -> dict[str, Any]:
        """Return volumes and self-check, as `Prediction` has them."""
        ml = math.prod(self.spacing) / 1000.0
        counts = np.bincount(self.labels.ravel(), minlength=1 + len(CLIENT_LABELS))
        volumes = {name: float(counts[value]) * ml for name, value in CLIENT_LABELS.items()}
        confidence = region_confidence(self.regions, region_masks(self.labels), self.spacing)
        found, highest = bool(counts[1:].any()), float(self.regions[0].max())
        return {
            "regions_ml": {name: round(sum(volumes[part] for part in parts), 4) for name, parts in REGIONS.items()},
            "labels_ml": {name: round(volume, 4) for name, volume in volumes.items()},
            "tumour_found": found,
            "confidence": confidence,
            "findings": tell(confidence, highest, found, self.dropped),
        }


def decide(
    probabilities: torch.Tensor,
    image: MetaTensor,
    transforms: Compose,
    rule: Rule,
    two_stage: TwoStage | None = None,
) -> Decided:
    """Resample probabilities to the voxels of the display volume and decide there, inside the box of the brain.

    Where the network works at the display volume's voxel size nothing is resampled.

    Args:
        probabilities: what the network says, float32 `(R, h, w, d)`.
        image: what the network saw.
        transforms: the chain that made it.
        rule: thresholds, and what pieces must reach.
        two_stage: how the last channel acts on the others, None when there is no second stage.
    """
    fine = MetaTensor(probabilities, meta=image.meta, applied_operations=list(image.applied_operations))
    steps = [step for step in reversed(transforms.transforms) if isinstance(step, InvertibleTransform)]
    while steps and not isinstance(steps[0], (CropBraind, Orientationd)):
        fine = steps.pop(0).inverse({"image": fine})["image"]
    regions = fine.as_tensor()
    if two_stage is not None:
        count = len(REGIONS)
        regions = combine(regions[:count], regions[count:], two_stage.threshold, two_stage.form)
    found = regions.numpy()
    spacing = tuple(float(mm) for mm in fine.pixdim)
    labels, dropped = rule.apply(found, math.prod(spacing))
    return Decided(found, labels, dropped, spacing, fine, tuple(steps))
