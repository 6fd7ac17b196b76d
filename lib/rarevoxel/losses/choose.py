"""Which loss "auto" means for a data set, and the sentence that says why."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from rarevoxel.losses.by_region import Statistics, region_statistics
from rarevoxel.losses.calf import CALFLoss
from rarevoxel.statistics import SizeStatistics

STABLE_SHARE = 0.8
"""A branch that fewer bootstrap resamples than this agree on is called unstable."""


@dataclass(frozen=True)
class LossChoice:
    """A loss, its name and the reason it was chosen; unpacks as `loss, reason`.

    Args:
        loss: the module, called `(logits, target)`.
        name: what to ask for to get this kind of loss again.
        reason: one sentence with the numbers behind the choice.
    """

    loss: nn.Module
    name: str
    reason: str

    def __iter__(self) -> Iterator[Any]:
        yield self.loss
        yield self.reason


def choose_loss(statistics: Statistics | None, regions: Sequence[str] | None = None, **options: Any) -> LossChoice:
    """Choose a loss from the sizes of the lesions, and say why in one sentence.

    ==========================================  ========================================================
    condition                                   loss
    ==========================================  ========================================================
    no statistics                               BCE-Dice
    too few cases in any region (not `enough`)  BCE-Dice for every region
    otherwise                                   stable CALF, the branch of each region, Dice of weight 1
    ==========================================  ========================================================

    The Dice term stands beside every branch, not only those of S < 0, because on rare voxels a voxel term by itself
    tends to all-background. The rule follows the sizes alone: it makes no claim that one loss is better than another.

    Args:
        statistics: see `CALFLoss.from_statistics`; None if nothing has been measured.
        regions: names in the order of the loss's channels; None takes the statistics' own order.
        options: passed to `CALFLoss` (`sigmoid`, `softmax`, `include_background`, `to_onehot_y`, `region_weight`, ...).

    Returns:
        The choice; its name is `calf` or `calf_bce_dice`.

    Raises:
        RequestError: if a region has no statistics, or an option is wrong.
    """
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
