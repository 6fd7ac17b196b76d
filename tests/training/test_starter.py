"""The starter's training data and recipe."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import torch

from rarevoxel.config import AppConfig
from rarevoxel.networks import load_weights
from rarevoxel.phantom import PhantomSpec, Tissue, tumour_map
from rarevoxel.training.starter import PhantomStream, add_vessels, healthy_variation, random_contrast, train_starter

SPACING = (4.0, 4.0, 4.0)


def test_a_seed_gives_the_same_stream(config: AppConfig) -> None:
    first, second = (list(islice(PhantomStream(config, 3), 2)) for _ in range(2))
    for (image, regions), (image_again, regions_again) in zip(first, second, strict=True):
        assert torch.equal(image, image_again)
        assert torch.equal(regions, regions_again)
    other, _ = next(iter(PhantomStream(config, 4)))
    assert other.shape != first[0][0].shape or not torch.equal(other, first[0][0])


def test_regions_are_nested_and_sizes_suit_the_network(config: AppConfig) -> None:
    for image, (wt, tc, et) in islice(PhantomStream(config, 0), 4):
        assert image.shape[0] == 4
        assert image.shape[1:] == wt.shape
        assert all(n % 16 == 0 for n in wt.shape)
        assert bool((wt >= tc).all())
        assert bool((tc >= et).all())
        assert bool(torch.isfinite(image).all())


def test_whatever_the_contrast_a_lesion_stays_one() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        t1n, t1c, t2w, t2f = random_contrast(rng)
        assert t2f[Tissue.EDEMA] > max(t2f[Tissue.WHITE], t2f[Tissue.GREY])
        assert t1c[Tissue.ENHANCING] > t1n[Tissue.ENHANCING]
        assert t2w[Tissue.EDEMA] > t2w[Tissue.WHITE]
        assert t1n[Tissue.AIR] == 0


def test_vessels_and_variation_leave_tumour_and_air_alone() -> None:
    rng = np.random.default_rng(1)
    tissue = tumour_map(rng, PhantomSpec(size=(40, 48, 40), spacing=SPACING, severity="mild"))
    changed = add_vessels(tissue, rng, SPACING)
    sick = tissue >= Tissue.EDEMA
    assert np.array_equal(changed[sick], tissue[sick])
    assert np.array_equal(changed == Tissue.AIR, tissue == Tissue.AIR)
    assert np.count_nonzero(changed == Tissue.VESSEL) > np.count_nonzero(tissue == Tissue.VESSEL)
    factor = healthy_variation(tissue, rng, SPACING)
    assert factor.shape == (4, *tissue.shape)
    assert bool((factor > 0).all())


def test_the_recipe_writes_half_precision_weights(config: AppConfig, tmp_path: Path) -> None:
    out = train_starter(config, tmp_path / "starter.pt", steps=2, workers=0)
    network, shape, preprocessing, info = load_weights(out)
    assert shape == config.network
    assert preprocessing == config.preprocessing
    assert info["steps"] == 2
    assert next(network.parameters()).dtype == torch.float32
    stored = torch.load(out, weights_only=True)["model"]
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
