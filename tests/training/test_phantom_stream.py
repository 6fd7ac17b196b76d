"""The stream of training samples: what they are, and that it can be taken up anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from rarevoxel.bundled import bundled_app
from rarevoxel.config import AppConfig, load_config
from rarevoxel.phantom.examine import examine
from rarevoxel.phantom.scene import Material, Scene, empty_scene
from rarevoxel.training.phantom_stream import PhantomStream, StreamSpec, _coarse, _padded, crop_box

SPEC = StreamSpec(
    head_mm=(96.0, 120.0, 96.0), block=2, reuse=2, views=2, apart=2, edges=((8, 12, 16),) * 3, large=(24, 32, 24),
    late_large_share=1.0, large_share=0.0, coarse_share=0.2, missing=(0.6, 0.3, 0.1), emptied_share=0.0,
)  # fmt: skip
STEPS = 12

Pair = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture(scope="module")
def samples(config: AppConfig) -> list[Pair]:
    return list(PhantomStream(config, 3, STEPS, 0, SPEC))


def same(first: Iterable[Pair], second: Iterable[Pair]) -> bool:
    return all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(first, second, strict=True))


def test_a_seed_gives_the_same_stream_and_another_seed_another(config: AppConfig, samples: list[Pair]) -> None:
    assert len(samples) == STEPS
    assert same(islice(PhantomStream(config, 3, STEPS, 0, SPEC), 3), samples[:3])
    (other, _) = next(iter(PhantomStream(config, 4, STEPS, 0, SPEC)))
    assert other.shape != samples[0][0].shape or not torch.equal(other, samples[0][0])


@pytest.mark.parametrize("start", [1, 5, 11])
def test_a_stream_can_be_taken_up_anywhere(config: AppConfig, samples: list[Pair], start: int) -> None:
    assert same(PhantomStream(config, 3, STEPS, start, SPEC), samples[start:])


def test_a_stream_of_two_workers_can_be_taken_up_anywhere(config: AppConfig) -> None:
    def loaded(start: int) -> list[Pair]:
        stream = PhantomStream(config, 3, 8, start, SPEC)
        return [(a[0], b[0]) for a, b in DataLoader(stream, batch_size=1, num_workers=2)]

    whole = loaded(0)
    assert len(whole) == 8
    assert same(loaded(3), whole[3:])


def test_samples_suit_network_and_loss(config: AppConfig, samples: list[Pair]) -> None:
    for image, regions in samples:
        assert image.shape == (4, *regions.shape[1:])
        assert image.dtype == regions.dtype == torch.float32
        assert all(n % config.network.multiple == 0 for n in image.shape[1:])
        assert bool(torch.isfinite(image).all())
        assert set(regions.unique().tolist()) <= {0.0, 1.0}
        wt, tc, et = regions
        assert bool((wt >= tc).all())
        assert bool((tc >= et).all())
        for channel in image:
            inside = channel[channel != 0]
            assert inside.numel() == 0 or abs(float(inside.mean())) < 0.05
    assert any(float(regions.sum()) > 0 for _, regions in samples)


def test_the_shipped_sizes_suit_the_shipped_network() -> None:
    multiple = load_config(bundled_app() / "app.toml").network.multiple
    spec = StreamSpec()
    assert all(n % multiple == 0 for n in (*sum(spec.edges, ()), *spec.large))
    assert sum(spec.missing) == pytest.approx(1.0)
    assert sum(spec.missed) == pytest.approx(1.0)


def test_the_last_fifth_is_large(config: AppConfig, samples: list[Pair]) -> None:
    late = PhantomStream(config, 3, 24, 20, SPEC)
    assert {tuple(image.shape[1:]) for image, _ in late} == {SPEC.large}
    assert not any(tuple(image.shape[1:]) == SPEC.large for image, _ in samples[:8])


def test_two_views_show_the_same_examination(config: AppConfig) -> None:
    spec = replace(SPEC, missing=(1.0,))
    pairs = list(islice(PhantomStream(config, 3, 16, 0, spec), 8))
    turned = []
    for first, second in ((0, 2), (1, 3), (4, 6), (5, 7)):
        (image, regions), (again, marks) = pairs[first], pairs[second]
        turned.append(not torch.equal(image, again))
        if turned[-1]:
            again, marks = again.flip(1), marks.flip(1)
        assert torch.equal(image, again)
        assert torch.equal(regions, marks)
    assert not torch.equal(pairs[0][1].sum(), pairs[1][1].sum())


def test_a_view_is_mirrored_in_half_and_lacks_as_many_sequences_as_drawn(config: AppConfig) -> None:
    stream = PhantomStream(config, 0, 1, 0, replace(SPEC, missing=(0.5, 0.0, 0.0, 0.5), missed=(0.2, 0.2, 0.2, 0.4)))
    image = torch.randn(4, 6, 5, 4)
    labels = torch.randint(0, 5, (6, 5, 4), dtype=torch.uint8)
    kept, (plain, _) = image.clone(), stream.view(image, labels, np.random.default_rng(0))
    missing, mirrored = [], 0
    for seed in range(60):
        view, regions = stream.view(image, labels, np.random.default_rng(seed))
        missing.append(sum(not bool(channel.any()) for channel in view))
        wt = torch.isin(labels, torch.tensor([1, 2, 3])).float()
        flipped = torch.equal(regions[0], wt.flip(0))
        mirrored += flipped
        original = image.flip(1) if flipped else image
        assert all(torch.equal(v, o) for v, o in zip(view, original, strict=True) if v.any())
    assert torch.equal(image, kept)
    assert plain.shape == image.shape
    assert set(missing) == {0, 3}
    assert 18 < missing.count(3) < 42
    assert 18 < mirrored < 42


def test_the_sequence_that_is_missing_is_drawn_by_its_share(config: AppConfig) -> None:
    stream = PhantomStream(config, 0, 1, 0, replace(SPEC, missing=(0.0, 1.0), missed=(0.0, 0.25, 0.0, 0.75)))
    image, labels = torch.randn(4, 4, 4, 4), torch.zeros(4, 4, 4, dtype=torch.uint8)
    views = [stream.view(image, labels, np.random.default_rng(seed))[0] for seed in range(80)]
    counts = [sum(not bool(view[channel].any()) for view in views) for channel in range(4)]
    assert counts[0] == counts[2] == 0
    assert sum(counts) == 80
    assert 48 < counts[3] < 72


def test_an_emptied_view_lacks_image_and_label_at_its_sides_alone(config: AppConfig) -> None:
    stream = PhantomStream(config, 0, 1, 0, replace(SPEC, missing=(1.0,), missed=(0.25,) * 4, emptied_share=0.5))
    image, labels = torch.ones(4, 20, 20, 20), torch.full((20, 20, 20), 2, dtype=torch.uint8)
    emptied = 0
    for seed in range(40):
        view, regions = stream.view(image, labels, np.random.default_rng(seed))
        assert torch.equal(view[0], regions[0])
        kept = torch.nonzero(view[0])
        low, high = kept.min(0).values, kept.max(0).values
        assert len(kept) == int((high - low + 1).prod())
        assert int((high - low + 1).min()) >= 20 - 2 * 7
        emptied += len(kept) < 20**3
    assert 10 < emptied < 30


@pytest.fixture
def marked() -> Scene:
    scene = empty_scene(np.full((20, 24, 16), Material.WHITE, dtype=np.uint8), (4.0, 4.0, 4.0))
    scene.labels[2:8, 2:8, 2:8] = 2
    scene.labels[18, 20, 14] = 3
    return scene


def test_a_crop_lies_in_the_head_and_holds_disease(marked: Scene) -> None:
    rare = 0
    for seed in range(60):
        box = crop_box(marked, (8, 8, 8), np.random.default_rng(seed), 1.0)
        part = marked.crop(box)
        assert part.labels.shape == (8, 8, 8)
        assert part.labels.any()
        rare += bool(np.any(part.labels == 3))
    assert 18 < rare < 42


def test_a_crop_larger_than_the_head_is_the_head(marked: Scene) -> None:
    box = crop_box(marked, (32, 8, 32), np.random.default_rng(0), 0.0)
    assert marked.crop(box).labels.shape == (20, 8, 16)


def test_crops_without_disease_lie_anywhere_in_the_head(marked: Scene) -> None:
    marked.labels[:] = 0
    marked.healthy[:10] = Material.AIR
    starts = {crop_box(marked, (4, 4, 4), np.random.default_rng(seed), 1.0)[0].start for seed in range(60)}
    assert min(starts) >= 7
    assert len(starts) > 6


def test_half_the_resolution_comes_back_at_full_size() -> None:
    healthy = np.full((12, 11, 8), Material.WHITE, dtype=np.uint8)
    healthy[:4] = Material.AIR
    scene = empty_scene(healthy, (2.0, 2.0, 2.0))
    scene.disease[6:10, 4:8, 2:6], scene.labels[6:10, 4:8, 2:6] = Material.EDEMA, 2
    scene.density[6:10, 4:8, 2:6] = 255
    images, labels = _coarse(scene, np.random.default_rng(3), 1.0)
    assert images.shape == (4, 12, 11, 8)
    assert images.dtype == np.float32
    np.testing.assert_array_equal(labels, scene.labels)
    np.testing.assert_array_equal(labels[::2], labels[1::2])
    assert np.all((images > 0).all(axis=0) == (images > 0).any(axis=0))
    assert images[:, 6:].min() > 0


def test_scans_are_as_imperfect_as_the_spec_says(config: AppConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    def watched(scene: Scene, rng: np.random.Generator, **options: Any) -> Any:
        used.append(options["strength"])
        return examine(scene, rng, **options)

    monkeypatch.setattr("rarevoxel.training.phantom_stream.examine", watched)
    list(PhantomStream(config, 3, 12, 0, replace(SPEC, strength=(0.5, 0.7), coarse_share=0.5)))
    assert all(0.5 <= strength <= 0.7 for strength in used)
    assert len(set(used)) == len(used) == 6


def test_what_a_head_does_not_fill_is_zero() -> None:
    padded = _padded(torch.ones(4, 3, 5, 2), (4, 4, 6))
    assert padded.shape == (4, 4, 5, 6)
    assert padded.sum() == 4 * 30
    assert bool((padded[:, :3, :, :2] == 1).all())
    assert torch.equal(_padded(torch.ones(3, 3, 3, dtype=torch.uint8), (3, 3, 3)), torch.ones(3, 3, 3).byte())
