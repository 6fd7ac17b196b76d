"""The weights that all methods of a comparison start from, as the app's models start from its starter."""

from __future__ import annotations

from pathlib import Path

import torch

from rarevoxel.comparison.data import pretraining_entries
from rarevoxel.comparison.spec import Budget, fingerprint
from rarevoxel.losses import build_loss
from rarevoxel.networks import build_network, save_weights
from rarevoxel.training.loop import fit
from rarevoxel.training.options import TrainOptions

START_LOSS = "dice_ce"
START_RATE = 5e-3
START_SEED = 0


def common_start(folder: Path, budget: Budget) -> Path | None:
    """Return the start weights of a budget, trained once and kept; None for a budget without pretraining.

    They are trained from random weights with `dice_ce` and the sampler `pos_neg` on 48 phantoms of other seeds (16
    each of mild, moderate and severe), with the budget's network, patch and spacing.

    Args:
        folder: of the comparison.
        budget: shared by all methods.

    Raises:
        TrainingError: when the loss is no longer finite.
        ConflictError: if the folder holds phantoms of another spacing.
    """
    if not budget.pretraining:
        return None
    shared = {name: getattr(budget, name) for name in ("network", "patch", "spacing", "pretraining")}
    path = folder / f"start-{fingerprint(shared)}.pt"
    if path.is_file():
        return path
    config = budget.config()
    entries = [entry.to_dict() for entry in pretraining_entries(folder / "cases", budget.spacing)]
    request = {
        "max_epochs": budget.pretraining,
        "learning_rate": START_RATE,
        "sampler": "pos_neg",
        "patches_per_case": 4,
        "batch_size": 2,
        "seed": START_SEED,
    }
    options = TrainOptions.from_request(request, config, START_LOSS)
    torch.manual_seed(START_SEED)
    network = build_network(config.network).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    weights, history = fit(network, build_loss(START_LOSS).loss, config, options, entries)
    network.load_state_dict(weights)
    info = {"name": "start", "loss": START_LOSS, "epochs": budget.pretraining, "final_loss": history.loss[-1]}
    save_weights(path, network, config.network, config.preprocessing, info)
    return path
