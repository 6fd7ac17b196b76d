"""Fused losses: voxel terms and a region term in two sweeps, with next to nothing saved for backward.

A loss written with torch's operators reads and writes a volume for every operator and keeps most of them for backward.
Here the first sweep takes all sums of `rarevoxel.losses.fused_kernels` at once, and the second computes the gradient
from logits and target anew, so that only these and a few numbers per sample and channel are kept. The values are those
of the plain losses, which stay the definition. `CompoundLoss`, `CALFLoss`, `LMFLoss` and `UnifiedFocalLoss` come here
by themselves; `TopKLoss` has a way of its own, `rarevoxel.losses.fused_top_k`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from types import TracebackType
from typing import Any

import torch

from rarevoxel.errors import InputError
from rarevoxel.losses.fused_kernels import precision
from rarevoxel.losses.fused_passes import Way, all_sums, can_compile, gradient
from rarevoxel.losses.fused_region import combine
from rarevoxel.losses.fused_spec import FusedSpec

LEAST = 2**22
"""Logits from which a loss is fused: two patches of 96^3 and three regions, not of 64^3.

To compile a loss takes some ten seconds, once per process, and a few when it is cached on disk. At this size the plain
loss wastes so much more per step that this is paid back in some tens of steps, each of which is long for the network
alone; below it a short training would wait for nothing.
"""

LEAST_CHUNKED = 2**24
"""Logits from which a loss goes chunk by chunk where it cannot be compiled: two patches of 128^3 and four classes.

That saves memory, not time: with sigmoid it takes longer than the plain loss, so it has to be worth the memory.
"""

MOST_CHANNELS = 8
"""Channels up to which a loss is fused: they are unrolled."""


class use_fused:
    """Switch fused losses on or off for this process; as a context manager, until its end.

    The environment variable `RAREVOXEL_FUSED=0` does the same from outside.

    Args:
        enabled: False takes the plain losses always.
        compiled: whether the sweeps may be compiled; None leaves it as it is.
        least: logits from which a loss is fused, in place of `LEAST` and `LEAST_CHUNKED`; None leaves it as it is.

    Example:
        >>> with use_fused(False):
        ...     pass
    """

    def __init__(self, enabled: bool = True, *, compiled: bool | None = None, least: int | None = None) -> None:
        self._before = (_switch.enabled, _switch.compiled, _switch.least)
        _switch.enabled = enabled
        _switch.compiled = _switch.compiled if compiled is None else compiled
        _switch.least = _switch.least if least is None else least

    def __enter__(self) -> use_fused:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _switch.enabled, _switch.compiled, _switch.least = self._before


class _Switch:
    enabled: bool = os.environ.get("RAREVOXEL_FUSED", "1") != "0"
    compiled: bool = True
    least: int | None = None


_switch = _Switch()


def fused_way(logits: torch.Tensor, target: torch.Tensor) -> Way | None:
    """Return how a loss of these tensors is fused, or None where the plain loss is taken.

    The rule looks at shapes, the device and the switch only, never at what ran before, so that a training that was
    interrupted goes on bit for bit.
    """
    if not _switch.enabled or target.requires_grad or target.is_complex() or logits.shape[1] > MOST_CHANNELS:
        return None
    # Inside a larger graph that is being compiled there is nothing to wait for.
    if torch.compiler.is_compiling():
        return "whole"
    compiled = _switch.compiled and can_compile(logits.device)
    least = LEAST if compiled else LEAST_CHUNKED
    if logits.numel() < max(least if _switch.least is None else _switch.least, 1):
        return None
    return "compiled" if compiled else "chunked"


def fused_loss(spec: FusedSpec, logits: torch.Tensor, target: torch.Tensor, way: Way) -> torch.Tensor:
    """Return the loss, a scalar, float32 or float64 for float64 logits; differentiable once, in the logits.

    Args:
        spec: the loss.
        logits: `B C H [W D]`, any floating type.
        target: the same shape, or `B 1 H [W D]` where the specification says class indices; any type.
        way: how.

    Raises:
        InputError: for class indices that no channel stands for.
    """
    value: torch.Tensor = _Fused.apply(bare(logits), bare(target), spec, way)  # type: ignore[no-untyped-call]
    return value


def bare(tensor: torch.Tensor) -> torch.Tensor:
    """Return `tensor` without the class that MONAI gives it."""
    return tensor if type(tensor) is torch.Tensor else tensor.as_subclass(torch.Tensor)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, target: torch.Tensor, spec: FusedSpec, way: Way) -> torch.Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            spec, totals = _sums(spec, logits.detach().flatten(2), target.flatten(2), way)
            voxels = logits.shape[2:].numel()
            _check_classes(spec, totals, voxels)
            value, weights = combine(spec, totals, voxels)
        ctx.save_for_backward(logits, target, weights)
        ctx.spec, ctx.way = spec, way
        return value.to(precision(logits.dtype))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, None, None, None]:
        logits, target, weights = ctx.saved_tensors
        with torch.autocast(logits.device.type, enabled=False):
            found = gradient(ctx.spec, logits.detach().flatten(2), target.flatten(2), weights * grad, ctx.way)
        return found.reshape(logits.shape), None, None, None


def _sums(spec: FusedSpec, logits: torch.Tensor, target: torch.Tensor, way: Way) -> tuple[FusedSpec, torch.Tensor]:
    """Return the sums, and the specification they were taken with: nearly all targets are hard, so that is tried."""
    if spec.gains_from_hard and way != "whole" and logits.device.type == "cpu":
        hard = replace(spec, hard=True)
        totals = all_sums(hard, logits, target, way)
        if not bool(totals[..., 4].any()):
            return hard, totals
    return spec, all_sums(spec, logits, target, way)


def _check_classes(spec: FusedSpec, totals: torch.Tensor, voxels: int) -> None:
    # On a GPU the answer would have to be waited for.
    if not spec.classes or totals.device.type != "cpu" or torch.compiler.is_compiling():
        return
    known = totals[..., 3].sum(1)
    if bool((known != voxels).any()):
        raise _no_class(int((voxels - known).max()), totals.shape[1])


def check_indices(logits: torch.Tensor, target: torch.Tensor) -> None:
    """Raise if a target `B 1 H [W D]` holds class indices that no channel of the logits stands for.

    Raises:
        InputError: naming how many.
    """
    channels = logits.shape[1]
    least, most = target.aminmax()
    if least <= -1 or most >= channels:
        wrong = ((target <= -1) | (target >= channels)).flatten(1).sum(1)
        raise _no_class(int(wrong.max()), channels)


def _no_class(missing: int, channels: int) -> InputError:
    msg = f"target: {missing} voxels of a sample hold no class index from 0 to {channels - 1}"
    return InputError(msg, f"the logits have {channels} channels, one per class")
