"""One cell of the comparison: train a method on a fold with a seed, and score every test case."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.transforms import InvertibleTransform
from torch import nn

from rarevoxel.comparison.data import Entry, Fold
from rarevoxel.comparison.spec import Budget, Method
from rarevoxel.config import AppConfig
from rarevoxel.errors import GeometryError
from rarevoxel.evaluation import score_case_regions
from rarevoxel.inference.two_stage import combine
from rarevoxel.inference.windows import predict_image
from rarevoxel.networks import TwoStage, build_network, load_weights
from rarevoxel.statistics import case_statistics
from rarevoxel.training.options import TrainOptions
from rarevoxel.training.plan import make_plan
from rarevoxel.training.stages import train_networks
from rarevoxel.transforms import Stage, build_transforms
from rarevoxel.volumes import read_header, read_label_volume

FORM = "hard"
"""The two-stage form that is compared: the published one."""


def run_one(method: Method, fold: Fold, budget: Budget, seed: int, start: Path | None = None) -> dict[str, Any]:
    """Train, and score the test cases on their own grid.

    Everything but loss, sampler, filter and stages is the same for all methods: initial weights, network, patches per
    epoch, epochs, augmentation, optimizer and cases.

    Args:
        method: how to train.
        fold: on what.
        budget: shared by all methods.
        seed: of the draws, and of the initial weights without `start`.
        start: weight file to start from, see `rarevoxel.comparison.start`; None for random weights.

    Returns:
        A JSON-able record: what was chosen and why, seconds, and one score per test case.

    Raises:
        TrainingError: when the loss is no longer finite.
        RareVoxelError: if a case cannot be read.
    """
    started = time.perf_counter()
    config = budget.config()
    request = {"loss": method.loss, "sampler": method.sampler, "filter": method.filter, "seed": seed}
    options = TrainOptions.from_request(request, config, method.loss)
    measured = {entry.id: _measure(entry) for entry in fold.train}
    plan = make_plan(config, options, [entry.to_dict() for entry in fold.train], measured)
    torch.manual_seed(seed)
    network = build_network(config.network) if start is None else load_weights(start)[0]
    network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    tune = [entry.to_dict() for entry in fold.tune]
    trained = train_networks(network, plan, options, (), tune=tune, form=FORM if method.two_stage else None)
    seconds = time.perf_counter() - started
    network = trained.network.eval()
    return {
        "method": method.name,
        "fold": fold.name,
        "seed": seed,
        "loss": plan.choice.name,
        "sampler": plan.sampler,
        "reason": plan.choice.reason,
        "dropped": {drop.id: drop.reason for drop in plan.filtered.dropped},
        "second_stage": None if trained.second_stage is None else trained.second_stage.threshold,
        "history": trained.history.loss,
        "seconds": round(seconds, 2),
        "cases": [score_entry(network, plan.config, entry, trained.second_stage) for entry in fold.test],
    }


def score_entry(network: nn.Module, config: AppConfig, entry: Entry, second_stage: TwoStage | None) -> dict[str, Any]:
    """Predict a case on its own grid and score it; see `rarevoxel.evaluation.score_case_regions`.

    Raises:
        GeometryError: if image and label map lie on different grids.
        LabelError: if the label map has a value that is no client label.
        RareVoxelError: if the case cannot be read.
    """
    truth = read_label_volume(Path(entry.label))
    grid = read_header(Path(entry.image), allow_4d=True)
    if not grid.matches(truth.grid, tol=1e-3):
        msg = f"{entry.label}: label grid {truth.grid.describe()} is not the image's {grid.describe()}"
        raise GeometryError(msg, "save the label on the display volume's grid")
    probabilities, brain = predict_on_grid(network, config, Path(entry.image), second_stage)
    record = score_case_regions(
        probabilities,
        truth.array,
        truth.grid.spacing,
        brain=brain,
        threshold=config.inference.threshold,
    )
    return {"case": entry.id, **record}


@torch.no_grad()
def predict_on_grid(
    network: nn.Module, config: AppConfig, image: Path, second_stage: TwoStage | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return region probabilities `(3, H, W, D)` and the brain `(H, W, D)` of a case on its display grid."""
    chain = build_transforms(config, Stage.INFER)
    data = chain({"image": image})
    probabilities = predict_image(network, config, data["image"].as_tensor())
    if second_stage is not None:
        probabilities = combine(probabilities[:-1], probabilities[-1:], second_stage.threshold, second_stage.form)
    brain = (data["image"].as_tensor() != 0).any(dim=0, keepdim=True).float()
    both = data["image"].clone()
    both = type(both)(torch.cat([probabilities, brain]), meta=both.meta, applied_operations=both.applied_operations)
    result = {"image": both}
    for transform in reversed(chain.transforms):
        if isinstance(transform, InvertibleTransform):
            result = transform.inverse(result)
    array = result["image"].as_tensor().numpy()
    return array[:-1], array[-1] > 0.5


def _measure(entry: Entry) -> Any:
    volume = read_label_volume(Path(entry.label))
    return case_statistics(volume.array, volume.grid.spacing, entry.id)
