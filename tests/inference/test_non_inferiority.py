"""The short cuts of the engine cost no Dice: against the whole volume in single precision, in MONAI's own windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from monai.transforms import Compose
from torch import nn

from rarevoxel.bundled import bundled_app
from rarevoxel.cases import Case, scan
from rarevoxel.config import AppConfig, load_config
from rarevoxel.evaluation import region_dice
from rarevoxel.inference import Engine
from rarevoxel.inference.decide import decide
from rarevoxel.inference.precision import VARIABLE
from rarevoxel.inference.rule import rule_of
from rarevoxel.networks import load_weights
from rarevoxel.transforms import CropBraind, build_transforms
from rarevoxel.volumes import read_labels

MARGIN = 0.002
"""Mean Dice that may be lost."""

CASES = 2

WEIGHTS = bundled_app() / "starter" / "starter.pt"


@pytest.fixture(scope="module")
def shipped() -> AppConfig:
    config = load_config(bundled_app() / "app.toml")
    return replace(config, inference=replace(config.inference, mirror=()))


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    folder = Path(__file__).parents[2] / "sample-data"
    found = [case for case in scan(folder, detect=False).cases if case.label is not None]
    return found[:CASES]


def plain_masks(config: AppConfig, cases: list[Case]) -> Iterator[np.ndarray]:
    """What the same network says of the whole volume, the slow way."""
    network, _, preprocessing, _ = load_weights(WEIGHTS)
    chain = build_transforms(replace(config, preprocessing=preprocessing), "infer")
    chain = Compose([step for step in chain.transforms if not isinstance(step, CropBraind)])
    for case in cases:
        image = chain({"image": case.sequences})["image"]
        yield plain_mask(network, config, image, chain)


def plain_mask(network: nn.Module, config: AppConfig, image: torch.Tensor, chain: Compose) -> np.ndarray:
    with torch.inference_mode():
        logits = sliding_window_inference(image.as_tensor()[None], config.inference.window, 1, network)
    decided = decide(torch.sigmoid(logits)[0], image, chain, rule_of({}, (), config.inference))
    return decided.paste(decided.labels[None])[0].numpy()


def test_crop_short_floats_and_chosen_windows_lose_no_dice(
    shipped: AppConfig, cases: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "bfloat16")
    engine = Engine(shipped, [WEIGHTS], device="cpu")
    lost, agreement = [], []
    for case, plain in zip(cases, plain_masks(shipped, cases), strict=True):
        truth = read_labels(str(case.label))
        ours = engine.predict(case.sequences).labels
        before, after = region_dice(plain, truth), region_dice(ours, truth)
        lost += [before[region] - after[region] for region in before]
        agreement.append(region_dice(ours, plain)["WT"])
    assert np.mean(lost) <= MARGIN, lost
    # Instance normalisation sees how much of a window is background, so the masks are not the same on cases as unlike
    # the training as these; what is asked of the engine is to lose nothing by it.
    assert all(0 < same < 1 for same in agreement), "nothing is compared"


def test_short_floats_alone_leave_the_mask_as_it_is(
    shipped: AppConfig, cases: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = []
    for precision in ("bfloat16", "float32"):
        monkeypatch.setenv(VARIABLE, precision)
        masks.append(Engine(shipped, [WEIGHTS], device="cpu").predict(cases[0].sequences).labels)
    assert region_dice(*masks)["WT"] >= 0.99
    truth = read_labels(str(cases[0].label))
    short, exact = (region_dice(mask, truth) for mask in masks)
    assert np.mean([abs(short[region] - exact[region]) for region in exact]) <= 0.01
