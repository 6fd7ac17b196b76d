"""One name, one loss: what a configuration file, a combo box and a report call a loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

from rarevoxel.errors import RequestError
from rarevoxel.losses.by_region import Statistics, region_statistics
from rarevoxel.losses.calf import CALFLoss
from rarevoxel.losses.checks import unknown_name
from rarevoxel.losses.choose import LossChoice, choose_loss, describe_branches
from rarevoxel.losses.compound import RECIPES, CompoundLoss, parse_sum
from rarevoxel.losses.terms import CALF_NAMES, Activation, TermOptions
from rarevoxel.losses.voxel_counts import voxel_counts
from rarevoxel.statistics import DatasetStatistics, SizeStatistics
from rarevoxel.statistics.branch import Branch

LOSS_NAMES: tuple[str, ...] = ("auto", *RECIPES, *CALF_NAMES)
"""The names a combo box lists, `auto` first; `build_loss` takes sums of them and of the terms as well."""


def check_loss_name(name: str) -> None:
    """Raise unless `build_loss` knows the name.

    Raises:
        RequestError: naming what is not known, and the nearest name that is.
    """
    if name not in LOSS_NAMES:
        _parse(name)


def _parse(name: str) -> None:
    try:
        parse_sum(name)
    except RequestError as error:
        if "+" in name or "*" in name or "unknown" not in error.message:
            raise
        raise unknown_name("loss", name, LOSS_NAMES) from None


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

    ================================  =============================================================================
    name                              loss
    ================================  =============================================================================
    `auto`                            `rarevoxel.losses.choose_loss`, by measured imbalance
    `calf`                            `CALFLoss.from_statistics`, Dice beside the branches of S < 0 only
    `calf_log10`, `calf_ln`, ...      `CALFLoss` with that branch for every channel
    `..._published`                   the same in the published variant
    `calf_grid`                       `GridCALFLoss` with the branches of the statistics
    `dice_ce`, `lesion_dice_ce`, ...  `rarevoxel.losses.CompoundLoss`, see `RECIPES`
    `dice+0.5*focal+top_k`            any weighted sum of names and terms, see `parse_sum`
    ================================  =============================================================================

    Args:
        name: one of `LOSS_NAMES`, or a sum.
        statistics: sizes of the lesions; needed by `calf`, used by `auto`. `lmf` and the class-weighted terms need a
            `DatasetStatistics`, which knows the voxels of every class.
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
        RequestError: if the name or activation is unknown, a loss lacks the statistics it needs, or a region has none.

    Example:
        >>> loss, reason = build_loss("dice_focal")
        >>> reason
        "'dice_focal' was asked for by name."
    """
    if activation not in get_args(Activation):
        raise unknown_name("activation", activation, get_args(Activation))
    background = activation == "sigmoid" if include_background is None else include_background
    reason = f"{name!r} was asked for by name."
    options: dict[str, Any] = {
        activation: True,
        "include_background": background,
        "to_onehot_y": to_onehot_y,
        "region_weight": region_weight,
    }
    if name == "auto":
        return choose_loss(statistics, regions, **options)
    if name not in CALF_NAMES:
        check_loss_name(name)
        terms = TermOptions(activation, background, soft_label, region_weight=region_weight)
        terms = _measured(terms, name, statistics, regions)
        return LossChoice(CompoundLoss(name, terms, to_onehot_y=to_onehot_y), name, reason)
    calf = CALF_NAMES[name]
    options["variant"] = calf.variant
    if calf.branch is not None:
        return LossChoice(calf.kind(calf.branch, **options), name, reason)
    if statistics is None:
        msg = f"loss {name!r} takes its branches from the sizes of the lesions, but no statistics were given"
        raise RequestError(msg, "pass statistics, or name a branch: calf_ln, calf_log10, ...")
    loss = calf.kind.from_statistics(statistics, regions, **options)
    by_region = region_statistics(statistics, regions)
    return LossChoice(loss, name, f"{name!r} was asked for by name, {describe_branches(by_region)}.")


def _measured(
    terms: TermOptions, name: str, statistics: Statistics | None, regions: Sequence[str] | None
) -> TermOptions:
    """Add what the terms of a sum take from the statistics, where it is known."""
    if statistics is None:
        return terms
    branches: Branch | tuple[Branch, ...] | None = None
    if any(term in CALF_NAMES and CALF_NAMES[term].branch is None for _, term in parse_sum(name)):
        branches = tuple(CALFLoss.branch_of(sizes) for sizes in region_statistics(statistics, regions).values())
        if isinstance(statistics, SizeStatistics):
            branches = branches[0]
    counts = None
    if isinstance(statistics, DatasetStatistics):
        # The regions are those of the foreground channels, as for CALF: none of them is the channel that is left out.
        counts = voxel_counts(statistics, terms.activation, regions)
    return replace(terms, counts=counts, branches=branches)
