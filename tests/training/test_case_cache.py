"""Prepared cases on disk: the same patches, read in parts, made again when their files change or they are damaged."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rarevoxel.config import AppConfig
from rarevoxel.training import case_cache
from rarevoxel.training.case_cache import CaseCache, StoredVolume, made_by
from rarevoxel.training.patches import PatchBatches
from rarevoxel.training.tolerant import Unreadable, readable
from rarevoxel.transforms import build_case


@pytest.fixture
def cases(phantom_folders: Path, tmp_path: Path) -> list[dict[str, str]]:
    found = []
    for number in (1, 2):
        folder = tmp_path / f"case-{number}"
        shutil.copytree(phantom_folders / f"phantom-00{number}", folder)
        found.append({"id": folder.name, "image": str(folder / "t1c.nii.gz"), "label": str(folder / "seg.nii.gz")})
    return found


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the cases that went through the chain."""
    ids: list[str] = []
    run = case_cache.Tolerant.__call__

    def listen(self: Any, data: Any, **memory: Any) -> Any:
        if not memory:  # MONAI's cache in memory says more.
            ids.append(data["id"])
        return run(self, data, **memory)

    monkeypatch.setattr(case_cache.Tolerant, "__call__", listen)
    return ids


def opened(config: AppConfig, cases: list[dict[str, str]], folder: Path, **settings: Any) -> CaseCache:
    return CaseCache(
        cases, build_case(config), made_by(config.preprocessing, config.training.patch_size), folder, **settings
    )


def test_a_case_is_what_the_chain_makes_in_half_precision(
    config: AppConfig, cases: list[dict[str, str]], tmp_path: Path
) -> None:
    made = build_case(config)(dict(cases[0]))
    found = readable(opened(config, cases, tmp_path / "cache")[0])
    image, label = found["image"], found["label"]
    assert isinstance(image, StoredVolume)
    assert (image.shape, label.shape) == (tuple(made["image"].shape), tuple(made["label"].shape))
    assert torch.equal(image[:], made["image"].as_tensor().half().float())
    assert torch.equal(label[:].int(), made["label"].as_tensor().int())
    window = (slice(None), slice(3, 20), slice(0, 7), slice(5, 33))
    assert torch.equal(image[window], image[:][window])
    assert image[window].dtype == torch.float32
    assert found["centres"]["counts"] == made["centres"]["counts"]
    assert found["centres"]["shape"] == list(made["centres"]["shape"])
    for stored, own in zip(found["centres"]["indices"], made["centres"]["indices"], strict=True):
        assert torch.equal(stored, own)


def test_a_second_run_computes_nothing_and_draws_the_same_patches(
    config: AppConfig, cases: list[dict[str, str]], tmp_path: Path, computed: list[str]
) -> None:
    runs = []
    for _ in range(2):
        for sampler in ("pos_neg", "balanced_mixup"):
            batches = PatchBatches(config, cases, sampler, 3, tmp_path / "cache")
            runs.append([batch.image for batch in batches.epoch(2) if batch is not None])
    assert sorted(computed) == ["case-1", "case-2"]
    for first, second in ((runs[0], runs[2]), (runs[1], runs[3])):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    memory = [batch.image for batch in PatchBatches(config, cases, "pos_neg", 3).epoch(2) if batch is not None]
    for a, b in zip(runs[0], memory, strict=True):
        torch.testing.assert_close(a, b, atol=5e-3, rtol=2e-3)


def test_a_file_that_changed_is_read_again_and_only_that(
    config: AppConfig, cases: list[dict[str, str]], tmp_path: Path, computed: list[str]
) -> None:
    folder = tmp_path / "cache"
    [readable(opened(config, cases, folder)[i]) for i in (0, 1)]
    os.utime(cases[1]["label"], ns=(1, 1))
    [readable(opened(config, cases, folder)[i]) for i in (0, 1)]
    assert computed == ["case-1", "case-2", "case-2"]


def test_known_checksums_name_an_entry_whatever_the_times_say(
    config: AppConfig, cases: list[dict[str, str]], tmp_path: Path, computed: list[str]
) -> None:
    known = [{**cases[0], "content": "abc"}]
    readable(opened(config, known, tmp_path / "cache")[0])
    os.utime(cases[0]["label"], ns=(1, 1))
    readable(opened(config, known, tmp_path / "cache")[0])
    assert computed == ["case-1"]
    readable(opened(config, [{**cases[0], "content": "abd"}], tmp_path / "cache")[0])
    assert computed == ["case-1"] * 2


def test_another_preprocessing_is_another_entry(
    config: AppConfig, cases: list[dict[str, str]], tmp_path: Path, computed: list[str]
) -> None:
    readable(opened(config, cases, tmp_path / "cache")[0])
    readable(CaseCache(cases, build_case(config), {"spacing": 2}, tmp_path / "cache")[0])
    assert computed == ["case-1"] * 2


@pytest.mark.parametrize("damage", ["cut", "garbage", "meta", "format", "lost"])
def test_a_damaged_entry_is_never_believed(
    config: AppConfig, cases: list[dict[str, str]], tmp_path: Path, computed: list[str], damage: str
) -> None:
    folder = tmp_path / "cache"
    good = readable(opened(config, cases, folder)[0])["image"][:]
    (entry,) = folder.iterdir()
    image, meta = entry / "image.b2nd", entry / "case.json"
    data = image.read_bytes()
    if damage == "cut":
        image.write_bytes(data[:-100])
    elif damage == "garbage":
        image.write_bytes(data[:2000] + bytes(50) + data[2050:])
    elif damage == "meta":
        meta.write_text("{")
    elif damage == "format":
        meta.write_text(json.dumps({**json.loads(meta.read_text()), "format": 0}))
    else:
        (entry / "centres-0.b2nd").unlink()
    again = readable(opened(config, cases, folder)[0])["image"][:]
    assert torch.equal(again, good)
    assert computed == ["case-1"] * 2
    readable(opened(config, cases, folder)[0])
    assert computed == ["case-1"] * 2, "it was made good"


def test_a_case_that_cannot_be_read_is_told_and_not_kept(
    config: AppConfig, cases: list[dict[str, str]], tmp_path: Path
) -> None:
    label = Path(cases[0]["label"])
    label.write_bytes(label.read_bytes()[:300])
    cache = opened(config, [cases[0], {**cases[1], "image": str(tmp_path / "gone.nii.gz")}], tmp_path / "cache")
    assert isinstance(cache[0], Unreadable)
    assert isinstance(cache[1], Unreadable)
    assert not list((tmp_path / "cache").glob("*"))


def test_a_folder_that_cannot_be_written_costs_only_time(
    config: AppConfig, cases: list[dict[str, str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "cache"
    blocked.write_text("a file, no folder")
    found = readable(opened(config, cases, blocked)[0])
    expected = build_case(config)(dict(cases[0]))["image"].as_tensor().half().float()
    assert torch.equal(torch.as_tensor(found["image"]), expected), "as it would be read"
    assert "prepared cases are not kept on disk" in caplog.text


def test_a_folder_holds_no_more_than_its_limit(config: AppConfig, cases: list[dict[str, str]], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    cache = opened(config, cases, folder, disk_mib=1e-3)
    readable(cache[0])
    readable(cache[1])
    assert len(list(folder.iterdir())) == 1
    assert np.isfinite(cache[1]["image"][:].numpy()).all()  # type: ignore[index]
