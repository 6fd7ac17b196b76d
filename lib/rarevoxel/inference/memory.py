"""How much of an image a network can see at once with the memory there is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psutil
import torch
from torch import nn

SHARE = 0.5
"""Share of the free memory that one prediction may take when the configuration names no bound."""

HELD = 4.0
"""Times the largest input and output of a layer that are held at once: skip connections, what is being concatenated,
and scratch space. Measured peaks of U-Nets of three to five levels are 2.7 to 3.8 times (CPU, both precisions)."""

_BESIDE = 4
"""Copies of the image, and of the probabilities, that are held beside the network's own, as float32."""


def bytes_per_voxel(network: nn.Module, *, multiple: int, channels: int, dtype: torch.dtype) -> float:
    """Estimate how much memory a pass takes for each voxel of its image: `HELD` times its largest layer.

    The layers are looked at while the network runs on the smallest block it can see.

    Args:
        network: in evaluation mode, on its device.
        multiple: what spatial sizes must be divisible by.
        channels: of its input.
        dtype: what convolutions are computed in.
    """
    largest = 0

    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal largest
        largest = max(largest, _bytes(inputs) + _bytes(output))

    leaves = [module for module in network.modules() if not any(True for _ in module.children())]
    hooks = [module.register_forward_hook(look) for module in leaves]
    device = next(network.parameters(), torch.empty(0)).device
    block = torch.zeros((1, channels, 2 * multiple, multiple, multiple), device=device)
    try:
        with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            network(block)
    finally:
        for hook in hooks:
            hook.remove()
    return HELD * largest / (2 * multiple**3)


def voxels_in_memory(image: torch.Tensor, each: float, memory_mib: int = 0) -> float:
    """Return how many voxels fit in one pass.

    Args:
        image: `(C, H, W, D)` on its device.
        each: from `bytes_per_voxel`.
        memory_mib: most memory a prediction may take; 0 for `SHARE` of what is free.

    Returns:
        Voxels; 0 when what is held beside the network leaves nothing.
    """
    budget = memory_mib * 2**20 if memory_mib else SHARE * _free(image.device)
    beside = _BESIDE * 4 * image.numel()
    return max(budget - beside, 0.0) / max(each, 1.0)


def _free(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().available)


def _bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    return sum(_bytes(item) for item in value) if isinstance(value, Iterable) and not isinstance(value, str) else 0
