"""One optimisation step, and who is to blame when it cannot be taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rarevoxel.errors import TrainingError
from rarevoxel.networks import fast_dtype
from rarevoxel.sampling import MixedTarget
from rarevoxel.training.distributed import current_group, silent

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
    *,
    slices: int = 1,
    weight: float = 1.0,
) -> float:
    """Take one optimisation step, in the precision the device is fast in, and return the loss.

    With several processes (`network` is of `Group.wrap`) or slices, gradient and loss are those of all patches of the
    step together, `sum_i n_i L_i / sum_i n_i` over slices and processes of n_i patches. For a loss that is a mean over
    patches this is what one process with one batch computes.

    Args:
        network: trained in place.
        loss_function: called with float32 logits and the target.
        optimizer: of the network's parameters.
        image: `(B, C, H, W, D)` on the network's device.
        target: `(B, R, H, W, D)`, or what else the loss function takes.
        parts: the patches the batch is made of, for errors.
        slices: passes the batch is cut into, for less memory.
        weight: 0 for a process that has nothing to do in this step and only keeps the others company.

    Raises:
        TrainingError: when the loss or its gradient is not finite, naming the cases that make it so by themselves, or
            all of the batch if none does; the network is left as it was.
    """
    group = current_group()
    count = len(image) * weight
    (patches,) = group.total(count)
    optimizer.zero_grad(set_to_none=True)
    pieces = _pieces(image, target, slices)
    value = 0.0
    for number, (images, targets) in enumerate(pieces, start=1):
        last = number == len(pieces)
        with silent(network, until_last=not last):
            loss = _loss(network, loss_function, images, targets)
            value += float(loss.detach()) * len(images) * weight / patches
            if last:  # All leave together or none does: a backward pass that one of them misses never ends.
                _check_finite("loss", value, network, loss_function, parts, image.device)
            # The backward pass averages over the processes.
            torch.autograd.backward(loss * (len(images) * weight * group.world / patches))
    norm = float(nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT))
    _check_finite("gradient", norm, network, loss_function, parts, image.device)
    optimizer.step()
    (value,) = group.total(value)
    return value


def _pieces(image: torch.Tensor, target: Target, slices: int) -> list[tuple[torch.Tensor, Target]]:
    if slices <= 1 or len(image) == 1:
        return [(image, target)]
    bounds = [len(image) * i // slices for i in range(slices + 1)]
    return [
        (image[a:b], target[a:b] if isinstance(target, torch.Tensor) else target.items(a, b))
        for a, b in pairwise(bounds)
        if a < b
    ]


def _check_finite(
    what: str,
    value: float,
    network: nn.Module,
    loss_function: nn.Module,
    parts: Sequence[Part],
    device: torch.device,
) -> None:
    """Raise in all processes of a step if the value is not finite in one of them."""
    group = current_group()
    (bad,) = group.total(0.0 if math.isfinite(value) else 1.0)
    if not bad:
        return
    inner = network.module if isinstance(network, DistributedDataParallel) else network
    error = None
    if not math.isfinite(value):
        error = _not_finite(what, value, inner, loss_function, parts, device)
    errors = [told for told in group.gather(error) if told is not None]
    raise errors[0]


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the weights of `average` towards those of `network`: `average * decay + network * (1 - decay)`."""
    for mean, current in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(current, 1 - decay)


def _loss(network: nn.Module, loss_function: nn.Module, image: torch.Tensor, target: Target) -> torch.Tensor:
    small = image.device.type == "cpu" and min(image.shape[2:]) < SMALL
    dtype = torch.float32 if small else fast_dtype(image.device)
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
