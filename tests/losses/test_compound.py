from __future__ import annotations

import math

import pytest
import torch
from monai.losses import (
    DiceCELoss,
    DiceFocalLoss,
    DiceLoss,
    FocalLoss,
    GeneralizedDiceFocalLoss,
    GeneralizedDiceLoss,
    TverskyLoss,
)
from torch.nn import functional

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses import CompoundLoss, TermOptions, build_loss
from rarevoxel.losses.compound import RECIPES

SIGMOID = TermOptions()
SOFTMAX = TermOptions(activation="softmax", include_background=False)


@pytest.fixture
def regions():
    torch.manual_seed(0)
    return 2 * torch.randn(2, 3, 5, 4, 3), (torch.rand(2, 3, 5, 4, 3) < 0.2).float()


@pytest.fixture
def classes():
    torch.manual_seed(0)
    index = torch.randint(0, 4, (2, 1, 5, 4, 3))
    return 2 * torch.randn(2, 4, 5, 4, 3), index, functional.one_hot(index[:, 0], 4).movedim(-1, 1).float()


def test_sigmoid_losses_are_monai_parts_with_binary_cross_entropy(regions):
    z, t = regions
    bce = functional.binary_cross_entropy_with_logits(z, t)
    dice, focal = DiceLoss(sigmoid=True)(z, t), FocalLoss()(z, t)
    expected = {
        "dice": dice,
        "dice_ce": dice + bce,
        "dice_focal": DiceFocalLoss(sigmoid=True)(z, t),
        "focal": focal,
        "generalized_dice_focal": GeneralizedDiceFocalLoss(sigmoid=True)(z, t),
        "tversky": TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7)(z, t),
        "bce": bce,
        "ce": bce,
    }
    assert set(expected) == set(RECIPES)
    for name, value in expected.items():
        torch.testing.assert_close(CompoundLoss(name)(z, t), value, msg=name)


def test_softmax_losses_are_monai_parts_with_softmax_everywhere(classes):
    z, index, t = classes
    ce = functional.cross_entropy(z, index[:, 0])
    options = {"softmax": True, "include_background": False}
    dice, focal = DiceLoss(**options)(z, t), FocalLoss(use_softmax=True)(z, t)
    p = torch.softmax(z, 1)
    expected = {
        "dice": dice,
        "dice_ce": DiceCELoss(to_onehot_y=True, **options)(z, index),
        "dice_focal": dice + focal,
        "focal": focal,
        "generalized_dice_focal": GeneralizedDiceLoss(**options)(z, t) + focal,
        "tversky": TverskyLoss(alpha=0.3, beta=0.7, **options)(z, t),
        "bce": functional.binary_cross_entropy(p[:, 1:], t[:, 1:]),
        "ce": ce,
    }
    assert set(expected) == set(RECIPES)
    for name, value in expected.items():
        torch.testing.assert_close(CompoundLoss(name, SOFTMAX, to_onehot_y=True)(z, index), value, msg=name)
        torch.testing.assert_close(CompoundLoss(name, SOFTMAX)(z, t), value, msg=name)


def test_the_surprises_this_module_exists_for_are_real(classes):
    # A perfect prediction of three nested regions costs 3 ln 3 under MONAI's categorical cross-entropy.
    nested = torch.ones(1, 3, 4)
    assert DiceCELoss(sigmoid=True)(50 * nested, nested).item() == pytest.approx(3 * math.log(3))
    assert CompoundLoss("dice_ce")(50 * nested, nested).item() == pytest.approx(0, abs=1e-6)
    z, _, t = classes
    options = TermOptions(activation="softmax")
    assert not torch.isclose(DiceFocalLoss(softmax=True)(z, t), CompoundLoss("dice_focal", options)(z, t), rtol=0.05)
    without = FocalLoss(use_softmax=True, include_background=False)
    shifted = z.clone()
    shifted[:, 0] += 5
    assert without(shifted, t) == without(z, t)
    assert CompoundLoss("focal", SOFTMAX)(shifted, t) != CompoundLoss("focal", SOFTMAX)(z, t)


@pytest.mark.parametrize("name", RECIPES)
def test_background_of_sigmoid_channels_can_be_left_out(name, regions):
    z, t = regions
    options = TermOptions(include_background=False)
    torch.testing.assert_close(CompoundLoss(name, options)(z, t), CompoundLoss(name)(z[:, 1:], t[:, 1:]))


@pytest.mark.parametrize("options", [SIGMOID, SOFTMAX], ids=["sigmoid", "softmax"])
@pytest.mark.parametrize("name", RECIPES)
def test_perfect_is_zero_and_empty_or_extreme_is_finite(name, options):
    truth = torch.zeros(2, 2, 30)
    truth[:, 1, :4] = 1
    truth[:, 0] = 1 - truth[:, 1]
    assert CompoundLoss(name, options)(80 * (2 * truth - 1), truth).item() == pytest.approx(0, abs=1e-5)
    empty = torch.zeros(2, 2, 30)
    if options.activation == "softmax":
        empty[:, 0] = 1
    for scale, dtype in ((6e4, torch.float16), (6e4, torch.bfloat16), (20.0, torch.float16), (0.0, torch.float32)):
        for target in (truth, empty):
            z = (scale * torch.randn(2, 2, 30).sign()).to(dtype).requires_grad_()
            loss = CompoundLoss(name, options)(z, target)
            loss.backward()
            assert torch.isfinite(loss)
            assert torch.isfinite(z.grad).all()
            assert loss.dtype == torch.float32


def test_half_precision_sums_do_not_overflow():
    z, t = torch.zeros(1, 1, 300, 300, dtype=torch.float16), torch.ones(1, 1, 300, 300)
    assert CompoundLoss("dice")(z, t).item() == pytest.approx(1 / 3, abs=1e-4)


def test_dice_is_per_sample(regions):
    z, t = regions
    apart = torch.stack([CompoundLoss("dice")(z[i : i + 1], t[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(CompoundLoss("dice")(z, t), apart.mean())


def test_soft_label_moves_the_minimum_to_the_soft_target():
    t = torch.full((1, 1, 8), 0.3)
    z = torch.logit(t)
    for name in ("dice", "tversky"):
        loss = CompoundLoss(name, TermOptions(soft_label=True))
        assert loss(z, t).item() == pytest.approx(0, abs=1e-5)
        assert CompoundLoss(name)(z, t).item() > 0.3


def test_errors(regions):
    z, t = regions
    with pytest.raises(RequestError, match=r"unknown loss 'dicece'.*did you mean 'dice_ce'"):
        CompoundLoss("dicece")
    with pytest.raises(InputError, match=r"dice_ce: target shape \(2, 1, 5, 4, 3\).*the shapes must be equal"):
        CompoundLoss("dice_ce")(z, t[:, :1])
    with pytest.raises(InputError, match="focal: softmax with one channel"):
        CompoundLoss("focal", SOFTMAX)(z[:, :1], t[:, :1])


def test_build_loss_passes_its_options_on(classes):
    z, index, _ = classes
    built = build_loss("dice_ce", activation="softmax", to_onehot_y=True).loss
    expected = CompoundLoss("dice_ce", SOFTMAX, to_onehot_y=True)
    torch.testing.assert_close(built(z, index), expected(z, index))
    soft = build_loss("dice", include_background=False, soft_label=True).loss
    assert soft.options == TermOptions(include_background=False, soft_label=True)
