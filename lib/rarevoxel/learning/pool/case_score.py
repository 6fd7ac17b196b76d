"""What the weights in service say about one case that nobody has labelled yet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rarevoxel.errors import InputError


@dataclass(frozen=True)
class Candidate:
    """One place that may be a lesion: connected voxels of a region with a probability above a low threshold.

    Args:
        region: `WT`, `TC` or `ET`.
        volume: mm^3 above the low threshold.
        expected: mm^3 that are expected to be of the region: the probabilities summed, times the voxel volume.
        probability: the highest mean of the probability over a small cube in it, in [0, 1].
        entropy: mean predictive entropy over it, in bits, 0 to 1.
        marked: whether any of it is in the proposed mask.
    """

    region: str
    volume: float
    expected: float
    probability: float
    entropy: float
    marked: bool


@dataclass(frozen=True)
class CaseScore:
    """What a case promises to teach; everything a strategy needs to know about an unlabelled case.

    Entropies are in bits, 0 to 1, and means over the boundary of the proposed mask and over the candidates, never over
    the background. A region that has neither is 0.

    Args:
        case: its id.
        image: stamp of its files, so that a changed image is scored again.
        weights: SHA-256 of the weights that were asked, so that other weights score it again.
        method: how the samples were made: `tta`, `dropout`, `snapshots` or `none`.
        entropy: region -> predictive entropy of the mean prediction over boundary and candidates.
        mutual_information: region -> entropy of the mean minus mean of the entropies, over the same voxels.
        missed_ml: region -> ml that are expected of the region but not marked.
        confidence: region -> expected Dice of the proposed mask, in [0, 1].
        regions_ml: region -> volume of the proposed mask in ml.
        candidates: places that may be lesions, largest expected volume first.
        features: what the encoder sees, of fixed length for one set of weights; empty when unknown.
        error: why the case could not be scored; empty when it was. Everything else is then empty.
    """

    case: str
    image: str = ""
    weights: str = ""
    method: str = "none"
    entropy: Mapping[str, float] = field(default_factory=dict)
    mutual_information: Mapping[str, float] = field(default_factory=dict)
    missed_ml: Mapping[str, float] = field(default_factory=dict)
    confidence: Mapping[str, float] = field(default_factory=dict)
    regions_ml: Mapping[str, float] = field(default_factory=dict)
    candidates: tuple[Candidate, ...] = ()
    features: tuple[float, ...] = ()
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able record; `from_dict` reads it back."""
        return {**asdict(self), "candidates": [asdict(one) for one in self.candidates], "features": list(self.features)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> CaseScore:
        """Return the score that `to_dict` wrote.

        Raises:
            InputError: if it is not such a record.
        """
        try:
            values = dict(record)
            for name in _BY_REGION:
                values[name] = {str(region): _finite(number) for region, number in values.get(name, {}).items()}
            values["candidates"] = tuple(_candidate(one) for one in values.get("candidates", ()))
            values["features"] = tuple(_finite(value) for value in values.get("features", ()))
            return cls(**values)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            msg = f"score of a case cannot be read: {error}"
            raise InputError(msg, "remove the file; the case is scored again") from error


_BY_REGION = ("entropy", "mutual_information", "missed_ml", "confidence", "regions_ml")


def _candidate(record: Mapping[str, Any]) -> Candidate:
    numbers = {name: _finite(record[name]) for name in ("volume", "expected", "probability", "entropy")}
    return Candidate(**{**record, **numbers})


def _finite(value: Any) -> float:
    """Return a number that can be sorted by and sent to clients; JSON from Python may hold NaN."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is not finite")
    return number
