from __future__ import annotations

import math

import pytest
import torch
from monai.losses import DiceLoss

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses import Branch, CALFLoss
from rarevoxel.losses.voxel import one_vs_rest_logits, voxel_loss
from rarevoxel.statistics import SizeStatistics

BRANCHES = [branch.value for branch in Branch]
VARIANTS = ["stable", "published"]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def regions():
    """Logits and target of three nested regions in a small volume, float64."""
    torch.manual_seed(0)
    logits = 3 * torch.randn(2, 3, 4, 5, 3, dtype=torch.float64)
    return logits, (torch.rand(2, 3, 4, 5, 3) < 0.2).double()


def test_hand_number_with_dice():
    # p = 0.5 everywhere, one true voxel of four: ln 2, and Dice 1 - 2 * 0.5 / (2 + 1).
    target = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])
    loss = CALFLoss("ln", region_weight=2.0, smooth_nr=1e-9, smooth_dr=1e-9)(torch.zeros(1, 1, 4), target)
    assert loss.item() == pytest.approx(math.log(2) + 2 * (2 / 3), abs=1e-6)
    published = CALFLoss("bce_dice", variant="published")(torch.zeros(1, 1, 4), target)
    assert published.item() == pytest.approx(math.log(2) + 1 - (1 + 1e-7) / (3 + 1e-7), abs=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 9), (2, 3, 5, 6), (2, 3, 4, 5, 3)])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("branch", BRANCHES)
def test_is_voxel_term_plus_weighted_dice(branch, variant, shape):
    torch.manual_seed(1)
    z, t = torch.randn(shape), (torch.rand(shape) < 0.3).float()
    voxel = voxel_loss(Branch(branch), z, t, variant).mean()
    if branch == "bce_dice":
        p = torch.sigmoid(z)
        spatial = (0, *range(2, z.ndim))
        published = 1 - (2 * (p * t).sum(spatial) + 1e-7) / (p.sum(spatial) + t.sum(spatial) + 1e-7)
        dice = published.mean() if variant == "published" else DiceLoss(sigmoid=True)(z, t)
        expected = voxel + dice
    else:
        expected = voxel + 0.5 * DiceLoss(sigmoid=True)(z, t)
    torch.testing.assert_close(CALFLoss(branch, variant, region_weight=0.5)(z, t), expected)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("branch", BRANCHES)
def test_default_dice_weight(branch, variant):
    weight = CALFLoss(branch, variant).dice_weight(Branch(branch))
    negative_skew = branch in ("fisher", "logit", "arcsine")
    assert weight == (1.0 if branch == "bce_dice" or (negative_skew and variant == "stable") else 0.0)
    assert CALFLoss(branch, variant, region_weight=0.0).dice_weight(Branch(branch)) == float(branch == "bce_dice")


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("branch", BRANCHES)
def test_gradcheck(branch, variant, softmax):
    torch.manual_seed(0)
    z = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    t = (torch.rand(2, 2, 3) < 0.4).double()
    assert torch.autograd.gradcheck(lambda x: CALFLoss(branch, variant, softmax=softmax, region_weight=1.0)(x, t), (z,))


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("branch", BRANCHES)
def test_perfect_prediction_is_zero_and_worse_is_more(branch, softmax):
    t = torch.zeros(1, 2, 4)
    t[0, 0, :3] = 1
    t[0, 1, 3:] = 1
    values = [CALFLoss(branch, softmax=softmax)(k * (2 * t - 1), t).item() for k in (60.0, 4.0, 1.0, -1.0, -4.0)]
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values == sorted(values)


@pytest.mark.parametrize("fill", [0.0, 1.0, None])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("branch", BRANCHES)
def test_value_and_gradient_are_finite_at_extreme_logits(branch, variant, dtype, fill):
    torch.manual_seed(0)
    t = torch.rand(2, 2, 40).round() if fill is None else torch.full((2, 2, 40), fill)
    for softmax in (False, True):
        for scale in (6e4, 1e3, 17.0, 0.0):
            z = (scale * torch.randn(2, 2, 40).sign()).to(dtype).requires_grad_()
            loss = CALFLoss(branch, variant, softmax=softmax, region_weight=1.0)(z, t.to(dtype))
            loss.backward()
            assert loss.dtype == torch.float32
            assert torch.isfinite(loss)
            assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("branch", BRANCHES)
def test_autocast_changes_nothing(branch):
    torch.manual_seed(0)
    z, t = torch.randn(1, 3, 200).bfloat16(), (torch.rand(1, 3, 200) < 0.1)
    loss = CALFLoss(branch, softmax=True, region_weight=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(z, t)
    torch.testing.assert_close(inside, loss(z.float(), t), rtol=0, atol=0)


def test_many_voxels_in_half_precision_do_not_overflow():
    z, t = torch.zeros(1, 1, 300, 300, dtype=torch.float16), torch.ones(1, 1, 300, 300, dtype=torch.float16)
    assert CALFLoss("bce_dice")(z, t).item() == pytest.approx(math.log(2) + 1 - 1 / 1.5, abs=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_permuting_the_classes_permutes_the_loss(regions, variant):
    z, t = regions
    order = [2, 0, 1]
    names = ["fisher", "bce_dice", "log10"]
    one = CALFLoss(names, variant, reduction="none")(z, t)
    other = CALFLoss([names[i] for i in order], variant, reduction="none")(z[:, order], t[:, order])
    torch.testing.assert_close(one[:, order], other)
    soft = CALFLoss("arcsine", variant, softmax=True)
    torch.testing.assert_close(soft(z, t), soft(z[:, order], t[:, order]))


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_branch_per_channel_equals_separate_losses(regions, variant):
    z, t = regions
    names = ["logit", "bce_dice", "ln"]
    together = CALFLoss(names, variant, region_weight=0.7)(z, t)
    parts = [CALFLoss(n, variant, region_weight=0.7)(z[:, c : c + 1], t[:, c : c + 1]) for c, n in enumerate(names)]
    torch.testing.assert_close(together, torch.stack(parts).mean())


def test_equal_branches_per_channel_equal_one_branch(regions):
    torch.testing.assert_close(CALFLoss(["arcsine"] * 3)(*regions), CALFLoss(Branch.ARCSINE)(*regions))


def test_samples_are_judged_one_by_one(regions):
    z, t = regions
    loss = CALFLoss("fisher")
    apart = [loss(z[i : i + 1], t[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(loss(z, t), torch.stack(apart).mean())


def test_reductions_agree(regions):
    each = CALFLoss(["fisher", "ln", "bce_dice"], reduction="none")(*regions)
    assert each.shape == regions[0].shape
    torch.testing.assert_close(CALFLoss(["fisher", "ln", "bce_dice"], reduction="sum")(*regions), each.sum())
    torch.testing.assert_close(CALFLoss(["fisher", "ln", "bce_dice"])(*regions), each.mean())


def test_softmax_of_two_classes_is_the_sigmoid_of_their_difference(regions):
    z, t = regions[0][:, :2], regions[1][:, :1]
    both = torch.cat([1 - t, t], dim=1)
    difference = z[:, 1:] - z[:, :1]
    softmax = CALFLoss("fisher", softmax=True, include_background=False)(z, both)
    torch.testing.assert_close(softmax, CALFLoss("fisher", sigmoid=True)(difference, t))


def test_softmax_uses_the_background_logit_even_when_its_channel_is_left_out(regions):
    z, t = regions
    expected = CALFLoss(["ln", "logit"])(one_vs_rest_logits(z)[:, 1:], t[:, 1:])
    torch.testing.assert_close(CALFLoss(["ln", "logit"], softmax=True, include_background=False)(z, t), expected)


def test_class_indices_equal_one_hot():
    torch.manual_seed(0)
    z, index = torch.randn(2, 3, 5, 4), torch.randint(0, 3, (2, 1, 5, 4))
    one_hot = torch.nn.functional.one_hot(index[:, 0], 3).movedim(-1, 1)
    expected = CALFLoss("arcsine", softmax=True)(z, one_hot)
    torch.testing.assert_close(CALFLoss("arcsine", softmax=True, to_onehot_y=True)(z, index), expected)


def test_neither_activation_is_sigmoid_and_any_target_type_is_taken(regions):
    z, t = regions
    for target in (t, t.bool(), t.to(torch.uint8), t.float()):
        torch.testing.assert_close(CALFLoss("logit")(z, target), CALFLoss("logit", sigmoid=True)(z, t))


def test_single_channel_ignores_background_and_one_hot_with_a_warning(regions):
    z, t = regions[0][:, :1], regions[1][:, :1]
    with pytest.warns(UserWarning, match="include_background=False ignored"):
        assert CALFLoss("ln", include_background=False)(z, t) == CALFLoss("ln")(z, t)
    with pytest.warns(UserWarning, match="to_onehot_y=True ignored"):
        assert CALFLoss("ln", to_onehot_y=True)(z, t) == CALFLoss("ln")(z, t)


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_compiles_without_graph_breaks(variant, softmax):
    torch.manual_seed(0)
    torch._dynamo.reset()
    loss = CALFLoss(["fisher", "bce_dice", "log10"], variant, softmax=softmax, to_onehot_y=softmax)
    z = torch.randn(1, 3, 4, 4)
    t = torch.randint(0, 3, (1, 1, 4, 4)) if softmax else torch.rand(1, 3, 4, 4).round()
    torch.testing.assert_close(torch.compile(loss, fullgraph=True, backend="eager")(z, t), loss(z, t))


def test_logit_eps_moves_the_bend():
    z, t = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    assert CALFLoss("logit", region_weight=0, logit_eps=0.1)(z, t).item() == pytest.approx(math.log(10))
    assert CALFLoss("logit", region_weight=0, logit_eps=0.5)(z, t).item() == pytest.approx(math.log(2))


def test_from_statistics_takes_the_branch_of_each_region():
    right = SizeStatistics.from_sizes([1.0] * 20 + [2.0] * 8 + [30.0, 60.0], bootstrap=20)
    left = SizeStatistics.from_sizes([60.0] * 20 + [59.0] * 8 + [30.0, 1.0], bootstrap=20)
    few = SizeStatistics.from_sizes([1.0, 2.0, 30.0], bootstrap=20)
    by_region = {"WT": right, "TC": left, "ET": few}
    assert CALFLoss.from_statistics(by_region).branches == (Branch.LOG10, Branch.FISHER, Branch.BCE_DICE)
    chosen = CALFLoss.from_statistics(by_region, regions=("TC", "WT"), variant="published")
    assert chosen.branches == (Branch.FISHER, Branch.LOG10)
    assert chosen.variant == "published"
    assert not CALFLoss.from_statistics(left).per_channel
    with pytest.raises(RequestError, match=r"unknown region 'XX', expected one of WT, TC, ET"):
        CALFLoss.from_statistics(by_region, regions=("XX",))
    with pytest.raises(RequestError, match="cover no region"):
        CALFLoss.from_statistics({})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"branch": "log11"}, r"unknown CALF branch 'log11'.*did you mean 'log10'"),
        ({"branch": []}, "branch is empty"),
        ({"variant": "stabel"}, r"unknown CALF variant 'stabel'.*did you mean 'stable'"),
        ({"reduction": "avg"}, r"unknown reduction 'avg', expected one of mean, sum, none"),
        ({"sigmoid": True, "softmax": True}, "sigmoid=True and softmax=True, expected at most one"),
        ({"region_weight": -1.0}, r"region_weight \(-1.0\) must be >= 0"),
        ({"region_weight": math.nan}, r"region_weight \(nan\) must be >= 0"),
        ({"smooth_nr": 0.0}, r"smooth_nr \(0.0\) and smooth_dr \(1e-05\) must be > 0"),
        ({"logit_eps": 0.0}, r"logit_eps \(0.0\) must be in"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(RequestError, match=message):
        CALFLoss(**options)


@pytest.mark.parametrize(
    ("options", "logits", "target", "message"),
    [
        ({}, (1, 3, 4), (1, 3, 5), r"target shape \(1, 3, 5\), logits shape \(1, 3, 4\): the shapes must be equal"),
        ({}, (1, 3, 4), (1, 1, 4), "needs to_onehot_y=True"),
        ({"to_onehot_y": True}, (1, 3, 4), (1, 3, 4), r"expects class indices in one channel"),
        ({"to_onehot_y": True}, (1, 3, 4, 4), (1, 4, 4), r"expects class indices in one channel"),
        ({}, (2, 3), (2, 3), "with 1 to 3 spatial dimensions"),
        ({"softmax": True}, (1, 1, 4), (1, 1, 4), "softmax=True with one channel"),
        ({"branch": ["ln", "ln"]}, (1, 3, 4), (1, 3, 4), "2 branches for 3 channels"),
        ({"branch": ["ln"] * 3, "include_background": False}, (1, 3, 4), (1, 3, 4), "3 branches for 2 channels"),
    ],
)
def test_shapes_that_do_not_fit(options, logits, target, message):
    with pytest.raises(InputError, match=message):
        CALFLoss(**options)(torch.zeros(logits), torch.zeros(target))


def test_integer_logits():
    with pytest.raises(InputError, match="logits must be floating"):
        CALFLoss()(torch.zeros(1, 1, 4, dtype=torch.long), torch.zeros(1, 1, 4))


def test_repr_names_the_branches():
    assert "fisher, ln, variant=stable, softmax" in repr(CALFLoss(["fisher", "ln"], softmax=True))
