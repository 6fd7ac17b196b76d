"""The networks of a model, trained: one for the regions, and for a two-stage model a binary one before it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rarevoxel.config import AppConfig
from rarevoxel.inference.two_stage import combine, tune_threshold
from rarevoxel.inference.windows import predict_image
from rarevoxel.labels import REGIONS
from rarevoxel.losses import build_loss
from rarevoxel.networks import SecondStage, TwoStage, TwoStageNetwork, binary_from_regions, first_stage_of
from rarevoxel.training.checkpoint import SAVE_INTERVAL_S, SUFFIX
from rarevoxel.training.distributed import current_group
from rarevoxel.training.fitting import History
from rarevoxel.training.loop import fit
from rarevoxel.training.options import TrainOptions
from rarevoxel.training.peak import Judged, choose_peak
from rarevoxel.training.plan import Plan
from rarevoxel.transforms import Stage, build_transforms

logger = logging.getLogger(__name__)

BINARY_LOSS = "dice_ce"
"""Loss of the binary network of a two-stage model."""

PEAK_CASES = 16
"""Cases that a peak is chosen by, at most."""


@dataclass(frozen=True)
class Trained:
    """What came out of a run.

    Attributes:
        network: with its best weights; a `TwoStageNetwork` for a two-stage model.
        history: of the region network.
        tuning: threshold -> mean region Dice on the cases it was tuned on.
    """

    network: nn.Module
    history: History
    tuning: dict[float, float] = field(default_factory=dict)

    @property
    def second_stage(self) -> TwoStage | None:
        """How the binary stage acts; None without one."""
        return self.network.settings if isinstance(self.network, TwoStageNetwork) else None


def train_networks(
    network: nn.Module,
    plan: Plan,
    options: TrainOptions,
    holdout: Sequence[dict[str, Any]],
    *,
    tune: Sequence[dict[str, Any]] | None = None,
    form: str | None = None,
    on_epoch: Callable[[int, History], None] = lambda epoch, history: None,
    select: bool = True,
    checkpoints: Path | None = None,
    fingerprint: str = "",
    save_interval_s: float = SAVE_INTERVAL_S,
    cache: Path | None = None,
) -> Trained:
    """Train a region network and, for a two-stage model, the binary network whose background masks it.

    Args:
        network: to start from; a `TwoStageNetwork` goes on with both of its networks. Trained in place.
        plan: cases, loss, sampler, configuration.
        options: the run's options.
        holdout: cases to validate on; with none the weights of the last epoch are taken.
        tune: cases the two-stage threshold is tuned on; the hold-out when None.
        form: `hard` or `soft` for a two-stage model, see `rarevoxel.inference.two_stage.combine`; None for one stage.
        on_epoch: see `fit`; called for the region network.
        select: see `fit`.
        checkpoints: folder to save checkpoints to and to go on from; a stage that was finished is not trained again.
        fingerprint: see `fit`.
        save_interval_s: see `fit`.
        cache: see `fit`.

    Raises:
        TrainingError: see `fit`.
    """

    def saving(stage: str) -> dict[str, Any]:
        path = None if checkpoints is None else checkpoints / f"{stage}{SUFFIX}"
        kept = {"checkpoint": path, "fingerprint": fingerprint, "save_interval_s": save_interval_s}
        return {**kept, "select": select, "cache": cache}

    regions = first_stage_of(network)
    shape = plan.config.network
    second = network.second if isinstance(network, TwoStageNetwork) else None
    if form is not None and second is None:
        second = SecondStage(binary_from_regions(regions, shape), shape)
    options = replace(options, sampler=plan.sampler)
    weights, history = fit(
        regions, plan.choice.loss, plan.config, options, plan.train, holdout, on_epoch=on_epoch, **saving("regions")
    )
    regions.load_state_dict(weights)
    if form is None or second is None:
        return Trained(regions, history)
    logger.info("second stage: a binary network for the background")
    weights, second_history = fit(
        second.network,
        build_loss(BINARY_LOSS).loss,
        replace(plan.config, network=second.config),
        # Other draws than the first stage's, so that the two do not err on the same patches.
        replace(options, seed=options.seed + 1),
        plan.train,
        holdout,
        regions=("WT",),
        **saving("foreground"),
    )
    history.skipped.update(second_history.skipped)
    history.warnings += [warning for warning in second_history.warnings if warning not in history.warnings]
    second.network.load_state_dict(weights)
    both = TwoStageNetwork(regions, second)
    if not current_group().first:  # One process tunes, the others have done their part.
        return Trained(both, history)
    asked = [case for case in tune or holdout or plan.train if str(case["id"]) not in history.skipped]
    cases = _predicted(both, plan.config, asked)
    threshold, scores = tune_threshold(cases, form, decision=plan.config.inference.threshold)
    logger.info("second stage: %s form, threshold %.2f", form, threshold)
    settled = replace(second, settings=TwoStage(threshold, form))
    return Trained(TwoStageNetwork(regions, settled), history, scores)


def settle_peak(trained: Trained, config: AppConfig, cases: Sequence[dict[str, Any]], known: float) -> float:
    """Return what a piece of tumour must reach somewhere to be kept, see `rarevoxel.training.peak.choose_peak`.

    Args:
        trained: networks whose stages have been trained and tuned.
        config: of the plan.
        cases: labelled cases to choose by, none of which judges the weights; of more than `PEAK_CASES` every n-th.
        known: peak of the weights the training began with, which holds as long as no other does better.
    """
    asked = [case for case in cases if str(case["id"]) not in trained.history.skipped]
    asked = asked[:: math.ceil(len(asked) / PEAK_CASES) or 1]
    network, stage = trained.network, trained.second_stage

    def judged() -> Iterator[Judged]:
        for regions, foreground, truth in _predicted(network, config, asked):
            acted = regions if stage is None else combine(regions, foreground, stage.threshold, stage.form)
            yield acted[0].numpy(), (truth[0] > 0).numpy()

    peak = choose_peak(judged(), config.preprocessing.spacing, threshold=config.inference.threshold, known=known)
    logger.info("pieces of tumour must reach %g somewhere (%d cases)", peak, len(asked))
    return peak


@torch.no_grad()
def _predicted(network: nn.Module, config: AppConfig, cases: Sequence[dict[str, Any]]) -> Any:
    """Yield region probabilities, foreground probability (of two stages) and true regions of cases, as resampled."""
    network.eval()
    if isinstance(network, TwoStageNetwork):
        config = replace(config, network=max(config.network, network.second.config, key=lambda shape: shape.multiple))
    transforms = build_transforms(config, Stage.VALIDATE)
    for case in cases:
        data = transforms(dict(case))
        probabilities = predict_image(network, config, data["image"].as_tensor())
        count = len(REGIONS)
        yield probabilities[:count], probabilities[count:], data["label"].as_tensor()
