"""Logits of a whole image: one pass where it fits, overlapping windows where it does not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.inferers import sliding_window_inference
from torch import nn
from torch.nn import functional

from rarevoxel.networks import fast_dtype


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
