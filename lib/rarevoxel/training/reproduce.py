"""Making a run again from its lineage, and saying whether the same came out."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from rarevoxel.cases import find_sequences
from rarevoxel.config import AppConfig, build
from rarevoxel.errors import NotFoundError
from rarevoxel.lineage import CaseRecord, Lineage, WeightFile
from rarevoxel.networks import load_weights
from rarevoxel.training.options import TrainOptions
from rarevoxel.training.places import LabelledCase, Places
from rarevoxel.training.record import platform_facts, versions
from rarevoxel.training.registry import Registry
from rarevoxel.training.run import train_model
from rarevoxel.volumes import file_sha256

logger = logging.getLogger(__name__)

TOLERANCE = 0.02
"""Largest difference of a case's mean region Dice on another machine, other packages or another number of threads."""


@dataclass(frozen=True)
class Reproduction:
    """What came out of making a run again.

    Attributes:
        model: model name.
        version: version or run that was made again.
        agrees: whether the same came out.
        sentence: the result, with the tolerance.
        changed: inputs that are no longer what they were; nothing was trained then.
        environment: what differs between then and now of packages and machine.
        exact: whether the same weights to the bit were expected.
        weights_difference: largest absolute difference of a weight; None when the old weights are gone.
        dice: hold-out case -> (then, now) mean region Dice.
        published: (then, now) whether the gate published.
        seconds: duration.
    """

    model: str
    version: str
    agrees: bool
    sentence: str
    changed: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    exact: bool = False
    weights_difference: float | None = None
    dice: dict[str, tuple[float, float]] = field(default_factory=dict)
    published: tuple[bool, bool] | None = None
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return asdict(self)


def reproduce(
    lineage: Lineage,
    cases: Mapping[str, LabelledCase],
    registry: Registry,
    work: Path,
    find_label: Callable[[str, str], Path | None] = lambda case, sha256: None,
) -> Reproduction:
    """Train again from a lineage, in a folder of its own, and compare weights, hold-out Dice and verdict.

    On the same machine with the same packages and as many threads, the weights must be the same to the bit; elsewhere
    every hold-out case must score the same mean region Dice within `TOLERANCE`, since other processors and packages
    round otherwise and training amplifies that. Where an input has changed nothing is trained.

    Args:
        lineage: of the run.
        cases: case id -> case of the studies folder as it is now.
        registry: where the weights it started from, and those that came out, are looked for.
        work: an empty folder; what is trained stays there.
        find_label: (case id, SHA-256) -> an earlier version of the label; asked when the label has changed.

    Raises:
        NotFoundError: if weights the run started from or was judged against are gone.
        RareVoxelError: as `train_model`.
    """
    started = time.monotonic()
    given, changed = _inputs(lineage, cases, find_label)
    if changed:
        sentence = f"{lineage.version} does not agree: {len(changed)} inputs are no longer what they were"
        return Reproduction(lineage.model, lineage.version, False, sentence, tuple(changed))
    environment = _environment(lineage)
    exact = not environment and lineage.platform.get("device") == "cpu"
    config = build(AppConfig, lineage.configuration, f"lineage of {lineage.version}")
    options = TrainOptions.from_request({**lineage.options, "resume": False}, config, str(lineage.options["loss"]))
    places = Places.of(work, lineage.model, lineage.version)
    for weights in (lineage.incumbent, lineage.start):
        if weights is not None and not places.published.exists():
            places.published.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_weights(weights, registry), places.published)
    with _threads(int(lineage.platform.get("threads", 1))):
        stats = train_model(config, options, given, places, two_stage=lineage.two_stage)
    then, again = lineage.gate, stats["gate"]
    dice = {case: (_mean(then["cases"][case]), _mean(again["cases"][case])) for case in then["cases"]}
    furthest = max((abs(new - old) for old, new in dice.values()), default=0.0)
    old_file = registry.find(lineage.sha256)
    difference = None if old_file is None else largest_difference(old_file, places.run / "candidate.pt")
    same = (furthest == 0 and not difference) if exact else furthest <= TOLERANCE
    agrees = same and then["publish"] == again["publish"]
    return Reproduction(
        lineage.model,
        lineage.version,
        agrees,
        _sentence(lineage, agrees, exact, difference, furthest, (then["publish"], again["publish"])),
        environment=tuple(environment),
        exact=exact,
        weights_difference=difference,
        dice=dice,
        published=(then["publish"], again["publish"]),
        seconds=round(time.monotonic() - started, 1),
    )


def largest_difference(one: Path, other: Path) -> float:
    """Return the largest absolute difference between the weights of two files, infinity if they do not fit.

    Raises:
        ModelError: if one cannot be loaded.
    """
    ours, theirs = (load_weights(path)[0].state_dict() for path in (one, other))
    if {key: value.shape for key, value in ours.items()} != {key: value.shape for key, value in theirs.items()}:
        return math.inf
    return max(float((ours[key].double() - theirs[key].double()).abs().max()) for key in ours)


def _inputs(
    lineage: Lineage, cases: Mapping[str, LabelledCase], find_label: Callable[[str, str], Path | None]
) -> tuple[list[LabelledCase], list[str]]:
    given, changed = [], []
    for record in lineage.cases:
        case = cases.get(record.id)
        if case is None:
            changed.append(f"{record.id}: no longer among the labelled cases")
            continue
        if case.patient != record.patient:
            changed.append(f"{record.id}: is of another patient, and may change sides")
        files = find_sequences(case.image)
        now = {name: file_sha256(path) for name, path in files.items()}
        other = [name for name in {**record.sequences, **now} if record.sequences.get(name) != now.get(name)]
        if other:
            changed.append(f"{record.id}: {', '.join(other)} changed")
        label = _label(record, case, find_label)
        if label is None:
            changed.append(f"{record.id}: the label changed, and version {record.label[:12]} is not in its history")
            continue
        given.append(replace(case, label=label, empty=record.empty, label_version=record.label_version))
    return given, changed


def _label(record: CaseRecord, case: LabelledCase, find_label: Callable[[str, str], Path | None]) -> Path | None:
    if case.label.is_file() and file_sha256(case.label) == record.label:
        return case.label
    found = find_label(record.id, record.label)
    if found:
        logger.info("%s: the label of then was found in its history", record.id)
    return found


def _environment(lineage: Lineage) -> list[str]:
    """What differs between then and now, apart from the threads, which are set as they were."""
    now = {**versions(), **platform_facts()}
    then = {**lineage.versions, **lineage.platform}
    names = (*lineage.versions, "system", "device", "processor", "capability")
    return [f"{name}: {then.get(name)} then, {now.get(name)} now" for name in names if then.get(name) != now.get(name)]


def _weights(weights: WeightFile, registry: Registry) -> Path:
    found = registry.find(weights.sha256)
    if found is None:
        msg = f"weights {weights.name} ({weights.sha256[:12]}) of then are neither kept nor the starter"
        raise NotFoundError(msg, "keep more versions (gate.keep in app.toml), or train from the starter")
    return found


def _mean(regions: Mapping[str, Any]) -> float:
    return sum(float(pair[1]) for pair in regions.values()) / len(regions)


def _sentence(
    lineage: Lineage, agrees: bool, exact: bool, difference: float | None, furthest: float, published: tuple[bool, bool]
) -> str:
    weights = "the old weights are gone" if difference is None else f"weights differ by at most {difference:.3g}"
    if difference == 0:
        weights = "weights equal to the bit"
    expected = "equal to the bit, as on the same machine" if exact else f"hold-out Dice within {TOLERANCE:.2f}"
    verdict = "the same verdict" if published[0] == published[1] else "another verdict"
    told = "agrees" if agrees else "does not agree"
    return f"{lineage.version} {told} (expected: {expected}): {weights}, Dice by at most {furthest:.4f}, {verdict}"


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
