"""From which probability a voxel belongs to a region, when sequences are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rarevoxel.labels import REGIONS

MISSING = "missing"
"""What weights call the thresholds of cases without a sequence in the plain data stored with them."""


def thresholds_without(info: Mapping[str, Any], missing: Sequence[str], threshold: float) -> tuple[float, ...]:
    """Return the threshold of WT, TC, ET for a case without some sequences.

    Without the sequence that shows a region best a network is less certain of it, though it sees where it lies: then a
    lower threshold does better. Weights may know which, sequence -> region -> s; with t the configured threshold, s the
    lowest of the missing sequences and logit(p) = log(p / (1 - p)), it is `logit(t) + logit(s)` as a probability: s
    itself where t is 0.5, and t where the weights know nothing.

    Args:
        info: plain data stored with the weights.
        missing: names of the sequences that the case lacks.
        threshold: configured threshold, in (0, 1).

    Example:
        >>> thresholds_without({"missing": {"t2f": {"WT": 0.2}}}, ["t2f"], 0.5)
        (0.2, 0.5, 0.5)
    """
    known = info.get(MISSING) or {}
    found = []
    for region in REGIONS:
        lowest = min((float(known.get(sequence, {}).get(region, 0.5)) for sequence in missing), default=0.5)
        odds = threshold / (1 - threshold) * lowest / (1 - lowest)
        found.append(odds / (1 + odds) if lowest != 0.5 else threshold)
    return tuple(found)
