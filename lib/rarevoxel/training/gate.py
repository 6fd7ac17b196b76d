"""The gate: a candidate replaces the weights in service only when it is better on the hold-out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rarevoxel.config import AppConfig
from rarevoxel.errors import ModelError
from rarevoxel.evaluation import region_dice
from rarevoxel.inference.cache import VolumeCache
from rarevoxel.inference.engine import Engine
from rarevoxel.inference.prediction import Prediction
from rarevoxel.inference.sources import sources
from rarevoxel.labels import REGIONS, labels_to_regions
from rarevoxel.lineage import WeightFile
from rarevoxel.networks import load_weights
from rarevoxel.statistics.sizes import jsonable
from rarevoxel.training.decision import Compared, decide, describe_test, pair
from rarevoxel.volumes import file_sha256, read_labels

logger = logging.getLogger(__name__)

CACHE_MIB = 1024
"""Memory for the case that both look at; a larger one is read twice."""


@dataclass(frozen=True)
class Verdict:
    """What the gate decided.

    Attributes:
        publish: whether the candidate goes into service.
        reason: one sentence with the numbers.
        candidate: mean region Dice of the candidate over hold-out patients; None when it was not scored.
        incumbent: the same of the weights in service; None when there are none.
        cases: case id -> region -> (incumbent, candidate) Dice.
        n: hold-out patients.
        difference: candidate minus incumbent.
        lower_bound: one-sided lower confidence bound of the difference.
        test: what the bound is of.
        regions: region -> mean difference over the patients that have it.
        too_few: whether there were fewer patients than the gate asks for.
        against: the weights in service it was compared with.
    """

    publish: bool
    reason: str
    candidate: float | None
    incumbent: float | None
    cases: dict[str, dict[str, tuple[float | None, float]]]
    n: int = 0
    difference: float | None = None
    lower_bound: float | None = None
    test: str = ""
    regions: dict[str, float] = field(default_factory=dict)
    too_few: bool = False
    against: WeightFile | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as plain data that JSON has numbers for."""
        plain: dict[str, Any] = jsonable(asdict(self))
        return plain


@dataclass(frozen=True)
class _Score:
    """One prediction: Dice per region, and which regions it claims and the truth has."""

    dice: dict[str, float]
    claimed: frozenset[str]
    true: frozenset[str]


def judge(
    config: AppConfig,
    candidate: Path,
    incumbents: Sequence[Path],
    holdout: Sequence[Mapping[str, str]],
    patients: Mapping[str, str] | None = None,
) -> Verdict:
    """Compare a candidate with the weights in service, as they would be served, on the hold-out.

    Both predict every hold-out case through the inference engine on the display grid; `decide` has the rule. Without
    anything usable in service a candidate is published when it finds something. One that is not made of finite
    numbers, or that finds nothing in any case while there is tumour, never is.

    Args:
        config: application configuration, the gate's margins among it.
        candidate: weight file of the candidate.
        incumbents: weight files in service, in order of preference, as `Engine` takes them.
        holdout: `{"id", "image", "label"}` of the hold-out cases.
        patients: case id -> patient id; each case is a patient of its own when None.
    """
    unusable = _unusable(candidate)
    if unusable or not holdout:
        return Verdict(False, f"not published: {unusable or 'there is no hold-out case'}", None, None, {})
    ours, theirs, against = _scores(config, candidate, incumbents, holdout)
    compared = {
        case: Compared(
            (patients or {}).get(case, case),
            {region: (theirs[case].dice[region] if theirs else 0.0, score.dice[region]) for region in score.dice},
            score.true | score.claimed | (theirs[case].claimed if theirs else frozenset()),
        )
        for case, score in ours.items()
    }
    paired = pair(compared, config.gate.confidence)
    n, short = paired.n, paired.n < config.gate.minimum_n
    blind = any(score.true for score in ours.values()) and not any(score.claimed for score in ours.values())
    counted = f"on {n} hold-out patient{'s' if n != 1 else ''}"
    if theirs is None:
        cases: dict[str, dict[str, tuple[float | None, float]]] = {
            case: {region: (None, dice) for region, dice in score.dice.items()} for case, score in ours.items()
        }
        reason = f"published: mean region Dice {paired.candidate:.3f} {counted}, nothing in service"
        if blind:
            reason = f"not published: the candidate finds nothing {counted}, and there is tumour"
        return Verdict(not blind, reason, paired.candidate, None, cases, n, too_few=short)
    publish, reason = decide(paired, config.gate)
    if against and file_sha256(candidate) == against.sha256:
        publish, reason = False, "not published: the candidate is, byte for byte, what is in service"
    elif blind:
        publish, reason = False, f"not published: the candidate finds nothing {counted}, and there is tumour"
    return Verdict(
        publish,
        reason,
        paired.candidate,
        paired.incumbent,
        {case: dict(entry.dice) for case, entry in compared.items()},
        n,
        paired.difference,
        paired.lower_bound,
        describe_test(config.gate),
        paired.regions,
        short,
        against,
    )


def _unusable(candidate: Path) -> str:
    """Why a candidate cannot be served whatever it scores; empty if it can."""
    network, *_ = load_weights(candidate)
    broken = [name for name, value in network.state_dict().items() if not bool(value.isfinite().all())]
    return f"the candidate holds weights that are no finite numbers ({broken[0]})" if broken else ""


def _scores(
    config: AppConfig, candidate: Path, incumbents: Sequence[Path], holdout: Sequence[Mapping[str, str]]
) -> tuple[dict[str, _Score], dict[str, _Score] | None, WeightFile | None]:
    """Return the scores of the candidate, those of what is in service, and which weights that are.

    Both look at a case in turn, so that it is read and resampled once for both.
    """
    cache = VolumeCache(CACHE_MIB)
    challenger = Engine(config, [candidate], cache=cache)
    served = bool(incumbents) and next(sources(incumbents), None) is not None
    champion = Engine(config, incumbents, cache=cache) if served else None
    ours: dict[str, _Score] = {}
    theirs: dict[str, _Score] = {}
    against = None
    for case in holdout:
        image, truth = Path(case["image"]), read_labels(Path(case["label"]))
        ours[case["id"]] = _score(challenger.predict(image), truth)
        if champion is None:
            continue
        try:
            prediction = champion.predict(image)
        except ModelError as error:
            logger.warning("the weights in service cannot be judged: %s", error)
            champion = None
            continue
        theirs[case["id"]] = _score(prediction, truth)
        against = WeightFile(str(prediction.model["version"]), str(prediction.model["sha256"]))
    return (ours, theirs, against) if champion else (ours, None, None)


def _score(prediction: Prediction, truth: Any) -> _Score:
    return _Score(region_dice(prediction.labels, truth), _regions(prediction.labels), _regions(truth))


def _regions(labels: Any) -> frozenset[str]:
    return frozenset(name for name, mask in zip(REGIONS, labels_to_regions(labels), strict=True) if np.any(mask))
