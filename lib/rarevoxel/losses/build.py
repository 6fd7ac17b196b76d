"""One name, one loss: what a configuration file, a combo box and a report call a loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from rarevoxel.errors import RequestError
from rarevoxel.losses.by_region import Statistics, region_statistics
from rarevoxel.losses.calf import CALFLoss
from rarevoxel.losses.checks import unknown_name
from rarevoxel.losses.choose import LossChoice, choose_loss, describe_branches
from rarevoxel.losses.compound import RECIPES, Activation, CompoundLoss, TermOptions
from rarevoxel.losses.voxel import Variant
from rarevoxel.statistics.branch import Branch

_VARIANTS: dict[str, Variant] = {"": "stable", "_published": "published"}

_CALF: dict[str, tuple[Branch | None, Variant]] = {
    f"calf{stem}{suffix}": (branch, variant)
    for suffix, variant in _VARIANTS.items()
    for stem, branch in (("", None), *((f"_{b.value}", b) for b in Branch))
}

LOSS_NAMES: tuple[str, ...] = ("auto", *RECIPES, *_CALF)
"""Every name `build_loss` takes, `auto` first."""


def build_loss(
    name: str = "auto",
    statistics: Statistics | None = None,
    *,
    activation: Activation = "sigmoid",
    include_background: bool | None = None,
    to_onehot_y: bool = False,
    regions: Sequence[str] | None = None,
    region_weight: float | None = None,
    soft_label: bool = False,
) -> LossChoice:
    """Return the loss called `name` and the reason for it.

    ============================  =================================================================================
    name                          loss
    ============================  =================================================================================
    `auto`                        `rarevoxel.losses.choose_loss`: CALF by statistics, BCE-Dice for too few cases
    `calf`                        `CALFLoss.from_statistics`, Dice beside the branches of S < 0 only
    `calf_log10`, `calf_ln`, ...  `CALFLoss` with that branch for every channel
    `..._published`               the same in the published variant
    `dice_ce`, `dice_focal`, ...  `rarevoxel.losses.CompoundLoss`, made of MONAI's terms
    ============================  =================================================================================

    Args:
        name: one of `LOSS_NAMES`.
        statistics: sizes of the lesions; needed by `calf`, used by `auto`, else ignored.
        activation: `sigmoid` for overlapping regions (WT, TC, ET) or one mask; `softmax` for exclusive classes, with
            the background in channel 0.
        include_background: whether channel 0 counts. None: True with sigmoid, where it is a region like the others,
            False with softmax. Categorical cross-entropy and focal always count it, see `TermOptions`.
        to_onehot_y: the target holds class indices `B 1 H [W D]`.
        regions: the regions of the foreground channels in order; None takes the statistics' own order.
        region_weight: weight of the Dice term of the CALF losses, see `CALFLoss`; None is their default.
        soft_label: for soft targets, see `TermOptions`; CALF is linear in soft targets anyway.

    Returns:
        The choice, which unpacks as `loss, reason`.

    Raises:
        RequestError: if the name or activation is unknown, `calf` has no statistics, or a region has none.

    Example:
        >>> loss, reason = build_loss("dice_focal")
        >>> reason
        "'dice_focal' was asked for by name."
    """
    if activation not in get_args(Activation):
        raise unknown_name("activation", activation, get_args(Activation))
    background = activation == "sigmoid" if include_background is None else include_background
    reason = f"{name!r} was asked for by name."
    if name in RECIPES:
        terms = TermOptions(activation=activation, include_background=background, soft_label=soft_label)
        return LossChoice(CompoundLoss(name, terms, to_onehot_y=to_onehot_y), name, reason)
    options: dict[str, Any] = {
        activation: True,
        "include_background": background,
        "to_onehot_y": to_onehot_y,
        "region_weight": region_weight,
    }
    if name == "auto":
        return choose_loss(statistics, regions, **options)
    if name not in _CALF:
        raise unknown_name("loss", name, LOSS_NAMES)
    branch, options["variant"] = _CALF[name]
    if branch is not None:
        return LossChoice(CALFLoss(branch, **options), name, reason)
    if statistics is None:
        msg = f"loss {name!r} takes its branches from the sizes of the lesions, but no statistics were given"
        raise RequestError(msg, "pass statistics, or name a branch: calf_ln, calf_log10, ...")
    loss = CALFLoss.from_statistics(statistics, regions, **options)
    by_region = region_statistics(statistics, regions)
    return LossChoice(loss, name, f"{name!r} was asked for by name, {describe_branches(by_region)}.")
