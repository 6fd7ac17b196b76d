"""The gate: a candidate replaces the weights in service only when it is better on the hold-out."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rarevoxel.config import AppConfig
from rarevoxel.errors import ModelError
from rarevoxel.evaluation import mean_dice
from rarevoxel.inference.engine import Engine
from rarevoxel.inference.score import score_case
from rarevoxel.volumes import replace_file

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """What the gate decided.

    Attributes:
        publish: whether the candidate goes into service.
        reason: one sentence with the numbers.
        candidate: mean region Dice of the candidate on the hold-out.
        incumbent: the same of the weights in service; None when there are none.
        cases: case id -> region -> (incumbent, candidate) Dice.
    """

    publish: bool
    reason: str
    candidate: float
    incumbent: float | None
    cases: dict[str, dict[str, tuple[float | None, float]]]


def judge(
    config: AppConfig, candidate: Path, incumbents: Sequence[Path], holdout: Sequence[Mapping[str, str]]
) -> Verdict:
    """Compare a candidate with the weights in service, as they would be served, on the hold-out.

    Both predict every hold-out case through the inference engine on the display grid. The candidate is published
    when its mean region Dice is higher, or when there is nothing usable in service.

    Args:
        config: application configuration.
        candidate: weight file of the candidate.
        incumbents: weight files in service, in order of preference.
        holdout: `{"id", "image", "label"}` of the hold-out cases.
    """
    ours = _scores(Engine(config, [candidate]), holdout)
    try:
        theirs = _scores(Engine(config, incumbents), holdout) if any(p.is_file() for p in incumbents) else None
    except ModelError as error:
        logger.warning("the weights in service cannot be judged: %s", error)
        theirs = None
    new, n = mean_dice(list(ours.values())), len(ours)
    old = None if theirs is None else mean_dice(list(theirs.values()))
    cases = {
        case: {region: (theirs[case][region] if theirs else None, score) for region, score in scores.items()}
        for case, scores in ours.items()
    }
    counted = f"on {n} hold-out case{'s' if n != 1 else ''}"
    if not math.isfinite(new):
        return Verdict(False, f"not published: the candidate has no finite score {counted}", new, old, cases)
    if old is None:
        return Verdict(True, f"published: mean region Dice {new:.3f} {counted}, nothing in service", new, None, cases)
    better = new > old
    verb = "published" if better else "not published"
    reason = f"{verb}: mean region Dice {new:.3f} against {old:.3f} of the weights in service, {counted}"
    return Verdict(better, reason, new, old, cases)


def publish(candidate: Path, target: Path) -> None:
    """Put a weight file into service so that readers see the old file or the whole new one.

    Args:
        candidate: the file to copy; it stays where it is.
        target: the published file.
    """
    replace_file(target, candidate.read_bytes())


def _scores(engine: Engine, holdout: Sequence[Mapping[str, str]]) -> dict[str, dict[str, float]]:
    return {case["id"]: score_case(engine, Path(case["image"]), Path(case["label"])) for case in holdout}
