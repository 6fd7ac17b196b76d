"""How well a label agrees with what a model believes: low where somebody should look at the label again."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import InputError
from rarevoxel.evaluation.checks import check_probability
from rarevoxel.labels import REGIONS

TEMPERATURE = 0.1
"""The published one: near the least, but not the least of single voxels."""

NEAR = 0.1
"""Voxels count where the label is, or where the model sees this probability or more."""


def label_quality(
    probabilities: npt.NDArray[Any], regions: npt.NDArray[np.bool_], temperature: float = TEMPERATURE
) -> dict[str, float]:
    """Return how well the label of each region agrees with a model: a soft minimum over its voxels.

    With `s_i` the probability that the model gives to what voxel i is labelled as (p inside the label, 1 - p outside),

        quality = sum_i w_i s_i / sum_i w_i,    w_i = exp((1 - s_i) / temperature),

    over the voxels that are labelled or have p >= `NEAR`: without that limit a million voxels of background outweigh
    any lesion. Where there are none, 1. It compares labels under one model; a region that the model does not know is
    low in every label.

    Args:
        probabilities: p of WT, TC, ET, `(3, H, W, D)`, in [0, 1].
        regions: the label as region masks, the same shape.
        temperature: > 0; towards 0 the worst voxel alone counts, at infinity all alike.

    Returns:
        Region -> quality in [0, 1].

    Raises:
        InputError: if the shapes differ, a probability is out of range, or the temperature is not > 0.

    References:
        V. Lad, J. Mueller, Estimating label quality and errors in semantic segmentation data via any model, 2023,
        arXiv:2307.05080. There over all pixels of an image; here by region, over the voxels that are in question.

    Example:
        >>> p = np.full((3, 2, 2, 2), 0.9)
        >>> [round(value, 3) for value in label_quality(p, np.ones((3, 2, 2, 2), dtype=bool)).values()]
        [0.9, 0.9, 0.9]
    """
    if not temperature > 0:
        raise InputError(f"temperature ({temperature}) of the label quality must be > 0")
    p = check_probability(probabilities, regions, ndim=4)
    return {name: _quality(p[i], regions[i], temperature) for i, name in enumerate(REGIONS)}


def _quality(p: npt.NDArray[Any], mask: npt.NDArray[np.bool_], temperature: float) -> float:
    near = mask | (p >= NEAR)
    if not near.any():
        return 1.0
    own = np.where(mask[near], p[near], 1 - p[near]).astype(np.float64)
    weight = np.exp((own.min() - own) / temperature)  # Divided by the largest, which changes nothing but overflow.
    return float((weight * own).sum() / weight.sum())
