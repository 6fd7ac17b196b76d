"""The one chain of transforms that training, validation and inference share."""

from __future__ import annotations

from enum import Enum
from typing import Any

from monai.transforms import (
    Compose,
    Orientationd,
    RandCropByLabelClassesd,
    RandFlipd,
    RandGaussianNoised,
    RandScaleIntensityd,
    RandShiftIntensityd,
    SpatialPadd,
)

from rarevoxel.config import AppConfig
from rarevoxel.errors import RareVoxelError
from rarevoxel.labels import CLIENT_LABELS
from rarevoxel.transforms.load import LoadLabeld, LoadSequencesd
from rarevoxel.transforms.normalize import NormalizeBraind
from rarevoxel.transforms.regions import LabelToRegionsd
from rarevoxel.transforms.spatial import LINEAR, NEAREST, CropBraind, ToSpacingd


class Stage(str, Enum):
    """What the chain is for."""

    TRAIN = "train"
    VALIDATE = "validate"
    INFER = "infer"


class Chain(Compose):
    """A MONAI `Compose` that lets this package's errors through, where its base hides them in a `RuntimeError`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Apply the transforms; see `monai.transforms.Compose`."""
        try:
            return super().__call__(*args, **kwargs)
        except RuntimeError as error:
            if isinstance(error.__cause__, RareVoxelError):
                raise error.__cause__ from None
            raise


def build_transforms(config: AppConfig, stage: Stage | str) -> Compose:
    """Return the chain for a stage; the steps that make an image are the same objects of the same parameters in all.

    Load siblings, orient, crop to the brain, normalize inside it, resample; then, where there is a label, its
    regions; then, for training, class-balanced patches and augmentation.

    Args:
        config: preprocessing and patch settings.
        stage: `train` (entries image and label, result a list of patches), `validate` (image and label, whole) or
            `infer` (image alone).

    Returns:
        A MONAI `Compose`. Deterministic steps come first, so `CacheDataset` keeps their result.
    """
    stage = Stage(stage)
    pre = config.preprocessing
    low, high = pre.percentiles
    labelled = stage is not Stage.INFER
    keys = ("image", "label") if labelled else ("image",)
    steps: list[Any] = [LoadSequencesd("image")]
    if labelled:
        steps.append(LoadLabeld("label"))
    steps += [
        Orientationd(keys, axcodes=pre.orientation, labels=None),
        CropBraind(keys, margin_mm=pre.margin_mm),
        NormalizeBraind("image", (low, high)),
        ToSpacingd(keys, pre.spacing, (LINEAR, NEAREST)[: len(keys)]),
    ]
    if stage is Stage.TRAIN:
        steps += _patches(config)
    if labelled:
        steps.append(LabelToRegionsd("label"))
    return Chain(steps)


def _patches(config: AppConfig) -> list[Any]:
    """Patches centred on every class alike (a rare label is met as often as background), then augmentation."""
    size = config.training.patch_size
    keys = ("image", "label")
    classes = 1 + len(CLIENT_LABELS)
    return [
        SpatialPadd(keys, spatial_size=size),
        RandCropByLabelClassesd(
            keys,
            label_key="label",
            spatial_size=size,
            ratios=[1] * classes,
            num_classes=classes,
            num_samples=config.training.patches_per_case,
            warn=False,
        ),
        *(RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in range(3)),
        RandScaleIntensityd("image", factors=0.15, prob=0.5, channel_wise=True),
        RandShiftIntensityd("image", offsets=0.15, prob=0.5, channel_wise=True),
        RandGaussianNoised("image", prob=0.2, std=0.1),
    ]
