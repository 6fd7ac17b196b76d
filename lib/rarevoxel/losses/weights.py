"""Weights of classes from how many voxels they have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from rarevoxel.errors import InputError
from rarevoxel.losses.checks import unknown_name

WeightKind = Literal["uniform", "balanced", "exp_rising", "exp_falling", "novel", "novel_foreground", "binary"]

WEIGHT_KINDS: tuple[str, ...] = get_args(WeightKind)
"""What `class_weights` can do; its docstring has the formulas."""

Counts = npt.ArrayLike | torch.Tensor | Mapping[str, Any] | Sequence[Any]
"""Voxels per class, background first: a sequence, an array, a tensor, or class name -> voxels."""

_FloatArray = npt.NDArray[np.float64]


def read_counts(owner: str, counts: Counts) -> _FloatArray:
    """Return voxel counts as a float64 array, background first along the last axis.

    Args:
        owner: who asks, for errors.
        counts: see `Counts`; voxels, or fractions of all voxels. The entry `background` of a mapping must be its first.

    Returns:
        The shape of `counts`, at least one-dimensional; two or more classes, no class list all zero.

    Raises:
        InputError: if a count is not a finite number >= 0, there are fewer than two classes, or none has a voxel.
    """
    if isinstance(counts, Mapping):
        names = list(counts)
        if "background" in names[1:]:
            msg = f"{owner}: counts of {', '.join(names)}, expected the background first"
            raise InputError(msg, "the order of the mapping is the order of the channels")
        counts = list(counts.values())
    if isinstance(counts, torch.Tensor):
        counts = counts.detach().double().cpu().numpy()
    try:
        values = np.array(counts, dtype=np.float64, ndmin=1)
    except (TypeError, ValueError):
        raise InputError(f"{owner}: counts {counts!r} are not numbers of voxels, one per class") from None
    if values.shape[-1] < 2:
        msg = f"{owner}: counts of shape {values.shape}, expected at least two classes"
        raise InputError(msg, "the background is a class too and comes first")
    if not (np.isfinite(values) & (values >= 0)).all():
        raise InputError(f"{owner}: counts {values.tolist()}, expected finite numbers >= 0")
    if not values.any(axis=-1).all():
        msg = f"{owner}: counts {values.tolist()}, expected at least one class with a voxel"
        raise InputError(msg, "count the voxels of labelled cases first: rarevoxel stats STUDIES")
    return values


def class_weights(counts: Counts, kind: WeightKind | str = "novel") -> torch.Tensor:
    """Return one weight per class from the classes' shares of all voxels; the weights sum to 1.

    With f the fraction of all voxels, g = f / sum_foreground f the share of the foreground, and e = 2.718...:

    ================  =================  ===================
    kind              background         foreground class c
    ================  =================  ===================
    uniform           1                  1
    balanced          1 / f_bg           1 / f_c
    exp_rising        exp(e f_bg)        exp(e f_c)
    exp_falling       exp(-e f_bg)       exp(-e f_c)
    novel             exp(-e f_bg)       exp(-e g_c)
    novel_foreground  0                  exp(-e g_c)
    binary            1 - f_bg           f_bg
    ================  =================  ===================

    `balanced` is unbounded (1e6 for one voxel in a million); the exponentials differ by at most exp(e) = 15, whatever
    the imbalance. `novel` ranks foreground classes among each other, where `exp_falling`, whose foreground fractions
    are all near 0, makes them equal. `novel_foreground` and `binary` can give a class the weight 0.

    Args:
        counts: voxels per class over the training cases (or fractions: only ratios matter), background first; a
            mapping is read in its own order. `DatasetStatistics.class_voxels` fits.
        kind: one of `WEIGHT_KINDS`.

    Returns:
        `C`, float32, >= 0, sum 1. A class without voxels gets weight 0 from `balanced` (it cannot be learned, and 1/0
        would leave nothing for the others); the other kinds need no exception. Without any foreground voxel g is 0.

    Raises:
        InputError: if a count is negative or not finite, all are 0, there are fewer than two, or they are no list.
        RequestError: if the kind is unknown.

    References:
        R. Wei, thesis on imbalanced data in medical images. AttU-Net with focal loss, mean IoU on CoNIC and MoNuSAC:
        uniform 0.2105 and 0.1903, balanced 0.1758 and 0.1308, novel 0.2768 and 0.1917. Single runs, one split for
        validation and test, absent classes counted as IoU 0, softmax applied twice. Ours: what a class without voxels
        gets.

    Example:
        >>> class_weights({"background": 8000, "edema": 1500, "necrosis": 500}).round(decimals=3)
        tensor([0.1510, 0.1730, 0.6750])
    """
    if kind not in WEIGHT_KINDS:
        raise unknown_name("kind of class weights", kind, WEIGHT_KINDS)
    values = read_counts("class_weights", counts)
    if values.ndim != 1:
        msg = f"class_weights: counts of shape {values.shape}, expected one number per class"
        raise InputError(msg, "call it once per channel for (background, foreground) pairs")
    # The maximum first: counts near the largest float would overflow in the sum.
    fractions = values / values.max()
    weights = _raw_weights(fractions / fractions.sum(), kind)
    return torch.from_numpy(weights / weights.sum()).to(torch.float32)


def _raw_weights(f: _FloatArray, kind: str) -> _FloatArray:
    if kind == "uniform":
        return np.ones_like(f)
    if kind == "balanced":
        # Relative to the rarest class that occurs: 1 / f itself overflows for a fraction below 1e-308.
        return np.divide(f[f > 0].min(), f, out=np.zeros_like(f), where=f > 0)
    if kind == "binary":
        return np.concatenate([[1 - f[0]], np.full(f.size - 1, f[0])])
    if kind in ("exp_rising", "exp_falling"):
        weights: _FloatArray = np.exp((math.e if kind == "exp_rising" else -math.e) * f)
        return weights
    foreground = f[1:].sum()
    shares = f[1:] / foreground if foreground > 0 else np.zeros(f.size - 1)
    background = np.exp(-math.e * f[0]) if kind == "novel" else 0.0
    return np.concatenate([[background], np.exp(-math.e * shares)])
