"""Two ways through the sweeps of a fused loss: compiled loops where a compiler is there, else chunk by chunk."""

from __future__ import annotations

import functools
import logging
import os
import shutil
from collections.abc import Callable
from types import FunctionType
from typing import Any, Literal

import torch
from torch.utils.dlpack import from_dlpack

from rarevoxel.losses.fused_kernels import precision, slope_columns, slopes, sums
from rarevoxel.losses.fused_spec import FusedSpec

logger = logging.getLogger(__name__)

Way = Literal["compiled", "chunked", "whole"]

CHUNK = 2**17
"""Logits per chunk and thread: the temporaries of a chunk stay in the cache."""

COMPILED_CHUNK = 2**21
"""The same of compiled sweeps, which have few temporaries, while every call of one costs some tens of microseconds."""

REALIZE = ("realize_reads_threshold", "realize_opcount_threshold", "realize_acc_reads_threshold")
"""Options: up to how many reads and operations the compiler repeats instead of writing a value out for a second use."""

REPEATED = 64
REPEATED_SOFTMAX = 10**6
REPEATED_CLASSES = 4
"""Classes up to which a softmax is repeated without bound. With more the time to compile grows too fast; what is
written out instead stays in the cache, a chunk being small."""

Sweep = Callable[..., torch.Tensor]
_failed: set[str] = set()


def can_compile(device: torch.device) -> bool:
    """Return whether compiled sweeps may be tried on `device`; what fails once is not tried again in this process."""
    if device.type in _failed:
        return False
    if device.type == "cpu":
        return _compiler() is not None
    return device.type == "cuda"


def all_sums(spec: FusedSpec, logits: torch.Tensor, target: torch.Tensor, way: Way) -> torch.Tensor:
    """Return `rarevoxel.losses.fused_kernels.sums` of every sample and channel, `B C columns`, float64.

    Args:
        spec: what to compute.
        logits: `B C N`.
        target: `B C N`, or `B 1 N` of class indices.
        way: how.
    """
    if way == "whole":
        return sums(spec, logits.transpose(0, 1), target.transpose(0, 1)).transpose(0, 1).to(torch.float64)
    sweep = sweep_of(_sums, spec, logits.device, way)
    total = torch.zeros(*logits.shape[:2], spec.columns, dtype=torch.float64, device=logits.device)
    for row, z, t in zip(total, logits, target, strict=True):
        for part in chunks(z, way):
            row += sweep(z[:, part], t[:, part])
    return total


def gradient(
    spec: FusedSpec, logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor, way: Way
) -> torch.Tensor:
    """Return the gradient in the logits, `B C N`, in the layout of the logits.

    Args:
        spec: what to compute.
        logits: `B C N`.
        target: `B C N`, or `B 1 N` of class indices.
        weights: the slopes of the loss in its sums, see `rarevoxel.losses.fused_region`.
        way: how.
    """
    weights = weights.to(precision(logits.dtype))
    if way == "whole":
        return slopes(spec, *(tensor.transpose(0, 1) for tensor in (logits, target, weights))).transpose(0, 1)
    sweep = sweep_of(_slopes_into, spec, logits.device, way)
    result = torch.empty_like(logits)
    for out, z, t, w in zip(result, logits, target, weights, strict=True):
        for part in chunks(z, way):
            sweep(z[:, part], t[:, part], w, *_written_to(out[:, part], spec))
    return result


def _sums(spec: FusedSpec, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return sums(spec, logits, target)


def _slopes_into(
    spec: FusedSpec, logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor, *outs: torch.Tensor
) -> None:
    for out, column in zip(outs, slope_columns(spec, logits, target, weights), strict=True):
        out.copy_(column)


def _written_to(out: torch.Tensor, spec: FusedSpec) -> list[torch.Tensor]:
    """Return the tensors that a gradient `C N` is written to, channel by channel: a compiled loop then writes each
    where it belongs, in place of all of them side by side into memory of its own, from which they are copied.

    They pass through DLPack for a storage of their own. Of tensors that are written to and share one, the compiler
    takes every size and offset for a constant and compiles anew for the next.
    """
    if spec.uniform:
        return [out]
    channels = out.unbind(0)
    return [from_dlpack(channel) for channel in channels] if out.device.type == "cpu" else list(channels)


def chunks(logits: torch.Tensor, way: Way) -> list[slice]:
    """Return near-equal parts of the voxels of one sample, `C N`, of a size that suits the way."""
    voxels = logits.shape[1]
    size = (COMPILED_CHUNK if way == "compiled" else CHUNK) * torch.get_num_threads()
    parts = max(round(logits.numel() / size), 1)
    step = -(-voxels // parts)
    return [slice(start, start + step) for start in range(0, voxels, step)]


def sweep_of(sweep: Any, spec: Any, device: torch.device, way: Way) -> Sweep:
    """Return `sweep` with its first argument bound, compiled where that is the way; a failed compiler is not the end.

    Args:
        sweep: a plain function `(spec, *tensors)`.
        spec: hashable, with `activation`, `channels` and `heavy`.
        device: of the tensors.
        way: how.
    """
    plain: Sweep = functools.partial(sweep, spec)
    if way != "compiled" or device.type in _failed:
        return plain

    def run(*args: torch.Tensor) -> torch.Tensor:
        if device.type not in _failed:
            try:
                found: torch.Tensor = _compiled(sweep, spec, torch.get_num_threads())(*args)
                return found
            except Exception as error:  # Compilers fail in many ways; none is a reason to stop a training.
                _failed.add(device.type)
                said = str(error).partition("\n")[0]
                logger.warning("fused losses on %s go on without a compiler: %s", device.type, said)
        return plain(*args)

    return run


@functools.lru_cache(maxsize=64)
def _compiled(sweep: FunctionType, spec: Any, threads: int) -> Sweep:
    """Return the sweep compiled for one loss; `threads` is part of the key because the loops are made for a number."""

    def bound(*args: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = sweep(spec, *args)
        return result

    # The versions dynamo keeps of a function are counted per code object: each loss gets one of its own.
    name = f"{sweep.__name__}_{abs(hash(spec)):x}_{threads}"
    own = FunctionType(bound.__code__.replace(co_name=name), globals(), name, None, bound.__closure__)
    limit = _repeated(spec)
    known = set(torch._inductor.list_options())
    options: dict[str, Any] = {name: limit for name in REALIZE if name in known} if limit else {}
    compiled: Sweep = torch.compile(own, fullgraph=True, dynamic=True, options=options)
    return compiled


def _repeated(spec: Any) -> int | None:
    """Return the limit for `REALIZE`; None is the compiler's own, without which CALF's softmax compiles for minutes."""
    if spec.heavy:
        return None
    return REPEATED_SOFTMAX if spec.activation == "softmax" and spec.channels <= REPEATED_CLASSES else REPEATED


@functools.lru_cache(maxsize=1)
def _compiler() -> str | None:
    """Return the C++ compiler that torch would call, None without one."""
    names = [os.environ.get("CXX", ""), "g++", "clang++", "c++", "cl"]
    return next((path for name in names if name and (path := shutil.which(name))), None)
