"""What a run decides before its first step: which cases, which intensities, which loss, which sampler."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rarevoxel.cases import SEQUENCES
from rarevoxel.config import AppConfig, PowerConfig
from rarevoxel.losses import LossChoice, build_loss
from rarevoxel.statistics import CaseStatistics, DatasetStatistics
from rarevoxel.training.options import TrainOptions
from rarevoxel.transforms import FilterResult, fit_power_from_cases, load_sequences, parse_filter

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """The decisions of a run.

    Attributes:
        config: with the intensity preprocessing that was chosen.
        train: entries of the cases to learn from, those the filter dropped left out.
        filtered: what the filter kept and dropped, with reasons.
        statistics: of the labels the loss was chosen from.
        choice: the loss, its name and the reason.
        sampler: one of `rarevoxel.sampling.SAMPLER_NAMES`.
    """

    config: AppConfig
    train: tuple[dict[str, Any], ...]
    filtered: FilterResult
    statistics: DatasetStatistics
    choice: LossChoice
    sampler: str


def make_plan(
    config: AppConfig,
    options: TrainOptions,
    train: Sequence[dict[str, Any]],
    measured: Mapping[str, CaseStatistics],
) -> Plan:
    """Filter the training cases, measure what is left, and choose intensities, loss and sampler.

    Args:
        config: application configuration; its preprocessing is that of the weights the run starts from.
        options: the run's options.
        train: `{"id", "image", "label"}` of the cases to learn from.
        measured: case id -> statistics of its label, hold-out cases included: their sizes are part of the
            distribution that chooses the loss.

    Raises:
        ConflictError: if the filter leaves no case.
        RequestError: if the loss needs statistics that are not there.
    """
    filtered = parse_filter(options.filter, seed=options.seed)(train, measured)
    dropped = {drop.id for drop in filtered.dropped}
    for drop in filtered.dropped:
        logger.info("left out by the filter: %s: %s", drop.id, drop.reason)
    statistics = DatasetStatistics.from_cases(
        [case for case in measured.values() if case.case_id not in dropped], minimum_n=config.training.minimum_n
    )
    choice = build_loss(options.loss, statistics)
    sampler = choice.sampler if options.sampler == "auto" else options.sampler
    logger.info("loss %s, sampler %s: %s", choice.name, sampler, choice.reason)
    kept = tuple(filtered.kept)
    return Plan(_with_intensity(config, options, kept), kept, filtered, statistics, choice, sampler)


def _with_intensity(config: AppConfig, options: TrainOptions, train: Sequence[Mapping[str, Any]]) -> AppConfig:
    if options.intensity == "as_trained":
        return config
    power: tuple[PowerConfig, ...] = ()
    if options.intensity == "skewness":
        images = (load_sequences(Path(str(case["image"]))) for case in train)
        low, high = config.preprocessing.percentiles
        fitted = fit_power_from_cases(images, (low, high), seed=options.seed)
        for sequence, fit in zip(SEQUENCES, fitted.report, strict=True):
            logger.info("intensities of %s: %s", sequence, fit.reason)
        power = fitted.power
    return replace(config, preprocessing=replace(config.preprocessing, power=power))
