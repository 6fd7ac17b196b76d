"""MONAI Label's sample way for a round: its radiology app's `segmentation` model on its own task classes, in process.

Read from the app that comes with monailabel 0.8.5: `BasicTrainTask` and `BasicInferTask`, transforms, loss, optimizer,
cached data set, validation after every epoch, windows of the patch with an overlap of 0.4 and Gaussian weights. What
differs: four sequences enter as channels and are scaled one by one, the network is built like ours and so as large,
`NormalizeLabelsInDatasetd` is left out because the labels are 1 to 3 already, and so are the centroids of the answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from few_labels_monailabel import smooth
from monai.handlers import TensorBoardImageHandler, from_engine
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    CropForegroundd,
    EnsureChannelFirstd,
    EnsureTyped,
    LoadImaged,
    MapTransform,
    NormalizeIntensityd,
    Orientationd,
    RandSpatialCropd,
    Resize,
    SelectItemsd,
    Spacingd,
)
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.infer.basic_infer import BasicInferTask
from monailabel.tasks.train.basic_train import BasicTrainTask, Context
from monailabel.tasks.train.utils import region_wise_metrics

from rarevoxel.cases import SEQUENCES
from rarevoxel.config import AppConfig
from rarevoxel.labels import CLIENT_LABELS

MODEL = "segmentation"
LABELS = {name: CLIENT_LABELS[name] for name in AppConfig().labels}
SPACING = (1.0, 1.0, 1.0)

KEPT = {"image_path": "path_of_image"}
"""A name that MONAI's `Spacingd` takes for metadata of the image, and another for it meanwhile."""

MakeNetwork = Callable[[], torch.nn.Module]


class Siblings(MapTransform):
    """Replaces the file of a case's display volume by those of its sequences.

    Args:
        root: folder of `<case>/<sequence>.nii.gz`.
    """

    def __init__(self, root: Path) -> None:
        super().__init__("image")
        self.root = root

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the data with four files for `image`."""
        found = {KEPT.get(key, key): value for key, value in data.items()}
        case = Path(data["image"]).name.removesuffix(".nii.gz")
        return {**found, "image": [str(self.root / case / f"{name}.nii.gz") for name in SEQUENCES]}


class Restored(MapTransform):
    """Gives the label map the size of the image and its affine, as `monailabel.transform.post.Restored` does."""

    def __init__(self) -> None:
        super().__init__("pred")

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the data with the map, `H W D`."""
        pred, meta = data["pred"], data["image"].meta
        shape = tuple(int(n) for n in meta["spatial_shape"])
        if tuple(pred.shape[1:]) != shape:
            pred = Resize(spatial_size=shape, mode="nearest")(pred)
        back = {old: data[new] for old, new in KEPT.items() if new in data}
        return {**data, **back, "pred": pred[0], "pred_meta_dict": {"affine": meta["original_affine"]}}


def road(root: Path, keys: Sequence[str], device: Any = None) -> list[Any]:
    """Return the transforms that all of its chains begin with."""
    modes = ("bilinear", "nearest")[: len(keys)]
    return [
        Siblings(root),
        LoadImaged(keys),
        EnsureTyped(keys, device=device),
        EnsureChannelFirstd(keys),
        Orientationd(keys, axcodes="RAS", labels=None),
        Spacingd(keys, pixdim=SPACING, mode=modes),
        NormalizeIntensityd("image", nonzero=True, channel_wise=True),
    ]


class Train(BasicTrainTask):
    """Its trainer; the hooks are those of its sample app."""

    def __init__(self, make: MakeNetwork, root: Path, patch: int, **kwargs: Any) -> None:
        self.make, self.root, self.patch = make, root, [patch] * 3
        super().__init__(description="sample way", labels=LABELS, load_strict=False, **kwargs)

    def network(self, context: Context) -> torch.nn.Module:
        """Return new weights, which those of the last run replace."""
        return self.make()

    def optimizer(self, context: Context) -> torch.optim.Optimizer:
        """Return AdamW at a constant rate."""
        return torch.optim.AdamW(context.network.parameters(), lr=1e-4, weight_decay=1e-5)

    def loss_function(self, context: Context) -> torch.nn.Module:
        """Return Dice and cross-entropy."""
        loss: torch.nn.Module = DiceCELoss(to_onehot_y=True, softmax=True)
        return loss

    def lr_scheduler_handler(self, context: Context) -> None:
        """Return none."""

    def train_data_loader(self, context: Context, num_workers: int = 0, shuffle: bool = False) -> Any:
        """Return its loader, shuffled."""
        return super().train_data_loader(context, num_workers, True)

    def _crop(self, source: str) -> Any:
        return CropForegroundd(("image", "label"), source_key=source, margin=10, k_divisible=self.patch)

    def train_pre_transforms(self, context: Context) -> list[Any]:
        """Return loading and a random crop."""
        keys = ("image", "label")
        crop = RandSpatialCropd(keys, roi_size=self.patch, random_size=False)
        head = [*road(self.root, keys, context.device), self._crop("image"), *smooth()]
        return [*head, crop, SelectItemsd(keys)]

    def train_post_transforms(self, context: Context) -> list[Any]:
        """Return what its metric wants."""
        return [
            EnsureTyped("pred", device=context.device),
            Activationsd("pred", softmax=True),
            AsDiscreted(("pred", "label"), argmax=(True, False), to_onehot=len(LABELS) + 1),
        ]

    def val_pre_transforms(self, context: Context) -> list[Any]:
        """Return loading and a crop around the label."""
        keys = ("image", "label")
        return [*road(self.root, keys), self._crop("label"), *smooth(), SelectItemsd(keys)]

    def val_inferer(self, context: Context) -> SlidingWindowInferer:
        """Return its windows."""
        return windows(self.patch)

    def train_key_metric(self, context: Context) -> Any:
        """Return mean Dice and that of every label."""
        return region_wise_metrics(LABELS, "train_mean_dice", "train")

    def val_key_metric(self, context: Context) -> Any:
        """Return mean Dice and that of every label."""
        return region_wise_metrics(LABELS, "val_mean_dice", "val")

    def train_handlers(self, context: Context) -> list[Any]:
        """Return its handlers, pictures for TensorBoard among them."""
        pictures = TensorBoardImageHandler(
            log_dir=context.events_dir,
            batch_transform=from_engine(["image", "label"]),
            output_transform=from_engine(["pred"]),
            interval=20,
            epoch_level=True,
        )
        return [*super().train_handlers(context), pictures]


class Infer(BasicInferTask):
    """Its inference; the hooks are those of its sample app."""

    def __init__(self, path: str, network: torch.nn.Module, root: Path, patch: int) -> None:
        self.root = root
        kind = InferType.SEGMENTATION
        super().__init__(path, network, kind, LABELS, 3, "sample way", load_strict=False, roi_size=[patch] * 3)

    def pre_transforms(self, data: Any = None) -> list[Any]:
        """Return loading, the whole volume."""
        return [*road(self.root, ("image",), data.get("device") if data else None), *smooth()]

    def inferer(self, data: Any = None) -> SlidingWindowInferer:
        """Return its windows."""
        return windows(self.roi_size)

    def inverse_transforms(self, data: Any = None) -> list[Any]:
        """Return that all are inverted."""
        return []

    def post_transforms(self, data: Any = None) -> list[Any]:
        """Return the label map on the grid of the image."""
        return [
            EnsureTyped("image", device=data.get("device") if data else None),
            Activationsd("pred", softmax=True),
            AsDiscreted("pred", argmax=True),
            Restored(),
        ]


def windows(patch: Sequence[int]) -> SlidingWindowInferer:
    """Return its sliding window."""
    return SlidingWindowInferer(patch, sw_batch_size=2, overlap=0.4, padding_mode="replicate", mode="gaussian")


class SampleApp(MONAILabelApp):
    """An app with that one model.

    Args:
        folder: of weights.
        studies: its studies folder.
        root: folder of the sequences, see `Siblings`.
        make: makes the network.
        patch: edge in voxels.
    """

    def __init__(self, folder: Path, studies: Path, root: Path, make: MakeNetwork, patch: int) -> None:
        self.folder, self.root, self.make, self.patch = folder, root, make, patch
        (folder / "model").mkdir(parents=True)
        self.first, self.published = folder / "model" / "pretrained.pt", folder / "model" / "published.pt"
        torch.save({"model": make().state_dict()}, self.first)
        super().__init__(str(folder), str(studies), {}, "sample way", "", labels=LABELS)
        self._auto_update_scoring = False

    def init_infers(self) -> dict[str, Any]:
        """Return its inference; of the two weight files the published one counts, where there is one."""
        paths = [os.fspath(self.first), os.fspath(self.published)]
        return {MODEL: Infer(paths, self.make(), self.root, self.patch)}

    def init_trainers(self) -> dict[str, Any]:
        """Return its trainer."""
        options = {
            "model_dir": os.fspath(self.folder / "model" / MODEL),
            "load_path": os.fspath(self.first),
            "publish_path": os.fspath(self.published),
            "config": {"dataset": "CacheDataset", "dataloader": "ThreadDataLoader", "device": "cpu"},
        }
        return {MODEL: Train(self.make, self.root, self.patch, **options)}

    def init_strategies(self) -> dict[str, Any]:
        """Return the one by name, so that both sides get the same case."""
        return {"first": First()}
