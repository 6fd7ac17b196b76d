"""Preprocessed cases are kept, found again only as long as they are the same, and within a bound."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor

from rarevoxel.config import AppConfig
from rarevoxel.errors import InputError
from rarevoxel.inference import Engine
from rarevoxel.inference.cache import VolumeCache
from rarevoxel.volumes import write_volume

MIB = 2**20


@pytest.fixture
def case(tmp_path: Path) -> Path:
    folder = tmp_path / "one"
    folder.mkdir()
    for name in ("t1n", "t1c", "t2w", "t2f"):
        write_volume(folder / f"{name}.nii", np.zeros((2, 2, 2), np.uint8), np.eye(4))
    return folder


class Maker:
    """Makes an image of half a MiB and counts."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    def __call__(self, files: Any) -> MetaTensor:
        self.made.append(files)
        return MetaTensor(torch.full((4, 32, 32, 32), float(len(self.made))), meta={"note": ["a"]})


def test_a_second_look_is_free_whatever_names_the_case(case: Path) -> None:
    cache, maker = VolumeCache(1), Maker()
    first = cache.get(case, "chain", maker)
    for other in (case / "t1c.nii", case, maker.made[0]):
        again = cache.get(other, "chain", maker)
        assert torch.equal(again.as_tensor(), first.as_tensor())
    assert len(maker.made) == 1
    assert set(maker.made[0]) == {"t1n", "t1c", "t2w", "t2f"}


def test_what_one_does_to_the_history_another_does_not_see(case: Path) -> None:
    cache, maker = VolumeCache(1), Maker()
    for _ in range(3):
        found = cache.get(case, "chain", maker)
        assert found.meta["note"] == ["a"]
        assert len(found.applied_operations) == 0
        found.meta["note"].append("b")
        found.applied_operations.append({"id": 1})


def touch(case: Path) -> None:
    status = (case / "t2f.nii").stat()
    os.utime(case / "t2f.nii", ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def grow(case: Path) -> None:
    status = (case / "t2f.nii").stat()
    (case / "t2f.nii").write_bytes(b"longer")
    os.utime(case / "t2f.nii", ns=(status.st_atime_ns, status.st_mtime_ns))


def lose(case: Path) -> None:
    (case / "t2f.nii").unlink()


@pytest.mark.parametrize("change", [touch, grow, lose])
def test_a_changed_file_is_read_again(case: Path, change: Callable[[Path], None]) -> None:
    cache, maker = VolumeCache(1), Maker()
    cache.get(case, "chain", maker)
    change(case)
    cache.get(case, "chain", maker)
    assert len(maker.made) == 2


def test_another_chain_is_another_image(case: Path) -> None:
    cache, maker = VolumeCache(2), Maker()
    for chain in ("a", "b", "a", "b"):
        cache.get(case, chain, maker)
    assert len(maker.made) == 2


def test_files_that_change_while_they_are_read_are_not_kept(case: Path) -> None:
    cache, maker = VolumeCache(1), Maker()
    cache.get(case, "chain", lambda files: touch(case) or maker(files))
    cache.get(case, "chain", maker)
    assert len(maker.made) == 2


def test_the_one_asked_for_longest_ago_goes_first(case: Path) -> None:
    cache, maker = VolumeCache(1), Maker()
    for chain in ("a", "b", "a", "c"):  # Two fit; c sends b away.
        cache.get(case, chain, maker)
    assert len(cache) == 2
    assert len(maker.made) == 3
    cache.get(case, "a", maker)
    assert len(maker.made) == 3
    cache.get(case, "b", maker)
    assert len(maker.made) == 4


def test_without_memory_or_with_too_large_an_image_nothing_is_kept(case: Path) -> None:
    for cache, make in ((VolumeCache(0), Maker()), (VolumeCache(1), lambda files: MetaTensor(torch.zeros(2 * MIB)))):
        cache.get(case, "chain", make)
        assert len(cache) == 0


def test_threads_share_one_cache_within_its_bound(case: Path) -> None:
    cache, maker = VolumeCache(1), Maker()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: cache.get(case, number % 5, maker), range(200)))
    assert len(cache) == 2
    assert cache._size == sum(image.numel() * 4 for image in cache._kept.values()) <= MIB


def test_a_case_that_cannot_be_found_is_told_as_without_a_cache(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="file is missing"):
        VolumeCache(1).get(tmp_path / "nothing.nii", "chain", Maker())


def test_engines_share_a_cache_and_answer_as_without(
    config: AppConfig, tiny_weights: Path, case_folder: Path, tmp_path: Path, save_tiny: Callable[..., Path]
) -> None:
    cache = VolumeCache(64)
    others = save_tiny(tmp_path / "other.pt", seed=5)
    coarse = replace(config, inference=replace(config.inference, mirror=(0, 1)))
    for weights, settings in ((tiny_weights, config), (others, config), (tiny_weights, coarse)):
        plain = Engine(settings, [weights], device="cpu").predict(case_folder, with_probabilities=True)
        for _ in range(2):
            found = Engine(settings, [weights], device="cpu", cache=cache).predict(case_folder, with_probabilities=True)
            assert np.array_equal(found.labels, plain.labels)
            assert np.array_equal(found.probabilities, plain.probabilities)
            assert np.array_equal(found.affine, plain.affine)
            assert found.missing == plain.missing
    assert len(cache) == 1


def test_a_sequence_that_was_taken_away_is_missed(config: AppConfig, tiny_weights: Path, case_folder: Path) -> None:
    engine = Engine(config, [tiny_weights], device="cpu", cache=VolumeCache(64))
    before = engine.predict(case_folder)
    shutil.move(case_folder / "t1c.nii.gz", case_folder.parent / "away.nii.gz")
    assert engine.predict(case_folder).missing == ("t1c",)
    shutil.move(case_folder.parent / "away.nii.gz", case_folder / "t1c.nii.gz")
    again = engine.predict(case_folder)
    assert again.missing == ()
    assert np.array_equal(again.labels, before.labels)
