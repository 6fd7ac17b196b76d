"""The operating point of starter weights: where voxels, and pieces of tumour, are decided best on fresh heads.

Logits are shifted until 0.5 is the best threshold for voxels. For whole tumour best is F2, in which a missed voxel
weighs four times a false one: a first proposal is corrected, and a false mark is deleted by a click, while a lesion
that was missed has to be found and drawn. Core and enhancing tumour lie within it, and where they are marked too large
is as much work as where they are too small: for them best is Dice.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from rarevoxel.config import AppConfig
from rarevoxel.errors import ModelError
from rarevoxel.inference.pieces import PEAK
from rarevoxel.inference.rule import MISSING
from rarevoxel.inference.windows import predict_image
from rarevoxel.labels import REGIONS
from rarevoxel.training.peak import Judged, choose_peak
from rarevoxel.training.phantom_stream import PhantomStream, StreamSpec
from rarevoxel.training.scores import BETA, choose, f_score
from rarevoxel.training.without import thresholds_by_sequence

logger = logging.getLogger(__name__)

CANDIDATES: tuple[float, ...] = (0.03, 0.05, 0.07, *(i / 20 for i in range(2, 19)))
"""Thresholds that are tried: to 0.07, then 0.10, 0.15, ..., 0.90."""

BETAS = {"WT": BETA, "TC": 1.0, "ET": 1.0}
"""Weight of recall by region, see `f_score`."""

HEADS = 120
"""Of 40, other draws moved the best threshold from 0.35 to 0.55."""

WITHOUT_HEADS = 40
"""Of these, how many are also predicted without each sequence."""

APART = 1_000_003
"""Added to a training's seed, so that no head it was trained on judges."""


@dataclass
class _Heads:
    """What a network says of fresh heads.

    Attributes:
        scores: region -> for every head that has it, F2 or Dice at each candidate.
        judged: probability of whole tumour and the truth of every head.
    """

    scores: dict[str, list[list[float]]] = field(default_factory=lambda: {name: [] for name in REGIONS})
    judged: list[Judged] = field(default_factory=list)


def settle(
    network: nn.Module,
    config: AppConfig,
    *,
    seed: int,
    heads: int = HEADS,
    spec: StreamSpec = StreamSpec(),  # noqa: B008
    known: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Shift the logits of each region so that 0.5 is the best threshold on fresh synthetic heads.

    With t the threshold of the best mean F2, for TC and ET of the best mean Dice (0.5 where no other is better by more
    than a standard error, see `rarevoxel.training.scores.choose`), `logit(t)` is taken from the bias of the last layer:
    `p >= t` before is `p >= 0.5` after. A loss that looks at the hardest voxels leaves probabilities low where disease
    is small, and everything that comes after (a mask, a first fine-tuning, the gate) decides at 0.5. A head that has
    none of a region does not judge it.
    With that done, the peak a piece of whole tumour must reach is chosen by the mean lesion F1 on the same heads,
    see `rarevoxel.training.peak.choose_peak`; there a head without tumour does judge. Last come lower thresholds for
    whole tumour where a sequence is missing, see `rarevoxel.training.without.thresholds_by_sequence`.

    Args:
        network: of `rarevoxel.networks.build_network`; changed in place, and left in evaluation mode.
        config: network, preprocessing, and how images are predicted.
        seed: of the training; the heads are others.
        heads: how many.
        spec: what crops are like; large ones alone are drawn, with all sequences.
        known: thresholds that the logits have been shifted to before; they stay, and only the rest is chosen.

    Returns:
        `operating_point`: region -> t, 0.5 where no head has the region; `peak`; `missing`.

    Raises:
        ModelError: if the network has no last layer of this kind.
    """
    bias = dict(network.named_parameters()).get("output_block.conv.conv.bias")
    if bias is None:
        raise ModelError(f"{type(network).__name__} has no output_block, expected a network of build_network")
    seen = _ask(network.eval(), config, seed, heads, spec)
    judged, found = seen.judged, dict(known or {})
    if not found:
        found = {name: choose(seen.scores[name], CANDIDATES, 0.5, f"threshold of {name}") for name in REGIONS}
        block = config.network.shuffle**3
        with torch.no_grad():
            for index, threshold in enumerate(found.values()):
                bias[index * block : (index + 1) * block] -= math.log(threshold / (1 - threshold))
        odds = found["WT"] / (1 - found["WT"])
        judged = [(p / (p + odds * (1 - p)), truth) for p, truth in judged]
    peak = choose_peak(judged, config.preprocessing.spacing)
    count = min(heads, WITHOUT_HEADS)
    again = tqdm(_fresh(config, seed, count, spec), total=count, desc="without a sequence", unit="head", disable=None)
    without = thresholds_by_sequence(network, config, again, peak)
    logger.info("operating point on %d fresh heads: %s, peak %g, without a sequence %s", heads, found, peak, without)
    return {"operating_point": found, PEAK: peak, MISSING: without}


def _fresh(config: AppConfig, seed: int, heads: int, spec: StreamSpec) -> PhantomStream:
    """Heads that no training has seen, whole and with all sequences."""
    whole = replace(spec, block=1, reuse=1, views=1, apart=1, large_share=1.0, late_large_share=1.0)
    whole = replace(whole, missing=(1.0,), emptied_share=0.0, coarse_share=0.0)
    return PhantomStream(config, seed + APART, heads, 0, whole)


def _ask(network: nn.Module, config: AppConfig, seed: int, heads: int, spec: StreamSpec) -> _Heads:
    """Predict fresh heads as they would be served."""
    stream = _fresh(config, seed, heads, spec)
    seen = _Heads()
    for image, regions in tqdm(stream, total=heads, desc="operating point", unit="head", disable=None):
        probabilities, masks = predict_image(network, config, image).numpy(), regions.numpy() > 0
        for index, name in enumerate(REGIONS):
            if masks[index].any():
                seen.scores[name].append(
                    [f_score(probabilities[index] >= t, masks[index], BETAS[name]) for t in CANDIDATES]
                )
        seen.judged.append((probabilities[0].copy(), masks[0].copy()))
    return seen
