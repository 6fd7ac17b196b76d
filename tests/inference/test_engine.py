"""The engine: a mask on the display grid, from the newest weights that can be read."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from rarevoxel.config import AppConfig, NetworkConfig, Preprocessing
from rarevoxel.errors import InputError, ModelError, UnavailableError
from rarevoxel.evaluation import region_dice
from rarevoxel.inference import Engine
from rarevoxel.inference import engine as engine_module
from rarevoxel.inference import serving as serving_module
from rarevoxel.inference import sources as sources_module
from rarevoxel.inference.cache import VolumeCache
from rarevoxel.labels import CLIENT_LABELS, labels_to_regions, regions_to_labels
from rarevoxel.networks import build_network, save_weights
from rarevoxel.phantom import Phantom

Writer = Callable[..., Path]
Saver = Callable[..., Path]


class Midway(nn.Module):
    """Region r is where sequence r is brighter than halfway between its darkest and its brightest voxel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = (x.amax((2, 3, 4), keepdim=True) + x.amin((2, 3, 4), keepdim=True)) / 2
        return 10.0 * (x - half)[:, :3]


def balls(shape: tuple[int, ...], spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Images whose first three sequences light up in three nested balls of a brain, and the balls' label map."""
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    brain = x**2 + y**2 + z**2 < 62**2
    r2 = (x - 10) ** 2 + (y + 7) ** 2 + (z - 4) ** 2
    masks = np.stack([r2 < 30**2, r2 < 21**2, r2 < 12**2])
    images = np.stack([100.0 * brain + 100.0 * mask for mask in (*masks, masks[0])]).astype(np.float32)
    return images, regions_to_labels(masks)


@pytest.fixture
def halfway(monkeypatch: pytest.MonkeyPatch, config: AppConfig, tmp_path: Path) -> Engine:
    """An engine whose network's answer is known, at 2 mm."""
    path = tmp_path / "halfway.pt"
    path.write_bytes(b"there")
    answer = (Midway(), NetworkConfig(filters=(4, 4, 8)), Preprocessing(spacing=(2.0, 2.0, 2.0)), {"name": "halfway"})
    monkeypatch.setattr(sources_module, "load_weights", lambda path, device, data: answer)
    return Engine(replace(config, inference=replace(config.inference, window=(96, 96, 96))), [path], device="cpu")


GRIDS = {
    "isotropic": ((70, 70, 70), (2.0, 2.0, 2.0)),
    "thick slices": ((70, 70, 28), (2.0, 2.0, 5.0)),
    "sagittal": ((30, 76, 92), (4.6, 1.8, 1.5)),
    "coarse": ((46, 44, 42), (3.1, 3.1, 3.1)),
}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAL", "PIR"])
def test_a_known_answer_finds_its_way_back(
    halfway: Engine, tmp_path: Path, write_case: Writer, name: str, codes: str
) -> None:
    shape, spacing = GRIDS[name]
    images, expected = balls(shape, spacing)
    ornt = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-51.0, 17.5, 4.25)
    affine = affine @ nib.orientations.inv_ornt_aff(ornt, shape)
    turn = lambda array: nib.orientations.apply_orientation(array, ornt)  # noqa: E731
    folder = write_case(tmp_path / "case", [turn(image) for image in images], affine)
    prediction = halfway.predict(folder / "t1c.nii.gz")
    assert prediction.labels.dtype == np.uint8
    assert prediction.labels.shape == turn(expected).shape
    np.testing.assert_allclose(prediction.affine, affine, atol=1e-4)
    dice = region_dice(prediction.labels, turn(expected))
    assert min(dice.values()) >= 0.95, dice


def test_orientation_does_not_change_the_mask_in_the_world(
    config: AppConfig, tiny_weights: Path, phantom: Phantom, tmp_path: Path, write_case: Writer
) -> None:
    engine = Engine(config, [tiny_weights], device="cpu")
    straight = engine.predict(write_case(tmp_path / "ras", phantom.images, phantom.affine)).labels
    assert straight.any(), "random weights that find nothing would make this test empty"
    ornt = nib.orientations.axcodes2ornt("PIL")
    turned_affine = phantom.affine @ nib.orientations.inv_ornt_aff(ornt, phantom.labels.shape)
    images = [nib.orientations.apply_orientation(image, ornt) for image in phantom.images]
    turned = engine.predict(write_case(tmp_path / "pil", images, turned_affine)).labels
    dice = region_dice(turned, nib.orientations.apply_orientation(straight, ornt))
    assert min(dice.values()) >= 0.99, dice


def test_volumes_by_hand(halfway: Engine, tmp_path: Path, write_case: Writer) -> None:
    images, _ = balls((40, 40, 28), (3.0, 3.0, 5.0))
    folder = write_case(tmp_path / "case", images, np.diag([-3.0, 3.0, 5.0, 1.0]))
    prediction = halfway.predict(folder)
    ml = 3.0 * 3.0 * 5.0 / 1000.0
    counts = {name: int(np.count_nonzero(prediction.labels == value)) for name, value in CLIENT_LABELS.items()}
    assert prediction.labels_ml == {
        name: pytest.approx(counts[name] * ml, abs=1e-3) for name in ("necrosis", "edema", "enhancing tumor")
    }
    masks = labels_to_regions(prediction.labels)
    assert prediction.regions_ml == {
        name: pytest.approx(mask.sum() * ml, abs=1e-3) for name, mask in zip(("WT", "TC", "ET"), masks, strict=True)
    }
    assert prediction.regions_ml["WT"] == pytest.approx(sum(prediction.labels_ml.values()), abs=1e-3)
    assert prediction.regions_ml["WT"] == pytest.approx(4 / 3 * np.pi * 30**3 / 1000, rel=0.05)  # The ball's volume.
    sha256 = hashlib.sha256(b"there").hexdigest()
    known = {"weights": "halfway.pt", "version": sha256[:12], "sha256": sha256}
    assert prediction.model == {"name": "halfway", **known}
    assert prediction.latencies["total"] == pytest.approx(
        sum(seconds for step, seconds in prediction.latencies.items() if step != "total"), abs=1e-2
    )


@pytest.mark.parametrize("shape", [(3, 3, 3), (60, 60, 5), (1, 20, 20), (2, 2, 1), (1, 1, 1)])
def test_small_images(config: AppConfig, tmp_path: Path, write_case: Writer, shape: tuple[int, ...]) -> None:
    deep = NetworkConfig(filters=(2, 2, 2, 2, 2))
    path = tmp_path / "deep.pt"
    save_weights(path, build_network(deep), deep, Preprocessing(), {})
    images = np.random.default_rng(0).normal(100, 10, (4, *shape)).astype(np.float32)
    folder = write_case(tmp_path / "case", images, np.diag([1.0, 1.0, 5.0, 1.0]))
    prediction = Engine(config, [path], device="cpu").predict(folder)
    assert prediction.labels.shape == shape
    assert set(np.unique(prediction.labels)) <= {0, 1, 2, 3}


def test_a_constant_image_is_no_scan(config: AppConfig, tiny_weights: Path, tmp_path: Path, write_case: Writer) -> None:
    folder = write_case(tmp_path / "case", np.ones((4, 3, 3, 3), np.float32), np.eye(4))
    with pytest.raises(InputError, match="image is constant"):
        Engine(config, [tiny_weights], device="cpu").predict(folder)


def test_without_weights_nothing_is_served(config: AppConfig, tmp_path: Path, case_folder: Path) -> None:
    engine = Engine(config, [tmp_path / "calf.pt", tmp_path / "starter.pt"], device="cpu")
    assert not engine.available()
    with pytest.raises(ModelError, match=r"no trained weights \(calf\.pt, starter\.pt\)"):
        engine.predict(case_folder)
    with pytest.raises(ModelError, match="no trained weights"):
        engine.warm_up()


def seed_in_service(engine: Engine, case: Path) -> Any:
    return engine.predict(case).model["seed"]


def test_published_weights_go_before_the_starter_s(
    config: AppConfig, tmp_path: Path, save_tiny: Saver, case_folder: Path
) -> None:
    published, starter = tmp_path / "calf.pt", save_tiny(tmp_path / "starter.pt", seed=1)
    engine = Engine(config, [published, starter], device="cpu")
    assert seed_in_service(engine, case_folder) == 1
    save_tiny(published, seed=2)
    assert seed_in_service(engine, case_folder) == 2
    save_tiny(published, seed=3)
    assert seed_in_service(engine, case_folder) == 3, "replaced weights must be picked up"
    published.unlink()
    assert seed_in_service(engine, case_folder) == 1


def test_replaced_weights_change_the_mask(
    config: AppConfig, tmp_path: Path, save_tiny: Saver, case_folder: Path
) -> None:
    path = save_tiny(tmp_path / "calf.pt", seed=1)
    engine = Engine(config, [path], device="cpu")
    before = engine.predict(case_folder).labels
    save_tiny(path, seed=2)
    assert not np.array_equal(engine.predict(case_folder).labels, before)


@pytest.mark.parametrize("content", [b"", b"torn", None])
def test_a_torn_file_leaves_the_previous_weights_in_service(
    config: AppConfig, tmp_path: Path, save_tiny: Saver, case_folder: Path, content: bytes | None
) -> None:
    path = save_tiny(tmp_path / "calf.pt", seed=1)
    engine = Engine(config, [path], device="cpu")
    before = engine.predict(case_folder)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    for _ in range(2):
        after = engine.predict(case_folder)
        assert after.model == before.model
        assert np.array_equal(after.labels, before.labels)
    save_tiny(path, seed=2)
    assert seed_in_service(engine, case_folder) == 2, "good weights must be picked up after bad ones"


def test_a_torn_published_file_at_the_start_leaves_the_starter_in_service(
    config: AppConfig, tmp_path: Path, save_tiny: Saver, case_folder: Path
) -> None:
    published, starter = tmp_path / "calf.pt", save_tiny(tmp_path / "starter.pt", seed=1)
    published.write_bytes(b"torn")
    engine = Engine(config, [published, starter], device="cpu")
    assert seed_in_service(engine, case_folder) == 1
    assert seed_in_service(engine, case_folder) == 1


def test_only_torn_weights_are_named(config: AppConfig, tmp_path: Path, case_folder: Path) -> None:
    path = tmp_path / "calf.pt"
    path.write_bytes(b"torn")
    with pytest.raises(ModelError, match=r"calf\.pt: not a readable weight file"):
        Engine(config, [path], device="cpu").predict(case_folder)


def test_an_unusable_case_is_told_as_such(
    config: AppConfig, tiny_weights: Path, case_folder: Path, phantom: Phantom
) -> None:
    bad = case_folder / "t2f.nii.gz"
    nib.save(nib.Nifti1Image(np.full(phantom.labels.shape, np.nan, np.float32), phantom.affine), bad)
    with pytest.raises(InputError, match="76800 of 76800 voxels are NaN"):
        Engine(config, [tiny_weights], device="cpu").predict(case_folder)


def test_weights_that_would_run_code_are_refused(config: AppConfig, tmp_path: Path, case_folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "evil"),)

    path = tmp_path / "calf.pt"
    torch.save({"format": 1, "model": Evil()}, path)
    with pytest.raises(ModelError, match=r"calf\.pt: not a readable weight file"):
        Engine(config, [path], device="cpu").predict(case_folder)
    assert not (tmp_path / "evil").exists()


def test_preprocessing_comes_with_the_weights(
    config: AppConfig, tmp_path: Path, case_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[float] = []
    serving_module._chain.cache_clear()
    real = serving_module.build_transforms
    monkeypatch.setattr(
        serving_module,
        "build_transforms",
        lambda config, stage: sizes.append(config.preprocessing.spacing[0]) or real(config, stage),
    )
    path = tmp_path / "calf.pt"
    own = Preprocessing(spacing=(6.0, 6.0, 6.0))
    save_weights(path, build_network(config.network), config.network, own, {})
    Engine(config, [path], device="cpu").predict(case_folder)
    assert sizes == [6.0]


def test_threads_do_not_mix_up_their_cases(
    config: AppConfig, tiny_weights: Path, phantom: Phantom, tmp_path: Path, write_case: Writer
) -> None:
    engine = Engine(config, [tiny_weights], device="cpu")
    folders = [
        write_case(tmp_path / "a", phantom.images, phantom.affine),
        write_case(tmp_path / "b", phantom.images[:, 3:-2, ::-1, 5:], phantom.affine),
    ]
    alone = [engine.predict(folder).labels for folder in folders]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda i: engine.predict(folders[i % 2]).labels, range(8)))
    for i, labels in enumerate(together):
        assert np.array_equal(labels, alone[i % 2])


def test_warm_up_loads_the_weights(config: AppConfig, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(config, [tiny_weights], device="cpu")
    engine.warm_up()
    monkeypatch.setattr(sources_module, "load_weights", lambda *_: pytest.fail("loaded twice"))
    engine.warm_up()


def test_a_bound_of_memory_makes_windows_smaller_and_then_says_no(
    config: AppConfig, tiny_weights: Path, case_folder: Path
) -> None:
    def bound(mib: int) -> Engine:
        inference = replace(config.inference, memory_mib=mib)
        return Engine(replace(config, inference=inference), [tiny_weights], device="cpu")

    seen: list[int] = []
    engine = bound(6)
    engine._current().network.register_forward_hook(lambda module, given, found: seen.append(given[0][0, 0].numel()))
    engine.predict(case_folder)
    prepared = engine.prepare(case_folder)
    room = 6 * 2**20 - 16 * prepared.data.numel()
    assert len(seen) > 1
    assert max(seen) * prepared.serving.bytes_per_voxel <= room
    with pytest.raises(UnavailableError, match="memory holds 0 voxels in one pass, the smallest window has"):
        bound(1).predict(case_folder)


def test_warm_up_goes_the_whole_road_and_leaves_nothing(
    config: AppConfig, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cache = VolumeCache(64)
    engine = Engine(config, [tiny_weights], device="cpu", cache=cache)
    decided: list[Any] = []
    real = engine_module.decide
    monkeypatch.setattr(engine_module, "decide", lambda *a, **k: decided.append(real(*a, **k)) or decided[-1])
    engine.warm_up()
    assert len(decided) == 1
    assert list(tmp_path.iterdir()) == []
    assert len(cache) == 0, "nobody asks for the little case again"


@pytest.mark.parametrize("levels", [3, 5, 6])
def test_warm_up_works_at_every_depth(config: AppConfig, tmp_path: Path, levels: int) -> None:
    shape = NetworkConfig(filters=(2,) * levels)
    path = tmp_path / "calf.pt"
    save_weights(path, build_network(shape), shape, Preprocessing(), {})
    Engine(config, [path], device="cpu").warm_up()
