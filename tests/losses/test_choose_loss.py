from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rarevoxel.errors import RequestError
from rarevoxel.losses import LOSS_NAMES, Branch, CALFLoss, CompoundLoss, LossChoice, build_loss, choose_loss
from rarevoxel.losses.by_region import region_statistics
from rarevoxel.losses.voxel import voxel_loss
from rarevoxel.statistics import DatasetStatistics, SizeStatistics, case_statistics

RIGHT = [1.0] * 20 + [2.0] * 8 + [30.0, 60.0]
LEFT = [60.0] * 20 + [59.0] * 8 + [30.0, 1.0]


def sizes(values, **options):
    return SizeStatistics.from_sizes(values, **{"bootstrap": 50, **options})


@pytest.fixture(scope="module")
def by_region():
    return {"WT": sizes(RIGHT), "TC": sizes(LEFT), "ET": sizes(RIGHT)}


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    cases = []
    for index in range(24):
        labels = np.zeros((12, 6, 6), np.uint8)
        labels[: 2 + int(rng.exponential(3)) % 9, :2] = 2
        labels[0, 0] = 1
        labels[1, : 1 + index % 3, 0] = 3
        cases.append(case_statistics(labels, (1, 1, 1), f"case{index}"))
    return DatasetStatistics.from_cases(cases, bootstrap=20)


def test_auto_takes_each_regions_branch_and_adds_dice(by_region):
    choice = build_loss("auto", by_region)
    assert choice.name == "calf"
    assert choice.loss.branches == (Branch.LOG10, Branch.FISHER, Branch.LOG10)
    assert choice.loss.variant == "stable"
    assert [choice.loss.dice_weight(b) for b in choice.loss.branches] == [1.0, 1.0, 1.0]


def test_the_reason_is_one_sentence_with_the_numbers(by_region):
    reason = build_loss("auto", by_region).reason
    wt = by_region["WT"]
    low, high = wt.interval["skewness"]
    assert f"WT log10 (n=30, skewness {wt.skewness:.2f} [{low:.2f}, {high:.2f}], kurtosis {wt.kurtosis:.2f} [" in reason
    assert f"in {wt.branch_stability:.0%} of resamples" in reason
    assert "TC fisher (n=30" in reason
    assert "Dice of weight 1" in reason
    assert reason.endswith(".")
    assert ". " not in reason
    assert "\n" not in reason


def test_the_reason_tells_an_unstable_branch():
    rng = np.random.default_rng(3)
    shaky = sizes(rng.gamma(12, size=25), bootstrap=300)
    assert shaky.branch_stability < 0.8
    reason = choose_loss({"ET": shaky}).reason
    others = {b: share for b, share in shaky.branch_shares.items() if b is not shaky.rule_branch}
    second = max(others, key=others.get)
    assert f"unstable: in {shaky.branch_stability:.0%} of resamples, {second} in {others[second]:.0%}" in reason
    assert "unstable" not in choose_loss({"WT": sizes(RIGHT)}).reason


def test_the_reason_without_resamples_or_shape_has_no_empty_numbers():
    reason = choose_loss({"WT": sizes(RIGHT, bootstrap=0), "ET": sizes([5.0] * 30)}).reason
    assert "resamples" not in reason.split(";")[0]
    assert "[nan" not in reason
    assert "ET bce_dice (n=30, skewness nan, kurtosis nan" in reason


def test_component_sizes_name_cases_and_components():
    many = sizes(RIGHT * 2, groups=list(range(30)) * 2, unit="component")
    assert "WT log10 (n=30, 60 components, skewness" in choose_loss({"WT": many}).reason


def test_too_few_cases_fall_back_for_every_region(by_region):
    few = {**by_region, "ET": sizes([1.0, 2.0, 3.0, 9.0, 4.0, 5.0, 6.0])}
    loss, reason = build_loss("auto", few)
    assert reason == "too few cases: n=7 (minimum 20) for ET, so BCE-Dice for every region."
    z, t = torch.randn(1, 3, 9), torch.rand(1, 3, 9).round()
    torch.testing.assert_close(loss(z, t), CALFLoss("bce_dice")(z, t))
    unequal = choose_loss({"WT": sizes(RIGHT[:9]), "ET": sizes(RIGHT[:5])}).reason
    assert "WT n=9 (minimum 20), ET n=5 (minimum 20)" in unequal
    assert build_loss("auto", few).name == "calf_bce_dice"


def test_nothing_measured_falls_back():
    loss, reason = build_loss()
    assert reason == "no lesion sizes measured, so BCE-Dice for every region."
    assert loss.branches == (Branch.BCE_DICE,)


def test_a_data_set_a_mapping_and_one_set_of_sizes_are_accepted(dataset, by_region):
    assert list(region_statistics(dataset)) == ["WT", "TC", "ET"]
    loss = build_loss("auto", dataset).loss
    assert loss.branches == tuple(dataset.by_region[r].branch for r in ("WT", "TC", "ET"))
    assert build_loss("auto", by_region, regions=("TC",)).loss.branches == (Branch.FISHER,)
    alone = build_loss("auto", by_region["TC"])
    assert "lesion fisher" in alone.reason
    assert not alone.loss.per_channel


def test_softmax_takes_labels_as_regions_and_leaves_the_background_out(dataset):
    names = ("necrosis", "edema", "enhancing tumor")
    loss = build_loss("auto", dataset, activation="softmax", regions=names, to_onehot_y=True).loss
    assert loss.branches == tuple(dataset.by_label[name].branch for name in names)
    z, index = torch.randn(1, 4, 4, 4), torch.randint(0, 4, (1, 1, 4, 4))
    assert torch.isfinite(loss(z, index))


def test_calf_by_name_has_dice_beside_negative_skew_only(by_region):
    choice = build_loss("calf", by_region)
    assert [choice.loss.dice_weight(b) for b in choice.loss.branches] == [0.0, 1.0, 0.0]
    assert "TC fisher (n=30" in choice.reason
    assert build_loss("calf_published", by_region).loss.variant == "published"
    partly = {**by_region, "ET": sizes([1.0, 2.0])}
    assert "ET bce_dice (too few cases: n=2 (minimum 20))" in build_loss("calf", partly).reason
    with pytest.raises(RequestError, match=r"'calf' takes its branches from the sizes.*name a branch"):
        build_loss("calf")


def test_region_weight_reaches_every_calf_loss(by_region):
    for name in ("auto", "calf", "calf_ln", "calf_ln_published"):
        loss = build_loss(name, by_region, region_weight=0.25).loss
        assert loss.dice_weight(Branch.LN) == 0.25
    assert "Dice of weight 0.25" in build_loss("auto", by_region, region_weight=0.25).reason


@pytest.mark.parametrize("variant", ["stable", "published"])
@pytest.mark.parametrize("branch", list(Branch))
def test_named_branches(branch, variant):
    loss = build_loss(f"calf_{branch}" + ("_published" if variant == "published" else ""), region_weight=0.0).loss
    z, t = torch.randn(1, 3, 20), torch.rand(1, 3, 20).round()
    without_dice = voxel_loss(branch, z, t, variant).mean()
    assert (loss(z, t) - without_dice).item() == pytest.approx(0, abs=1e-6) or branch is Branch.BCE_DICE
    assert loss.variant == variant


def test_every_name_builds_and_trains_a_step(by_region):
    assert LOSS_NAMES[0] == "auto"
    assert len(set(LOSS_NAMES)) == len(LOSS_NAMES)
    for activation, channels in (("sigmoid", 3), ("softmax", 4)):
        for name in LOSS_NAMES:
            choice = build_loss(name, by_region, activation=activation)
            assert choice.name == name or name == "auto"
            z = torch.zeros(1, channels, 2, 2, 2, requires_grad=True)
            t = torch.nn.functional.one_hot(torch.arange(8) % channels, channels).T.reshape(1, channels, 2, 2, 2)
            choice.loss(z, t).backward()
            assert torch.isfinite(z.grad).all()
            assert math.isfinite(z.grad.abs().sum().item())


def test_choice_unpacks_as_a_pair():
    choice = build_loss("dice_focal")
    loss, reason = choice
    assert isinstance(choice, LossChoice)
    assert isinstance(loss, CompoundLoss)
    assert reason == "'dice_focal' was asked for by name."


def test_unknown_names():
    with pytest.raises(
        RequestError, match=r"unknown loss 'dice_cee', expected one of auto, dice.*did you mean 'dice_ce'"
    ):
        build_loss("dice_cee")
    with pytest.raises(RequestError, match=r"unknown activation 'tanh', expected one of sigmoid, softmax"):
        build_loss("dice", activation="tanh")
    with pytest.raises(RequestError, match=r"unknown region 'whole'"):
        build_loss("auto", {"WT": sizes(RIGHT)}, regions=("whole",))
