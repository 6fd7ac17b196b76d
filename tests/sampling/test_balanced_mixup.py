"""Balanced-MixUp: the law of lambda, the mixed batch, and what a loss makes of a mixed target."""

from __future__ import annotations

import logging
import math
import re

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss, DiceFocalLoss, DiceLoss, FocalLoss, GeneralizedDiceLoss, TverskyLoss
from scipy import stats
from torch import nn

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses import CALFLoss, CompoundLoss, TermOptions
from rarevoxel.sampling import BalancedMixUp, MixedLoss, MixedTarget, check_soft_targets, handles_soft_targets


@pytest.fixture
def pairs():
    torch.manual_seed(0)
    return [(torch.randn(3, 2, 4, 4, 4), (torch.rand(3, 3, 4, 4, 4) < 0.3).float()) for _ in range(2)]


@pytest.fixture
def logits():
    torch.manual_seed(1)
    return torch.randn(3, 3, 4, 4, 4)


def mixed(pairs, *lam):
    """A `MixedTarget` with the given lambdas: one for all items, or one for each."""
    values = torch.tensor(lam if len(lam) == 3 else lam * 3).reshape(3, 1, 1, 1, 1)
    return MixedTarget(pairs[0][1], pairs[1][1], values)


# --- lambda


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 3.0])
def test_lambda_follows_beta_alpha_one(alpha):
    lam = BalancedMixUp(alpha, per="item", seed=1).draw(20_000).double().numpy()
    assert lam.min() >= 0
    assert lam.max() <= 1
    variance = alpha / ((1 + alpha) ** 2 * (2 + alpha))
    assert lam.mean() == pytest.approx(alpha / (1 + alpha), abs=4 * math.sqrt(variance / 20_000))
    assert lam.var() == pytest.approx(variance, rel=0.05)
    assert stats.kstest(lam, stats.beta(alpha, 1).cdf).pvalue > 0.01


def test_seed_decides_and_draws_go_on():
    one, same, other = BalancedMixUp(seed=5), BalancedMixUp(seed=5), BalancedMixUp(seed=6)
    first, second = one.draw(2), one.draw(2)
    assert not torch.equal(first, second)
    assert torch.equal(same.draw(2), first)
    assert not torch.equal(other.draw(2), first)


def test_one_lambda_per_batch_or_one_per_item(pairs):
    batch, item = (BalancedMixUp(per=per).mix(*pairs)[1].lam for per in ("batch", "item"))
    assert batch.shape == item.shape == (3, 1, 1, 1, 1)
    assert len(batch.unique()) == 1
    assert len(item.unique()) == 3


# --- the mixed batch


@pytest.mark.parametrize("per", ["batch", "item"])
def test_image_and_soft_target_are_the_weighted_sum(pairs, per):
    (x0, y0), (x1, y1) = pairs
    image, target = BalancedMixUp(0.9, per=per, seed=2).mix(*pairs)
    lam = target.lam
    torch.testing.assert_close(image, (1 - lam) * x0 + lam * x1)
    torch.testing.assert_close(target.soft, (1 - lam) * y0 + lam * y1)
    assert target.instance is y0
    assert target.balanced is y1


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_lambda_zero_is_the_instance_batch_and_one_the_balanced(pairs, logits, share, monkeypatch):
    mixup = BalancedMixUp()
    monkeypatch.setattr(mixup, "draw", lambda n: torch.full((n,), share))
    image, target = mixup.mix(*pairs)
    x, y = pairs[int(share)]
    assert torch.equal(image, x)
    assert torch.equal(target.soft, y)
    for mode in ("targets", "losses"):
        loss = DiceLoss(sigmoid=True)
        torch.testing.assert_close(MixedLoss(loss, mode)(logits, target), loss(logits, y))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_images_keep_their_type_and_targets_become_floating(pairs, dtype):
    (x0, y0), (x1, y1) = pairs
    image, target = BalancedMixUp(seed=3).mix((x0.to(dtype), y0.bool()), (x1.to(dtype), y1.bool()))
    assert image.dtype == dtype
    assert torch.isfinite(image).all()
    torch.testing.assert_close(target.soft, torch.lerp(y0, y1, target.lam))


def test_mixing_changes_no_input(pairs):
    copies = [(x.clone(), y.clone()) for x, y in pairs]
    BalancedMixUp(1.0).mix(*pairs)
    assert all(
        torch.equal(a, b) for pair, copy in zip(pairs, copies, strict=True) for a, b in zip(pair, copy, strict=True)
    )


def test_target_moves_with_all_its_tensors(pairs):
    target = mixed(pairs, 0.3).to("meta")
    assert {t.device.type for t in (target.instance, target.balanced, target.lam)} == {"meta"}


# --- the loss of a mixed target


@pytest.mark.parametrize("lam", [(0.3,), (0.0, 0.4, 1.0)])
@pytest.mark.parametrize("loss", [nn.BCEWithLogitsLoss(), CALFLoss("ln"), CALFLoss("log10"), nn.CrossEntropyLoss()])
def test_the_modes_are_equal_for_a_loss_linear_in_the_target(pairs, logits, loss, lam):
    target = mixed(pairs, *lam)
    torch.testing.assert_close(MixedLoss(loss, "losses")(logits, target), MixedLoss(loss, "targets")(logits, target))


def test_mixed_losses_are_the_weighted_sum(pairs, logits):
    loss, (y0, y1) = DiceFocalLoss(sigmoid=True), (pairs[0][1], pairs[1][1])
    expected = 0.7 * loss(logits, y0) + 0.3 * loss(logits, y1)
    torch.testing.assert_close(MixedLoss(loss, "losses")(logits, mixed(pairs, 0.3)), expected)
    one_voxel = MixedTarget(torch.ones(1, 1, 1, 1, 1), torch.zeros(1, 1, 1, 1, 1), torch.full((1, 1, 1, 1, 1), 0.25))
    z = torch.full((1, 1, 1, 1, 1), math.log(3.0))
    by_hand = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    assert MixedLoss(nn.BCEWithLogitsLoss(), "losses")(z, one_voxel).item() == pytest.approx(by_hand)


def test_a_lambda_per_item_weighs_every_item_alike(pairs, logits):
    loss, lam = DiceLoss(sigmoid=True), (0.1, 0.5, 0.9)
    (_, y0), (_, y1) = pairs
    items = [
        (1 - a) * loss(logits[i, None], y0[i, None]) + a * loss(logits[i, None], y1[i, None]) for i, a in enumerate(lam)
    ]
    torch.testing.assert_close(MixedLoss(loss, "losses")(logits, mixed(pairs, *lam)), sum(items) / 3)


def test_equal_lambdas_give_the_same_item_by_item(pairs, logits):
    module = MixedLoss(DiceLoss(sigmoid=True), "losses")
    nearly = mixed(pairs, 0.4, 0.4, 0.4 + 1e-6)
    torch.testing.assert_close(module(logits, nearly), module(logits, mixed(pairs, 0.4)))


def test_class_indices_mix_their_losses(caplog):
    torch.manual_seed(0)
    z, y0, y1 = torch.randn(2, 3, 4, 4, 4), *(torch.randint(0, 3, (2, 1, 4, 4, 4)) for _ in range(2))
    loss = CompoundLoss("dice_ce", TermOptions("softmax"), to_onehot_y=True)
    target = MixedTarget(y0, y1, torch.full((2, 1, 1, 1, 1), 0.2))
    with caplog.at_level(logging.INFO, "rarevoxel.sampling"):
        module = MixedLoss(loss, activation="softmax")
        torch.testing.assert_close(module(z, target), 0.8 * loss(z, y0) + 0.2 * loss(z, y1))
    assert "class indices" in caplog.text
    with pytest.raises(InputError, match=r"target \(2, 1, 4, 4, 4\), logits \(2, 3, 4, 4, 4\).*mode='losses'"):
        MixedLoss(loss, "targets")(z, target)


def test_plain_targets_pass_through(pairs, logits):
    loss = DiceLoss(sigmoid=True)
    assert MixedLoss(loss)(logits, pairs[0][1]) == loss(logits, pairs[0][1])
    assert MixedLoss(loss).check is None


@pytest.mark.parametrize("mode", ["targets", "losses"])
@pytest.mark.parametrize("lam", [(0.3,), (0.1, 0.5, 0.9)])
def test_gradients(pairs, logits, mode, lam):
    z = logits[:, :, :2, :2, :1].double().requires_grad_()
    target = mixed([(x, y[:, :, :2, :2, :1].double()) for x, y in pairs], *lam)
    module = MixedLoss(CALFLoss("bce_dice"), mode)
    assert torch.autograd.gradcheck(lambda x: module(x, target), (z,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_empty_masks_stay_finite(pairs, logits, dtype):
    empty = MixedTarget(torch.zeros(3, 3, 4, 4, 4), torch.zeros(3, 3, 4, 4, 4), torch.full((3, 1, 1, 1, 1), 0.5))
    for target in (mixed(pairs, 0.3), mixed(pairs, 0.0, 0.5, 1.0), empty):
        for mode in ("targets", "losses"):
            z = (100 * logits).to(dtype).requires_grad_()
            loss = MixedLoss(CompoundLoss("dice_ce"), mode)(z, target)
            loss.backward()
            assert torch.isfinite(loss)
            assert torch.isfinite(z.grad).all()


# --- which losses take soft targets

SOFT, SOFTMAX = TermOptions(soft_label=True), TermOptions("softmax", soft_label=True)

SIGMOID_CASES = [
    (nn.BCEWithLogitsLoss(), True),
    (nn.BCEWithLogitsLoss(reduction="none"), True),
    (DiceLoss(sigmoid=True, soft_label=True), True),
    (TverskyLoss(sigmoid=True, soft_label=True, alpha=0.3, beta=0.7), True),
    (GeneralizedDiceLoss(sigmoid=True, soft_label=True), True),
    (CALFLoss("ln"), True),
    (CALFLoss("log10"), True),
    (CALFLoss("bce_dice"), True),
    (CALFLoss(["ln", "bce_dice"]), True),
    (CALFLoss("fisher"), True),
    (CompoundLoss("dice_ce", SOFT), True),
    (CompoundLoss("dice_ce", TermOptions(soft_label=True, include_background=False)), True),
    (DiceLoss(sigmoid=True), False),
    (TverskyLoss(sigmoid=True), False),
    (GeneralizedDiceLoss(sigmoid=True), False),
    (FocalLoss(), False),
    (DiceCELoss(sigmoid=True), False),
    (CompoundLoss("dice_ce"), False),
    (CALFLoss("fisher", region_weight=0.0), False),
    (CALFLoss("logit"), False),
    (CALFLoss("arcsine"), False),
    (CALFLoss(["ln", "arcsine"], region_weight=0.0), False),
    (CALFLoss("bce_dice", "published"), False),
]
SOFTMAX_CASES = [
    (nn.CrossEntropyLoss(), True),
    (DiceLoss(softmax=True, soft_label=True, include_background=False), True),
    (CALFLoss("ln", softmax=True), True),
    (CompoundLoss("dice_ce", SOFTMAX), True),
    (DiceLoss(softmax=True), False),
    (DiceCELoss(softmax=True), False),
    (FocalLoss(use_softmax=True), False),
]


@pytest.mark.parametrize(("loss", "handled"), SIGMOID_CASES, ids=lambda v: str(v)[:40])
def test_detection_with_sigmoid(loss, handled):
    assert handles_soft_targets(loss, channels=2) is handled


@pytest.mark.parametrize(("loss", "handled"), SOFTMAX_CASES, ids=lambda v: str(v)[:40])
def test_detection_with_softmax(loss, handled):
    assert handles_soft_targets(loss, channels=2, activation="softmax") is handled


def test_single_channel():
    assert handles_soft_targets(nn.BCEWithLogitsLoss(), channels=1)
    assert not handles_soft_targets(DiceLoss(sigmoid=True), channels=1)


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        (DiceLoss(sigmoid=True), r"is lowest at 0.98 for a target of 0.1"),
        (DiceLoss(sigmoid=True, soft_label=True, to_onehot_y=True), r"raises AssertionError for soft targets"),
        (CALFLoss(["ln", "ln"]), r"raises InputError"),
        (lambda z, t: z.mean() * math.nan, r"is not finite"),
        (lambda z, t: t.mean(), r"does not depend on the prediction"),
        (lambda z, t: (torch.sigmoid(z) - t).abs().sub(0.1).relu().mean(), r"is lowest at"),
        (lambda z, t: (torch.sigmoid(z) - t).square().mean(), r"is lowest where the prediction equals a soft target"),
    ],
)
def test_reasons(loss, reason):
    assert re.match(reason, check_soft_targets(loss).reason)


def test_dice_beside_an_improper_voxel_loss_holds_only_where_the_lesion_is_small():
    # Slope of Dice on either side of p = t is 1 / (2 sum t), that of the mean voxel loss g / N: near-full volumes tell.
    small, large = (torch.full((1, 1, 100), f, dtype=torch.float64) for f in (0.0, 1.0))
    grid = np.arange(0.02, 1, 0.02)
    lowest = []
    for volume in (small, large):
        target, p = volume.clone(), volume.clone().clamp(1e-6, 1 - 1e-6)
        target[..., :2] = 0.1
        losses = []
        for value in grid:
            p[..., :2] = value
            losses.append(CALFLoss("arcsine")(torch.logit(p), target).item())
        lowest.append(grid[int(np.argmin(losses))])
    assert lowest == pytest.approx([0.1, 0.06])


@pytest.mark.parametrize(
    ("loss", "handled", "text"),
    [
        (CALFLoss("ln"), True, "mixes targets: CALFLoss is lowest where the prediction equals a soft target"),
        (CompoundLoss("dice_ce"), False, "mixes losses: dice_ce is lowest at"),
        (FocalLoss(), False, "mixes losses: FocalLoss is lowest at"),
    ],
)
def test_auto_decides_once_says_why_and_does_so(pairs, logits, loss, handled, text, caplog):
    module, target = MixedLoss(loss), mixed(pairs, 0.3)
    with caplog.at_level(logging.INFO, "rarevoxel.sampling"):
        values = [module(logits, target) for _ in range(3)]
    assert module.check.handled is handled
    assert len(caplog.records) == 1
    assert text in caplog.text
    torch.testing.assert_close(values[0], MixedLoss(loss, "targets" if handled else "losses")(logits, target))
    other = MixedLoss(FocalLoss(), "targets")(logits, target)
    assert not torch.equal(other, MixedLoss(FocalLoss(), "losses")(logits, target))


# --- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0}, r"alpha \(0.0\) must be above 0 and finite"),
        ({"alpha": math.nan}, r"alpha \(nan\) must be above 0 and finite"),
        ({"per": "batches"}, r"unknown BalancedMixUp per 'batches'.*did you mean 'batch'"),
    ],
)
def test_wrong_mixup_options(options, message):
    with pytest.raises(RequestError, match=message):
        BalancedMixUp(**options)


def test_wrong_loss_options():
    with pytest.raises(RequestError, match=r"unknown MixedLoss mode 'target'.*did you mean 'targets'"):
        MixedLoss(FocalLoss(), "target")
    with pytest.raises(RequestError, match="unknown activation 'sigmoids'"):
        MixedLoss(FocalLoss(), activation="sigmoids")
    with pytest.raises(RequestError, match="unknown activation 'relu'"):
        check_soft_targets(FocalLoss(), activation="relu")
    with pytest.raises(RequestError, match="1 channels with softmax, expected at least 2"):
        check_soft_targets(FocalLoss(), channels=1, activation="softmax")


def test_batches_that_do_not_fit(pairs):
    (x, y), other = pairs
    with pytest.raises(InputError, match=r"images \(3, 2, 4, 4, 4\) and \(2, 2, 4, 4, 4\)"):
        BalancedMixUp().mix((x, y), (other[0][:2], other[1][:2]))
    with pytest.raises(InputError, match=r"instance \(3, 3, 4, 4, 4\), balanced \(3, 1, 4, 4, 4\)"):
        BalancedMixUp().mix((x, y), (other[0], other[1][:, :1]))
    with pytest.raises(InputError, match=r"targets \(2, 3, 4, 4, 4\), expected equal images"):
        BalancedMixUp().mix((x, y[:2]), (x, y[:2]))
    with pytest.raises(InputError, match=r"images of type torch.int64, expected floating"):
        BalancedMixUp().mix((x.long(), y), (x.long(), y))
    with pytest.raises(InputError, match=r"lam \(3,\), expected two equal shapes and lam \(3, 1, 1, 1, 1\)"):
        MixedTarget(y, y, torch.zeros(3))


def test_items_need_scalar_losses(pairs, logits):
    loss = DiceLoss(sigmoid=True, reduction="none")
    assert MixedLoss(loss, "losses")(logits, mixed(pairs, 0.3)).shape == (3, 3, 1, 1, 1)
    with pytest.raises(InputError, match=r"loss of an item has shape \(1, 3, 1, 1, 1\), expected a scalar"):
        MixedLoss(loss, "losses")(logits, mixed(pairs, 0.1, 0.2, 0.3))
