"""The overlap terms are MONAI's, for masks and for soft targets."""

from __future__ import annotations

import itertools
import math
import warnings

import pytest
import torch
from fused_pairs import pair
from monai.losses import DiceLoss, GeneralizedDiceLoss, TverskyLoss

from rarevoxel.losses.overlap import DiceTerm, GeneralizedDiceTerm, LogDiceTerm, TverskyTerm

TERMS = {
    "dice": (DiceTerm, DiceLoss),
    "generalized": (GeneralizedDiceTerm, GeneralizedDiceLoss),
    "tversky": (lambda **o: TverskyTerm(0.3, 0.7, **o), lambda **o: TverskyLoss(alpha=0.3, beta=0.7, **o)),
}


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("kind", ["mask", "soft", "empty", "one-hot"])
def test_value_and_gradient_are_those_of_monai(name, kind):
    ours, theirs = TERMS[name]
    for softmax, background, soft in itertools.product((True, False), repeat=3):
        z, t = pair(3, kind, dtype=torch.float64)
        t = t.double()
        if kind == "mask":
            t[0, 1] = 0
        found = []
        options = {"softmax": softmax, "include_background": background, "soft_label": soft}
        for loss in (ours(**options), theirs(sigmoid=not softmax, **options)):
            leaf = z.clone().requires_grad_()
            value = loss(leaf, t)
            value.backward()
            found.append((value.detach(), leaf.grad))
        torch.testing.assert_close(*found)


@pytest.mark.parametrize("name", TERMS)
def test_one_channel_keeps_its_background_with_a_warning(name):
    ours, theirs = TERMS[name]
    z, t = pair(1, "mask")
    with pytest.warns(UserWarning, match="one channel only, include_background=False ignored"):
        value = ours(include_background=False)(z, t.float())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.testing.assert_close(value, theirs(sigmoid=True, include_background=False)(z, t.float()))


def test_a_lesion_of_one_voxel_is_not_lost_in_a_large_volume():
    z = torch.full((1, 1, 2**21), -60.0)
    t = torch.zeros_like(z)
    z[..., 5], t[..., 5] = 0.0, 1.0
    assert float(DiceTerm(soft_label=True)(z, t)) == pytest.approx(1 / 3, rel=1e-4)


def test_log_dice_by_hand():
    z, t = torch.tensor([[[0.0, 0.0, 0.0, -60.0]]]), torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])
    expected = (-math.log((2 * 1 + 1) / (1.5 + 2 + 1))) ** 0.3 - 1e-6**0.3
    assert float(LogDiceTerm()(z, t)) == pytest.approx(expected, rel=1e-5)
    both = LogDiceTerm()(torch.cat([z, z], 1), torch.cat([t, 0 * t], 1))
    assert float(both) == pytest.approx(expected / 2, rel=1e-5)


def test_log_dice_of_nothing_and_of_all_is_finite():
    t = torch.zeros(1, 2, 64)
    t[:, 0, :9] = 1
    for z in (200 * t - 100, 100 - 200 * t, 0 * t):
        z = z.clone().requires_grad_()
        value = LogDiceTerm()(z, t)
        value.backward()
        assert value.isfinite()
        assert z.grad.isfinite().all()
        assert not z.grad[:, 1].any()  # Without a lesion.
    assert float(LogDiceTerm()(200 * t - 100, t)) == pytest.approx(0, abs=1e-5)


def test_the_gradient_of_log_dice_is_right():
    z, t = pair(3, "mask", dtype=torch.float64)
    z = z[..., :3, :3, :3].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: LogDiceTerm()(x, t[..., :3, :3, :3].double()), z)


def test_a_lesion_that_is_missed_pulls_harder_than_in_dice():
    t = torch.zeros(1, 1, 2**17)
    t[..., :100] = 1
    pulls = []
    for term in (LogDiceTerm(), DiceTerm()):
        z = (16 * t - 20).requires_grad_()
        term(z, t).backward()
        pulls.append(-z.grad[..., :100].sum().item())
    # D = (2 s p + 1) / (s p + s + 1) for s = 100 voxels of p = sigmoid(-4).
    p = 1 / (1 + math.exp(4))
    log = math.log((100 * p + 101) / (200 * p + 1))
    slope = p * (1 - p) * 100 * (2 / (200 * p + 1) - 1 / (100 * p + 101))
    assert pulls[0] == pytest.approx(0.3 * log**-0.7 * slope, rel=1e-3)
    assert pulls[0] > 2.5 * pulls[1]
