"""The losses a practitioner expects, put together from MONAI's parts so that every part sees the same activation.

Three of MONAI's ready-made sums surprise on regions or classes, which is why the sums are made here: with several
channels `DiceCELoss(sigmoid=True)` takes the categorical cross-entropy (softmax over nested regions) and not the binary
one; `DiceFocalLoss(softmax=True)` and `GeneralizedDiceFocalLoss(softmax=True)` take the sigmoid focal loss; and
`FocalLoss(use_softmax=True, include_background=False)` drops the background logit before the softmax. Their classes
for the single terms are used unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from monai.losses import DiceLoss, FocalLoss, GeneralizedDiceLoss, TverskyLoss
from torch import nn
from torch.nn import functional

from rarevoxel.errors import InputError
from rarevoxel.losses.calf import CALFLoss
from rarevoxel.losses.checks import drop_background, prepare, unknown_name

Activation = Literal["sigmoid", "softmax"]

FOCAL_GAMMA = 2.0
TVERSKY_FALSE_POSITIVE = 0.3
TVERSKY_FALSE_NEGATIVE = 0.7


@dataclass(frozen=True)
class TermOptions:
    """What all terms of a compound loss share.

    Args:
        activation: `sigmoid` for regions, `softmax` for exclusive classes.
        include_background: if False the Dice-like and sigmoid terms leave out channel 0. Softmax cross-entropy and
            focal keep it: without the background logit there is no softmax.
        soft_label: use MONAI's Dice and Tversky formulas whose minimum is right for soft targets. Focal has no such
            form.
    """

    activation: Activation = "sigmoid"
    include_background: bool = True
    soft_label: bool = False


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


class CompoundLoss(nn.Module):
    """A sum of loss terms that see the same float32 logits and the same one-hot target.

    Half-precision logits are raised to float32 first: MONAI's Dice sums overflow float16 at 65 504 voxels.

    Args:
        name: one of `RECIPES`.
        options: shared by the terms.
        to_onehot_y: the target holds class indices `B 1 H [W D]`.

    Raises:
        RequestError: if the name is unknown.

    Example:
        >>> loss = CompoundLoss("dice_focal")
        >>> float(loss(torch.full((1, 3, 4, 4, 4), -50.0), torch.zeros(1, 3, 4, 4, 4)))
        0.0
    """

    def __init__(self, name: str, options: TermOptions | None = None, to_onehot_y: bool = False) -> None:
        super().__init__()
        if name not in RECIPES:
            raise unknown_name("loss", name, RECIPES)
        self.name = name
        self.options = options or TermOptions()
        self.to_onehot_y = to_onehot_y
        self.terms = nn.ModuleDict({term: _TERMS[term](self.options) for term in RECIPES[name]})

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the sum of the terms, a float32 scalar (float64 for float64 logits).

        Args:
            logits: `B C H [W D]`, any floating type, before any activation.
            target: the same shape, or `B 1 H [W D]` with `to_onehot_y`.

        Raises:
            InputError: if the shapes do not fit each other or the softmax.
        """
        z, t = prepare(self.name, logits, target, self.to_onehot_y)
        if self.options.activation == "softmax" and z.shape[1] == 1:
            msg = f"{self.name}: softmax with one channel, expected one channel per class, background included"
            raise InputError(msg, "use the sigmoid activation for a single mask")
        return torch.stack([term(z, t) for term in self.terms.values()]).sum()


def _dice(options: TermOptions) -> nn.Module:
    loss: nn.Module = DiceLoss(soft_label=options.soft_label, **_dice_like(options))
    return loss


def _generalized_dice(options: TermOptions) -> nn.Module:
    loss: nn.Module = GeneralizedDiceLoss(soft_label=options.soft_label, **_dice_like(options))
    return loss


def _tversky(options: TermOptions) -> nn.Module:
    loss: nn.Module = TverskyLoss(
        alpha=TVERSKY_FALSE_POSITIVE,
        beta=TVERSKY_FALSE_NEGATIVE,
        soft_label=options.soft_label,
        **_dice_like(options),
    )
    return loss


def _focal(options: TermOptions) -> nn.Module:
    softmax = options.activation == "softmax"
    loss: nn.Module = FocalLoss(
        include_background=softmax or options.include_background, gamma=FOCAL_GAMMA, use_softmax=softmax
    )
    return loss


def _bce(options: TermOptions) -> nn.Module:
    return CALFLoss(
        "ln", region_weight=0.0, include_background=options.include_background, softmax=options.activation == "softmax"
    )


def _dice_like(options: TermOptions) -> dict[str, bool]:
    # batch=False: one Dice per sample, so that a case with a small lesion counts as much as one with a large lesion.
    return {
        "sigmoid": options.activation == "sigmoid",
        "softmax": options.activation == "softmax",
        "include_background": options.include_background,
        "batch": False,
    }


_TERMS: dict[str, Callable[[TermOptions], nn.Module]] = {
    "dice": _dice,
    "generalized_dice": _generalized_dice,
    "tversky": _tversky,
    "focal": _focal,
    "ce": CrossEntropy,
    "bce": _bce,
}

RECIPES: dict[str, tuple[str, ...]] = {
    "dice": ("dice",),
    "dice_ce": ("dice", "ce"),
    "dice_focal": ("dice", "focal"),
    "focal": ("focal",),
    "generalized_dice_focal": ("generalized_dice", "focal"),
    "tversky": ("tversky",),
    "bce": ("bce",),
    "ce": ("ce",),
}
"""Loss name -> its terms, all of weight 1.

`ce` follows the activation (binary per channel with sigmoid), `bce` is one-vs-rest per channel under both. The softmax
focal term is MONAI's mean over voxels and channels, C times smaller than the mean over voxels. Tversky weighs false
negatives 0.7 and false positives 0.3 (Salehi et al., 2017, arXiv:1706.05721), where MONAI's 0.5 and 0.5 is Dice again;
focal has gamma 2 and no alpha (Lin et al., 2017, arXiv:1708.02002); generalized Dice weighs a channel by 1 / volume^2
(Sudre et al., 2017, doi:10.1007/978-3-319-67558-9_28).
"""
