"""Sums of loss terms, by name: the losses a practitioner expects, and any sum of the terms there are.

Three of MONAI's ready-made sums surprise on regions or classes, which is why the sums are made here: with several
channels `DiceCELoss(sigmoid=True)` takes the categorical cross-entropy (softmax over nested regions) and not the binary
one; `DiceFocalLoss(softmax=True)` and `GeneralizedDiceFocalLoss(softmax=True)` take the sigmoid focal loss; and
`FocalLoss(use_softmax=True, include_background=False)` drops the background logit before the softmax. The focal term is
their class; the overlap terms compute what theirs do, see `rarevoxel.losses.overlap`.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses.checks import check_pair, prepare, unknown_name
from rarevoxel.losses.fused import fused_loss, fused_way
from rarevoxel.losses.fused_spec import FusedSpec, VoxelKind
from rarevoxel.losses.terms import TERM_NAMES, TermOptions, build_term
from rarevoxel.losses.total import SumLoss

RECIPES: dict[str, str] = {
    "dice": "dice",
    "dice_ce": "dice+ce",
    "dice_focal": "dice+focal",
    "focal": "focal",
    "generalized_dice_focal": "generalized_dice+focal",
    "tversky": "tversky",
    "bce": "bce",
    "ce": "ce",
    "top_k": "top_k",
    "dice_top_k": "dice+top_k",
    "dice_focal_top_k": "dice+focal+top_k",
    "log_dice": "log_dice",
    "log_dice_top_k": "log_dice+top_k",
    "hard_negative": "hard_negative",
    "dice_hard_negative": "dice+hard_negative",
    "lmf": "lmf",
    "dice_lmf": "dice+lmf",
    "unified_focal": "unified_focal",
    "lesion_dice": "lesion_dice",
    "lesion_dice_ce": "dice+ce+lesion_dice",
    "dice_ce_novel": "dice+ce_novel",
    "dice_focal_novel": "dice+focal_novel",
}
"""Loss name -> the sum it stands for.

`ce` follows the activation (binary per channel with sigmoid), `bce` is one-vs-rest per channel under both. The softmax
focal term is MONAI's mean over voxels and channels, C times smaller than the mean over voxels. Tversky weighs false
negatives 0.7 and false positives 0.3 (Salehi et al., 2017, arXiv:1706.05721), where MONAI's 0.5 and 0.5 is Dice again;
focal has gamma 2 and no alpha (Lin et al., 2017, arXiv:1708.02002); generalized Dice weighs a channel by 1 / volume^2
(Sudre et al., 2017, doi:10.1007/978-3-319-67558-9_28). `lesion_dice_ce` is Dice and cross-entropy with
Dice per lesion beside them, after CC-DiceCE (arXiv:2511.17146); `dice_focal_novel` is the thesis's best sum on
CoNIC (Dice and focal with its novel class weights).
"""

FUSED_TERMS = frozenset({"dice", "ce", "focal"})
"""These of a sum are computed together in two sweeps where that pays, see `rarevoxel.losses.fused`."""


def parse_sum(text: str) -> tuple[tuple[float, str], ...]:
    """Return the weighted terms of a sum such as `dice+0.5*focal+top_k`.

    Args:
        text: terms of `TERM_NAMES` or names of `RECIPES`, joined by `+`, each with an optional `weight*` before it.

    Returns:
        (weight, term) pairs; a term that stands twice is there once, with the weights added.

    Raises:
        RequestError: if a name is unknown, or a weight is not a positive finite number.

    Example:
        >>> parse_sum("dice_ce+0.5*lesion_dice")
        ((1.0, 'dice'), (1.0, 'ce'), (0.5, 'lesion_dice'))
    """
    terms: dict[str, float] = {}
    for part in text.split("+"):
        factor, star, name = part.rpartition("*")
        weight = _weight(factor, text) if star else 1.0
        name = name.strip()
        if name in RECIPES and RECIPES[name] != name:
            inner = [(weight * own, term) for own, term in parse_sum(RECIPES[name])]
        elif name in TERM_NAMES:
            inner = [(weight, name)]
        else:
            raise unknown_name("loss", name, (*RECIPES, *(term for term in TERM_NAMES if term not in RECIPES)))
        for own, term in inner:
            terms[term] = terms.get(term, 0.0) + own
    return tuple((weight, term) for term, weight in terms.items())


def _weight(text: str, whole: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not (weight > 0 and math.isfinite(weight)):
        msg = f"loss {whole!r}: weight {text.strip()!r} found, expected a positive number"
        raise RequestError(msg, "for example dice+0.5*focal")
    return weight


class CompoundLoss(nn.Module):
    """A weighted sum of loss terms that see the same float32 logits and the same one-hot target.

    Half-precision logits are raised to float32 first: MONAI's Dice sums overflow float16 at 65 504 voxels.

    Args:
        name: one of `RECIPES`, or a sum such as `dice+0.5*focal+top_k`; see `parse_sum`.
        options: shared by the terms.
        to_onehot_y: the target holds class indices `B 1 H [W D]`.

    Raises:
        RequestError: if a name is unknown, a weight impossible, or a term lacks counts or branches.

    Example:
        >>> loss = CompoundLoss("dice_focal")
        >>> float(loss(torch.full((1, 3, 4, 4, 4), -50.0), torch.zeros(1, 3, 4, 4, 4)))
        0.0
    """

    def __init__(self, name: str, options: TermOptions | None = None, to_onehot_y: bool = False) -> None:
        super().__init__()
        self.name = name
        self.options = options or TermOptions()
        self.to_onehot_y = to_onehot_y
        self.parsed = parse_sum(name)
        self.total = SumLoss((weight, build_term(term, self.options)) for weight, term in self.parsed)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the sum of the terms, a float32 scalar.

        For float64 logits the terms are computed in float64, all but MONAI's focal loss, which knows float32 only.

        Args:
            logits: `B C H [W D]`, any floating type, before any activation.
            target: the same shape, or `B 1 H [W D]` with `to_onehot_y`.

        Raises:
            InputError: if the shapes do not fit each other or the softmax.
        """
        spec = self._fused(logits, target)
        if spec is not None:
            way = fused_way(logits, target)
            if way is not None:
                value = fused_loss(spec, logits, target, way)
                rest = [
                    pair
                    for pair, (_, term) in zip(self.total.pairs(), self.parsed, strict=True)
                    if term not in FUSED_TERMS
                ]
                if not rest:
                    return value
                z, t = prepare(self.name, logits, target, self.to_onehot_y)
                return torch.stack([value, *(weight * term(z, t) for weight, term in rest)]).sum()
        z, t = prepare(self.name, logits, target, self.to_onehot_y)
        if self.options.activation == "softmax" and z.shape[1] == 1:
            msg = f"{self.name}: softmax with one channel, expected one channel per class, background included"
            raise InputError(msg, "use the sigmoid activation for a single mask")
        total: torch.Tensor = self.total(z, t)
        return total

    def extra_repr(self) -> str:
        """Return the sum that `print` shows."""
        return self.name

    def _fused(self, logits: torch.Tensor, target: torch.Tensor) -> FusedSpec | None:
        """Return what to fuse, None where the plain loss has to do it, or has something to say."""
        weights = {term: weight for weight, term in self.parsed}
        softmax, background = self.options.activation == "softmax", self.options.include_background
        if not weights.keys() & FUSED_TERMS or logits.ndim < 3:
            return None
        channels = logits.shape[1]
        if channels == 1 and (softmax or self.to_onehot_y or not background):
            return None
        classes = check_pair(self.name, logits, target, self.to_onehot_y)
        terms: list[tuple[VoxelKind, float]] = []
        if "ce" in weights:
            terms.append(("ce" if softmax else "bce", weights["ce"]))
        if "focal" in weights:
            # MONAI's softmax focal loss is the mean over the channels, too.
            over = channels if softmax else 1
            terms.append(("softmax_focal" if softmax else "sigmoid_focal", weights["focal"] / over))
        dropped = 0 if background else 1
        voxel = (tuple(terms),) * channels
        return FusedSpec(
            self.options.activation,
            voxel if softmax else ((),) * dropped + voxel[dropped:],
            (0.0,) * dropped + (weights.get("dice", 0.0),) * (channels - dropped),
            counted=channels - dropped,
            per_channel=not softmax,
            minimum=self.options.soft_label,
            classes=classes,
        )
