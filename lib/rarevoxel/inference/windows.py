"""Logits of a whole image: one pass where it fits, overlapping windows where it does not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from monai.inferers import sliding_window_inference
from torch import nn
from torch.nn import functional

from rarevoxel.config import AppConfig
from rarevoxel.networks import fast_dtype


def predict_probabilities(
    network: nn.Module, image: torch.Tensor, *, mirror: Sequence[int] = (), **settings: Any
) -> torch.Tensor:
    """Return region probabilities, averaged over an image and its mirror images.

    Args:
        network: see `predict_logits`.
        image: `(1, C, H, W, D)` on the network's device.
        mirror: spatial axes, 0 to 2; every combination of them is predicted and turned back.
        settings: see `predict_logits`.

    Returns:
        float32 `(1, R, H, W, D)` in [0, 1].
    """
    combinations = [axes for count in range(len(mirror) + 1) for axes in itertools.combinations(mirror, count)]
    total: torch.Tensor | float = 0.0
    for axes in combinations:
        dims = [2 + axis for axis in axes]
        logits = predict_logits(network, image.flip(dims) if dims else image, **settings)
        total = total + (torch.sigmoid(logits).flip(dims) if dims else torch.sigmoid(logits))
    return torch.as_tensor(total) / len(combinations)


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
    )[0].cpu()


def predict_logits(
    network: nn.Module, image: torch.Tensor, *, window: Sequence[int], overlap: float, multiple: int
) -> torch.Tensor:
    """Run a network over an image.

    Args:
        network: maps `(1, C, h, w, d)` to `(1, R, h, w, d)` for sizes that are multiples of `multiple`.
        image: `(1, C, H, W, D)` on the network's device.
        window: largest size predicted in one pass.
        overlap: overlap of neighbouring windows when the image is larger.
        multiple: what spatial sizes must be divisible by.

    Returns:
        float32 logits `(1, R, H, W, D)`.
    """
    shape = image.shape[2:]
    padding = [(-n) % multiple for n in shape]
    if all(n + more == multiple for n, more in zip(shape, padding, strict=True)):
        padding[-1] += multiple  # Instance normalisation needs more than one voxel at the deepest level.
    flat = [p for pad in reversed(padding) for p in (0, pad)]
    padded = functional.pad(image, flat).contiguous(memory_format=torch.channels_last_3d)
    dtype = fast_dtype(image.device)
    with torch.inference_mode(), torch.autocast(image.device.type, dtype=dtype, enabled=dtype != torch.float32):
        if all(n <= w for n, w in zip(padded.shape[2:], window, strict=True)):
            logits = network(padded)
        else:
            roi = [min(max(w - w % multiple, multiple), n) for w, n in zip(window, padded.shape[2:], strict=True)]
            if all(n == multiple for n in roi):
                roi[-1] += multiple
            logits = sliding_window_inference(padded, roi, 1, network, overlap=overlap, mode="gaussian")
    return torch.as_tensor(logits).float()[:, :, : shape[0], : shape[1], : shape[2]]
