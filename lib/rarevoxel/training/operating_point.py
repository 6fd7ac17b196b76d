"""The operating point of starter weights: their logits are shifted until 0.5 is where they do best on fresh heads.

Best is F2, in which a missed voxel weighs four times a false one: a first proposal is corrected, and a false mark is
deleted by a click, while a lesion that was missed has to be found and drawn.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from tqdm import tqdm

from rarevoxel.config import AppConfig
from rarevoxel.errors import ModelError
from rarevoxel.labels import REGIONS
from rarevoxel.training.phantom_stream import PhantomStream, StreamSpec

logger = logging.getLogger(__name__)

CANDIDATES: tuple[float, ...] = tuple(i / 20 for i in range(2, 19))
"""Thresholds that are tried: 0.10, 0.15, ..., 0.90."""

BETA = 2.0

HEADS = 40

APART = 1_000_003
"""Added to a training's seed, so that no head it was trained on judges."""


def settle(
    network: nn.Module,
    config: AppConfig,
    *,
    seed: int,
    heads: int = HEADS,
    spec: StreamSpec = StreamSpec(),  # noqa: B008
) -> dict[str, float]:
    """Shift the logits of each region so that 0.5 is the threshold of the best mean F2 on fresh synthetic heads.

    With t the best threshold, `logit(t)` is taken from the bias of the last layer: `p >= t` before is `p >= 0.5` after.
    A loss that looks at the hardest voxels leaves probabilities low where disease is small, and everything that comes
    after (a mask, a first fine-tuning, the gate) decides at 0.5. A head that has none of a region does not judge it.

    Args:
        network: of `rarevoxel.networks.build_network`; changed in place, and left in evaluation mode.
        config: network and preprocessing.
        seed: of the training; the heads are others.
        heads: how many.
        spec: what crops are like; large ones alone are drawn, with all sequences.

    Returns:
        Region -> t; 0.5 where no head has the region.

    Raises:
        ModelError: if the network has no last layer of this kind.
    """
    bias = dict(network.named_parameters()).get("output_block.conv.conv.bias")
    if bias is None:
        raise ModelError(f"{type(network).__name__} has no output_block, expected a network of build_network")
    scores = _scores(network.eval(), config, seed, heads, spec)
    found = {name: _best(scores[name]) for name in REGIONS}
    block = config.network.shuffle**3
    with torch.no_grad():
        for index, threshold in enumerate(found.values()):
            bias[index * block : (index + 1) * block] -= math.log(threshold / (1 - threshold))
    logger.info("operating point on %d fresh heads: %s", heads, found)
    return found


def f_score(prediction: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_], beta: float = BETA) -> float:
    """Return `(1 + b^2) TP / ((1 + b^2) TP + b^2 FN + FP)` of two masks, b the weight of recall; 1 is Dice.

    Args:
        prediction: `(H, W, D)`.
        truth: the same shape, not empty.
        beta: b.
    """
    both = int(np.count_nonzero(prediction & truth))
    false, missed = int(np.count_nonzero(prediction)) - both, int(np.count_nonzero(truth)) - both
    return (1 + beta**2) * both / ((1 + beta**2) * both + beta**2 * missed + false)


def _scores(
    network: nn.Module, config: AppConfig, seed: int, heads: int, spec: StreamSpec
) -> dict[str, list[list[float]]]:
    """Region -> for every head that has it, F2 at each candidate."""
    fresh = replace(spec, block=1, reuse=1, views=1, apart=1, large_share=1.0, late_large_share=1.0)
    fresh = replace(fresh, missing=(1.0,), emptied_share=0.0, coarse_share=0.0)
    stream = PhantomStream(config, seed + APART, heads, 0, fresh)
    device = next(network.parameters()).device
    scores: dict[str, list[list[float]]] = {name: [] for name in REGIONS}
    for image, regions in tqdm(stream, total=heads, desc="operating point", unit="head", disable=None):
        with torch.inference_mode():
            probabilities = torch.sigmoid(network(image[None].to(device))[0].float()).cpu().numpy()
        for index, name in enumerate(REGIONS):
            truth = regions[index].numpy() > 0
            if truth.any():
                scores[name].append([f_score(probabilities[index] >= t, truth) for t in CANDIDATES])
    return scores


def _best(scores: list[list[float]]) -> float:
    """The candidate of the best mean; of equally good ones the nearest to 0.5."""
    if not scores:
        return 0.5
    means = np.mean(scores, axis=0)
    best = [t for t, mean in zip(CANDIDATES, means, strict=True) if mean >= means.max() - 1e-12]
    return min(best, key=lambda t: abs(t - 0.5))
