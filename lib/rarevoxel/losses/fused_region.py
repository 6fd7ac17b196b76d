"""The region terms of a fused loss, Dice and Tversky: their sums, the loss of these, and their slopes in p.

The columns of the sums are V (the voxel terms), I, P, T, and how far the target is from 0 and 1, `sum |t (1 - t)|`,
where that matters. Tversky has FP in the place of P and two more, FN and the I of the background, all summed by
themselves: as differences of I, P and T they would round to 0 long before a prediction is perfect.
"""

from __future__ import annotations

import torch

from rarevoxel.losses.fused_spec import FusedSpec, Tversky

Tensors = list[torch.Tensor]

TVERSKY_FLOOR = 1e-7
"""Below this 1 - TI, the power of it goes on as a line to 0: its own slope is infinite at a perfect prediction."""


def columns(spec: FusedSpec, c: int, total: torch.Tensor, p: torch.Tensor, t: torch.Tensor) -> Tensors:
    """Return the columns of channel `c` from its sum V, probabilities and target, all but `|t (1 - t)|`."""
    size = t.sum(-1)
    zero = torch.zeros_like(size)
    if spec.tversky is None:
        if not spec.dice[c] > 0:
            return [total, zero, zero, size, zero]
        shared = torch.minimum(p, t) if spec.minimum else p * t
        return [total, shared.sum(-1), p.sum(-1), size, zero]
    if not spec.dice[c] > 0:
        return [total, zero, zero, size, zero, zero, zero]
    more, less = (p - t).clamp(min=0).sum(-1), (t - p).clamp(min=0).sum(-1)
    background = torch.minimum(1 - p, 1 - t).sum(-1) if spec.tversky.both else zero
    return [total, torch.minimum(p, t).sum(-1), more, size, zero, less, background]


def slope(spec: FusedSpec, p: torch.Tensor, t: torch.Tensor, w: Tensors) -> torch.Tensor:
    """Return the slope of the region term in p; `w` is what `combine` says, a column each.

    At p = t the slope of a minimum is a half and that of a clamp 0, as torch has it.
    """
    if spec.tversky is not None:
        return torch.where(p < t, w[1], torch.where(p == t, w[2], w[3]))
    if not spec.minimum:
        return w[1] * t + w[2]
    return w[1] * torch.where(p < t, 1.0, torch.where(p == t, 0.5, 0.0)).to(p.dtype) + w[2]


def combine(spec: FusedSpec, totals: torch.Tensor, voxels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss and its slopes, all float64.

    Args:
        spec: the loss.
        totals: the sums of every channel, `B C columns`.
        voxels: of a sample.

    Returns:
        The loss, and `B C 3`, its slopes in V, I and P; for Tversky `B C 4`, those in V and in p below, at and above
        the target.
    """
    voxel_scale, region_scale = spec.scales(totals.shape[0], voxels)
    total = totals[..., 0]
    weight = region_scale * totals.new_tensor(spec.dice)
    if spec.tversky is None:
        shared, predicted, true = totals[..., 1:4].unbind(-1)
        above = 2 * shared + spec.smooth_nr
        below = predicted + true + spec.smooth_dr
        region, slopes = 1 - above / below, [-2 / below, above / below.square()]
    else:
        region, slopes = _tversky(spec.tversky, totals)
    value = voxel_scale * total.sum() + (weight * region).sum()
    return value, torch.stack([torch.full_like(total, voxel_scale), *(weight * s for s in slopes)], dim=-1)


def _tversky(kind: Tversky, totals: torch.Tensor) -> tuple[torch.Tensor, Tensors]:
    _, shared, more, _, _, less, background = totals.unbind(-1)
    powers = totals.new_tensor(kind.powers)
    value, inside, missed, wrong = _power(kind, powers[:, 0], shared, less, more)
    if not kind.both:
        return value, [inside - missed, inside / 2, wrong]
    other, outside, rest_missed, rest_wrong = _power(kind, powers[:, 1], background, more, less)
    slopes = [inside - missed - rest_wrong, (inside - outside) / 2, wrong + rest_missed - outside]
    return (value + other) / 2, [s / 2 for s in slopes]


def _power(
    kind: Tversky, power: torch.Tensor, shared: torch.Tensor, missed: torch.Tensor, wrong: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return `(1 - TI)^(1 - h)` and its slopes in TP, FN and FP."""
    errors = kind.delta * missed + (1 - kind.delta) * wrong
    below = shared + errors + kind.smooth
    loss = errors / below
    factor = loss.clamp_min(TVERSKY_FLOOR).pow(-power)
    outer = torch.where(loss >= TVERSKY_FLOOR, 1 - power, 1.0) * factor
    in_errors = outer * (shared + kind.smooth) / below.square()
    return loss * factor, -outer * errors / below.square(), kind.delta * in_errors, (1 - kind.delta) * in_errors
