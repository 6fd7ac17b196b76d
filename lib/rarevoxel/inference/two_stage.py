"""Two-stage background reuse: a binary network's foreground probability acts on the region probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from rarevoxel.errors import InputError
from rarevoxel.evaluation import dice, mean_dice
from rarevoxel.labels import REGIONS
from rarevoxel.losses.checks import as_float
from rarevoxel.networks import TwoStage

CANDIDATES: tuple[float, ...] = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Thresholds that are tried: 0.05, 0.1, ..., 0.95."""

FLOOR = 1e-3
"""WT probability below which p(r) / p(WT) says nothing any more and fades to 0."""


def combine(
    regions: torch.Tensor, foreground: torch.Tensor, threshold: float = 0.5, form: str = "hard"
) -> torch.Tensor:
    """Return region probabilities on which a foreground probability f has acted, t being the threshold.

    Hard: `p(r) = 0 where f <= t, else unchanged`. The binary network can only take voxels away: false positives and
    true positives never rise, and recall with them. Precision rises if what goes is less often true than what stays;
    it can fall otherwise, but not while f > t on every true voxel.

    Soft: `p(WT) = q` and `p(r) = q min(1, p(r) / max(p(WT), FLOOR))` for TC and ET: the background probability comes
    from the binary network alone, and what kind of tumour it is from the multi-class one. The calibrated foreground q
    is f with t moved to 0.5, where a decision at 0.5 expects it: `q = f / (2 t)` below t and
    `q = 0.5 + (f - t) / (2 (1 - t))` above. WT can gain voxels too. Regions that are nested stay nested; f = p(WT) and
    t = 0.5 leave them as they are (where p(WT) >= FLOOR); f = 1 gives WT 1 and the conditional probabilities
    p(r) / p(WT); as p(WT) goes to 0, and TC and ET with it, so do their results, for any f.

    Args:
        regions: `(..., 3, H, W, D)` in [0, 1], WT first; the channel is the fourth axis from the end.
        foreground: `(..., 1, H, W, D)` in [0, 1], the leading axes those of `regions`.
        threshold: t, see `TwoStage`.
        form: `hard` or `soft`.

    Returns:
        Probabilities in [0, 1] of the shape and type of `regions`.

    Raises:
        InputError: if the shapes do not fit or a tensor is not floating.
        ConfigError: if the threshold or the form is impossible.

    References:
        R. Wei's thesis on imbalanced data in medical images (nuclear segmentation): there the classes exclude each
        other and the final label is 0 where f <= 0.5, else the argmax. Here regions are nested and decided one by one,
        and the threshold is tuned on hold-out cases.

    Example:
        >>> regions = torch.tensor([0.9, 0.6, 0.3]).view(3, 1, 1, 1)
        >>> combine(regions, torch.full((1, 1, 1, 1), 0.4)).flatten()
        tensor([0., 0., 0.])
        >>> combine(regions, torch.full((1, 1, 1, 1), 0.6), form="soft").flatten()
        tensor([0.6000, 0.4000, 0.2000])
    """
    TwoStage(threshold, form)
    _check(regions, foreground)
    if form == "hard":
        return torch.where(foreground > threshold, regions, torch.zeros_like(regions))
    p, f = as_float(regions), as_float(foreground)
    t = torch.tensor(
        threshold, dtype=f.dtype, device=f.device
    )  # Rounded once, so that f = t gives 0.5 and f = 1 gives 1.
    q = torch.where(f >= t, 0.5 + (f - t) / (2 * (1 - t)), f / (2 * t))
    whole, inner = p.narrow(-4, 0, 1), p.narrow(-4, 1, p.shape[-4] - 1)
    share = (inner / whole.clamp(min=FLOOR)).clamp(max=1.0)
    return torch.cat([q.to(p.dtype), q * share], dim=-4).to(regions.dtype)


def tune_threshold(
    cases: Iterable[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    form: str = "hard",
    candidates: Sequence[float] = CANDIDATES,
    *,
    decision: float = 0.5,
) -> tuple[float, dict[float, float]]:
    """Choose the threshold with the best mean region Dice on hold-out cases.

    The chosen score flatters: it is the best of many on the cases it was chosen on, so judge the model on others, or
    say so.

    Args:
        cases: per case the region probabilities `(3, H, W, D)`, the foreground probability `(1, H, W, D)` and the true
            region masks `(3, H, W, D)` (bool, or > 0), all on one grid; read once, one case at a time.
        form: `hard` or `soft`.
        candidates: thresholds to try; 0 in the hard form is what the regions score without a second stage (but where
            f is exactly 0).
        decision: probability from which a voxel belongs to a region, as at inference.

    Returns:
        The threshold, of equally good ones the nearest to 0.5 (then the lower), and threshold -> mean Dice.

    Raises:
        InputError: without cases or candidates, or if shapes do not fit.
        ConfigError: see `combine`.
    """
    if len(candidates) == 0:
        raise InputError("tune_threshold: no candidate thresholds", "pass at least one, or leave the default")
    scores: dict[float, list[dict[str, float]]] = {threshold: [] for threshold in candidates}
    for regions, foreground, truth in cases:
        if truth.shape != regions.shape:
            msg = f"tune_threshold: truth shape {tuple(truth.shape)}, regions shape {tuple(regions.shape)}"
            raise InputError(msg, "pass region masks on the grid of the probabilities")
        masks = (truth > 0).cpu().numpy()
        for threshold, found in scores.items():
            decided = (combine(regions, foreground, threshold, form) >= decision).cpu().numpy()
            found.append({name: dice(decided[i], masks[i]) for i, name in enumerate(REGIONS)})
    if not all(scores.values()):
        raise InputError("tune_threshold: no hold-out cases", "label more patients, or keep the threshold at 0.5")
    table = {threshold: mean_dice(found) for threshold, found in scores.items()}
    return max(table, key=lambda threshold: (table[threshold], -round(abs(threshold - 0.5), 9), -threshold)), table


def _check(regions: torch.Tensor, foreground: torch.Tensor) -> None:
    shape, other = tuple(regions.shape), tuple(foreground.shape)
    found = f"combine: regions shape {shape} ({regions.dtype}), foreground shape {other} ({foreground.dtype})"
    fits = len(shape) >= 4 and shape[-4] == len(REGIONS) and other == (*shape[:-4], 1, *shape[-3:])
    if not fits or not regions.is_floating_point() or not foreground.is_floating_point():
        raise InputError(
            f"{found}: expected probabilities (..., 3, H, W, D) and (..., 1, H, W, D)", "apply the sigmoid"
        )
