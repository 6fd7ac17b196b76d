"""One cell of the few-label study: train a method on so many cases with a seed, and score what it learned and kept."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import few_labels_monailabel as monailabel
import numpy as np
import torch
from few_labels_cases import LABEL, Sides, case_folders

from rarevoxel.config import AppConfig, load_config
from rarevoxel.evaluation import region_dice
from rarevoxel.inference import Engine
from rarevoxel.networks import build_network, load_weights, save_weights
from rarevoxel.statistics import case_statistics
from rarevoxel.training.options import TrainOptions
from rarevoxel.training.plan import make_plan
from rarevoxel.training.stages import train_networks
from rarevoxel.volumes import read_label_volume, read_labels

STARTER, TUNED, SCRATCH, MONAILABEL = "starter", "fine-tuned", "scratch", "monailabel"
SCRATCH_RATE = 1e-3
"""Peak learning rate from random weights: that of the starter's own training."""

Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Study:
    """What all cells share.

    Args:
        out: folder of cases, weights and results.
        app: folder with `app.toml`.
        starter: weight file.
        steps: optimisation steps of every training.
        patch: edge of a patch in voxels at the spacing of the network; one patch a step.
        patches_per_case: of an epoch.
        sides: how many cases.
        size: voxels of a case.
    """

    out: Path
    app: Path
    starter: Path
    steps: int = 160
    patch: int = 64
    patches_per_case: int = 2
    sides: Sides = field(default_factory=Sides)
    size: tuple[int, int, int] = (72, 88, 72)

    def config(self) -> AppConfig:
        """Return the app's configuration with the study's patch; mirror images, which double the time, are not used."""
        config = load_config(self.app / "app.toml")
        training = replace(config.training, patch_size=(self.patch,) * 3)
        return replace(config, training=training, inference=replace(config.inference, mirror=()))

    def folders(self, side: str) -> list[Path]:
        """Return the case folders of a side."""
        return case_folders(self.out / "cases", side, getattr(self.sides, side))


@dataclass(frozen=True)
class Cell:
    """One training.

    Args:
        method: `starter`, `fine-tuned`, `scratch` or `monailabel`.
        n: labelled cases.
        seed: of weights, draws, augmentation, and of which cases are taken.
        value: the anchor of `fine-tuned`, the learning rate of `monailabel`.
        tune: learn from and judge with the cases that choose the anchor.
        factor: as many times the steps.
    """

    method: str
    n: int
    seed: int = 0
    value: float = 0.0
    tune: bool = False
    factor: int = 1

    @property
    def key(self) -> str:
        """Name of its record."""
        return "/".join(str(part) for part in asdict(self).values())

    def learns_from(self, study: Study) -> list[Path]:
        """Return the cases to learn from: the first `n` of an order that the seed draws."""
        pool = study.folders("train_tune" if self.tune else "train")
        return [pool[i] for i in np.random.default_rng([self.seed, 5]).permutation(len(pool))[: self.n]]


def run_cell(cell: Cell, study: Study, deadline: float, threads: int) -> dict[str, Any] | None:
    """Train and score a cell; None if it would have begun after the deadline (a time of `time.time`)."""
    if time.time() > deadline:
        return None
    torch.set_num_threads(threads)
    started = time.perf_counter()
    learned = cell.learns_from(study)
    unseen, own = ("tune", "own_tune") if cell.tune else ("test", "own")
    known: dict[str, Any] = {**asdict(cell), "cases": [folder.name for folder in learned]}
    if cell.method == MONAILABEL:
        network = monailabel.train_recipe(learned, cell.factor * study.steps, study.patch, cell.seed, cell.value)
        trained = time.perf_counter()
        scores = {folder.name: _score_recipe(network, folder) for folder in study.folders(unseen)}
        return {**known, "train_s": trained - started, "unseen": scores}
    config = study.config()
    weights, known["loss"] = _weights(cell, study, config, learned)
    trained = time.perf_counter()
    engine = Engine(config, [weights], "cpu")
    known |= {"train_s": trained - started, "unseen": _score(engine, study.folders(unseen))}
    if cell.method in (STARTER, TUNED):
        known["own"] = _score(engine, study.folders(own))
    return known


def _weights(cell: Cell, study: Study, config: AppConfig, learned: list[Path]) -> tuple[Path, str]:
    """Train the way the product does, and return the weight file and the loss that was chosen."""
    if cell.method == STARTER:
        return study.starter, ""
    torch.manual_seed(cell.seed)
    if cell.method == TUNED:
        network, shape, preprocessing, _ = load_weights(study.starter)
        config = replace(config, network=shape, preprocessing=preprocessing)
    else:
        network = build_network(config.network)
    request = {
        "max_epochs": cell.factor * study.steps // (study.patches_per_case * cell.n),
        "patches_per_case": study.patches_per_case,
        "batch_size": 1,
        "seed": cell.seed,
        "anchor": cell.value if cell.method == TUNED else 0.0,
        **({} if cell.method == TUNED else {"learning_rate": SCRATCH_RATE}),
    }
    options = TrainOptions.from_request(request, config, "auto")
    entries = [{"id": f.name, "image": str(f / "t1c.nii.gz"), "label": str(f / LABEL)} for f in learned]
    volumes = {folder.name: read_label_volume(folder / LABEL) for folder in learned}
    measured = {name: case_statistics(volume.array, volume.grid.spacing, name) for name, volume in volumes.items()}
    plan = make_plan(config, options, entries, measured)
    network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    trained = train_networks(network, plan, options, ())
    path = study.out / "weights" / f"{cell.key.replace('/', '_')}.pt"
    save_weights(path, trained.network, config.network, config.preprocessing, asdict(cell))
    return path, plan.choice.name


def _score(engine: Engine, folders: list[Path]) -> Scores:
    masks = {folder: engine.predict(folder / "t1c.nii.gz").labels for folder in folders}
    return {folder.name: region_dice(mask, read_labels(folder / LABEL)) for folder, mask in masks.items()}


def _score_recipe(network: torch.nn.Module, folder: Path) -> dict[str, float]:
    return region_dice(monailabel.predict(network, folder), read_labels(folder / LABEL))
