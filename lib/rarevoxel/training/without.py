"""How low whole tumour must be decided when a sequence is missing, found on fresh heads."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from rarevoxel.cases import SEQUENCES
from rarevoxel.config import AppConfig
from rarevoxel.inference.pieces import whole_mask
from rarevoxel.inference.windows import predict_image
from rarevoxel.training.scores import choose, f_score

LOWER: tuple[float, ...] = (0.05, 0.07, *(i / 20 for i in range(2, 11)))
"""Thresholds that are tried: 0.05, 0.07, then 0.10, 0.15, ..., 0.50."""


def thresholds_by_sequence(
    network: nn.Module, config: AppConfig, heads: Iterable[tuple[torch.Tensor, torch.Tensor]], peak: float
) -> dict[str, dict[str, float]]:
    """Return the sequences without which another threshold is best for whole tumour, and that threshold.

    Every head is predicted with all sequences and without each. A sequence is named when F2 without it asks for a
    lower threshold than with all (see `rarevoxel.training.scores.choose`): the network sees the tumour then, but is
    less certain of it. Pieces that reach the peak nowhere are left out first, as they will be; without that no low
    threshold does well.

    Args:
        network: in evaluation mode.
        config: network, preprocessing, and how images are predicted.
        heads: images `(4, H, W, D)` and regions `(3, H, W, D)`; heads without tumour say nothing.
        peak: see `rarevoxel.inference.pieces.drop_pieces`.

    Returns:
        Sequence -> `{"WT": threshold}`, see `rarevoxel.inference.rule.thresholds_without`.
    """
    rows: dict[str, list[list[float]]] = {name: [] for name in ("", *SEQUENCES)}
    for image, regions in heads:
        truth = regions[0].numpy() > 0
        if not truth.any():
            continue
        for name, scores in rows.items():
            seen = image.clone()
            if name:
                seen[SEQUENCES.index(name)] = 0
            whole = predict_image(network, config, seen)[0].numpy()
            scores.append([f_score(whole_mask(whole, threshold, peak), truth) for threshold in LOWER])
    best = {name: choose(scores, LOWER, 0.5, f"threshold without {name or 'nothing'}") for name, scores in rows.items()}
    complete = best.pop("")
    return {name: {"WT": threshold} for name, threshold in best.items() if threshold < complete}
