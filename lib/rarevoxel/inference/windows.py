"""Logits of a whole image: one pass where it fits, overlapping windows where it does not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from monai.inferers import sliding_window_inference
from torch import nn
from torch.nn import functional

from rarevoxel.config import AppConfig
from rarevoxel.inference.tiles import choose_tiling
from rarevoxel.inference.views import views
from rarevoxel.networks import block_edge, fast_dtype


def predict_probabilities(
    network: nn.Module, image: torch.Tensor, *, mirror: Sequence[int] = (), **settings: Any
) -> torch.Tensor:
    """Return region probabilities, averaged over an image and its mirror images.

    Args:
        network: see `predict_logits`.
        image: `(1, C, H, W, D)` on the network's device.
        mirror: spatial axes, 0 to 2; every combination of them is predicted and turned back, see `views`.
        settings: see `predict_logits`.

    Returns:
        float32 `(1, R, H, W, D)` in [0, 1].
    """
    shown = views(image.shape[2:], mirror, edge=block_edge(network), multiple=settings["multiple"])
    total: torch.Tensor | float = 0.0
    for view in shown:
        total = total + view.back(torch.sigmoid(predict_logits(network, view.show(image), **settings)))
    return torch.as_tensor(total) / len(shown)


def predict_image(network: nn.Module, config: AppConfig, image: torch.Tensor) -> torch.Tensor:
    """Return the probabilities of a preprocessed image, as `config` says to predict.

    Args:
        network: of `config.network`'s depth; its device is where the image goes.
        config: window, overlap, mirror.
        image: `(C, H, W, D)`.

    Returns:
        float32 `(R, H, W, D)` in [0, 1], on the CPU.
    """
    settings = config.inference
    return predict_probabilities(
        network,
        image[None].to(next(network.parameters()).device),
        mirror=settings.mirror,
        window=settings.window,
        overlap=settings.overlap,
        multiple=config.network.multiple,
        single_pass=settings.single_pass,
    )[0].cpu()


def predict_logits(
    network: nn.Module,
    image: torch.Tensor,
    *,
    window: Sequence[int],
    overlap: float,
    multiple: int,
    single_pass: str = "auto",
    voxels: float = math.inf,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Run a network over an image, in one pass or in the windows of `choose_tiling`.

    Args:
        network: maps `(1, C, h, w, d)` to `(1, R, h, w, d)` for sizes that are multiples of `multiple`.
        image: `(1, C, H, W, D)` on the network's device.
        window: largest size predicted in one pass.
        overlap: least overlap of neighbouring windows when the image is larger.
        multiple: what spatial sizes must be divisible by.
        single_pass: see `choose_tiling`.
        voxels: most that the memory holds in one pass.
        dtype: what convolutions are computed in; that of `fast_dtype` when None.

    Returns:
        float32 logits `(1, R, H, W, D)`.

    Raises:
        UnavailableError: see `choose_tiling`.
    """
    shape = image.shape[2:]
    target = padded_shape(shape, multiple)
    flat = [p for n, more in reversed(list(zip(shape, target, strict=True))) for p in (0, more - n)]
    padded = functional.pad(image, flat)
    tiling = choose_tiling(padded.shape[2:], window, overlap, multiple, single_pass=single_pass, voxels=voxels)
    dtype = dtype or fast_dtype(image.device)
    with torch.inference_mode(), torch.autocast(image.device.type, dtype=dtype, enabled=dtype != torch.float32):
        if tiling.count == 1:
            logits = network(padded)
        else:
            logits = sliding_window_inference(padded, tiling.window, 1, network, overlap=overlap, mode="gaussian")
    return torch.as_tensor(logits).float()[:, :, : shape[0], : shape[1], : shape[2]]


def padded_shape(shape: Sequence[int], multiple: int) -> tuple[int, ...]:
    """Return the size an image is padded to before the network sees it.

    Args:
        shape: spatial size.
        multiple: what the sizes must be divisible by.
    """
    padded = [n + (-n) % multiple for n in shape]
    if all(n == multiple for n in padded):
        padded[-1] += multiple  # Instance normalisation needs more than one voxel at the deepest level.
    return tuple(padded)
