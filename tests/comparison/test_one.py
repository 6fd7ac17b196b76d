from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from rarevoxel.comparison.data import Entry, Fold, PhantomSet, phantom_fold
from rarevoxel.comparison.one import predict_on_grid, run_one, score_entry
from rarevoxel.comparison.spec import Budget, Method
from rarevoxel.errors import GeometryError, LabelError
from rarevoxel.labels import REGIONS, labels_to_regions, regions_to_labels
from rarevoxel.networks import TwoStage, build_network, save_weights
from rarevoxel.volumes import read_label_volume

BUDGET = Budget(network=(4, 4, 4), patch=16, epochs=1, patches_per_case=2, batch_size=2, spacing=6.0)
KEYS = {
    "method", "fold", "seed", "loss", "sampler", "reason", "dropped", "second_stage", "history", "seconds", "cases",
}  # fmt: skip
Writer = Callable[..., Path]


@pytest.fixture(scope="module")
def fold(tmp_path_factory: pytest.TempPathFactory) -> Fold:
    cases = PhantomSet(train=4, tune=1, test=2, size=(26, 32, 26), spacing=6.0)
    return phantom_fold("mild", tmp_path_factory.mktemp("cases"), cases)


def volumes(fold: Fold) -> dict[str, float]:
    """Case -> mm^3 of the whole tumour."""
    sizes = {}
    for entry in fold.train:
        volume = read_label_volume(entry.label)
        sizes[entry.id] = float(np.count_nonzero(volume.array)) * volume.grid.voxel_volume
    return sizes


def without_seconds(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "seconds"}


@pytest.fixture(scope="module")
def plain(fold: Fold) -> dict[str, Any]:
    return run_one(Method.parse("dice_ce"), fold, BUDGET, 3)


def test_a_record_says_what_was_done(plain: dict[str, Any], fold: Fold) -> None:
    assert set(plain) == KEYS
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert (plain["method"], plain["fold"], plain["seed"], plain["loss"]) == ("dice_ce", "mild", 3, "dice_ce")
    assert plain["reason"] == "'dice_ce' was asked for by name."
    assert plain["dropped"] == {}
    assert plain["second_stage"] is None
    assert len(plain["history"]) == BUDGET.epochs
    assert plain["seconds"] > 0
    assert [case["case"] for case in plain["cases"]] == [entry.id for entry in fold.test]
    for case, entry in zip(plain["cases"], fold.test, strict=True):
        truth = read_label_volume(entry.label)
        assert set(case) == {"case", *REGIONS}
        ml = np.count_nonzero(labels_to_regions(truth.array), axis=(1, 2, 3)) * truth.grid.voxel_volume / 1000
        assert [case[region]["truth_ml"] for region in REGIONS] == pytest.approx(ml.tolist())
        # Every voxel of the brain, and no other, is in the bins.
        brain = np.asarray(nib.load(entry.image).dataobj) > 0
        assert sum(case["WT"]["calibration"]["count"]) == np.count_nonzero(brain)


def test_the_same_seed_gives_the_same_record(plain: dict[str, Any], fold: Fold) -> None:
    torch.manual_seed(99)
    random.seed(99)
    again = run_one(Method.parse("dice_ce"), fold, BUDGET, 3)
    assert without_seconds(again) == without_seconds(plain)
    other = run_one(Method.parse("dice_ce"), fold, BUDGET, 4)
    assert other["history"] != plain["history"]


def test_weights_to_start_from(plain: dict[str, Any], fold: Fold, tmp_path: Path) -> None:
    config = BUDGET.config()
    records = {}
    for seed in (3, 5):
        torch.manual_seed(seed)
        path = tmp_path / f"{seed}.pt"
        save_weights(path, build_network(config.network), config.network, config.preprocessing, {})
        records[seed] = run_one(Method.parse("dice_ce"), fold, BUDGET, 3, path)
    # The random weights of the seed, read from a file, are those of a run without a file.
    assert without_seconds(records[3]) == without_seconds(plain)
    assert records[5]["history"] != plain["history"]


def test_balanced_mixup(plain: dict[str, Any], fold: Fold) -> None:
    record = run_one(Method.parse("dice_ce@balanced_mixup"), fold, BUDGET, 3)
    assert (record["method"], record["sampler"]) == ("dice_ce@balanced_mixup", "balanced_mixup")
    assert plain["sampler"] != "balanced_mixup"
    assert record["history"] != plain["history"]
    json.dumps(record, allow_nan=False)


def test_a_filter_leaves_training_cases_out(fold: Fold) -> None:
    sizes = volumes(fold)
    limit = sorted(sizes.values())[1] + 1.0
    record = run_one(Method.parse(f"auto/tiny:{limit:g}"), fold, BUDGET, 3)
    assert set(record["dropped"]) == {case for case, size in sizes.items() if size < limit}
    assert all("is below the minimum" in reason for reason in record["dropped"].values()), record["dropped"]
    assert [case["case"] for case in record["cases"]] == [entry.id for entry in fold.test]
    assert record["reason"] != "'auto' was asked for by name."
    json.dumps(record, allow_nan=False)


def test_two_stages(plain: dict[str, Any], fold: Fold) -> None:
    record = run_one(Method.parse("two_stage:dice_ce"), fold, BUDGET, 3)
    assert record["method"] == "two_stage:dice_ce"
    assert 0 < record["second_stage"] < 1
    # The region network is the one of the plain method; the second stage only takes voxels away.
    assert record["history"] == plain["history"]
    for masked, case in zip(record["cases"], plain["cases"], strict=True):
        for region in REGIONS:
            assert masked[region]["predicted_ml"] <= case[region]["predicted_ml"]
    json.dumps(record, allow_nan=False)


class Known(nn.Module):
    """Logit +-4: region r is where sequence r is brighter than halfway; a fourth channel is the left half."""

    def __init__(self, second: bool = False) -> None:
        super().__init__()
        self.second = second
        self.place = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = (x.amax((2, 3, 4), keepdim=True) + x.amin((2, 3, 4), keepdim=True)) / 2
        logits = 8.0 * (x > half)[:, :3].float() - 4.0
        if not self.second:
            return logits
        left = torch.arange(x.shape[2]) < x.shape[2] / 2
        return torch.cat([logits, (8.0 * left.float() - 4.0).view(1, 1, -1, 1, 1).expand_as(x[:, :1])], dim=1)


LOW, HIGH = torch.sigmoid(torch.tensor([-4.0, 4.0])).tolist()


def a_case(folder: Path, write_case: Writer, codes: str, spacing: tuple[float, ...]) -> tuple[Entry, npt.NDArray[Any]]:
    """A brain with three nested boxes off its centre that light up in the first three sequences, stored as `codes`."""
    shape = (24, 30, 27)
    brain = np.zeros(shape, bool)
    brain[2:-3, 3:-2, 2:-2] = True
    masks = np.zeros((3, *shape), bool)
    for region, inner in enumerate((0, 2, 4)):
        masks[region, 4 + inner : 15 - inner // 2, 6 + inner : 20 - inner, 5 + inner : 18 - inner] = True
    images = np.stack([100.0 * brain + 100.0 * mask for mask in (*masks, masks[0])]).astype(np.float32)
    ornt = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-30.0, 12.5, 4.0)
    affine = affine @ nib.orientations.inv_ornt_aff(ornt, shape)

    def turn(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray(nib.orientations.apply_orientation(array, ornt))

    write_case(folder, [turn(image) for image in images], affine, turn(regions_to_labels(masks)))
    turned = np.stack([turn(mask) for mask in (*masks, brain)])
    return Entry("case", str(folder / "t1c.nii.gz"), str(folder / "seg.nii.gz")), turned


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAL", "PIR"])
def test_probabilities_land_where_they_belong(tmp_path: Path, write_case: Writer, codes: str) -> None:
    entry, truth = a_case(tmp_path / "case", write_case, codes, (2.5, 2.5, 2.5))
    p, brain = predict_on_grid(Known(), Budget().config(), Path(entry.image))
    assert (p.dtype, brain.dtype) == (np.float32, np.bool_)
    assert (p.shape, brain.shape) == (truth[:3].shape, truth.shape[1:])
    np.testing.assert_array_equal(brain, truth[3])
    inside = np.broadcast_to(truth[3], p.shape)
    np.testing.assert_allclose(p[inside], np.where(truth[:3], HIGH, LOW)[inside], atol=1e-6)
    score = score_entry(Known(), Budget().config(), entry, None)
    assert score["case"] == "case"
    assert [score[region]["dice"] for region in REGIONS] == [1.0] * 3
    assert [score[region]["hd95"] for region in REGIONS] == [0.0] * 3
    assert score["WT"]["truth_ml"] == pytest.approx(11 * 14 * 13 * 2.5**3 / 1000)


@pytest.mark.parametrize("codes", ["RAS", "SAL"])
def test_a_case_is_scored_at_its_own_voxel_size(tmp_path: Path, write_case: Writer, codes: str) -> None:
    spacing = (2.0, 1.6, 3.0)
    entry, truth = a_case(tmp_path / "case", write_case, codes, spacing)
    config = Budget(spacing=1.5).config()
    p, brain = predict_on_grid(Known(), config, Path(entry.image))
    assert p.shape == truth[:3].shape
    assert 0 <= p.min() <= p.max() <= 1
    assert brain[truth[3]].all()
    score = score_entry(Known(), config, entry, None)
    assert min(score[region]["dice"] for region in REGIONS) > 0.9
    assert max(score[region]["hd95"] for region in REGIONS) <= max(spacing)
    assert score["WT"]["truth_ml"] == pytest.approx(11 * 14 * 13 * np.prod(spacing) / 1000)


def test_the_second_stage_masks_what_is_predicted(tmp_path: Path, write_case: Writer) -> None:
    entry, truth = a_case(tmp_path / "case", write_case, "RAS", (2.5, 2.5, 2.5))
    config = Budget().config()
    whole, _ = predict_on_grid(Known(), config, Path(entry.image))
    p, _ = predict_on_grid(Known(second=True), config, Path(entry.image), TwoStage(0.5, "hard"))
    assert p.shape == whole.shape
    kept = np.flatnonzero(p.any(axis=(0, 2, 3)))
    assert 0 < kept.max() < 14
    np.testing.assert_array_equal(p[:, : kept.max() + 1], whole[:, : kept.max() + 1])
    assert not p[:, kept.max() + 1 :].any()
    assert truth[0, kept.max() + 1 :].any()


def test_a_label_on_another_grid_is_not_scored(tmp_path: Path, write_case: Writer) -> None:
    entry, _ = a_case(tmp_path / "case", write_case, "RAS", (2.5, 2.5, 2.5))
    label = nib.load(entry.label)
    nib.save(nib.Nifti1Image(np.asarray(label.dataobj), label.affine @ np.diag([1, 1, -1, 1])), entry.label)
    with pytest.raises(GeometryError, match=r"label grid 24x30x27 at 2\.5x2\.5x2\.5 mm RAI.* is not the image's"):
        score_entry(Known(), Budget().config(), entry, None)


def test_a_label_that_no_client_knows_is_not_scored(tmp_path: Path, write_case: Writer) -> None:
    entry, _ = a_case(tmp_path / "case", write_case, "RAS", (2.5, 2.5, 2.5))
    label = nib.load(entry.label)
    array = np.array(label.dataobj)
    array[array == 1] = 7
    nib.save(nib.Nifti1Image(array, label.affine), entry.label)
    with pytest.raises(LabelError, match="7"):
        score_entry(Known(), Budget().config(), entry, None)
