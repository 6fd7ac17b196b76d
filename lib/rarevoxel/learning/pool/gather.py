"""The pool as it is now: what waits, what is labelled, and what a model says, from a datastore and the score files."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rarevoxel.learning.pool.case_score import CaseScore
from rarevoxel.learning.pool.doubts import doubt
from rarevoxel.learning.pool.labelled import Label, LabelledSizes, region_sizes, region_volumes
from rarevoxel.learning.pool.pool import Pool
from rarevoxel.learning.pool.store import ScoreStore

FINAL = "final"

Findings = Callable[[str], Sequence[Mapping[str, Any]]]


class Cases(Protocol):
    """What is asked of a datastore of the host."""

    def get_labeled_images(self) -> Sequence[str]: ...  # noqa: D102
    def get_unlabeled_images(self) -> Sequence[str]: ...  # noqa: D102
    def get_image_info(self, image_id: str) -> Mapping[str, Any]: ...  # noqa: D102
    def get_label_info(self, label_id: str, label_tag: str) -> Mapping[str, Any]: ...  # noqa: D102
    def get_label_uri(self, label_id: str, label_tag: str) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class Scorer:
    """A model whose scores may be asked for.

    Args:
        store: where its scores are.
        available: whether it has weights.
        weights: SHA-256 of its weights in service; empty while unknown. Neither of the two may load any.
    """

    store: ScoreStore
    available: Callable[[], bool] = lambda: True
    weights: Callable[[], str] = lambda: ""


@dataclass(frozen=True)
class Gathered:
    """A pool, and the cases that are not in it.

    Args:
        pool: what may be chosen.
        left_out: waiting case -> why it cannot be used.
    """

    pool: Pool
    left_out: Mapping[str, str] = field(default_factory=dict)


class PoolSource:
    """Makes pools; what it has read of scores and labels stays in memory until the files change.

    Args:
        models: model -> where its scores are.
        sizes: measures labels.
        findings: case -> what the quality check noticed about its label.
        clock: gives the seconds since 1970.
    """

    def __init__(
        self,
        models: Mapping[str, Scorer],
        sizes: LabelledSizes | None = None,
        findings: Findings = lambda case: (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.models = dict(models)
        self.sizes = sizes or LabelledSizes()
        self._findings = findings
        self._clock = clock
        self._checked: dict[str, tuple[str, tuple[Mapping[str, Any], ...]]] = {}

    def read(self, cases: Cases) -> None:
        """Read scores and labels before the first client asks."""
        for name in self.models:
            self.waiting(cases, name, by_scores=True)

    def waiting(self, cases: Cases, model: str, *, by_scores: bool, in_work: Collection[str] = ()) -> Gathered:
        """Return the pool of cases without a label.

        Args:
            cases: the datastore.
            model: whose scores count, and whose word on what cannot be read.
            by_scores: whether scores and labels are wanted; else only names and ages are.
            in_work: cases that somebody is labelling now; their features count among those of labelled ones.
        """
        found = self.models[model].store.read() if model in self.models else {}
        waiting = sorted(cases.get_unlabeled_images())
        left_out = {case: found[case].error for case in waiting if case in found and found[case].error}
        waiting = [case for case in waiting if case not in left_out]
        if not by_scores:
            return Gathered(Pool(tuple(waiting), ages=self._ages(cases, waiting)), left_out)
        labels = {case: self._label(cases, case) for case in cases.get_labeled_images()}
        sizes = self.sizes.of(labels)
        scores = _comparable({case: score for case, score in found.items() if not score.error})
        centres = {*labels, *in_work} & scores.keys()
        pool = Pool(
            tuple(waiting),
            scores={case: scores[case] for case in waiting if case in scores},
            labelled_sizes=region_sizes(sizes),
            labelled_volumes=region_volumes(sizes),
            labelled_features={case: scores[case].features for case in centres if scores[case].features},
        )
        return Gathered(pool, left_out)

    def doubtful(self, cases: Cases, model: str, strategy: str) -> Gathered:
        """Return the pool of cases whose label is doubtful.

        Args:
            cases: the datastore.
            model: whose Dice with the labels counts, where it was scored on them.
            strategy: under which name cases are noted as handed out.
        """
        doubts: dict[str, tuple[float, str]] = {}
        made: dict[str, float] = {}
        for case in sorted(cases.get_labeled_images()):
            info = cases.get_label_info(case, FINAL)
            value, why = doubt(self._checked_label(case, _version(info)), _dice(info, model))
            if value > 0:
                doubts[case], made[case] = (value, why), _number(info.get("ts"))
        now = self._clock()
        served = {case: _served(cases, case, strategy) for case in doubts}
        ages = {case: now - at for case, at in served.items() if at and at >= made[case]}
        return Gathered(Pool(tuple(doubts), doubts=doubts, ages=ages))

    def _ages(self, cases: Cases, waiting: Sequence[str]) -> dict[str, float]:
        now = self._clock()
        served = {case: _served(cases, case) for case in waiting}
        return {case: max(0.0, now - at) for case, at in served.items() if at}

    def _label(self, cases: Cases, case: str) -> Label:
        version = _version(cases.get_label_info(case, FINAL))
        return Label(version, lambda: Path(cases.get_label_uri(case, FINAL)))

    def _checked_label(self, case: str, version: str) -> tuple[Mapping[str, Any], ...]:
        known = self._checked.get(case)
        if known is None or known[0] != version:
            known = self._checked[case] = version, tuple(self._findings(case))
        return known[1]


def _comparable(scores: Mapping[str, CaseScore]) -> dict[str, CaseScore]:
    """Return the scores, features only of those from the weights that most of them are from.

    After a publish cases are scored again one by one. Until then a score from the weights before still says something,
    but features of two networks have nothing to do with each other.
    """
    weights = Counter(score.weights for score in scores.values() if score.features)
    if len(weights) < 2:
        return dict(scores)
    most = max(sorted(weights), key=lambda sha256: weights[sha256])
    return {case: _without_features(score) if score.weights != most else score for case, score in scores.items()}


def _without_features(score: CaseScore) -> CaseScore:
    return CaseScore(**{**vars(score), "features": ()})


def _version(info: Mapping[str, Any]) -> str:
    return str(info.get("sha256") or f"{info.get('version')}/{info.get('ts')}")


def _served(cases: Cases, case: str, strategy: str = "") -> float:
    """Return when a case was handed out last, by one strategy or by any; 0 for never."""
    noted = cases.get_image_info(case).get("strategy")
    entries = noted if isinstance(noted, Mapping) else {}
    found = [one for name, one in entries.items() if isinstance(one, Mapping) and strategy in ("", name)]
    return max((_number(one.get("ts")) for one in found), default=0.0)


def _dice(info: Mapping[str, Any], model: str) -> dict[str, float]:
    scored = info.get("dice")
    found = scored.get(model) if isinstance(scored, Mapping) else None
    entries = found if isinstance(found, Mapping) else {}
    return {str(region): float(value) for region, value in entries.items() if isinstance(value, (int, float))}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0
