"""What a run decides before its first step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rarevoxel.config import AppConfig, PowerConfig
from rarevoxel.errors import ConflictError, RequestError
from rarevoxel.statistics import CaseStatistics, case_statistics
from rarevoxel.training import TrainOptions
from rarevoxel.training.plan import make_plan


def measured(**voxels: int) -> dict[str, CaseStatistics]:
    """Cases of 1000 voxels of 1 mm^3, so many of them oedema."""
    found = {}
    for case, count in voxels.items():
        labels = np.zeros(1000, np.uint8)
        labels[:count] = 2
        found[case] = case_statistics(labels.reshape(10, 10, 10), (1.0, 1.0, 1.0), case)
    return found


def entries(*cases: str) -> list[dict[str, Any]]:
    return [{"id": case, "image": f"{case}/t1c.nii.gz", "label": f"{case}/seg.nii.gz"} for case in cases]


def options(config: AppConfig, **request: Any) -> TrainOptions:
    return TrainOptions.from_request(request, config, "auto")


def test_without_a_filter_every_case_trains(config: AppConfig) -> None:
    train = entries("a", "b")
    plan = make_plan(config, options(config), train, measured(a=200, b=0, held=50))
    assert plan.train == tuple(train)
    assert plan.filtered.dropped == ()
    assert plan.statistics.by_region["WT"].n_cases == 3
    assert plan.config == config


def test_the_filter_looks_at_training_cases_only_and_statistics_at_what_is_left(config: AppConfig) -> None:
    """`held` is empty too, but it judges: nothing leaves the hold-out, and its size counts."""
    plan = make_plan(
        config,
        options(config, filter="empty+tiny:60"),
        entries("a", "b", "c", "d"),
        measured(a=200, b=0, c=59, d=60, held=0, also=10),
    )
    assert [entry["id"] for entry in plan.train] == ["a", "d"]
    assert [(drop.id, drop.rule) for drop in plan.filtered.dropped] == [("b", "empty"), ("c", "tiny")]
    assert plan.filtered.dropped[0].reason == "WT has 0 of 1000 voxels"
    assert "59" in plan.filtered.dropped[1].reason
    sizes = plan.statistics.by_region["WT"]
    assert (sizes.n_cases, sizes.mean) == (4, pytest.approx((200 + 60 + 0 + 10) / 4))


def test_an_outlier_is_one_among_training_cases(config: AppConfig) -> None:
    """The far larger hold-out case neither goes nor shifts what is usual."""
    usual = {f"c{i}": 100 + i for i in range(12)}
    plan = make_plan(
        config,
        options(config, filter="outliers"),
        entries(*usual, "far"),
        measured(**usual, far=900, held=990),
    )
    assert [drop.id for drop in plan.filtered.dropped] == ["far"]
    assert "held" in {case.case_id for case in plan.statistics.cases}


def test_a_filter_that_leaves_nothing_says_so(config: AppConfig) -> None:
    with pytest.raises(ConflictError, match=r"the filter drops all 2 entries \(empty 1, tiny 1\).*first: b"):
        make_plan(config, options(config, filter="empty+tiny:500"), entries("a", "b"), measured(a=1, b=0, held=900))


@pytest.mark.parametrize(
    ("asked", "voxels", "expected"),
    [
        ("auto", 99, "balanced_mixup"),
        ("auto", 101, "instance"),
        ("square_root", 99, "square_root"),
        ("balanced_mixup", 101, "balanced_mixup"),
    ],
)
def test_the_sampler_is_the_choice_s_unless_named(config: AppConfig, asked: str, voxels: int, expected: str) -> None:
    plan = make_plan(config, options(config, sampler=asked), entries("a"), measured(a=voxels, b=voxels))
    assert plan.sampler == expected
    assert ("(sampler instance)" in plan.choice.reason) is (voxels > 100)


def test_a_loss_by_name_draws_half_of_the_patches_on_tumour(config: AppConfig) -> None:
    plan = make_plan(config, options(config, loss="dice+0.5*focal"), entries("a"), measured(a=500, b=500))
    assert (plan.choice.name, plan.sampler) == ("dice+0.5*focal", "pos_neg")


def test_the_same_seed_leaves_out_the_same_cases(config: AppConfig) -> None:
    many = {f"c{i}": 10 * (i % 5) for i in range(40)}

    def kept(seed: int) -> list[str]:
        asked = options(config, filter="present_ratio:0.5", seed=seed)
        return [entry["id"] for entry in make_plan(config, asked, entries(*many), measured(**many)).train]

    assert len(kept(0)) < 40
    assert kept(0) == kept(0)


BENT = (PowerConfig("sqrt"), PowerConfig("log", shift=0.05), PowerConfig(), PowerConfig())


@pytest.fixture
def skewed(tmp_path: Path, write_case: Callable[..., Path]) -> list[dict[str, Any]]:
    """Two cases: t1c is a square (the root straightens it), t2w an exponential, the others are even."""
    rng = np.random.default_rng(0)
    cases = []
    for case in ("a", "b"):
        even = rng.uniform(0.0, 1.0, (4, 12, 12, 12))
        images = np.stack([even[0], even[1] ** 2, np.exp(4 * even[2]), even[3]]) * 100 + 1
        folder = write_case(tmp_path / case, images.astype(np.float32), np.eye(4), np.zeros((12, 12, 12)))
        cases.append({"id": case, "image": str(folder / "t1c.nii.gz"), "label": str(folder / "seg.nii.gz")})
    return cases


def power_of(config: AppConfig, train: list[dict[str, Any]], intensity: str) -> tuple[PowerConfig, ...]:
    counted: Mapping[str, CaseStatistics] = measured(a=50, b=60)
    return make_plan(config, options(config, intensity=intensity), train, counted).config.preprocessing.power


def test_intensities_as_asked(config: AppConfig, skewed: list[dict[str, Any]]) -> None:
    bent = replace(config, preprocessing=replace(config.preprocessing, power=BENT))
    assert power_of(bent, skewed, "as_trained") == BENT
    assert power_of(bent, skewed, "zscore") == ()
    for start in (config, bent):
        kinds = [power.kind for power in power_of(start, skewed, "skewness")]
        assert kinds[:2] == ["none", "sqrt"]
        assert kinds[2] in ("log", "box_cox", "yeo_johnson")
        assert kinds[3] == "none"


def test_nothing_else_of_the_preprocessing_changes(config: AppConfig, skewed: list[dict[str, Any]]) -> None:
    own = replace(config, preprocessing=replace(config.preprocessing, percentiles=(1.0, 99.0), margin_mm=7.0))
    plan = make_plan(own, options(own, intensity="skewness"), skewed, measured(a=50, b=60))
    assert replace(plan.config.preprocessing, power=()) == own.preprocessing
    assert replace(plan.config, preprocessing=own.preprocessing) == own


def test_only_cases_that_train_are_looked_at(config: AppConfig, skewed: list[dict[str, Any]]) -> None:
    """Case `b` is dropped: its images need not even be there."""
    (Path(skewed[1]["image"])).unlink()
    asked = options(config, intensity="skewness", filter="empty")
    plan = make_plan(config, asked, skewed, measured(a=50, b=0))
    assert [entry["id"] for entry in plan.train] == ["a"]
    assert len(plan.config.preprocessing.power) == 4


def test_a_loss_that_cannot_be_had_is_told(config: AppConfig) -> None:
    with pytest.raises(RequestError, match="unknown loss 'magic'"):
        make_plan(config, replace(options(config), loss="magic"), entries("a"), measured(a=5))
