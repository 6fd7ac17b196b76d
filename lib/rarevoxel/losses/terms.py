"""The terms a compound loss is a sum of: MONAI's or ours, all under one activation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from monai.losses import FocalLoss
from torch import nn
from torch.nn import functional

from rarevoxel.errors import RequestError
from rarevoxel.losses.calf import CALFLoss
from rarevoxel.losses.calf_grid import GridCALFLoss
from rarevoxel.losses.checks import drop_background, unknown_name
from rarevoxel.losses.hard_negative import HardNegativeLoss
from rarevoxel.losses.lesion import LesionDiceLoss
from rarevoxel.losses.lmf import LMFLoss
from rarevoxel.losses.overlap import DiceTerm, GeneralizedDiceTerm, LogDiceTerm, TverskyTerm
from rarevoxel.losses.top_k import TopKLoss
from rarevoxel.losses.unified_focal import UnifiedFocalLoss
from rarevoxel.losses.voxel import Variant
from rarevoxel.losses.weighted import WeightedFocal
from rarevoxel.losses.weights import WEIGHT_KINDS
from rarevoxel.statistics.branch import Branch

Activation = Literal["sigmoid", "softmax"]

FOCAL_GAMMA = 2.0
TVERSKY_FALSE_POSITIVE = 0.3
TVERSKY_FALSE_NEGATIVE = 0.7
LMF_SCALE = 3.0
"""LMF's s for networks without a cosine head: the published 30 is meant for cosines in [-1, 1]."""


@dataclass(frozen=True)
class TermOptions:
    """What all terms of a compound loss share.

    Args:
        activation: `sigmoid` for regions, `softmax` for exclusive classes.
        include_background: if False the Dice-like and sigmoid terms leave out channel 0. Softmax cross-entropy and
            focal keep it: without the background logit there is no softmax.
        soft_label: use the Dice and Tversky formulas whose minimum is right for soft targets. Focal has no such
            form.
        counts: training voxels: of every class with softmax; one (background, foreground) pair per channel with
            sigmoid. Needed by `lmf` and by the class-weighted terms alone.
        branches: CALF's branch, one per foreground channel or one for all; needed by the term `calf` alone.
        region_weight: weight of the Dice term inside the terms `calf...`, see `CALFLoss`.
    """

    activation: Activation = "sigmoid"
    include_background: bool = True
    soft_label: bool = False
    counts: tuple[float, ...] | tuple[tuple[float, float], ...] | None = None
    branches: Branch | tuple[Branch, ...] | None = None
    region_weight: float | None = None


class CrossEntropy(nn.Module):
    """Mean cross-entropy: binary per channel with sigmoid, categorical with softmax; exact for soft targets.

    Args:
        options: see `TermOptions`.
    """

    def __init__(self, options: TermOptions) -> None:
        super().__init__()
        self.options = options

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean over voxels (and channels, with sigmoid) of `B C H [W D]` logits and target."""
        if self.options.activation == "softmax":
            return functional.cross_entropy(logits, target)
        if not self.options.include_background:
            logits, target = drop_background("CrossEntropy", logits), drop_background("CrossEntropy", target)
        return functional.binary_cross_entropy_with_logits(logits, target)


def build_term(name: str, options: TermOptions) -> nn.Module:
    """Return the term called `name`.

    Raises:
        RequestError: if the name is none of `TERM_NAMES`, or the term needs counts or branches that are not there.
    """
    if name not in _TERMS:
        raise unknown_name("loss term", name, TERM_NAMES)
    return _TERMS[name](options)


def _dice(options: TermOptions) -> nn.Module:
    return DiceTerm(**_overlap(options))


def _log_dice(options: TermOptions) -> nn.Module:
    return LogDiceTerm(**_overlap(options))


def _generalized_dice(options: TermOptions) -> nn.Module:
    return GeneralizedDiceTerm(**_overlap(options))


def _tversky(options: TermOptions) -> nn.Module:
    return TverskyTerm(TVERSKY_FALSE_POSITIVE, TVERSKY_FALSE_NEGATIVE, **_overlap(options))


def _focal(options: TermOptions) -> nn.Module:
    softmax = options.activation == "softmax"
    loss: nn.Module = FocalLoss(
        include_background=softmax or options.include_background, gamma=FOCAL_GAMMA, use_softmax=softmax
    )
    return loss


def _bce(options: TermOptions) -> nn.Module:
    return CALFLoss("ln", region_weight=0.0, **_ours(options))


def _top_k(options: TermOptions) -> nn.Module:
    return TopKLoss(**_voxelwise(options))


def _hard_negative(options: TermOptions) -> nn.Module:
    return HardNegativeLoss(**_ours(options))


def _unified_focal(options: TermOptions) -> nn.Module:
    return UnifiedFocalLoss(**_ours(options))


def _lesion_dice(options: TermOptions) -> nn.Module:
    return LesionDiceLoss(**_ours(options))


def _lmf(options: TermOptions) -> nn.Module:
    return LMFLoss(_counts("lmf", options), scale=LMF_SCALE, **_voxelwise(options))


def _weighted(kind: str, gamma: float) -> Callable[[TermOptions], nn.Module]:
    def build(options: TermOptions) -> nn.Module:
        counts = _counts(f"class weights {kind!r}", options)
        return WeightedFocal(counts, kind, gamma=gamma, **_ours(options))

    return build


@dataclass(frozen=True)
class CalfName:
    """What a name that begins with `calf` stands for.

    Args:
        branch: of all channels; None takes those of the statistics.
        variant: see `CALFLoss`.
        grid: whether it is `GridCALFLoss`.
    """

    branch: Branch | None = None
    variant: Variant = "stable"
    grid: bool = False

    @property
    def kind(self) -> type[CALFLoss]:
        """The class."""
        return GridCALFLoss if self.grid else CALFLoss


def _calf(name: CalfName) -> Callable[[TermOptions], nn.Module]:
    def build(options: TermOptions) -> nn.Module:
        if name.branch is None and options.branches is None:
            msg = "CALF takes its branches from the sizes of the lesions, but no statistics were given"
            raise RequestError(msg, "pass statistics, or name a branch: calf_ln, calf_log10, ...")
        branch = name.branch or options.branches or ()
        return name.kind(branch, variant=name.variant, region_weight=options.region_weight, **_ours(options))

    return build


def _counts(owner: str, options: TermOptions) -> tuple[float, ...] | tuple[tuple[float, float], ...]:
    if options.counts is None:
        msg = f"{owner}: the voxels of every class are not known, but its weights follow from them"
        raise RequestError(msg, "pass DatasetStatistics to build_loss, or counts in TermOptions")
    return options.counts


def _ours(options: TermOptions) -> dict[str, Any]:
    return {
        "sigmoid": options.activation == "sigmoid",
        "softmax": options.activation == "softmax",
        "include_background": options.include_background,
    }


def _voxelwise(options: TermOptions) -> dict[str, Any]:
    """Under softmax a voxel term keeps the background: without it, predicting none at all would be best."""
    return {**_ours(options), "include_background": options.include_background or options.activation == "softmax"}


def _overlap(options: TermOptions) -> dict[str, Any]:
    # One value per sample: a case with a small lesion counts as much as one with a large lesion.
    return {
        "softmax": options.activation == "softmax",
        "include_background": options.include_background,
        "soft_label": options.soft_label,
    }


_VARIANTS: tuple[tuple[str, Variant], ...] = (("", "stable"), ("_published", "published"))

CALF_NAMES: dict[str, CalfName] = {
    f"calf{stem}{suffix}": CalfName(branch, variant, stem == "_grid")
    for suffix, variant in _VARIANTS
    for stem, branch in (("", None), ("_grid", None), *((f"_{b.value}", b) for b in Branch))
}
"""Every name of CALF: with the branches of the statistics, on a grid of cells, or with one branch; two variants."""

_TERMS: dict[str, Callable[[TermOptions], nn.Module]] = {
    "dice": _dice,
    "generalized_dice": _generalized_dice,
    "tversky": _tversky,
    "log_dice": _log_dice,
    "focal": _focal,
    "ce": CrossEntropy,
    "bce": _bce,
    "top_k": _top_k,
    "hard_negative": _hard_negative,
    "lmf": _lmf,
    "unified_focal": _unified_focal,
    "lesion_dice": _lesion_dice,
    **{f"ce_{kind}": _weighted(kind, 0.0) for kind in WEIGHT_KINDS},
    **{f"focal_{kind}": _weighted(kind, FOCAL_GAMMA) for kind in WEIGHT_KINDS},
    **{name: _calf(calf) for name, calf in CALF_NAMES.items()},
}

TERM_NAMES: tuple[str, ...] = tuple(_TERMS)
"""Every term that may stand in a sum."""
