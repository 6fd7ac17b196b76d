from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceLoss

from rarevoxel.losses import Branch
from rarevoxel.losses.soft_dice import published_dice, soft_dice
from rarevoxel.losses.voxel import one_vs_rest_logits, published_loss, stable_loss, voxel_loss

BRANCHES = list(Branch)
MODERATE = torch.linspace(-9, 9, 181, dtype=torch.float64)

# The defining formulas, in plain numpy, as functions of the residual e (stable) and of the probability q (published).
STABLE = {
    "fisher": lambda e: np.arctanh(e),
    "logit": lambda e: np.log1p(99 * e / (1 - e)),
    "arcsine": lambda e: 4 / np.pi * np.arcsin(np.sqrt(e)) ** 2,
    "log10": lambda e: -np.log10(1 - e),
    "ln": lambda e: -np.log(1 - e),
    "bce_dice": lambda e: -np.log(1 - e),
}
PUBLISHED = {
    "fisher": lambda q: -0.5 * np.log((1 + q) / (1 - q)),
    "logit": lambda q: -np.log(q / (1 - q)),
    "arcsine": lambda q: -np.arcsin(np.sqrt(q)),
    "log10": lambda q: -np.log10(q),
    "ln": lambda q: -np.log(q),
    "bce_dice": lambda q: -np.log(q),
}
MAX_SLOPE = {"fisher": 0.5, "logit": 1.0, "arcsine": 0.5793, "log10": 1 / math.log(10), "ln": 1.0, "bce_dice": 1.0}


@pytest.mark.parametrize("branch", BRANCHES)
def test_stable_is_its_closed_form(branch):
    e = 1 / (1 + np.exp(MODERATE.numpy()))
    np.testing.assert_allclose(stable_loss(branch, MODERATE).numpy(), STABLE[branch.value](e), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("branch", BRANCHES)
def test_published_is_its_table(branch):
    q = np.linspace(0.01, 0.99, 99)
    result = published_loss(branch, torch.from_numpy(q)).numpy()
    np.testing.assert_allclose(result, PUBLISHED[branch.value](q), rtol=1e-9, atol=1e-12)


def test_hand_numbers_at_zero_logit():
    zero = torch.zeros(1, dtype=torch.float64)
    expected = {"fisher": math.log(3) / 2, "logit": math.log(100), "arcsine": math.pi / 4, "log10": math.log10(2)}
    for name, value in expected.items():
        assert stable_loss(Branch(name), zero).item() == pytest.approx(value, abs=1e-12)
    half = torch.full((1,), 0.5, dtype=torch.float64)
    expected = {"fisher": -math.log(3) / 2, "logit": 0.0, "arcsine": -math.pi / 4, "log10": math.log10(2)}
    for name, value in expected.items():
        assert published_loss(Branch(name), half).item() == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("branch", "double", "single"),
    [("fisher", -8.406, -8.318), ("logit", -16.118, -15.942), ("arcsine", -math.pi / 2, -math.pi / 2), ("ln", 0, 0)],
)
def test_published_minima_are_set_by_the_clamp(branch, double, single):
    for dtype, minimum in ((torch.float64, double), (torch.float32, single)):
        z = torch.tensor([100.0], dtype=dtype, requires_grad=True)
        loss = voxel_loss(Branch(branch), z, torch.ones(1, dtype=dtype), "published")
        assert loss.item() == pytest.approx(minimum, abs=1.5e-3)
        assert torch.autograd.grad(loss.sum(), z)[0].item() == 0.0


@pytest.mark.parametrize("branch", BRANCHES)
def test_stable_is_nonnegative_falls_to_zero_and_never_rises(branch):
    m = torch.cat([torch.linspace(-60, 60, 2401), torch.tensor([1e3, 6e4])]).double()
    loss = stable_loss(branch, m)
    assert (loss >= 0).all()
    assert (loss.diff() <= 1e-15).all()
    assert loss[m == 6e4].item() == pytest.approx(0, abs=1e-30)
    assert stable_loss(branch, torch.tensor([40.0])).item() < 1e-12


@pytest.mark.parametrize("branch", BRANCHES)
def test_largest_gradient_is_the_one_in_the_table(branch):
    m = torch.linspace(-60, 60, 24001, dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(stable_loss(branch, m).sum(), m)[0]
    assert slope.abs().max().item() == pytest.approx(MAX_SLOPE[branch.value], abs=1e-4)


@pytest.mark.parametrize("variant", ["stable", "published"])
@pytest.mark.parametrize("branch", BRANCHES)
def test_gradcheck(branch, variant):
    torch.manual_seed(0)
    z = (3 * torch.randn(3, 4, dtype=torch.float64)).requires_grad_()
    t = torch.rand(3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: voxel_loss(branch, x, t, variant), (z,))


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("variant", ["stable", "published"])
@given(z=st.floats(-30, 30), t=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_soft_targets_mix_linearly_and_sides_mirror(branch, variant, z, t):
    def value(logit: float, target: float) -> float:
        pair = torch.tensor([logit, target], dtype=torch.float64)
        return voxel_loss(branch, pair[:1], pair[1:], variant).item()

    assert value(z, t) == pytest.approx(t * value(z, 1) + (1 - t) * value(z, 0), abs=1e-8)
    assert value(z, 0) == pytest.approx(value(-z, 1), abs=1e-6)


@pytest.mark.parametrize("branch", [Branch.LN, Branch.LOG10, Branch.BCE_DICE])
def test_proper_branches_have_their_minimum_at_the_soft_target(branch):
    p = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    for variant in ("stable", "published"):
        loss = voxel_loss(branch, torch.logit(p), torch.full_like(p, 0.3), variant)
        assert p[loss.argmin()].item() == pytest.approx(0.3)


def test_ln_is_bce_with_logits_and_log10_is_that_over_ln_10():
    torch.manual_seed(0)
    z, t = 8 * torch.randn(50), torch.rand(50)
    bce = torch.nn.BCEWithLogitsLoss(reduction="none")(z, t)
    torch.testing.assert_close(voxel_loss(Branch.LN, z, t), bce, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(voxel_loss(Branch.LOG10, z, t), bce / math.log(10), rtol=1e-6, atol=1e-6)


def test_one_vs_rest_logits_have_the_softmax_as_sigmoid_even_where_it_is_nearly_one():
    torch.manual_seed(0)
    z = 5 * torch.randn(2, 4, 6, dtype=torch.float64)
    torch.testing.assert_close(torch.sigmoid(one_vs_rest_logits(z)), torch.softmax(z, 1))
    pair = torch.tensor([[[60.0], [0.0]]])
    assert one_vs_rest_logits(pair).flatten().tolist() == [60.0, -60.0]


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 1, 5, 6), (1, 3, 4, 5, 3)])
def test_soft_dice_is_monai(shape, soft):
    torch.manual_seed(0)
    p, t = torch.rand(shape), torch.rand(shape)
    t = t if soft else t.round()
    expected = DiceLoss(reduction="none", soft_label=True)(p, t)
    torch.testing.assert_close(soft_dice(p, t), expected, rtol=1e-5, atol=1e-6)
    if not soft:
        torch.testing.assert_close(soft_dice(p, t), DiceLoss(reduction="none")(p, t), rtol=1e-5, atol=1e-6)


def test_soft_dice_hand_number_and_empty_mask():
    p, t = torch.tensor([[[0.5, 0.5, 0.0, 0.0]]]), torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])
    assert soft_dice(p, t, 1e-9, 1e-9).item() == pytest.approx(0.5)
    empty = torch.zeros_like(t)
    assert soft_dice(empty, empty).item() == 0.0
    assert soft_dice(p, empty).item() == pytest.approx(1 - 1e-5 / 1.00001)


def test_soft_dice_keeps_a_tiny_lesion_in_a_large_volume():
    p, t = torch.full((1, 1, 128, 128, 64), 0.01), torch.zeros(1, 1, 128, 128, 64)
    t[..., :2, 0, 0] = 1
    expected = soft_dice(p.double(), t.double())
    assert (1 - soft_dice(p, t)).item() == pytest.approx((1 - expected).item(), rel=1e-3)


def test_soft_dice_has_its_minimum_at_a_soft_target():
    t = torch.tensor([[[0.2, 0.7, 0.0]]])
    assert soft_dice(t, t).item() == pytest.approx(0, abs=1e-6)
    assert soft_dice(t.round(), t).item() > 0.2


def test_published_dice_sums_over_the_batch():
    p, t = torch.tensor([[[0.9, 0.2]], [[0.4, 0.1]]]), torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])
    result = published_dice(p, t)
    assert result.shape == (1, 1, 1)
    assert result.item() == pytest.approx(1 - (2 * 0.9 + 1e-7) / (1.6 + 1 + 1e-7))
