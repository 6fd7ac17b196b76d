"""The one chain of transforms that training, validation and inference share."""

from __future__ import annotations

from enum import Enum
from typing import Any

from monai.transforms import (
    Compose,
    Orientationd,
    RandFlipd,
    RandGaussianNoised,
    RandScaleIntensityd,
    RandShiftIntensityd,
    SpatialPadd,
)

from rarevoxel.config import AppConfig
from rarevoxel.errors import RareVoxelError
from rarevoxel.sampling import ClassCentresd, RandPatchesd, Stream
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

    Load siblings, crop to the brain, orient, normalize inside it, resample; then, where there is a label, its
    regions; then, for training, class-balanced patches and augmentation.

    Args:
        config: preprocessing and patch settings.
        stage: `train` (entries image and label, result a list of patches), `validate` (image and label, whole) or
            `infer` (image alone).

    Returns:
        A MONAI `Compose`. Deterministic steps come first, so `CacheDataset` keeps their result.
    """
    stage = Stage(stage)
    if stage is Stage.TRAIN:
        return Chain([*build_case(config).transforms, *build_patches(config).transforms])
    steps = _road(config, labelled=stage is Stage.VALIDATE)
    return Chain([*steps, LabelToRegionsd("label")] if stage is Stage.VALIDATE else steps)


def build_case(config: AppConfig) -> Compose:
    """Return the deterministic half of the training chain: a whole case, padded to a patch, its classes located."""
    size = config.training.patch_size
    return Chain([*_road(config, labelled=True), SpatialPadd(("image", "label"), spatial_size=size), ClassCentresd()])


def build_patches(config: AppConfig, stream: Stream = "balanced", **options: Any) -> Compose:
    """Return the random half of the training chain: patches of a case from `build_case`, augmented, with regions.

    Args:
        config: patch size and number.
        stream: `balanced` (a rare label is met as often as background) or `instance` (anywhere alike).
        options: of the balanced stream, see `rarevoxel.sampling.RandPatchesd`.
    """
    keys = ("image", "label")
    training = config.training
    return Chain(
        [
            RandPatchesd(
                keys,
                size=training.patch_size,
                num_patches=training.patches_per_case,
                stream=stream,
                **options,
            ),
            *(RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in range(3)),
            RandScaleIntensityd("image", factors=0.15, prob=0.5, channel_wise=True),
            RandShiftIntensityd("image", offsets=0.15, prob=0.5, channel_wise=True),
            RandGaussianNoised("image", prob=0.2, std=0.1),
            LabelToRegionsd("label"),
        ]
    )


def _road(config: AppConfig, *, labelled: bool) -> list[Any]:
    """The steps every stage shares."""
    pre = config.preprocessing
    low, high = pre.percentiles
    keys = ("image", "label") if labelled else ("image",)
    return [
        LoadSequencesd("image"),
        *([LoadLabeld("label")] if labelled else []),
        CropBraind(keys, margin_mm=pre.margin_mm),  # Before anything that would copy the whole volume.
        Orientationd(keys, axcodes=pre.orientation, labels=None),
        NormalizeBraind("image", (low, high), pre.power),
        ToSpacingd(keys, pre.spacing, (LINEAR, NEAREST)[: len(keys)]),
    ]
