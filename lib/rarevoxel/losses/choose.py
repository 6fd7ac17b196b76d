"""Which loss "auto" means for a data set, and the sentence that says why."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from rarevoxel.labels import REGIONS
from rarevoxel.losses.by_region import Statistics, region_statistics
from rarevoxel.losses.calf import CALFLoss
from rarevoxel.losses.lesion import LesionDiceLoss
from rarevoxel.losses.total import SumLoss
from rarevoxel.statistics import DatasetStatistics, SizeStatistics

STABLE_SHARE = 0.8
"""A branch that fewer bootstrap resamples than this agree on is called unstable."""

MANY_LESIONS = 3.0
"""Mean number of components of a region per case from which lesions are many."""

LESION_WEIGHT = 1.0
"""Weight of the per-lesion Dice beside the whole-image terms."""

COMMON_FRACTION = 0.1
"""Fraction of tumour voxels from which random patches meet it often enough."""

_SHARED_OPTIONS = ("sigmoid", "softmax", "include_background", "to_onehot_y")


@dataclass(frozen=True)
class LossChoice:
    """A loss, its name and the reason it was chosen; unpacks as `loss, reason`.

    Args:
        loss: the module, called `(logits, target)`.
        name: what to ask for to get this kind of loss again.
        reason: one sentence with the numbers behind the choice.
        sampler: the way of drawing patches that belongs to the choice, see `rarevoxel.sampling.SAMPLER_NAMES`.
    """

    loss: nn.Module
    name: str
    reason: str
    sampler: str = "pos_neg"

    def __iter__(self) -> Iterator[Any]:
        yield self.loss
        yield self.reason


def choose_loss(statistics: Statistics | None, regions: Sequence[str] | None = None, **options: Any) -> LossChoice:
    """Choose loss and sampler from the measured imbalance, and say why in one sentence.

    =====================================================  =======================================================
    condition                                              choice
    =====================================================  =======================================================
    no statistics, or too few cases in any region          BCE-Dice for every region
    otherwise                                              stable CALF, each region's branch, Dice of weight 1
    3 or more lesions per case in a region                 and a Dice per lesion (`LesionDiceLoss`) beside it
    tumour in fewer than 1 of 10 voxels                    sampler `balanced_mixup`
    otherwise                                              sampler `instance`
    =====================================================  =======================================================

    The first two rows follow the sizes of the regions, the third their components, the last two the frequencies of the
    classes; the last three need a `DatasetStatistics`. The Dice term stands beside every branch, not only those of
    S < 0, because on rare voxels a voxel term by itself tends to all-background. Class weights are never chosen, only
    taken by name.

    Args:
        statistics: see `CALFLoss.from_statistics`; None if nothing has been measured.
        regions: names in the order of the loss's channels; None takes the statistics' own order.
        options: passed to `CALFLoss` (`sigmoid`, `softmax`, `include_background`, `to_onehot_y`, `region_weight`, ...).

    Returns:
        The choice; its name is `calf` or `calf_bce_dice`, followed by `+lesion_dice` where that is chosen.

    Raises:
        RequestError: if a region has no statistics, or an option is wrong.
    """
    choice = _by_size(statistics, regions, dict(options))
    if not isinstance(statistics, DatasetStatistics) or not statistics.n:
        return choice
    reasons = [choice.reason.rstrip(".")]
    loss, name = choice.loss, choice.name
    found = many_lesions(statistics, regions)
    if found:
        terms = LesionDiceLoss(**{key: value for key, value in options.items() if key in _SHARED_OPTIONS})
        loss, name = SumLoss(((1.0, loss), (LESION_WEIGHT, terms))), f"{name}+lesion_dice"
        reasons.append(f"{found}, so a Dice per lesion of weight {LESION_WEIGHT:g} beside it, in which all weigh alike")
    # Counted, not 1 - background: that is off by round-off at the threshold, and a resection cavity is no tumour.
    tumour = sum(statistics.class_voxels[label] for label in REGIONS["WT"])
    fraction = tumour / sum(statistics.class_voxels.values())
    rare = fraction < COMMON_FRACTION
    sampler = "balanced_mixup" if rare else "instance"
    drawn = "random patches are mixed with patches of every class alike" if rare else "patches are drawn anywhere"
    reasons.append(f"tumour in {fraction:.2%} of the voxels, so {drawn} (sampler {sampler})")
    return LossChoice(loss, name, "; ".join(reasons) + ".", sampler)


def many_lesions(statistics: DatasetStatistics, regions: Sequence[str] | None = None) -> str:
    """Return why lesions need a term of their own, with the numbers of the first region that says so, else nothing.

    Args:
        statistics: of the training cases.
        regions: which of its regions to look at; None for all. Names that are no region are passed over.
    """
    for region in regions or statistics.by_region:
        mean = statistics.component_counts.get(region, {}).get("mean", 0.0)
        if mean >= MANY_LESIONS:
            return f"{mean:.1f} lesions per case in {region} ({MANY_LESIONS:g} or more are many)"
    return ""


def _by_size(statistics: Statistics | None, regions: Sequence[str] | None, options: dict[str, Any]) -> LossChoice:
    """The choice that the sizes alone ask for: a branch per region, or BCE-Dice."""
    if statistics is None:
        reason = "no lesion sizes measured, so BCE-Dice for every region."
        return LossChoice(CALFLoss("bce_dice", **options), "calf_bce_dice", reason)
    by_region = region_statistics(statistics, regions)
    few = {region: sizes for region, sizes in by_region.items() if not sizes.enough}
    if few:
        reason = f"too few cases: {_counts(few)}, so BCE-Dice for every region."
        return LossChoice(CALFLoss("bce_dice", **options), "calf_bce_dice", reason)
    if options.get("region_weight") is None:
        options["region_weight"] = 1.0
    loss = CALFLoss.from_statistics(statistics, regions, **options)
    dice = f"Dice of weight {options['region_weight']:g} beside it, as a voxel term alone tends to all-background"
    return LossChoice(loss, "calf", f"{describe_branches(by_region)}; {dice}.")


def describe_branches(by_region: Mapping[str, SizeStatistics]) -> str:
    """Return the numbers behind the branches, `CALF by lesion size: WT log10 (n=41, skewness ...); TC ...`."""
    return "CALF by lesion size: " + "; ".join(_describe(region, sizes) for region, sizes in by_region.items())


def _describe(region: str, sizes: SizeStatistics) -> str:
    if not sizes.enough:
        return f"{region} {sizes.branch} (too few cases: {_count(sizes)})"
    numbers = [f"n={sizes.n_cases}" if sizes.unit == "case" else f"n={sizes.n_cases}, {sizes.n} {sizes.unit}s"]
    for name, value in (("skewness", sizes.skewness), ("kurtosis", sizes.kurtosis)):
        low, high = sizes.interval[name]
        numbers.append(f"{name} {value:.2f}" if math.isnan(low) else f"{name} {value:.2f} [{low:.2f}, {high:.2f}]")
    return f"{region} {sizes.branch} ({', '.join(numbers + _stability(sizes))})"


def _stability(sizes: SizeStatistics) -> list[str]:
    if not sizes.resamples:
        return []
    share = f"in {sizes.branch_stability:.0%} of resamples"
    if sizes.branch_stability >= STABLE_SHARE:
        return [share]
    others = {branch: part for branch, part in sizes.branch_shares.items() if branch is not sizes.rule_branch}
    second = max(others, key=lambda branch: others[branch])
    return [f"unstable: {share}, {second} in {others[second]:.0%}"]


def _count(sizes: SizeStatistics) -> str:
    return f"n={sizes.n_cases} (minimum {sizes.minimum_n})"


def _counts(few: Mapping[str, SizeStatistics]) -> str:
    same = len({_count(sizes) for sizes in few.values()}) == 1
    if same:
        return f"{_count(next(iter(few.values())))} for {', '.join(few)}"
    return ", ".join(f"{region} {_count(sizes)}" for region, sizes in few.items())
