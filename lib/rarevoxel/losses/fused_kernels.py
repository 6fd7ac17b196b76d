"""The two sweeps of a fused loss: all sums at once, and the gradient recomputed from logits and target.

Both are pure functions of `C ... N` tensors, channels first, in plain torch, written so that a compiler makes one loop
of each: channels are unrolled, class indices are compared instead of expanded, and half-precision logits are raised
voxel by voxel.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from rarevoxel.losses.fused_spec import FusedSpec
from rarevoxel.losses.fused_voxel import Voxels, exp, slope, value

Tensors = list[torch.Tensor]
SUMS = 5
"""V, I, P and T of `FusedSpec`, and how far the target is from 0 and 1, `sum |t (1 - t)|`, where that matters."""


def precision(dtype: torch.dtype) -> torch.dtype:
    """Return what logits of `dtype` are computed in: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def sums(spec: FusedSpec, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the sums of every channel, `C ... 5`, float32 or float64.

    Args:
        spec: what to compute.
        logits: `C ... N`, any floating type.
        target: `C ... N`, or class indices `1 ... N`; any type.
    """
    zs, ts = _split(spec, logits, target)
    columns = _softmax_sums(spec, zs, ts) if spec.activation == "softmax" else _sigmoid_sums(spec, zs, ts)
    parts = [torch.stack(column, dim=-1) for column in columns]
    return parts[0] if spec.uniform else torch.stack(parts)


def slopes(spec: FusedSpec, logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the gradient in the logits, `C ... N`, of the type of the logits.

    Args:
        spec: what to compute.
        logits: `C ... N`, any floating type.
        target: `C ... N`, or class indices `1 ... N`; any type.
        weights: the slopes of the loss in V, I and P, `C ... 3`.
    """
    zs, ts = _split(spec, logits, target)
    if spec.uniform:
        return _channel_slope(spec, 0, Voxels.of(zs[0], ts[0], spec.hard), _columns(weights)).to(logits.dtype)
    ws = [_columns(w) for w in weights]
    if spec.activation == "softmax":
        columns = _softmax_slopes(spec, zs, ts, ws)
    else:
        columns = _sigmoid_slopes(spec, zs, ts, ws)
        if spec.activation == "one_vs_rest":
            columns = _through_rest(zs, columns)
    return torch.stack([column.to(logits.dtype) for column in columns])


def _columns(weights: torch.Tensor) -> Tensors:
    return [w.unsqueeze(-1) for w in weights.unbind(-1)]


def _split(spec: FusedSpec, logits: torch.Tensor, target: torch.Tensor) -> tuple[Tensors, Tensors]:
    dtype = precision(logits.dtype)
    if spec.uniform:
        return [logits.to(dtype)], [target.to(dtype)]
    zs = [z.to(dtype) for z in logits.unbind(0)]
    if spec.classes:
        # Compared as floats, which takes a fraction of the time of int64. Fractions are cut off, as by `monai one_hot`.
        index = target[0].to(dtype)
        if target.is_floating_point():
            index = index.trunc()
        return zs, [(index == c).to(dtype) for c in range(len(zs))]
    return zs, [t.to(dtype) for t in target.unbind(0)]


def _shared(spec: FusedSpec, p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return torch.minimum(p, t) if spec.minimum else p * t


def _shared_slope(spec: FusedSpec, p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return the derivative of `_shared` in p; at p = t that of the minimum is a half, as torch has it."""
    if not spec.minimum:
        return t
    return torch.where(p < t, 1.0, torch.where(p == t, 0.5, 0.0)).to(p.dtype)


def _sigmoid_sums(spec: FusedSpec, zs: Tensors, ts: Tensors) -> Iterator[Tensors]:
    judged = _against_rest(zs) if spec.activation == "one_vs_rest" else zs
    for c, (z, t) in enumerate(zip(judged, ts, strict=True)):
        size = t.sum(-1)
        if not spec.used(c):
            zero = torch.zeros_like(size)
            yield [zero, zero, zero, size, zero]
            continue
        v = Voxels.of(z, t, spec.hard)
        terms = [weight * value(kind, v, spec.logit_eps) for kind, weight in spec.voxel[c]]
        total = sum(terms[1:], terms[0]).sum(-1) if terms else torch.zeros_like(size)
        between = (t * (1 - t)).abs().sum(-1) if spec.hard and not spec.classes else torch.zeros_like(size)
        if spec.dice[c] > 0:
            yield [total, _shared(spec, v.p, t).sum(-1), v.p.sum(-1), size, between]
        else:
            yield [total, torch.zeros_like(size), torch.zeros_like(size), size, between]


def _sigmoid_slopes(spec: FusedSpec, zs: Tensors, ts: Tensors, ws: list[Tensors]) -> Tensors:
    judged = _against_rest(zs) if spec.activation == "one_vs_rest" else zs
    return [
        _channel_slope(spec, c, Voxels.of(z, t, spec.hard), w) if spec.used(c) else torch.zeros_like(z)
        for c, (z, t, w) in enumerate(zip(judged, ts, ws, strict=True))
    ]


def _channel_slope(spec: FusedSpec, c: int, v: Voxels, w: Tensors) -> torch.Tensor:
    """Return the slope in the logit, or the log-odds, of one channel; `w` are the slopes in V, I and P."""
    terms = [weight * slope(kind, v, spec.logit_eps) for kind, weight in spec.voxel[c]]
    parts = [w[0] * sum(terms[1:], terms[0])] if terms else []
    if spec.dice[c] > 0:
        parts.append((w[1] * _shared_slope(spec, v.p, v.t) + w[2]) * v.p * v.r)
    return sum(parts[1:], parts[0])


def _softmax_sums(spec: FusedSpec, zs: Tensors, ts: Tensors) -> Iterator[Tensors]:
    for c, (p, lp, t) in enumerate(zip(*_softmax(zs), ts, strict=True)):
        size = t.sum(-1)
        terms = [weight * _class_value(kind, p, lp, t) for kind, weight in spec.voxel[c]]
        total = sum(terms[1:], terms[0]).sum(-1) if terms else torch.zeros_like(size)
        yield [total, _shared(spec, p, t).sum(-1), p.sum(-1), size, torch.zeros_like(size)]


def _softmax_slopes(spec: FusedSpec, zs: Tensors, ts: Tensors, ws: list[Tensors]) -> Tensors:
    # With s_c the slope in ln p_c, the slope in z_k is s_k - p_k sum_c s_c; the Dice term has s_c = p_c times its own.
    ps, lps = _softmax(zs)
    own = []
    for c, (p, lp, t, w) in enumerate(zip(ps, lps, ts, ws, strict=True)):
        terms = [weight * _class_slope(kind, p, lp, t) for kind, weight in spec.voxel[c]]
        parts = [w[0] * sum(terms[1:], terms[0])] if terms else []
        if spec.dice[c] > 0:
            parts.append((w[1] * _shared_slope(spec, p, t) + w[2]) * p)
        own.append(sum(parts[1:], parts[0]) if parts else torch.zeros_like(p))
    together = sum(own[1:], own[0])
    return [s - p * together for s, p in zip(own, ps, strict=True)]


def _class_value(kind: str, p: torch.Tensor, lp: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return -t * lp if kind == "ce" else -t * (1 - p).square() * lp


def _class_slope(kind: str, p: torch.Tensor, lp: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return the slope of `_class_value` in ln p."""
    return -t if kind == "ce" else t * (1 - p) * (2 * p * lp - (1 - p))


def _softmax(zs: Tensors) -> tuple[Tensors, Tensors]:
    """Return the probabilities and their logarithms."""
    highest = _maximum(zs)
    shifted = [z - highest for z in zs]
    exps = [exp(z) for z in shifted]
    total = sum(exps[1:], exps[0])
    log_total = torch.log(total)
    inverse = 1 / total
    return [e * inverse for e in exps], [z - log_total for z in shifted]


def _maximum(zs: Tensors) -> torch.Tensor:
    highest = zs[0]
    for z in zs[1:]:
        highest = torch.maximum(highest, z)
    return highest


def _against_rest(zs: Tensors) -> Tensors:
    """Return `z_c - logsumexp(z_j, j != c)` of every channel."""
    return [z - shift - torch.log(total) for z, (shift, total, _) in zip(zs, _rest(zs), strict=True)]


def _through_rest(zs: Tensors, slopes: Tensors) -> Tensors:
    """Return the slopes in the logits from those in the log-odds: `s_k - sum_c s_c p(k | not c)` over c != k."""
    result = list(slopes)
    for c, (s, (_, total, exps)) in enumerate(zip(slopes, _rest(zs), strict=True)):
        scaled = s / total
        for k, e in enumerate(exps):
            if k != c:
                result[k] = result[k] - scaled * e
    return result


def _rest(zs: Tensors) -> Iterator[tuple[torch.Tensor, torch.Tensor, Tensors]]:
    """Yield per channel the maximum of the others, the sum of their exponentials over it, and the exponentials.

    The exponentials are relative to the highest of the *others*, so that a channel far above all of them loses none.
    """
    highest = _maximum(zs)
    second = torch.full_like(highest, -torch.inf)
    seen = zs[0]
    for z in zs[1:]:
        second = torch.maximum(second, torch.minimum(seen, z))
        seen = torch.maximum(seen, z)
    first = [exp(z - highest) for z in zs]
    # Only read where another channel is the highest one: the clamp keeps that channel's own from overflowing.
    runner = [exp((z - second).clamp(max=0)) for z in zs]
    for c, z in enumerate(zs):
        top = z == highest
        exps = [torch.where(top, b, a) for a, b in zip(first, runner, strict=True)]
        others = [e for k, e in enumerate(exps) if k != c]
        yield torch.where(top, second, highest), sum(others[1:], others[0]), exps
