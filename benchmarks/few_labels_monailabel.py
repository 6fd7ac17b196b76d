"""The recipe of MONAI Label's sample app, for four sequences and three labels.

Read from the radiology app that comes with monailabel 0.8.5: network, spacing and patches of `segmentation_spleen` (a
residual U-Net at 1 mm, batch normalisation); intensities, loss, optimizer and labels of `segmentation` (the one for
several labels, whose SegResNet needs more than ten times the multiplications of ours). AdamW with a constant rate of
1e-4, decay 1e-5, softmax over background and labels, Dice and cross-entropy, no augmentation but the crop, weights of
the last step.

What differs from it, each time in its favour: intensities channel by channel, as four sequences need; crops centred on
tumour and background in turn, because patches are smaller here than its 96^3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    CropForegroundd,
    EnsureChannelFirstd,
    EnsureTyped,
    GaussianSmoothd,
    Invertd,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    RandCropByPosNegLabeld,
    ScaleIntensityd,
    Spacingd,
)

from rarevoxel.cases import SEQUENCES
from rarevoxel.labels import CLIENT_LABELS
from rarevoxel.networks import fast_dtype

RATE, DECAY = 1e-4, 1e-5
SPACING = (1.0, 1.0, 1.0)
CLASSES = len(CLIENT_LABELS) + 1


def train_recipe(folders: Sequence[Path], steps: int, patch: int, seed: int, rate: float = RATE) -> torch.nn.Module:
    """Train from random weights, one patch a step.

    Args:
        folders: cases to learn from, with `seg.nii.gz`.
        steps: optimisation steps.
        patch: edge in voxels.
        seed: of weights, order and crops.
        rate: learning rate.
    """
    torch.manual_seed(seed)
    network = UNet(3, len(SEQUENCES), CLASSES, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2, norm="batch")
    network = network.to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=DECAY)
    loss_function = DiceCELoss(to_onehot_y=True, softmax=True)
    dtype = fast_dtype(torch.device("cpu"))
    for image, label in patches(folders, steps, patch, seed):
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            logits = network(image[None].contiguous(memory_format=torch.channels_last_3d))
        loss = loss_function(logits.float(), label[None])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return network.eval()


def patches(folders: Sequence[Path], steps: int, patch: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield a random crop of every case in turn, in another order each time: image `(4, ...)` and label `(1, ...)`."""
    keys = ("image", "label")
    road = [*_road(keys), CropForegroundd(keys, source_key="image", margin=10, k_divisible=[patch] * 3)]
    cached = CacheDataset([_entry(folder) for folder in folders], Compose([*road, *smooth()]), progress=False)
    crop = RandCropByPosNegLabeld(keys, label_key="label", spatial_size=[patch] * 3, pos=1, neg=1, num_samples=1)
    crop.set_random_state(seed)
    rng = np.random.default_rng(seed)
    order: list[int] = []
    for _ in range(steps):
        order = order or rng.permutation(len(folders)).tolist()
        (drawn,) = crop(dict(cached[order.pop()]))
        yield drawn["image"].as_tensor(), drawn["label"].as_tensor()


@torch.no_grad()
def predict(network: torch.nn.Module, folder: Path) -> np.ndarray:
    """Return the label map `(H, W, D)` of a case on its own grid."""
    chain = Compose([*_road(("image",)), *smooth()])
    data = chain({"image": _entry(folder)["image"]})
    dtype = fast_dtype(torch.device("cpu"))
    inferer = SlidingWindowInferer(roi_size=[160, 160, 160], sw_batch_size=1, overlap=0.25)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        data["pred"] = inferer(data["image"][None], network)[0].float()
    data = Invertd("pred", chain, orig_keys="image", nearest_interp=False)(data)
    return data["pred"].argmax(0).numpy().astype(np.uint8)


def _entry(folder: Path) -> dict[str, Any]:
    return {"image": [folder / f"{name}.nii.gz" for name in SEQUENCES], "label": folder / "seg.nii.gz"}


def _road(keys: Sequence[str]) -> list[Any]:
    modes = ("bilinear", "nearest")[: len(keys)]
    return [
        LoadImaged(keys),
        EnsureChannelFirstd(keys),
        EnsureTyped(keys),
        Orientationd(keys, axcodes="RAS", labels=None),
        Spacingd(keys, pixdim=SPACING, mode=modes),
        NormalizeIntensityd("image", nonzero=True, channel_wise=True),
    ]


def smooth() -> list[Any]:
    """Return the transforms of the image that follow its crop."""
    return [GaussianSmoothd("image", sigma=0.4), ScaleIntensityd("image", minv=-1.0, maxv=1.0, channel_wise=True)]
