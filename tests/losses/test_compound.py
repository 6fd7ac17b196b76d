from __future__ import annotations

import math
import warnings
from dataclasses import replace

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
from rarevoxel.losses import (
    RECIPES,
    TERM_NAMES,
    Branch,
    CompoundLoss,
    DeepSupervisionLoss,
    HardNegativeLoss,
    LesionDiceLoss,
    LMFLoss,
    TermOptions,
    TopKLoss,
    UnifiedFocalLoss,
    build_loss,
    class_weights,
)

PAIRS = ((900.0, 100.0), (950.0, 50.0), (990.0, 10.0))
CLASSES = (900.0, 60.0, 30.0, 10.0)
SIGMOID = TermOptions(counts=PAIRS, branches=Branch.LOG10)
SOFTMAX = TermOptions(activation="softmax", include_background=False, counts=CLASSES, branches=Branch.LOG10)
TWO = {
    "sigmoid": replace(SIGMOID, counts=((100.0, 900.0), (900.0, 100.0))),
    "softmax": replace(SOFTMAX, counts=(900.0, 100.0)),
}
NAMES = tuple(dict.fromkeys((*RECIPES, *TERM_NAMES)))
PUBLISHED = tuple(name for name in NAMES if name.endswith("_published"))


@pytest.fixture
def regions():
    torch.manual_seed(0)
    return 2 * torch.randn(2, 3, 5, 4, 3), (torch.rand(2, 3, 5, 4, 3) < 0.2).float()


@pytest.fixture
def classes():
    torch.manual_seed(0)
    index = torch.randint(0, 4, (2, 1, 5, 4, 3))
    return 2 * torch.randn(2, 4, 5, 4, 3), index, functional.one_hot(index[:, 0], 4).movedim(-1, 1).float()


def weighted_binary(z, t, gamma):
    """Weighted (focal) binary cross-entropy from probabilities; two classes per channel, so twice the weights."""
    w = 2 * torch.stack([class_weights(pair, "novel") for pair in PAIRS]).view(1, 3, 1, 1, 1, 2)
    p = torch.sigmoid(z)
    miss, alarm = -t * (1 - p) ** gamma * p.log(), -(1 - t) * p**gamma * (1 - p).log()
    return (w[..., 1] * miss + w[..., 0] * alarm).mean()


def weighted_categorical(z, index, gamma):
    q = torch.softmax(z, 1).gather(1, index)
    return (4 * class_weights(CLASSES, "novel")[index] * (1 - q) ** gamma * -q.log()).mean()


def log_dice_by_hand(p, t):
    """Of MONAI's Dice with one voxel more above and below; all images have every class."""
    dice = 1 - DiceLoss(smooth_nr=1.0, smooth_dr=1.0, reduction="none")(p, t)
    return ((-dice.log() + 1e-6) ** 0.3 - 1e-6**0.3).mean()


def test_sigmoid_losses_are_monai_parts_and_our_classes(regions):
    z, t = regions
    bce = functional.binary_cross_entropy_with_logits(z, t)
    dice, focal = DiceLoss(sigmoid=True)(z, t), FocalLoss()(z, t)
    hard = HardNegativeLoss(sigmoid=True)(z, t)
    log_dice = log_dice_by_hand(torch.sigmoid(z), t)
    top_k, lesion = TopKLoss(sigmoid=True)(z, t), LesionDiceLoss(sigmoid=True)(z, t)
    lmf = LMFLoss(PAIRS, sigmoid=True, scale=3.0)(z, t)
    expected = {
        "dice": dice,
        "dice_ce": dice + bce,
        "dice_focal": DiceFocalLoss(sigmoid=True)(z, t),
        "focal": focal,
        "generalized_dice_focal": GeneralizedDiceFocalLoss(sigmoid=True)(z, t),
        "tversky": TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7)(z, t),
        "bce": bce,
        "ce": bce,
        "top_k": top_k,
        "dice_top_k": dice + top_k,
        "dice_focal_top_k": dice + focal + top_k,
        "log_dice": log_dice,
        "log_dice_top_k": log_dice + top_k,
        "hard_negative": hard,
        "dice_hard_negative": dice + hard,
        "lmf": lmf,
        "dice_lmf": dice + lmf,
        "unified_focal": UnifiedFocalLoss(sigmoid=True)(z, t),
        "lesion_dice": lesion,
        "lesion_dice_ce": dice + bce + lesion,
        "dice_ce_novel": dice + weighted_binary(z, t, 0),
        "dice_focal_novel": dice + weighted_binary(z, t, 2),
    }
    assert set(expected) == set(RECIPES)
    for name, value in expected.items():
        torch.testing.assert_close(CompoundLoss(name, SIGMOID)(z, t), value, msg=name)


def test_softmax_losses_are_monai_parts_and_our_classes_with_softmax_everywhere(classes):
    z, index, t = classes
    ce = functional.cross_entropy(z, index[:, 0])
    options = {"softmax": True, "include_background": False}
    dice, focal = DiceLoss(**options)(z, t), FocalLoss(use_softmax=True)(z, t)
    # Voxel terms keep the background, whatever include_background is.
    hard = HardNegativeLoss(**options)(z, t)
    log_dice = log_dice_by_hand(torch.softmax(z, 1)[:, 1:], t[:, 1:])
    top_k, lmf = TopKLoss(softmax=True)(z, t), LMFLoss(CLASSES, softmax=True, scale=3.0)(z, t)
    lesion = LesionDiceLoss(**options)(z, t)
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
        "top_k": top_k,
        "dice_top_k": dice + top_k,
        "dice_focal_top_k": dice + focal + top_k,
        "log_dice": log_dice,
        "log_dice_top_k": log_dice + top_k,
        "hard_negative": hard,
        "dice_hard_negative": dice + hard,
        "lmf": lmf,
        "dice_lmf": dice + lmf,
        "unified_focal": UnifiedFocalLoss(**options)(z, t),
        "lesion_dice": lesion,
        "lesion_dice_ce": dice + ce + lesion,
        "dice_ce_novel": dice + weighted_categorical(z, index, 0),
        "dice_focal_novel": dice + weighted_categorical(z, index, 2),
    }
    assert set(expected) == set(RECIPES)
    for name, value in expected.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loss = CompoundLoss(name, SOFTMAX, to_onehot_y=True)
        torch.testing.assert_close(loss(z, index), value, msg=name)
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


@pytest.mark.parametrize("name", NAMES)
def test_background_of_sigmoid_channels_can_be_left_out(name, regions):
    z, t = regions
    inner = replace(SIGMOID, counts=PAIRS[1:])
    without = CompoundLoss(name, replace(inner, include_background=False))(z, t)
    torch.testing.assert_close(without, CompoundLoss(name, inner)(z[:, 1:], t[:, 1:]))
    assert not torch.isclose(without, CompoundLoss(name, SIGMOID)(z, t), rtol=1e-4)


@pytest.mark.parametrize("activation", TWO)
@pytest.mark.parametrize("name", NAMES)
def test_perfect_is_zero_and_empty_or_extreme_is_finite(name, activation):
    torch.manual_seed(0)
    truth = torch.zeros(2, 2, 30)
    truth[:, 1, :4] = 1
    truth[:, 0] = 1 - truth[:, 1]
    loss = CompoundLoss(name, TWO[activation])
    perfect = loss(80 * (2 * truth - 1), truth).item()
    # The published forms of the branches of S < 0 go below 0, and keep what the clamp leaves.
    assert perfect == pytest.approx(0, abs=1e-5) or (name in PUBLISHED and perfect < 1e-5)
    assert loss(-80 * (2 * truth - 1), truth).item() > perfect + 0.5
    empty = torch.zeros(2, 2, 30)
    if activation == "softmax":
        empty[:, 0] = 1
    for scale, dtype in ((6e4, torch.float16), (6e4, torch.bfloat16), (20.0, torch.float16), (0.0, torch.float32)):
        for target in (truth, empty):
            z = (scale * torch.randn(2, 2, 30).sign()).to(dtype).requires_grad_()
            value = loss(z, target)
            value.backward()
            assert torch.isfinite(value)
            assert torch.isfinite(z.grad).all()
            assert value.dtype == torch.float32


@pytest.mark.parametrize("activation", TWO)
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_float32_of_the_same_logits(name, activation):
    torch.manual_seed(0)
    index = torch.randint(0, 2, (1, 6, 5, 4))
    t = functional.one_hot(index, 2).movedim(-1, 1)
    loss = CompoundLoss(name, TWO[activation])
    for dtype in (torch.float16, torch.bfloat16):
        z = (3 * torch.randn(1, 2, 6, 5, 4)).to(dtype)
        expected = loss(z.float(), t)
        torch.testing.assert_close(loss(z, t), expected, rtol=0, atol=0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(loss(z, t), expected)
    # MONAI's focal loss computes in float32 whatever it is given.
    assert loss(z.double(), t).dtype == (torch.float32 if name == "focal" else torch.float64)


@pytest.mark.parametrize("name", ["dice_focal", "dice_top_k", "dice_ce_novel", "lesion_dice_ce", "calf_grid"])
def test_deep_supervision_of_a_sum(name):
    torch.manual_seed(0)
    loss = CompoundLoss(name, SIGMOID)
    outputs = [torch.randn(1, 3, 8 // s, 8 // s, 8 // s, requires_grad=True) for s in (1, 2)]
    t = (torch.rand(1, 3, 8, 8, 8) < 0.1).float()
    value = DeepSupervisionLoss(loss)(outputs, t)
    coarse = functional.adaptive_max_pool3d(t, 4)
    torch.testing.assert_close(value, 2 / 3 * loss(outputs[0], t) + 1 / 3 * loss(outputs[1], coarse))
    value.backward()
    assert all(output.grad.abs().sum() > 0 for output in outputs)
    torch.testing.assert_close(DeepSupervisionLoss(loss)(outputs[0], t), loss(outputs[0], t))


def test_deep_supervision_of_class_indices():
    torch.manual_seed(0)
    index = torch.randint(0, 4, (1, 1, 4, 4))
    loss = CompoundLoss("dice_ce_novel", SOFTMAX, to_onehot_y=True)
    outputs = [torch.randn(1, 4, 4, 4), torch.randn(1, 4, 2, 2)]
    only_fine = DeepSupervisionLoss(loss, weights=(1.0, 0.0))(outputs, index)
    torch.testing.assert_close(only_fine, loss(outputs[0], index))
    assert torch.isfinite(DeepSupervisionLoss(loss)(outputs, index))


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
    for name in ("focal", "dice+0.5*top_k"):
        with pytest.raises(InputError, match=r"softmax with one channel, expected one channel per class.*sigmoid"):
            CompoundLoss(name, SOFTMAX)(z[:, :1], t[:, :1])
    with pytest.raises(InputError, match=r"LMFLoss: counts of 2 channels for 3 channels"):
        CompoundLoss("lmf", replace(SIGMOID, counts=PAIRS[1:]))(z, t)
    with pytest.raises(InputError, match=r"WeightedFocal: counts of 4 classes, 3 found"):
        CompoundLoss("ce_novel", SOFTMAX)(z, t)


def test_repr_names_the_sum_and_its_weights():
    text = repr(CompoundLoss("dice_ce+0.5*lmf", SIGMOID))
    assert "dice_ce+0.5*lmf" in text
    assert "weights=(1.0, 1.0, 0.5)" in text


def test_build_loss_passes_its_options_on(classes):
    z, index, _ = classes
    built = build_loss("dice_ce", activation="softmax", to_onehot_y=True).loss
    expected = CompoundLoss("dice_ce", SOFTMAX, to_onehot_y=True)
    torch.testing.assert_close(built(z, index), expected(z, index))
    soft = build_loss("dice", include_background=False, soft_label=True).loss
    assert soft.options == TermOptions(include_background=False, soft_label=True)
