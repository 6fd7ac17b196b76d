"""Judging a model on labelled cases, predicted as they would be served."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from rarevoxel.cases import Case
from rarevoxel.errors import GeometryError, InputError, RareVoxelError
from rarevoxel.evaluation.case_evaluation import CaseEvaluation, evaluate_case
from rarevoxel.evaluation.model_report import Evaluation
from rarevoxel.evaluation.worst import Kept, Worst
from rarevoxel.inference.prediction import Prediction
from rarevoxel.labels import CLIENT_SCHEME, REGIONS
from rarevoxel.volumes import Grid, read_label_volume


class Predictor(Protocol):
    """What an `Engine` does here."""

    def predict(self, image: Mapping[str, Path], *, with_probabilities: bool) -> Prediction:
        """Segment one case; see `Engine.predict`."""


@dataclass
class _Run:
    engine: Predictor
    regions: Sequence[str]
    worst: Worst
    model: dict[str, Any] = field(default_factory=dict)

    def judge(self, case: Case) -> CaseEvaluation:
        """Predict a case, score it and offer it to the worst."""
        label = Path(str(case.label))
        truth = read_label_volume(label)
        CLIENT_SCHEME.check(truth.array, str(label))
        prediction = self.engine.predict(case.sequences, with_probabilities=True)
        h, w, d = prediction.labels.shape
        grid = Grid((h, w, d), prediction.affine)
        if not grid.matches(truth.grid, tol=1e-3):
            msg = f"{label}: label grid {truth.grid.describe()} is not the image's {grid.describe()}"
            raise GeometryError(msg, "save the label on the display volume's grid")
        self.model = self.model or dict(prediction.model)
        scored = evaluate_case(
            case.id,
            case.patient,
            prediction.labels,
            truth.array,
            grid.affine,
            probabilities=prediction.probabilities,
            regions=self.regions,
            missing=prediction.missing,
        )
        labels = truth.array.astype(np.uint8, copy=False)
        self.worst.offer(Kept(scored, prediction.labels, labels, grid.affine, case.sequences))
        return scored


def evaluate_cases(
    engine: Predictor, cases: Iterable[Case], regions: Sequence[str] = tuple(REGIONS), worst: Worst | None = None
) -> Evaluation:
    """Predict and score every labelled case of a studies folder; a case that cannot be used is named and passed over.

    Args:
        engine: predicts.
        cases: of a studies folder, with labels in client values; the others are counted only.
        regions: those to score, in this order.
        worst: keeps the masks of the worst cases.

    Raises:
        InputError: if no case is labelled.
        ModelError: when the weights cannot be used.
    """
    found = list(cases)
    labelled = [case for case in found if case.label is not None]
    if not labelled:
        msg = f"none of {len(found)} cases is labelled, expected at least one label in labels/final"
        raise InputError(msg, "prepare the cases with their labels: rarevoxel prepare SOURCE STUDIES --labels")
    run = _Run(engine, tuple(regions), Worst(0) if worst is None else worst)
    scored, refused = [], {}
    for case in tqdm(labelled, desc="evaluate", unit="case", disable=None):
        try:
            scored.append(run.judge(case))
        except RareVoxelError as error:
            if error.code == "model":
                raise
            refused[case.id] = str(error)
    return Evaluation(tuple(regions), tuple(scored), refused, len(found) - len(labelled), run.model)
