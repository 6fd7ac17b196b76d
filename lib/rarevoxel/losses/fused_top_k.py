"""Cross-entropy of the hardest voxels in two sweeps: the losses of all voxels, and the gradient recomputed.

The first sweep fills one map of losses, sample by sample; the K-th largest of it is the threshold, found by partition
of what a sample of the voxels cannot rule out, and not by a sort. Kept for backward are the arguments and, per ranking,
the threshold and two weights; the second sweep computes each voxel's loss anew and compares.

Voxels whose losses differ from the threshold by round-off only share the places that are left, in equal parts: two
sweeps need not agree on the last digit, and of equals there is no first. The plain loss takes any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from rarevoxel.losses.fused_kernels import precision, softmax
from rarevoxel.losses.fused_passes import Way, chunks, sweep_of
from rarevoxel.losses.fused_voxel import Voxels, slope, value

Tensors = list[torch.Tensor]

STEP = 61
"""Every so many voxels make the sample that tells from where the K-th largest loss is looked for; prime, so that it
falls on no axis of an image."""

MARGIN = 1.3
"""How many times K voxels are to be looked at, as the sample has it."""

ROUND_OFF = 32
"""Differences of losses up to so many times the machine's precision are round-off."""


@dataclass(frozen=True)
class TopKSpec:
    """What is ranked.

    Args:
        activation: `sigmoid`, a ranking per channel of binary cross-entropy; `softmax`, one of cross-entropy.
        channels: C.
        classes: whether the target holds class indices `B 1 N`.
    """

    activation: Literal["sigmoid", "softmax"]
    channels: int
    classes: bool

    @property
    def heavy(self) -> bool:
        """Whether a compiler must not repeat computations, see `rarevoxel.losses.fused_passes`."""
        return False


def top_k_loss(
    spec: TopKSpec, logits: torch.Tensor, target: torch.Tensor, kept: int, total: bool, way: Way
) -> torch.Tensor:
    """Return the mean, or with `total` the sum, of the `kept` largest losses of every ranking; a scalar.

    Args:
        spec: what is ranked.
        logits: `B C H [W D]`, any floating type.
        target: the same shape, or `B 1 H [W D]` where the specification says class indices; any type.
        kept: K.
        total: the sum in place of the mean.
        way: how.
    """
    value: torch.Tensor = _TopK.apply(logits, target, spec, kept, total, way)  # type: ignore[no-untyped-call]
    return value


class _TopK(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, target: torch.Tensor, spec: TopKSpec, kept: int, total: bool, way: Way
    ) -> torch.Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            z, t = logits.detach().flatten(2), target.flatten(2)
            sums, weights = _rank(spec, z, t, kept, way)
        scale = 1.0 if total else 1.0 / (kept * sums.numel())
        weights[..., 2:] *= scale
        ctx.save_for_backward(logits, target, weights)
        ctx.spec, ctx.way = spec, way
        return (scale * sums.sum()).to(precision(logits.dtype))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, None, None, None, None, None]:
        logits, target, weights = ctx.saved_tensors
        weights = torch.cat([weights[..., :2], weights[..., 2:] * grad], dim=-1).to(precision(logits.dtype))
        with torch.autocast(logits.device.type, enabled=False):
            z, t = logits.detach().flatten(2), target.flatten(2)
            sweep = sweep_of(_slopes_into, ctx.spec, logits.device, ctx.way)
            found = torch.empty_like(z)
            for out, one, true, weight in zip(found, z, t, weights, strict=True):
                for part in chunks(one, ctx.way):
                    sweep(one[:, part], true[:, part], weight, out[:, part])
        return found.reshape(logits.shape), None, None, None, None, None


def _rank(
    spec: TopKSpec, logits: torch.Tensor, target: torch.Tensor, kept: int, way: Way
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return per ranking the sum of the K largest losses, and where they begin and what they weigh.

    Returns:
        `B R` and `B R 4`, float64, of R rankings: the losses from and to which voxels share, the weight of those above,
        and of those between.
    """
    sweep = sweep_of(_losses_into, spec, logits.device, way)
    rankings = 1 if spec.activation == "softmax" else spec.channels
    losses = torch.empty(rankings, logits.shape[2], dtype=precision(logits.dtype), device=logits.device)
    sums, weights = [], []
    for z, t in zip(logits, target, strict=True):
        for part in chunks(z, way):
            sweep(z[:, part], t[:, part], losses[:, part])
        for row in losses:
            total, *weight = hardest(row, kept)
            sums.append(total)
            weights.append(weight)
    options: dict[str, Any] = {"dtype": torch.float64, "device": logits.device}
    shape = (logits.shape[0], rankings)
    return torch.tensor(sums, **options).view(shape), torch.tensor(weights, **options).view(*shape, 4)


def hardest(losses: torch.Tensor, kept: int) -> tuple[float, float, float, float, float]:
    """Return of the `kept` largest losses the sum, where equals begin and end, the weight above, and that of equals.

    Args:
        losses: `N`, >= 0, float32 or float64.
        kept: K, from 1 to N.
    """
    values: npt.NDArray[Any] = losses.detach().cpu().numpy()
    candidates = _candidates(values, kept)
    candidates.partition(len(candidates) - kept)
    largest = candidates[len(candidates) - kept :]
    threshold = float(largest[0])
    slack = ROUND_OFF * float(np.finfo(values.dtype).eps) * threshold
    low, high = threshold - slack, threshold + slack
    above = int(np.count_nonzero(largest > high))
    equal = int(np.count_nonzero((candidates >= low) & (candidates <= high)))
    return float(largest.sum(dtype=np.float64)), low, high, 1.0, (kept - above) / equal


def _candidates(values: npt.NDArray[Any], kept: int) -> npt.NDArray[Any]:
    """Return a copy of all values from some bound on, at least K of them and all that equal the K-th largest."""
    sample = values[::STEP].copy()
    rank = int(MARGIN * kept / STEP) + 8
    if rank < len(sample):
        sample.partition(len(sample) - rank)
        bound = sample[len(sample) - rank]
        # A little below, so that what equals the K-th largest but for round-off is there.
        found: npt.NDArray[Any] = values[values >= bound * (1 - 1e-4)]
        if np.count_nonzero(found >= bound) >= kept:
            return found
    return values.copy()


def _losses(spec: TopKSpec, logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, Tensors, Tensors]:
    """Return the losses of `C N` logits, `R N`, and with softmax the probabilities and targets of every class."""
    dtype = precision(logits.dtype)
    if spec.activation == "sigmoid":
        z, t = logits.to(dtype), target.to(dtype)
        if not torch.compiler.is_compiling():
            return functional.binary_cross_entropy_with_logits(z, t, reduction="none"), [], []
        return value("bce", Voxels.of(z, t), 0.0), [], []
    ps, lps = softmax([z.to(dtype) for z in logits.unbind(0)])
    if spec.classes:
        index = target[0].to(dtype)
        index = index.trunc() if target.is_floating_point() else index
        ts = [(index == c).to(dtype) for c in range(spec.channels)]
    else:
        ts = [t.to(dtype) for t in target.unbind(0)]
    terms = [-t * lp for t, lp in zip(ts, lps, strict=True)]
    # Round-off of the logarithm may be below 0, where round-off is no longer relative to the loss.
    return sum(terms[1:], terms[0]).clamp(min=0)[None], ps, ts


def _losses_into(spec: TopKSpec, logits: torch.Tensor, target: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(_losses(spec, logits, target)[0])


def _slopes_into(
    spec: TopKSpec, logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor, out: torch.Tensor
) -> None:
    """Write the gradient of `C N` logits; `weights` are `R 4`, see `_rank`."""
    losses, ps, ts = _losses(spec, logits, target)
    low, high, above, equal = (w.unsqueeze(-1) for w in weights.unbind(-1))
    weight = torch.where(losses > high, above, torch.where(losses >= low, equal, 0.0))
    if spec.activation == "sigmoid":
        z, t = (tensor.to(losses.dtype) for tensor in (logits, target))
        plain = not torch.compiler.is_compiling()
        out.copy_(weight * (torch.sigmoid(z) - t if plain else slope("bce", Voxels.of(z, t), 0.0)))
        return
    whole = sum(ts[1:], ts[0])
    out.copy_(torch.stack([(weight[0] * (p * whole - t)).to(logits.dtype) for p, t in zip(ps, ts, strict=True)]))
