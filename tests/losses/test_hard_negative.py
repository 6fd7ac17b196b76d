from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses import CompoundLoss, HardNegativeLoss


@pytest.fixture
def masks():
    """Logits and a hard target of three channels, float64."""
    torch.manual_seed(0)
    logits = 3 * torch.randn(2, 3, 4, 5, 3, dtype=torch.float64)
    return logits, (torch.rand(2, 3, 4, 5, 3) < 0.1).double()


def softplus(z):
    return math.log1p(math.exp(z))


def test_hand_number():
    z = torch.tensor([[[2.0, -3.0, 1.0, 0.5, -1.0, -2.0, 0.0]]])
    t = torch.tensor([[[1.0, 0, 0, 0, 0, 0, 0]]])
    lesion = softplus(-2)
    assert HardNegativeLoss()(z, t).item() == pytest.approx(
        lesion + (softplus(1) + softplus(0.5) + softplus(0)) / 3, abs=1e-6
    )
    assert HardNegativeLoss(1.5)(z, t).item() == pytest.approx(lesion + (softplus(1) + softplus(0.5)) / 2, abs=1e-6)
    assert HardNegativeLoss(2, least=0.5)(z, t).item() == pytest.approx(
        lesion + (softplus(1) + softplus(0.5) + softplus(0) + softplus(-1)) / 4, abs=1e-6
    )
    assert HardNegativeLoss(least=0.2)(z, 0 * t).item() == pytest.approx((softplus(2) + softplus(1)) / 2, abs=1e-6)
    assert HardNegativeLoss()(z, 0 * t + 1).item() == pytest.approx(
        sum(softplus(-v) for v in z.flatten().tolist()) / 7, abs=1e-6
    )
    both = torch.cat([z, -z], dim=1), torch.cat([t, t], dim=1)
    one, other = HardNegativeLoss()(z, t), HardNegativeLoss()(-z, t)
    torch.testing.assert_close(HardNegativeLoss(reduction="sum")(*both), one + other)
    torch.testing.assert_close(HardNegativeLoss()(*both), (one + other) / 2)


def test_all_negatives_are_balanced_cross_entropy(masks):
    z, t = masks
    losses = functional.binary_cross_entropy_with_logits(z, t, reduction="none")
    expected = torch.stack(
        [losses[b, c][t[b, c] == side].mean() for b in range(2) for c in range(3) for side in (0, 1)]
    ).sum()
    torch.testing.assert_close(HardNegativeLoss(1e9, reduction="sum")(z, t), expected)


def test_a_small_lesion_weighs_as_much_as_a_large_one():
    for size in (1, 10, 1000):
        z = torch.full((1, 1, 16, 16, 16), -4.0, requires_grad=True)
        t = torch.zeros(1, 1, 16, 16, 16)
        t.view(-1)[:size] = 1
        HardNegativeLoss()(z, t).backward()
        assert z.grad.flatten()[:size].sum().item() == pytest.approx(-1 / (1 + math.exp(-4)), abs=1e-5)


def test_perfect_is_zero_and_an_empty_image_is_finite(masks):
    z, t = masks
    assert HardNegativeLoss()(200 * t - 100, t).item() == pytest.approx(0, abs=1e-9)
    assert torch.isfinite(HardNegativeLoss(least=0.0)(z, 0 * t))
    half = HardNegativeLoss()(z.to(torch.bfloat16), t)
    assert half.dtype == torch.float32
    assert torch.isfinite(half)


def test_channels_may_be_exchanged_and_the_gradient_is_right(masks):
    z, t = masks
    order = [2, 0, 1]
    torch.testing.assert_close(HardNegativeLoss()(z[:, order], t[:, order]), HardNegativeLoss()(z, t))
    assert torch.autograd.gradcheck(lambda x: HardNegativeLoss()(x, t), z.clone().requires_grad_())


def test_classes_against_all_others():
    torch.manual_seed(1)
    z, index = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 1, 4, 5))
    p = z.double().softmax(1)
    t = functional.one_hot(index[:, 0], 3).movedim(-1, 1).double()
    expected = HardNegativeLoss()(torch.log(p) - torch.log1p(-p), t)
    found = HardNegativeLoss(softmax=True, to_onehot_y=True)(z.double(), index)
    torch.testing.assert_close(found, expected)
    left_out = HardNegativeLoss(softmax=True, to_onehot_y=True, include_background=False)(z.double(), index)
    torch.testing.assert_close(left_out, HardNegativeLoss()((torch.log(p) - torch.log1p(-p))[:, 1:], t[:, 1:]))


def test_it_is_a_term_of_sums(masks):
    z, t = masks
    expected = CompoundLoss("dice")(z, t) + HardNegativeLoss()(z, t)
    torch.testing.assert_close(CompoundLoss("dice_hard_negative")(z, t), expected)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"negatives": 0}, r"negatives \(0\) must be > 0"),
        ({"negatives": math.inf}, r"negatives \(inf\)"),
        ({"least": 1.5}, r"least \(1\.5\) must be in \[0, 1\]"),
        ({"reduction": "none"}, "unknown reduction 'none', expected one of mean, sum"),
        ({"sigmoid": True, "softmax": True}, "expected at most one"),
    ],
)
def test_wrong_options(options, text):
    with pytest.raises(RequestError, match=text):
        HardNegativeLoss(**options)


def test_wrong_shapes():
    with pytest.raises(InputError, match="the shapes must be equal"):
        HardNegativeLoss()(torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 4, 4))
    with pytest.raises(InputError, match="softmax=True with one channel"):
        HardNegativeLoss(softmax=True)(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))
