"""Thresholds of the label checks."""

from __future__ import annotations

from dataclasses import dataclass, fields

from rarevoxel.errors import ConfigError


@dataclass(frozen=True)
class QualityConfig:
    """When a check speaks up. The defaults are for adult brain tumours; all but the first only warn.

    Args:
        grid_share: largest distance between a corner of the label and the same corner of the image, as a share of the
            image's smallest spacing. 0.1 is far above what formats round off (1e-4 mm) and too little to see.
        island_mm3: islands are components below this volume in mm^3; ten voxels of 1 mm are no lesion anybody follows.
        island_share: ... and below this share of the largest component, so that a case of small foci only is quiet.
        hole_ml: smallest background enclosed in tumour, all holes together, in ml.
        outside_share: largest share of the label that may lie outside the brain; outlines smooth over its edge.
        outside_ml: ... and the volume in ml below which nothing is said, of what is wholly outside too.
        change_ratio: largest factor between a region's volume and that of the version before, either way; twice is a
            matter of taste between readers, three times is not.
        change_ml: regions below this volume in ml, before and after, are not compared.
        population_n: fewest labels of other cases that volumes are compared with.
        population_z: largest robust z of a region's log volume; 3.5 is the usual limit (Iglewicz and Hoaglin 1993).
        disagreement_dice: smallest Dice of the whole tumour with the model's proposal.
        disagreement_ml: ... where one of the two has at least this volume in ml.
        swap_gain: how much more Dice with the reference the mirrored label must have for a left-right swap, as a share
            of what a plain swap would gain.
        swap_dice: ... and the Dice it must reach.
        swap_contrast: without a reference, how much darker than the other side the label must be on FLAIR, in
            standard deviations.
        swap_ml: smallest part of the label in ml, without what its mirror image covers, that is judged.
    """

    grid_share: float = 0.1
    island_mm3: float = 10.0
    island_share: float = 0.05
    hole_ml: float = 0.05
    outside_share: float = 0.02
    outside_ml: float = 0.1
    change_ratio: float = 3.0
    change_ml: float = 1.0
    population_n: int = 8
    population_z: float = 3.5
    disagreement_dice: float = 0.3
    disagreement_ml: float = 1.0
    swap_gain: float = 0.3
    swap_dice: float = 0.5
    swap_contrast: float = 0.8
    swap_ml: float = 0.5

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ConfigError(f"{field.name} ({value}) must be > 0")
        if self.change_ratio <= 1:
            raise ConfigError(f"change_ratio ({self.change_ratio}) must be > 1")


DEFAULTS = QualityConfig()
"""What every check uses unless told otherwise."""
