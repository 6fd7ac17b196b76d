"""Batches of patches: every case once an epoch, drawn the way the sampler's name says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rarevoxel.config import AppConfig
from rarevoxel.errors import RequestError
from rarevoxel.sampling import SAMPLER_NAMES, MixedTarget
from rarevoxel.training import patches as module
from rarevoxel.training.patches import Batch, PatchBatches
from rarevoxel.training.tolerant import cached_cases

NUMBERS = (1, 2, 4)


@pytest.fixture(scope="module")
def entries(phantom_folders: Path) -> list[dict[str, str]]:
    cases = [f"phantom-00{number}" for number in NUMBERS]
    return [
        {
            "id": case,
            "image": str(phantom_folders / case / "t1c.nii.gz"),
            "label": str(phantom_folders / case / "seg.nii.gz"),
        }
        for case in cases
    ]


@pytest.fixture(autouse=True, scope="module")
def read_once() -> Iterator[None]:
    """Keep the cases that were read for one test for the next."""
    made: dict[str, Any] = {}

    def dataset(cases: Any, chain: Any, *most: int) -> Any:
        key = str(([entry["id"] for entry in cases], chain.transforms[-2].padder.spatial_size))
        if key not in made:
            made[key] = cached_cases(cases, chain)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "cached_cases", dataset)
        yield


def with_patches(config: AppConfig, number: int, size: int = 24) -> AppConfig:
    return replace(config, training=replace(config.training, patches_per_case=number, patch_size=(size,) * 3))


def flat(target: Any) -> torch.Tensor:
    """A target as one tensor, both sides of a mixed one."""
    return torch.cat([target.instance, target.balanced]) if isinstance(target, MixedTarget) else target


def names_of(batch: Batch) -> list[str]:
    return [name for name, _, _ in batch.parts]


def record(batches: PatchBatches, epochs: int = 2) -> list[tuple[torch.Tensor, torch.Tensor, list[str]]]:
    return [(batch.image, flat(batch.target), names_of(batch)) for _ in range(epochs) for batch in batches.epoch(2)]


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_a_seed_gives_the_same_batches_and_another_does_not(
    config: AppConfig, entries: list[dict[str, str]], sampler: str
) -> None:
    first, again, other = (record(PatchBatches(config, entries, sampler, seed)) for seed in (3, 3, 4))
    assert len(first) == len(again) == len(other) == 2 * 3  # 3 cases of 2 patches in batches of 2, twice.
    for (image, target, names), (same_image, same_target, same_names) in zip(first, again, strict=True):
        assert image.shape == (2, 4, 24, 24, 24)
        assert target.shape[1:] == (3, 24, 24, 24)
        assert torch.equal(image, same_image)
        assert torch.equal(target, same_target)
        assert names == same_names
    assert not any(torch.equal(a[0], b[0]) for a, b in zip(first, other, strict=True))
    assert not any(torch.equal(a[0], b[0]) for a, b in zip(first[:3], first[3:], strict=True)), "epochs differ"


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_only_balanced_mixup_mixes(config: AppConfig, entries: list[dict[str, str]], sampler: str) -> None:
    batch = next(PatchBatches(config, entries[:1], sampler, 0).epoch(2))
    image, target, names = batch.image, batch.target, names_of(batch)
    mixed = sampler == "balanced_mixup"
    assert isinstance(target, MixedTarget) is mixed
    assert type(image) is type(flat(target)) is torch.Tensor, "a MetaTensor slows every step of a training down"
    assert set(flat(target).unique().tolist()) <= {0.0, 1.0}
    assert names == ["phantom-001"] * (4 if mixed else 2)


@pytest.mark.parametrize("sampler", ["balanced", "balanced_mixup"])
@pytest.mark.parametrize("batch_size", [1, 2, 4, 64])
def test_every_case_is_met_once_an_epoch(
    config: AppConfig, entries: list[dict[str, str]], sampler: str, batch_size: int
) -> None:
    batches = PatchBatches(config, entries, sampler, 0)
    orders = []
    for _ in range(2):
        sizes, met = [], []
        for batch in batches.epoch(batch_size):
            sizes.append(len(batch.image))
            met += names_of(batch)[: len(batch.image)]
        full, rest = divmod(6, batch_size)
        assert sizes == [batch_size] * full + [rest] * (rest > 0)
        assert sorted(met) == sorted([entry["id"] for entry in entries] * 2)
        orders.append(met)
    assert orders[0][::2] == orders[0][1::2], "the patches of a case follow each other"


def test_the_order_of_cases_changes_from_epoch_to_epoch(config: AppConfig, entries: list[dict[str, str]]) -> None:
    batches = PatchBatches(config, entries, "instance", 0)
    orders = {tuple(name for batch in batches.epoch(2) for name in names_of(batch)) for _ in range(8)}
    assert len(orders) > 1


def test_the_name_says_where_patches_are_centred(config: AppConfig, entries: list[dict[str, str]]) -> None:
    """Shares of the classes that patch centres are drawn on, of 1000 patches, against those the voxel counts give."""
    many = with_patches(config, 1000, size=16)
    found, expected = {}, {}
    for sampler in SAMPLER_NAMES:
        batches = PatchBatches(many, entries[:1], sampler, 0)
        case = batches.cases[0]
        drawn = [int(patch["patch_class"]) for patch in batches.first.transforms[0](dict(case))]
        found[sampler] = np.bincount(drawn, minlength=4) / 1000
        counts = np.array(case["centres"]["counts"][:4], dtype=float)
    assert (counts > 0).all(), "every class must be there, or this test shows nothing"
    root, foreground = np.sqrt(counts), counts.copy()
    foreground[0] = 0
    expected["instance"] = expected["balanced_mixup"] = counts / counts.sum()
    expected["square_root"] = root / root.sum()
    expected["balanced"] = np.full(4, 0.25)
    expected["pos_neg"] = np.array([0.5, *np.full(3, 1 / 6)])
    for sampler in SAMPLER_NAMES:
        np.testing.assert_allclose(found[sampler], expected[sampler], atol=0.06, err_msg=sampler)


def test_balanced_mixup_mixes_a_natural_batch_with_a_balanced_one(
    config: AppConfig, entries: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = PatchBatches(with_patches(config, 12, size=16), entries, "balanced_mixup", 0)
    assert batches.mixup is not None
    pairs: list[Any] = []
    mix = batches.mixup.mix

    def listen(instance: Any, balanced: Any) -> Any:
        pairs.append((instance, balanced))
        return mix(instance, balanced)

    monkeypatch.setattr(batches.mixup, "mix", listen)
    lambdas, partners = [], []
    for _ in range(4):
        for batch in batches.epoch(12):
            image, target, names = batch.image, batch.target, names_of(batch)
            (a, instance), (b, balanced) = pairs[-1]
            assert isinstance(target, MixedTarget)
            lam = float(target.lam[0])
            assert (target.lam == lam).all()
            torch.testing.assert_close(image, (1 - lam) * a + lam * b)
            assert not torch.equal(a, b)
            assert torch.equal(target.instance, instance)
            assert torch.equal(target.balanced, balanced)
            lambdas.append(lam)
            partners.append(tuple(names[i] for i in (0, 12)))
    assert len(set(lambdas)) == 12
    # A Beta(0.2, 1) has mean 1/6 and deviation 0.25; of 12 draws the mean is within 0.07 of it two times in three.
    assert 0.02 < np.mean(lambdas) < 0.4
    enhancing = [
        np.mean([bool(patch[2].any()) for _, labels in side for patch in labels]) for side in zip(*pairs, strict=True)
    ]
    assert enhancing[1] > 1.5 * enhancing[0], "the second stream is the balanced one"
    assert len({second for _, second in partners}) > 1
    assert any(first != second for first, second in partners), "a case is mixed with others than itself"


def test_an_unknown_sampler_is_refused(config: AppConfig, entries: list[dict[str, str]]) -> None:
    with pytest.raises(RequestError, match=r"unknown sampler 'balancd', expected one of .*did you mean 'balanced'"):
        PatchBatches(config, entries, "balancd", 0)
    with pytest.raises(RequestError, match="unknown sampler 'auto'"):
        PatchBatches(config, entries, "auto", 0)


def test_an_epoch_may_be_left_early(config: AppConfig, entries: list[dict[str, str]]) -> None:
    batches = PatchBatches(config, entries, "balanced", 0)
    epoch = batches.epoch(2)
    next(epoch)
    epoch.close()
    assert sum(len(image) for image, _, _ in batches.epoch(2)) == 6
