"""The two sweeps of a fused loss: all sums at once, and the gradient recomputed from logits and target.

Both are pure functions of `C ... N` tensors, channels first, in plain torch, written so that a compiler makes one loop
of each: channels are unrolled, class indices are compared instead of expanded, and half-precision logits are raised
voxel by voxel.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from rarevoxel.losses import fused_powers, fused_region
from rarevoxel.losses.fused_spec import Focal, FusedSpec, Kind, Margin
from rarevoxel.losses.fused_voxel import Voxels, exp, slope, value

Tensors = list[torch.Tensor]


def precision(dtype: torch.dtype) -> torch.dtype:
    """Return what logits of `dtype` are computed in: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def sums(spec: FusedSpec, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the sums of every channel, `C ... columns`, float32 or float64; see `rarevoxel.losses.fused_region`.

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
        weights: the slopes of the loss in its sums, `C ... 3` or `C ... 4`, see `fused_region.combine`.
    """
    columns = [column.to(logits.dtype) for column in slope_columns(spec, logits, target, weights)]
    return columns[0] if spec.uniform else torch.stack(columns)


def slope_columns(spec: FusedSpec, logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> Tensors:
    """Return what `slopes` stacks: a tensor `... N` for each channel, or one `C ... N` where `spec.uniform`.

    Args:
        spec: see `slopes`.
        logits: see `slopes`.
        target: see `slopes`.
        weights: see `slopes`.
    """
    zs, ts = _split(spec, logits, target)
    if spec.uniform:
        return [_channel_slope(spec, 0, Voxels.of(zs[0], ts[0], spec.hard), _columns(weights))]
    ws = [_columns(w) for w in weights]
    if spec.activation == "softmax":
        return _softmax_slopes(spec, zs, ts, ws)
    columns = _sigmoid_slopes(spec, zs, ts, ws)
    return _through_rest(zs, columns) if spec.activation == "one_vs_rest" else columns


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


def _sigmoid_sums(spec: FusedSpec, zs: Tensors, ts: Tensors) -> Iterator[Tensors]:
    judged = _against_rest(zs) if spec.activation == "one_vs_rest" else zs
    for c, (z, t) in enumerate(zip(judged, ts, strict=True)):
        if not spec.used(c):
            yield fused_region.columns(spec, c, torch.zeros_like(t.sum(-1)), z, t)
            continue
        v = Voxels.of(z, t, spec.hard)
        terms = [weight * _value(spec, kind, v) for kind, weight in spec.voxel[c]]
        total = sum(terms[1:], terms[0]).sum(-1) if terms else torch.zeros_like(t.sum(-1))
        found = fused_region.columns(spec, c, total, v.p, t)
        if spec.hard and not spec.classes:
            found[4] = (t * (1 - t)).abs().sum(-1)
        yield found


def _sigmoid_slopes(spec: FusedSpec, zs: Tensors, ts: Tensors, ws: list[Tensors]) -> Tensors:
    judged = _against_rest(zs) if spec.activation == "one_vs_rest" else zs
    return [
        _channel_slope(spec, c, Voxels.of(z, t, spec.hard), w) if spec.used(c) else torch.zeros_like(z)
        for c, (z, t, w) in enumerate(zip(judged, ts, ws, strict=True))
    ]


def _channel_slope(spec: FusedSpec, c: int, v: Voxels, w: Tensors) -> torch.Tensor:
    """Return the slope in the logit, or the log-odds, of one channel; `w` are the slopes in the sums."""
    terms = [weight * _slope(spec, kind, v) for kind, weight in spec.voxel[c]]
    parts = [w[0] * sum(terms[1:], terms[0])] if terms else []
    if spec.dice[c] > 0:
        parts.append(fused_region.slope(spec, v.p, v.t, w) * v.p * v.r)
    return sum(parts[1:], parts[0])


def _value(spec: FusedSpec, kind: Kind, v: Voxels) -> torch.Tensor:
    return fused_powers.value(kind, v) if isinstance(kind, Focal | Margin) else value(kind, v, spec.logit_eps)


def _slope(spec: FusedSpec, kind: Kind, v: Voxels) -> torch.Tensor:
    return fused_powers.slope(kind, v) if isinstance(kind, Focal | Margin) else slope(kind, v, spec.logit_eps)


def _softmax_sums(spec: FusedSpec, zs: Tensors, ts: Tensors) -> Iterator[Tensors]:
    ps, lps = softmax(zs)
    scaled = _scaled(spec, zs)
    for c, t in enumerate(ts):
        terms = []
        for kind, weight in spec.voxel[c]:
            if isinstance(kind, Margin):
                qs, lqs = scaled[kind.scale]
                terms.append(weight * fused_powers.class_margin(kind, lqs[c], _others(qs, c), t))
            elif isinstance(kind, Focal):
                terms.append(weight * fused_powers.class_focal(kind, lps[c], _others(ps, c), t))
            else:
                terms.append(weight * _class_value(kind, ps[c], lps[c], t))
        total = sum(terms[1:], terms[0]).sum(-1) if terms else torch.zeros_like(t.sum(-1))
        yield fused_region.columns(spec, c, total, ps[c], t)


def _softmax_slopes(spec: FusedSpec, zs: Tensors, ts: Tensors, ws: list[Tensors]) -> Tensors:
    # With s_c the slope in ln p_c, that in z_k is s_k - p_k sum_c s_c; the region term has s_c = p_c times its own.
    ps, lps = softmax(zs)
    own = []
    for c, (p, lp, t, w) in enumerate(zip(ps, lps, ts, ws, strict=True)):
        terms = []
        for kind, weight in spec.voxel[c]:
            if isinstance(kind, Focal):
                terms.append(weight * fused_powers.class_focal_slope(kind, p, lp, _others(ps, c), t))
            elif not isinstance(kind, Margin):
                terms.append(weight * _class_slope(kind, p, lp, t))
        parts = [w[0] * sum(terms[1:], terms[0])] if terms else []
        if spec.dice[c] > 0:
            parts.append(fused_region.slope(spec, p, t, w) * p)
        own.append(sum(parts[1:], parts[0]) if parts else torch.zeros_like(p))
    together = sum(own[1:], own[0])
    columns = [s - p * together for s, p in zip(own, ps, strict=True)]
    for scale, (qs, _) in _scaled(spec, zs).items():
        steep = _margin_slopes(spec, scale, qs, ts, ws)
        columns = [column + scale * s for column, s in zip(columns, steep, strict=True)]
    return columns


def _margin_slopes(spec: FusedSpec, scale: float, qs: Tensors, ts: Tensors, ws: list[Tensors]) -> Tensors:
    """Return the slopes of the margin terms in the scaled logits.

    As `s_k (1 - q_k) - q_k sum_c s_c` over c != k: s grows to e^m where q is 1, and would cancel against itself.
    """
    rests = [_others(qs, c) for c in range(len(qs))]
    own = []
    for c, (rest, t, w) in enumerate(zip(rests, ts, ws, strict=True)):
        kinds = [(k, weight) for k, weight in spec.voxel[c] if isinstance(k, Margin) and k.scale == scale]
        terms = [weight * fused_powers.class_margin_slope(k, rest, t) for k, weight in kinds]
        own.append(w[0] * sum(terms[1:], terms[0]) if terms else torch.zeros_like(rest))
    return [s * rest - q * _others(own, k) for k, (s, rest, q) in enumerate(zip(own, rests, qs, strict=True))]


def _scaled(spec: FusedSpec, zs: Tensors) -> dict[float, tuple[Tensors, Tensors]]:
    """Return the softmax of the logits times every scale that a margin term asks for."""
    scales = {kind.scale: None for terms in spec.voxel for kind, _ in terms if isinstance(kind, Margin)}
    return {scale: softmax([scale * z for z in zs]) for scale in scales}


def _others(values: Tensors, c: int) -> torch.Tensor:
    """Return the sum of all but one; of probabilities it is 1 - p_c, without rounding to 0 as that does."""
    others = [v for k, v in enumerate(values) if k != c]
    return sum(others[1:], others[0])


def _class_value(kind: str, p: torch.Tensor, lp: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return -t * lp if kind == "ce" else -t * (1 - p).square() * lp


def _class_slope(kind: str, p: torch.Tensor, lp: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return the slope of `_class_value` in ln p."""
    return -t if kind == "ce" else t * (1 - p) * (2 * p * lp - (1 - p))


def softmax(zs: Tensors) -> tuple[Tensors, Tensors]:
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
