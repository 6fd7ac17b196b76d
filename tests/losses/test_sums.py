from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from torch import nn

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses import (
    LOSS_NAMES,
    RECIPES,
    TERM_NAMES,
    WEIGHT_KINDS,
    Branch,
    CALFLoss,
    CompoundLoss,
    GridCALFLoss,
    SumLoss,
    TermOptions,
    build_loss,
    check_loss_name,
    parse_sum,
)
from rarevoxel.losses.terms import CALF_NAMES, build_term
from rarevoxel.losses.voxel_counts import voxel_counts
from rarevoxel.statistics import DatasetStatistics, SizeStatistics, case_statistics

PAIRS = ((900.0, 100.0), (950.0, 50.0), (990.0, 10.0))
FULL = TermOptions(counts=PAIRS, branches=(Branch.LOG10, Branch.FISHER, Branch.LN))
NEED_COUNTS = ("lmf", *(f"{term}_{kind}" for term in ("ce", "focal") for kind in WEIGHT_KINDS))
LABELS = ("necrosis", "edema", "enhancing tumor")


@pytest.fixture(scope="module")
def dataset():
    """24 cases of 100 voxels, 10 of them tumour: 7 edema, 2 necrosis, 1 enhancing; one has a cavity, too."""
    labels = np.zeros((10, 10, 1), np.uint8)
    labels[0, :7] = 2
    labels[0, 7:9] = 1
    labels[0, 9] = 3
    cases = [case_statistics(labels, (1, 1, 1), f"case{index}") for index in range(23)]
    labels[5, :5] = 4
    return DatasetStatistics.from_cases([*cases, case_statistics(labels, (1, 1, 1), "last")], bootstrap=0)


@pytest.fixture
def regions():
    torch.manual_seed(0)
    return 2 * torch.randn(2, 3, 5, 4, 3), (torch.rand(2, 3, 5, 4, 3) < 0.2).float()


def test_parse_sum():
    assert parse_sum("dice") == ((1.0, "dice"),)
    assert parse_sum("dice+0.5*focal+top_k") == ((1.0, "dice"), (0.5, "focal"), (1.0, "top_k"))
    assert parse_sum(" 2 * dice_ce + .5*calf_ln ") == ((2.0, "dice"), (2.0, "ce"), (0.5, "calf_ln"))
    assert parse_sum("1e-3*generalized_dice") == ((0.001, "generalized_dice"),)
    # What stands twice is added, also where a recipe brings it in.
    assert parse_sum("dice+dice_ce+0.25*dice") == ((2.25, "dice"), (1.0, "ce"))
    assert parse_sum("0.5*dice_focal_top_k+focal") == ((0.5, "dice"), (1.5, "focal"), (0.5, "top_k"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_its_sum(name):
    parsed = parse_sum(name)
    assert parsed == parse_sum(RECIPES[name])
    assert all(weight == 1.0 and term in TERM_NAMES for weight, term in parsed)
    assert tuple(term for _, term in parsed) == tuple(RECIPES[name].split("+"))


@given(weights=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6), data=st.data())
def test_weights_are_added_per_term(weights, data):
    terms = [data.draw(st.sampled_from(TERM_NAMES)) for _ in weights]
    parsed = parse_sum("+".join(f"{w!r}*{term}" for w, term in zip(weights, terms, strict=True)))
    assert [term for _, term in parsed] == list(dict.fromkeys(terms))
    for weight, term in parsed:
        own = sum(w for w, other in zip(weights, terms, strict=True) if other == term)
        assert weight == pytest.approx(own)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dice+focl", r"unknown loss 'focl', expected one of dice, .*did you mean 'focal'"),
        ("dice++ce", r"unknown loss '', expected one of"),
        ("2*", r"unknown loss '', expected one of"),
        ("auto+dice", r"unknown loss 'auto', expected one of dice"),
        ("0*dice", r"loss '0\*dice': weight '0' found, expected a positive number \(for example dice\+0.5\*focal\)"),
        ("dice+-1*ce", r"loss 'dice\+-1\*ce': weight '-1' found"),
        ("nan*dice", "weight 'nan' found"),
        ("inf*dice", "weight 'inf' found"),
        ("two * dice", "weight 'two' found"),
        ("2*3*dice", r"weight '2\*3' found"),
        ("*dice", "weight '' found"),
    ],
)
def test_wrong_sums(name, message):
    for ask in (parse_sum, CompoundLoss, check_loss_name, build_loss):
        with pytest.raises(RequestError, match=message):
            ask(name)


def test_check_loss_name():
    for name in (*LOSS_NAMES, *TERM_NAMES, "dice+0.5*focal", "calf+lesion_dice", "2*calf_grid"):
        check_loss_name(name)
    # A single wrong name is told all that can stand alone, `auto` included.
    with pytest.raises(RequestError, match=r"unknown loss 'autoo', expected one of auto, dice, .*did you mean 'auto'"):
        check_loss_name("autoo")
    with pytest.raises(RequestError, match=r"unknown loss 'calf_log1', .*did you mean 'calf_log10'"):
        check_loss_name("calf_log1")
    with pytest.raises(RequestError, match=r"unknown loss ''"):
        check_loss_name("")


def test_unknown_term():
    with pytest.raises(RequestError, match=r"unknown loss term 'dice_ce', expected one of dice, generalized_dice"):
        build_term("dice_ce", FULL)


@pytest.mark.parametrize("name", RECIPES)
def test_a_compound_is_the_weighted_sum_of_its_terms(name, regions):
    z, t = regions
    loss = CompoundLoss(name, FULL)
    parts = {term: build_term(term, FULL)(z, t) for _, term in parse_sum(name)}
    torch.testing.assert_close(loss(z, t), sum(parts.values()))
    torch.testing.assert_close(CompoundLoss(f"3*{name}", FULL)(z, t), 3 * loss(z, t))
    with_dice = CompoundLoss(f"0.25*{name}+2*dice", FULL)(z, t)
    torch.testing.assert_close(with_dice, 0.25 * loss(z, t) + 2 * build_term("dice", FULL)(z, t))


def test_order_does_not_matter(regions):
    torch.testing.assert_close(
        CompoundLoss("top_k+0.5*dice+ce", FULL)(*regions), CompoundLoss("ce+top_k+0.5*dice", FULL)(*regions)
    )


def test_the_gradient_is_that_of_the_parts(regions):
    z, t = regions
    z.requires_grad_()

    def slope(loss):
        return torch.autograd.grad(loss(z, t), z)[0]

    parts = slope(build_term("dice", FULL)) + 0.5 * slope(build_term("lmf", FULL))
    torch.testing.assert_close(slope(CompoundLoss("dice+0.5*lmf", FULL)), parts)


def test_sum_loss():
    class Constant(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = value

        def forward(self, logits, target):
            return logits.sum() * 0 + self.value

    z = torch.zeros(2)
    assert SumLoss([(2.0, Constant(3.0)), (0.5, Constant(10.0))])(z, z).item() == 11.0
    assert SumLoss((weight, Constant(1.0)) for weight in (1, 2))(z, z).item() == 3.0
    nested = SumLoss([(2.0, SumLoss([(3.0, Constant(1.0))])), (1.0, Constant(1.0))])
    assert nested(z, z).item() == 7.0
    assert nested(z, z).shape == ()
    assert "weights=(2.0, 1.0)" in repr(nested)
    with pytest.raises(RequestError, match="SumLoss: no terms, expected at least one"):
        SumLoss([])


@pytest.mark.parametrize("name", NEED_COUNTS)
def test_a_term_that_needs_counts_says_so(name):
    owner = "lmf" if name == "lmf" else f"class weights '{name.partition('_')[2]}'"
    message = rf"{owner}: the voxels of every class are not known.*pass DatasetStatistics to build_loss"
    sizes = SizeStatistics.from_sizes([1.0, 2.0], bootstrap=0)
    for ask in (
        lambda: CompoundLoss(name),
        lambda: build_loss(f"dice+0.5*{name}"),
        lambda: build_loss(name, {"WT": sizes}),
        lambda: build_loss(name, sizes),
    ):
        with pytest.raises(RequestError, match=message):
            ask()


@pytest.mark.parametrize("name", [name for name in TERM_NAMES if name not in NEED_COUNTS])
def test_only_some_terms_need_statistics(name):
    calf = CALF_NAMES.get(name)
    if calf is not None and calf.branch is None:
        with pytest.raises(RequestError, match=r"takes its branches from the sizes.*name a branch: calf_ln"):
            CompoundLoss(f"dice+{name}")
        assert isinstance(build_term(name, FULL), GridCALFLoss if "grid" in name else CALFLoss)
    else:
        assert sum(CompoundLoss(f"dice+{name}").total.weights) == 2


def test_the_names_of_calf(regions):
    z, t = regions
    assert len(CALF_NAMES) == 2 * (2 + len(Branch))
    for name in CALF_NAMES:
        term = build_term(name, FULL)
        assert type(term) is (GridCALFLoss if "grid" in name else CALFLoss)
        assert term.variant == ("published" if name.endswith("published") else "stable")
        own = name.removeprefix("calf").removesuffix("_published").strip("_")
        assert term.branches == (FULL.branches if own in ("", "grid") else (Branch(own),))
        torch.testing.assert_close(CompoundLoss(name, FULL)(z, t), term(z, t))
    with pytest.raises(InputError, match="2 branches for 3 channels"):
        CompoundLoss("calf", replace(FULL, branches=FULL.branches[:2]))(z, t)


def test_region_weight_reaches_calf_in_a_sum(regions, dataset):
    z, t = regions
    plain = CALFLoss("ln", region_weight=0.0)(z, t)
    for weight in (0.0, 0.25):
        expected = plain + weight * build_term("dice", FULL)(z, t) + build_term("lesion_dice", FULL)(z, t)
        loss = build_loss("calf_ln+lesion_dice", region_weight=weight).loss
        torch.testing.assert_close(loss(z, t), expected)
    chosen = build_loss("calf+ce", dataset, region_weight=0.5).loss
    expected = CALFLoss.from_statistics(dataset, region_weight=0.5)(z, t) + build_term("ce", FULL)(z, t)
    torch.testing.assert_close(chosen(z, t), expected)


def test_branches_in_a_sum_are_those_of_the_statistics(regions):
    z, t = regions
    right = SizeStatistics.from_sizes([1.0] * 20 + [2.0] * 8 + [30.0, 60.0], bootstrap=0)
    left = SizeStatistics.from_sizes([60.0] * 20 + [59.0] * 8 + [30.0, 1.0], bootstrap=0)
    few = SizeStatistics.from_sizes([1.0, 2.0, 30.0], bootstrap=0)
    by_region = {"WT": right, "TC": left, "ET": few}
    for calf in ("calf", "calf_published", "calf_grid"):
        for regions_, statistics in ((None, by_region), (("TC", "ET", "WT"), by_region), (None, left)):
            alone = build_loss(calf, statistics, regions=regions_).loss(z, t)
            summed = build_loss(f"2*{calf}+ce", statistics, regions=regions_).loss(z, t)
            torch.testing.assert_close(summed, 2 * alone + build_term("ce", FULL)(z, t))
    with pytest.raises(RequestError, match=r"unknown region 'XX', expected one of WT, TC, ET"):
        build_loss("calf+dice", by_region, regions=("XX",))


def test_voxel_counts_of_regions(dataset):
    n = 24.0
    wt, tc, et = ((90 * n, 10 * n), (97 * n, 3 * n), (99 * n, n))
    assert voxel_counts(dataset) == (wt, tc, et)
    assert voxel_counts(dataset, regions=("ET", "WT")) == (et, wt)
    # A label may be a channel of its own.
    assert voxel_counts(dataset, regions=("WT", "edema")) == (wt, (93 * n, 7 * n))
    for (outside, inside), ratio in zip((wt, tc, et), dataset.imbalance_ratio.values(), strict=True):
        assert outside / inside == pytest.approx(ratio)
    with pytest.raises(RequestError, match=r"unknown region 'tumor', expected one of WT, TC, ET, necrosis"):
        voxel_counts(dataset, regions=("WT", "tumor"))


def test_voxel_counts_of_classes(dataset):
    n = 24.0
    # The labels that occur: the cavity of a single case among them.
    assert voxel_counts(dataset, "softmax") == (90 * n - 5, 2 * n, 7 * n, n, 5.0)
    assert voxel_counts(dataset, "softmax") == tuple(dataset.class_voxels.values())
    # What is no class of its own is background.
    assert voxel_counts(dataset, "softmax", LABELS[::-1]) == (90 * n, n, 7 * n, 2 * n)
    assert voxel_counts(dataset, "softmax", ("WT",)) == (90 * n, 10 * n)
    assert voxel_counts(dataset, "softmax", ("edema", "TC")) == (90 * n, 7 * n, 3 * n)
    assert sum(voxel_counts(dataset, "softmax", LABELS)) == 24 * 100
    without = DatasetStatistics.from_cases(dataset.cases[:3], bootstrap=0)
    assert voxel_counts(without, "softmax") == (270.0, 6.0, 21.0, 3.0)
    with pytest.raises(RequestError, match=r"classes WT, TC overlap, expected exclusive ones with softmax"):
        voxel_counts(dataset, "softmax", ("WT", "TC"))
    with pytest.raises(RequestError, match=r"unknown region 'oedema'.*did you mean 'edema'"):
        voxel_counts(dataset, "softmax", ("oedema",))


def test_build_loss_counts_the_channels_of_the_loss(dataset, regions):
    z, t = regions
    options = TermOptions(counts=voxel_counts(dataset))
    for name in ("lmf", "dice+2*ce_balanced"):
        torch.testing.assert_close(build_loss(name, dataset).loss(z, t), CompoundLoss(name, options)(z, t))
        # With a background channel that is left out, the regions are those of the other channels, as for CALF.
        four_z, four_t = torch.cat([z[:, :1], z], 1), torch.cat([1 - t[:, :1], t], 1)
        without = build_loss(f"{name}+calf", dataset, include_background=False).loss(four_z, four_t)
        torch.testing.assert_close(without, build_loss(f"{name}+calf", dataset).loss(z, t))
    one = build_loss("lmf", dataset, regions=("edema",)).loss
    torch.testing.assert_close(
        one(z[:, :1], t[:, :1]),
        CompoundLoss("lmf", TermOptions(counts=((93.0, 7.0),)))(z[:, :1], t[:, :1]),
    )
    softmax = build_loss("ce_novel", dataset, activation="softmax", regions=LABELS).loss
    expected = CompoundLoss("ce_novel", TermOptions("softmax", False, counts=(90.0, 2.0, 7.0, 1.0)))
    z4, t4 = torch.randn(1, 4, 6), torch.eye(4)[torch.randint(0, 4, (1, 6))].movedim(-1, 1)
    torch.testing.assert_close(softmax(z4, t4), expected(z4, t4))


def test_statistics_without_a_case_have_no_counts():
    empty = DatasetStatistics.from_cases([], bootstrap=0)
    assert build_loss("dice_ce", empty).name == "dice_ce"
    with pytest.raises(InputError, match="expected at least one class with a voxel"):
        build_loss("lmf", empty)


def test_term_options_are_values():
    assert TermOptions() == TermOptions("sigmoid", True, False, None, None, None)
    assert len({FULL, replace(FULL), replace(FULL, counts=None)}) == 2


@pytest.mark.parametrize("name", ["dice_lmf", "ce_novel+0.5*top_k", "calf+unified_focal", "calf_grid+lesion_dice"])
def test_copies_and_pickles(name, regions):
    loss = CompoundLoss(name, FULL)
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        torch.testing.assert_close(other(*regions), loss(*regions))
        assert (other.name, other.options) == (name, FULL)


@pytest.mark.parametrize("name", ["dice_focal", "dice_lmf", "lesion_dice_ce", "ce_novel", "calf_grid"])
def test_meta_tensors_are_taken(name, regions):
    z, t = regions
    value = CompoundLoss(name, FULL)(z, MetaTensor(t))
    torch.testing.assert_close(torch.as_tensor(value).as_subclass(torch.Tensor), CompoundLoss(name, FULL)(z, t))
