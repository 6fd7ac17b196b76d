"""One optimisation step, and who is to blame when it cannot be taken."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from rarevoxel.errors import TrainingError
from rarevoxel.networks import fast_dtype
from rarevoxel.sampling import MixedTarget

Target = torch.Tensor | MixedTarget

Part = tuple[str, torch.Tensor, torch.Tensor]
"""Name of a case, and image `(C, H, W, D)` and target `(R, H, W, D)` of a patch of it, as drawn."""

LARGEST_GRADIENT = 12.0
"""Norm to which gradients are cut."""

SMALL = 64
"""Edge in voxels below which a CPU computes in single precision. A convolution over two voxels along its first axis has
weight gradients in bfloat16 that are now and then off by many powers of ten (oneDNN under torch 2.13); that is the
deepest level of a network that halves four times, at 32 voxels. Small patches gain next to nothing from bfloat16."""


def optimize(
    network: nn.Module,
    loss_function: nn.Module,
    optimizer: torch.optim.Optimizer,
    image: torch.Tensor,
    target: Target,
    parts: Sequence[Part],
) -> float:
    """Take one optimisation step, in the precision the device is fast in, and return the loss.

    Args:
        network: trained in place.
        loss_function: called with float32 logits and the target.
        optimizer: of the network's parameters.
        image: `(B, C, H, W, D)` on the network's device.
        target: `(B, R, H, W, D)`, or what else the loss function takes.
        parts: the patches the batch is made of, for errors.

    Raises:
        TrainingError: when the loss or its gradient is not finite, naming the cases that make it so by themselves, or
            all of the batch if none does; the network is left as it was.
    """
    loss = _loss(network, loss_function, image, target)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise _not_finite("loss", value, network, loss_function, parts, image.device)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    norm = float(nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT))
    if not math.isfinite(norm):
        raise _not_finite("gradient", norm, network, loss_function, parts, image.device)
    optimizer.step()
    return value


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the weights of `average` towards those of `network`: `average * decay + network * (1 - decay)`."""
    for mean, current in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(current, 1 - decay)


def _loss(network: nn.Module, loss_function: nn.Module, image: torch.Tensor, target: Target) -> torch.Tensor:
    small = image.device.type == "cpu" and min(image.shape[2:]) < SMALL
    dtype = torch.float32 if small else fast_dtype(image.device)
    image = image.contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast(image.device.type, dtype=dtype, enabled=dtype != torch.float32):
        logits = network(image)
    value: torch.Tensor = loss_function(logits.float(), target)
    return value


def _not_finite(
    what: str,
    value: float,
    network: nn.Module,
    loss_function: nn.Module,
    parts: Sequence[Part],
    device: torch.device,
) -> TrainingError:
    guilty = set()
    for name, image, target in parts:
        network.zero_grad(set_to_none=True)
        loss = _loss(network, loss_function, image[None].to(device), target[None].to(device))
        alone = float(loss.detach())
        if what == "gradient" and math.isfinite(alone):
            torch.autograd.backward(loss)
            alone = float(nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT))
        if not math.isfinite(alone):
            guilty.add(name)
    network.zero_grad(set_to_none=True)
    everyone = {name for name, _, _ in parts}
    who = f"patches of {sorted(guilty or everyone)}"
    if guilty == everyone and len(everyone) > 1:
        msg = f"the {what} became {value} on {who}, each by itself"
        return TrainingError(msg, "lower the learning rate, or take another loss; the weights may have run away")
    if not guilty and len(everyone) > 1:
        msg = f"the {what} became {value} on {who} together"
        return TrainingError(msg, "lower the learning rate, or check these cases' images and labels")
    msg = f"the {what} became {value} on {who}"
    return TrainingError(msg, "check the image and label of this case, or leave it out; else lower the learning rate")
