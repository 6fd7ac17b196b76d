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
    assert float(LogDiceTerm()(z, t)) == pytest.approx(-math.log((2 * 1 + 1) / (1.5 + 2 + 1)))
    assert float(LogDiceTerm()(z, 0 * t)) == pytest.approx(math.log(1.5 + 1))
    assert float(LogDiceTerm()(120 * t - 60, t)) == pytest.approx(0, abs=1e-6)


def test_a_missed_lesion_pulls_far_harder_than_in_dice():
    for size in (100, 1000):
        pulls = {}
        for term in (LogDiceTerm(), DiceTerm()):
            z = torch.full((1, 1, 2**17), -20.0)
            t = torch.zeros_like(z)
            t[..., :size] = 1
            z[..., :size] = -4.0
            term(z.requires_grad_(), t).backward()
            pulls[type(term)] = -z.grad[..., :size].sum().item()
        # ln((2 s p + 1) / (s p + s + 1)) for s voxels with p = sigmoid(-4).
        p = 1 / (1 + math.exp(4))
        expected = p * (1 - p) * size * (2 / (2 * size * p + 1) - 1 / (size * p + size + 1))
        assert pulls[LogDiceTerm] == pytest.approx(expected, rel=1e-4)
        assert pulls[LogDiceTerm] > 20 * pulls[DiceTerm]
