"""One round of a campaign: choose, label, train, test."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rarevoxel.comparison.data import Entry
from rarevoxel.evaluation import dice, match_lesions
from rarevoxel.inference.cache import VolumeCache
from rarevoxel.inference.engine import Engine
from rarevoxel.inference.uncertainty import score_case
from rarevoxel.labels import REGIONS, labels_to_regions
from rarevoxel.learning.effort import Effort, Labels, measure_effort
from rarevoxel.learning.pool import CaseScore, Pool
from rarevoxel.learning.simulate.annotator import Annotator, tolerated
from rarevoxel.learning.simulate.spec import Campaign
from rarevoxel.learning.strategies import STRATEGIES, Choice, read_options
from rarevoxel.networks import build_network, load_weights, save_weights
from rarevoxel.statistics import CaseStatistics, case_statistics
from rarevoxel.training.loop import fit
from rarevoxel.training.options import TrainOptions
from rarevoxel.training.plan import Plan, make_plan
from rarevoxel.volumes import read_label_volume, replace_file

Record = dict[str, Any]

_PREPARED = VolumeCache(1024)
"""Of this process, for all rounds: the same cases are asked about again and again."""


@dataclass(frozen=True)
class Place:
    """Where a campaign reads and writes.

    Args:
        folder: of records, weights and labels.
        start: weight file that all campaigns start from; None for random weights by seed.
    """

    folder: Path
    start: Path | None = None


def run_round(campaign: Campaign, number: int, place: Place) -> Record:
    """Do one round and return its record, which is kept with the weights; all earlier rounds have records.

    Round 0 labels the first cases from nothing. Every other one scores the waiting cases with the weights of the round
    before, ranks them, and corrects what these weights propose for the best, or draws them anew where that is less
    work. Then a network is trained on all that is labelled, and tested. What comes out depends on the arguments alone.

    Raises:
        TrainingError: when the loss is no longer finite.
        RareVoxelError: if a case cannot be read.
        OSError: if a file cannot be written.
    """
    started = time.perf_counter()
    entries = campaign.entries()
    annotator = Annotator(campaign.schedule.noise, campaign.seed)
    labelled = _labelled(campaign, number, place)
    if number:
        engine = _engine(campaign, number - 1, place)
        choices = _choose(campaign, number, labelled, engine, annotator, place)
        proposals: list[Labels | None] = [engine.predict(Path(entries[choice.case].image)).labels for choice in choices]
    else:
        choices = [Choice(case, 0.0, ("one of the first",)) for case in campaign.first_cases()]
        proposals = [None] * len(choices)
    chosen = []
    for choice, proposal in zip(choices, proposals, strict=True):
        given = read_label_volume(annotator.file(entries[choice.case], place.folder))
        effort = _cheapest(proposal, given.array, given.grid.spacing).to_dict()
        chosen.append({"case": choice.case, "reasons": list(choice.reasons), "effort": effort})
    chosen_at = time.perf_counter()
    labelled = [*labelled, *(choice.case for choice in choices)]
    plan = _trained(campaign, number, labelled, place)
    trained_at = time.perf_counter()
    engine = _engine(campaign, number, place)
    record = {
        "data": campaign.fold.name,
        "strategy": campaign.arm.strategy if number else "",
        "loss": campaign.arm.loss,
        "seed": campaign.seed,
        "round": number,
        "labelled": len(labelled),
        "chosen": chosen,
        "trained_with": plan.choice.name,
        "reason": plan.choice.reason,
        "cases": [_test(engine, entry) for entry in campaign.fold.test],
        "took": {
            "choose": round(chosen_at - started, 2),
            "train": round(trained_at - chosen_at, 2),
            "test": round(time.perf_counter() - trained_at, 2),
        },
    }
    replace_file(campaign.record(place.folder, number), json.dumps(record).encode())
    if number > 1:  # Those of the first round are needed by every strategy, these by nobody any more.
        campaign.weights(place.folder, number - 1).unlink(missing_ok=True)
    return record


def _labelled(campaign: Campaign, number: int, place: Place) -> list[str]:
    """The cases labelled before a round, in order."""
    records = [json.loads(campaign.record(place.folder, at).read_text(encoding="utf-8")) for at in range(number)]
    return [one["case"] for record in records for one in record["chosen"]]


def _engine(campaign: Campaign, number: int, place: Place) -> Engine:
    path = campaign.weights(place.folder, number)
    if not path.is_file():  # They were taken away, or the round was interrupted behind its record.
        _trained(campaign, number, _labelled(campaign, number + 1, place), place)
    return Engine(campaign.budget.config(), [path], "cpu", _PREPARED)


def _choose(
    campaign: Campaign, number: int, labelled: Sequence[str], engine: Engine, annotator: Annotator, place: Place
) -> list[Choice]:
    """The best cases by the strategy, as a server would rank them."""
    entries = campaign.entries()
    waiting = sorted(entries.keys() - set(labelled))
    ranking = STRATEGIES[campaign.arm.strategy]
    scores: dict[str, CaseScore] = {}
    pool = Pool(tuple(waiting))
    if ranking.kind != "order":
        method = campaign.schedule.samples
        scores = {case: score_case(engine, case, Path(entries[case].image), method=method) for case in waiting}
        known = {case: score_case(engine, case, Path(entries[case].image), method="none") for case in labelled}
        sizes = [_measure(annotator.file(entries[case], place.folder), case) for case in labelled]
        pool = Pool(
            tuple(waiting),
            scores,
            labelled_sizes={name: tuple(v for one in sizes for v in one.regions[name].components) for name in REGIONS},
            labelled_volumes={name: tuple(one.regions[name].volume for one in sizes) for name in REGIONS},
            labelled_features={case: score.features for case, score in known.items()},
        )
    rng = np.random.default_rng([campaign.seed, number])
    return ranking.rank(pool, read_options(ranking.options, {}), rng)[: campaign.schedule.per_round]


def _cheapest(proposal: Labels | None, given: Labels, spacing: tuple[float, float, float]) -> Effort:
    """The effort of the annotator, who leaves what is nearly right and clears what is less work to draw anew."""
    anew = measure_effort(None, given, spacing)
    if proposal is None:
        return anew
    corrected = measure_effort(proposal, tolerated(proposal, given), spacing)
    return min(corrected, anew, key=lambda effort: effort.seconds)


def _trained(campaign: Campaign, number: int, labelled: Sequence[str], place: Place) -> Plan:
    """Train on the labelled cases and keep the weights; training again gives the same."""
    budget, entries = campaign.budget, campaign.entries()
    annotator = Annotator(campaign.schedule.noise, campaign.seed)
    labels = {case: annotator.file(entries[case], place.folder) for case in labelled}
    drawn = len(labelled) * budget.patches_per_case
    epochs = max(1, round(campaign.schedule.steps * budget.batch_size / drawn))
    config = replace(budget, epochs=epochs).config()
    request = {"loss": campaign.arm.loss, "seed": 1000 * campaign.seed + number}
    options = TrainOptions.from_request(request, config, campaign.arm.loss)
    train = [Entry(case, entries[case].image, str(labels[case])).to_dict() for case in labelled]
    plan = make_plan(config, options, train, {case: _measure(path, case) for case, path in labels.items()})
    before = place.start
    if number and campaign.schedule.going_on:
        before = campaign.weights(place.folder, number - 1)
        if not before.is_file():
            _trained(campaign, number - 1, _labelled(campaign, number, place), place)
    torch.manual_seed(campaign.seed)
    network = build_network(config.network) if before is None else load_weights(before)[0]
    network = network.train().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    weights, _ = fit(
        network,
        plan.choice.loss,
        plan.config,
        replace(options, sampler=plan.sampler),
        list(plan.train),
        cache=place.folder / "prepared",
    )
    network.load_state_dict(weights)
    info = {"name": campaign.key(number), "loss": plan.choice.name, "cases": len(labelled)}
    path = campaign.weights(place.folder, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(path, network, config.network, config.preprocessing, info)
    return plan


def _test(engine: Engine, entry: Entry) -> Record:
    """Score the mask that a clinician would be shown."""
    truth = read_label_volume(Path(entry.label))
    predicted = labels_to_regions(engine.predict(Path(entry.image)).labels)
    masks = labels_to_regions(truth.array)
    regions = dict(zip(REGIONS, zip(predicted, masks, strict=True), strict=True))
    return {
        "case": entry.id,
        "dice": {name: dice(p, t) for name, (p, t) in regions.items()},
        "lesions": {name: match_lesions(p, t, truth.grid.spacing).to_dict() for name, (p, t) in regions.items()},
    }


def _measure(path: Path, case: str) -> CaseStatistics:
    volume = read_label_volume(path)
    return case_statistics(volume.array, volume.grid.spacing, case)
