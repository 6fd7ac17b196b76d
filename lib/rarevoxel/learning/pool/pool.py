"""Everything a strategy chooses from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rarevoxel.learning.pool.case_score import CaseScore


@dataclass(frozen=True)
class Pool:
    """The cases to choose from, and what is known of those that are labelled.

    Args:
        waiting: ids of the cases that may be chosen, sorted; none of them is labelled, but for a review.
        scores: case -> score, of as many of them as have been scored; none of these has an `error`.
        labelled_sizes: region -> volumes in mm^3 of the lesions (connected components) in all labels, of WT, TC, ET.
        labelled_volumes: region -> volume in mm^3 of the region in each label, zeros included; what S and K are of.
        labelled_features: case -> features of labelled cases, from the same weights as those of `scores`.
        doubts: labelled case -> how doubtful its label is, in [0, 1], and why; only for a review.
        ages: case -> seconds since it was last handed out; a case that never was is not in it.
    """

    waiting: tuple[str, ...]
    scores: Mapping[str, CaseScore] = field(default_factory=dict)
    labelled_sizes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    labelled_volumes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    labelled_features: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    doubts: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    ages: Mapping[str, float] = field(default_factory=dict)
