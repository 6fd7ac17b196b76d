from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rarevoxel.errors import RequestError
from rarevoxel.losses import (
    LOSS_NAMES,
    TERM_NAMES,
    Branch,
    CALFLoss,
    CompoundLoss,
    LesionDiceLoss,
    LossChoice,
    SumLoss,
    build_loss,
    choose_loss,
)
from rarevoxel.losses.by_region import region_statistics
from rarevoxel.losses.choose import many_lesions
from rarevoxel.losses.voxel import voxel_loss
from rarevoxel.sampling import SAMPLER_NAMES
from rarevoxel.statistics import DatasetStatistics, SizeStatistics, case_statistics

RIGHT = [1.0] * 20 + [2.0] * 8 + [30.0, 60.0]
LEFT = [60.0] * 20 + [59.0] * 8 + [30.0, 1.0]


def sizes(values, **options):
    return SizeStatistics.from_sizes(values, **{"bootstrap": 50, **options})


def lesions_of(cases, value=2, voxels=1000, **options):
    """Statistics of cases whose lesions are lists of voxels of 100 mm^3; a case has `voxels` voxels."""
    found = []
    for index, lesions in enumerate(cases):
        labels = np.zeros((10, voxels // 10, 1), np.uint8)
        for row, size in enumerate(lesions):
            labels[2 * row, :size] = value
        found.append(case_statistics(labels, 100.0, f"case{index}"))
    return DatasetStatistics.from_cases(found, **{"bootstrap": 0, **options})


def one_sentence(reason):
    return reason.endswith(".") and ". " not in reason and ".;" not in reason and "\n" not in reason


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
        labels[7::2, 5, 5] = 2
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
    assert one_sentence(reason)


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
    calf, lesion = build_loss("auto", dataset).loss.terms
    assert calf.branches == tuple(dataset.by_region[r].branch for r in ("WT", "TC", "ET"))
    assert isinstance(lesion, LesionDiceLoss)
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


@pytest.mark.parametrize(("activation", "channels"), [("sigmoid", 3), ("softmax", 4)])
@pytest.mark.parametrize("name", dict.fromkeys((*LOSS_NAMES, *TERM_NAMES, "calf+0.5*lmf+2*ce_novel")))
def test_every_name_builds_and_trains_a_step(name, activation, channels, dataset):
    choice = build_loss(name, dataset, activation=activation)
    assert choice.name == name or name == "auto"
    assert one_sentence(choice.reason)
    torch.manual_seed(0)
    z = torch.randn(1, channels, 2, 2, 2, requires_grad=True)
    t = torch.nn.functional.one_hot(torch.arange(8) % channels, channels).T.reshape(1, channels, 2, 2, 2)
    before = choice.loss(z, t)
    before.backward()
    assert math.isfinite(before.item())
    assert torch.isfinite(z.grad).all()
    assert z.grad.abs().sum() > 0
    after = choice.loss((z - 1e-3 * z.grad / z.grad.norm()).detach(), t)
    assert after < before


def test_every_name_is_there_once():
    assert LOSS_NAMES[0] == "auto"
    assert len(set(LOSS_NAMES)) == len(LOSS_NAMES)


@pytest.mark.parametrize(
    ("cases", "why"),
    [
        ([[10] * 3] * 24, "3.0 lesions per case in WT (3 or more are many)"),
        # Cases without a lesion count: six in every second case are three per case.
        ([[10] * 5, [10]] * 12, "3.0 lesions per case in WT (3 or more are many)"),
        ([[10] * 5, []] * 12, ""),
        ([[10] * 3] * 23 + [[10] * 2], ""),
        # However small it is, one lesion per case is the image's own Dice.
        ([[1]] * 24, ""),
        ([[]] * 24, ""),
    ],
)
def test_many_lesions_get_a_dice_of_their_own(cases, why):
    statistics = lesions_of(cases)
    choice = build_loss("auto", statistics)
    assert many_lesions(statistics) == why
    assert one_sentence(choice.reason)
    if why:
        assert choice.name == "calf+lesion_dice"
        assert f"; {why}, so a Dice per lesion of weight 1 beside it, in which all weigh alike; " in choice.reason
        assert choice.loss.weights == (1.0, 1.0)
    else:
        assert choice.name == "calf"
        assert type(choice.loss) is CALFLoss
        assert "per lesion" not in choice.reason


def test_the_first_region_with_many_lesions_speaks():
    # Edema belongs to WT alone, the core to all three regions.
    assert many_lesions(lesions_of([[1] * 4] * 24)).startswith("4.0 lesions per case in WT")
    labels = np.zeros((10, 100, 1), np.uint8)
    labels[0, :50], labels[0, 1:30:4] = 2, 3
    many_cores = DatasetStatistics.from_cases(
        [case_statistics(labels, 100.0, f"case{index}") for index in range(24)], bootstrap=0
    )
    assert many_lesions(many_cores) == "8.0 lesions per case in TC (3 or more are many)"
    assert many_lesions(many_cores, ("ET", "TC")).startswith("8.0 lesions per case in ET")
    assert many_lesions(many_cores, ("WT",)) == ""
    assert build_loss("auto", many_cores, regions=("WT",)).name == "calf"
    # Components are measured in regions only.
    assert many_lesions(many_cores, ("edema", "enhancing tumor")) == ""


@pytest.mark.parametrize(
    ("lesion", "voxels", "value", "sampler", "share"),
    [
        (10, 1000, 2, "balanced_mixup", "1.00%"),
        (99, 1000, 2, "balanced_mixup", "9.90%"),
        (10, 100, 2, "instance", "10.00%"),
        (100, 1000, 2, "instance", "10.00%"),
        (20, 200, 1, "instance", "10.00%"),
        # A resection cavity is no tumour.
        (100, 1000, 4, "balanced_mixup", "0.00%"),
    ],
)
def test_the_sampler_follows_the_fraction_of_tumour(lesion, voxels, value, sampler, share):
    choice = build_loss("auto", lesions_of([[lesion]] * 24, value, voxels))
    assert choice.sampler == sampler
    assert choice.sampler in SAMPLER_NAMES
    mixed = "random patches are mixed with patches of every class alike"
    how = {"balanced_mixup": mixed, "instance": "patches are drawn anywhere"}[sampler]
    assert choice.reason.endswith(f"; tumour in {share} of the voxels, so {how} (sampler {sampler}).")
    assert one_sentence(choice.reason)


def test_sizes_alone_choose_no_lesion_term_and_no_sampler(by_region):
    statistics = lesions_of([[1] * 5] * 24, voxels=50)
    assert statistics.class_voxels["edema"] / 24 / 50 == 0.1
    full = build_loss("auto", statistics)
    assert (full.name, full.sampler) == ("calf+lesion_dice", "instance")
    for known in (statistics.by_region, by_region, by_region["TC"], None):
        choice = build_loss("auto", known)
        assert isinstance(choice.loss, CALFLoss)
        assert choice.name in ("calf", "calf_bce_dice")
        assert choice.sampler == "pos_neg"
        assert "lesion of weight" not in choice.reason
        assert "sampler" not in choice.reason
    # What is asked for by name has the usual sampler, whatever was measured.
    assert build_loss("calf", statistics).sampler == "pos_neg"


def test_few_cases_with_many_lesions():
    choice = build_loss("auto", lesions_of([[10] * 4] * 7))
    assert choice.name == "calf_bce_dice+lesion_dice"
    assert choice.reason == (
        "too few cases: n=7 (minimum 20) for WT, TC, ET, so BCE-Dice for every region; "
        "4.0 lesions per case in WT (3 or more are many), so a Dice per lesion of weight 1 beside it, in which all "
        "weigh alike; tumour in 4.00% of the voxels, so random patches are mixed with patches of every class "
        "alike (sampler balanced_mixup)."
    )
    z, t = torch.randn(1, 3, 6, 6), (torch.rand(1, 3, 6, 6) < 0.2).float()
    expected = CALFLoss("bce_dice")(z, t) + LesionDiceLoss()(z, t)
    torch.testing.assert_close(choice.loss(z, t), expected)
    torch.testing.assert_close(build_loss(choice.name).loss(z, t), expected)


def test_no_case_at_all():
    choice = build_loss("auto", DatasetStatistics.from_cases([], bootstrap=0))
    assert choice.reason == "too few cases: n=0 (minimum 20) for WT, TC, ET, so BCE-Dice for every region."
    assert (choice.name, choice.sampler) == ("calf_bce_dice", "pos_neg")


def test_autos_loss_is_the_sum_of_its_parts(dataset):
    torch.manual_seed(0)
    z, t = torch.randn(2, 3, 5, 4, 3), (torch.rand(2, 3, 5, 4, 3) < 0.1).float()
    choice = build_loss("auto", dataset)
    calf = CALFLoss.from_statistics(dataset, region_weight=1.0)
    parts = SumLoss([(1.0, calf), (1.0, LesionDiceLoss(sigmoid=True))])
    torch.testing.assert_close(choice.loss(z, t), parts(z, t))
    torch.testing.assert_close(choice.loss(z, t), calf(z, t) + LesionDiceLoss()(z, t))
    # By name CALF has its own Dice weights; with autos it is the same loss.
    named = build_loss(choice.name, dataset, region_weight=1.0).loss
    torch.testing.assert_close(named(z, t), choice.loss(z, t))


def test_options_reach_both_parts_of_auto(dataset):
    torch.manual_seed(0)
    names = ("WT", "TC", "ET")
    z, index = torch.randn(2, 4, 5, 4, 3), torch.randint(0, 4, (2, 1, 5, 4, 3))
    loss = build_loss("auto", dataset, activation="softmax", regions=names, to_onehot_y=True, region_weight=0.25).loss
    options = {"softmax": True, "include_background": False, "to_onehot_y": True}
    calf = CALFLoss.from_statistics(dataset, names, region_weight=0.25, **options)
    torch.testing.assert_close(loss(z, index), calf(z, index) + LesionDiceLoss(**options)(z, index))


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
