from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import FocalLoss
from torch.nn import functional

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses import WEIGHT_KINDS, CompoundLoss, TermOptions, WeightedFocal, class_weights

PAIRS = ((900.0, 100.0), (950.0, 50.0), (990.0, 10.0))
CLASSES = (900.0, 60.0, 30.0, 10.0)
LN2 = math.log(2)


@pytest.fixture
def regions():
    torch.manual_seed(0)
    return 2 * torch.randn(2, 3, 4, 5, 3), (torch.rand(2, 3, 4, 5, 3) < 0.2).float()


@pytest.fixture
def classes():
    torch.manual_seed(0)
    index = torch.randint(0, 4, (2, 4, 5, 3))
    return 2 * torch.randn(2, 4, 4, 5, 3), index, functional.one_hot(index, 4).movedim(-1, 1).float()


def test_hand_numbers_with_sigmoid():
    # 3 background voxels per lesion voxel: balanced weights 1/4 and 3/4, times two classes 1/2 and 3/2.
    z, t = torch.zeros(1, 1, 4), torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])
    loss = WeightedFocal([(3, 1)], "balanced")
    torch.testing.assert_close(loss.weights, torch.tensor([[0.5, 1.5]]))
    assert loss(z, t).item() == pytest.approx((1.5 + 3 * 0.5) / 4 * LN2)
    assert WeightedFocal([(3, 1)], "balanced", gamma=2.0)(z, t).item() == pytest.approx(3 / 4 * LN2 / 4)
    # p = 3/4 on the lesion: -ln p = ln 4/3, (1 - p)^2 = 1/16.
    z = torch.full((1, 1, 1), math.log(3))
    one = torch.ones(1, 1, 1)
    assert WeightedFocal([(3, 1)], "balanced", gamma=2.0)(z, one).item() == pytest.approx(1.5 * math.log(4 / 3) / 16)
    assert WeightedFocal([(3, 1)], "balanced", gamma=2.0)(z, 1 - one).item() == pytest.approx(
        0.5 * math.log(4) * 9 / 16
    )


def test_hand_numbers_with_softmax():
    # Shares 1/2, 1/4, 1/4: balanced 2 : 4 : 4, as weights 0.2, 0.4, 0.4, times three classes.
    loss = WeightedFocal([2, 1, 1], "balanced", softmax=True)
    torch.testing.assert_close(loss.weights, torch.tensor([[0.6, 1.2, 1.2]]))
    t = functional.one_hot(torch.tensor([[0, 0, 1, 2]]), 3).movedim(-1, 1)
    z = torch.zeros(1, 3, 4)
    assert loss(z, t).item() == pytest.approx((2 * 0.6 + 2 * 1.2) / 4 * math.log(3), rel=1e-6)
    focal = WeightedFocal([2, 1, 1], "balanced", gamma=2.0, softmax=True)
    assert focal(z, t).item() == pytest.approx(0.9 * math.log(3) * 4 / 9, rel=1e-6)


def test_uniform_weights_are_no_weights(regions, classes):
    z, t = regions
    options = TermOptions(counts=PAIRS)
    torch.testing.assert_close(CompoundLoss("ce_uniform", options)(z, t), CompoundLoss("ce")(z, t))
    torch.testing.assert_close(CompoundLoss("focal_uniform", options)(z, t), FocalLoss(gamma=2.0)(z, t))
    z, index, t = classes
    options = TermOptions("softmax", counts=CLASSES)
    torch.testing.assert_close(CompoundLoss("ce_uniform", options)(z, t), functional.cross_entropy(z, index))
    # MONAI takes the mean over the channels as well.
    monai = FocalLoss(use_softmax=True, gamma=2.0)(z, t)
    torch.testing.assert_close(CompoundLoss("focal_uniform", options)(z, t), 4 * monai)


@pytest.mark.parametrize("kind", WEIGHT_KINDS)
def test_is_cross_entropy_with_pytorchs_weights(kind, regions, classes):
    z, index, t = classes
    weight = 4 * class_weights(CLASSES, kind)
    expected = functional.cross_entropy(z, index, weight=weight, reduction="sum") / index.numel()
    torch.testing.assert_close(WeightedFocal(CLASSES, kind, softmax=True)(z, t), expected)
    z, t = regions
    parts = []
    for c, pair in enumerate(PAIRS):
        background, foreground = 2 * class_weights(pair, kind)
        each = functional.binary_cross_entropy_with_logits(z[:, c], t[:, c], reduction="none")
        parts.append((torch.where(t[:, c] > 0, foreground, background) * each).mean())
    torch.testing.assert_close(WeightedFocal(PAIRS, kind)(z, t), torch.stack(parts).mean())


def test_softmax_of_two_classes_is_sigmoid_of_their_difference(regions):
    z, t = regions[0][:, :2], regions[1][:, :1]
    both = torch.cat([1 - t, t], dim=1)
    softmax = WeightedFocal((95, 5), "exp_falling", gamma=2.0, softmax=True)(z, both)
    sigmoid = WeightedFocal([(95, 5)], "exp_falling", gamma=2.0)(z[:, 1:] - z[:, :1], t)
    torch.testing.assert_close(softmax, sigmoid)


def test_background_of_weight_0_is_not_learned_from(classes):
    z, index, t = classes
    loss = WeightedFocal(CLASSES, "novel_foreground", gamma=2.0, softmax=True)
    z.requires_grad_()
    loss(z, t).backward()
    there = index.unsqueeze(1).expand_as(z) == 0
    assert (z.grad[there] == 0).all()
    assert (z.grad[~there].abs() > 0).all()
    empty = torch.zeros_like(t)
    empty[:, 0] = 1
    assert loss(z, empty).item() == 0


@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("softmax", [False, True])
@settings(max_examples=20, deadline=None)
@given(share=st.floats(0, 1), seed=st.integers(0, 99))
def test_is_linear_in_the_target(softmax, gamma, share, seed):
    generator = torch.Generator().manual_seed(seed)
    z = 3 * torch.randn(1, 3, 7, generator=generator, dtype=torch.float64)
    hard = [
        functional.one_hot(torch.randint(0, 3, (1, 7), generator=generator), 3).movedim(-1, 1).double()
        for _ in range(2)
    ]
    loss = WeightedFocal((90, 9, 1) if softmax else PAIRS, "novel", gamma=gamma, softmax=softmax)
    mixed = loss(z, share * hard[0] + (1 - share) * hard[1])
    torch.testing.assert_close(mixed, share * loss(z, hard[0]) + (1 - share) * loss(z, hard[1]))


def test_permuting_the_channels_permutes_the_loss(regions, classes):
    z, t = regions
    order = [2, 0, 1]
    permuted = WeightedFocal([PAIRS[c] for c in order], "exp_falling", gamma=2.0)
    loss = WeightedFocal(PAIRS, "exp_falling", gamma=2.0)
    torch.testing.assert_close(permuted(z[:, order], t[:, order]), loss(z, t))
    assert not torch.isclose(loss(z[:, order], t[:, order]), loss(z, t), rtol=1e-4)
    z, _, t = classes
    order = [0, 3, 1, 2]
    permuted = WeightedFocal([CLASSES[c] for c in order], "novel", softmax=True)
    torch.testing.assert_close(permuted(z[:, order], t[:, order]), WeightedFocal(CLASSES, "novel", softmax=True)(z, t))


def test_background_channel(regions, classes):
    z, t = regions
    without = WeightedFocal(PAIRS[1:], "novel", include_background=False)
    torch.testing.assert_close(without(z, t), WeightedFocal(PAIRS[1:], "novel")(z[:, 1:], t[:, 1:]))
    z, _, t = classes
    softmax = WeightedFocal(CLASSES, "novel", softmax=True, include_background=False)
    torch.testing.assert_close(softmax(z, t), WeightedFocal(CLASSES, "novel", softmax=True)(z, t))


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("softmax", [False, True])
def test_gradcheck(softmax, gamma):
    torch.manual_seed(0)
    z = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    t = torch.rand(2, 3, 4, dtype=torch.float64)
    loss = WeightedFocal((90, 9, 1) if softmax else PAIRS, "exp_falling", gamma=gamma, softmax=softmax)
    assert torch.autograd.gradcheck(lambda x: loss(x, t), (z,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", WEIGHT_KINDS)
@pytest.mark.parametrize("softmax", [False, True])
def test_finite_at_extreme_logits(softmax, kind, dtype):
    torch.manual_seed(0)
    for gamma in (0.0, 1.0, 1.5, 2.0):
        loss = WeightedFocal((90, 9, 1) if softmax else PAIRS, kind, gamma=gamma, softmax=softmax)
        for scale in (6e4, 100.0, 0.0):
            z = (scale * torch.randn(1, 3, 20).sign()).to(dtype).requires_grad_()
            value = loss(z, functional.one_hot(torch.randint(0, 3, (1, 20)), 3).movedim(-1, 1))
            value.backward()
            assert value.dtype == torch.float32
            assert torch.isfinite(value)
            assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize(
    ("error", "options", "message"),
    [
        (RequestError, {"kind": "novell"}, r"unknown kind of class weights 'novell'.*did you mean 'novel'"),
        (RequestError, {"sigmoid": True, "softmax": True}, "sigmoid=True and softmax=True, expected at most one"),
        (RequestError, {"gamma": -1.0}, r"gamma \(-1.0\) must be 0, or >= 1"),
        (RequestError, {"gamma": 0.5}, r"gamma \(0.5\) must be 0, or >= 1"),
        (RequestError, {"gamma": math.nan}, r"gamma \(nan\) must be 0, or >= 1"),
        (InputError, {"counts": [(1, -2)]}, "expected finite numbers >= 0"),
        (InputError, {"counts": [(1, 2, 3)]}, r"\[3\] counts per channel, expected pairs.*softmax=True"),
        (InputError, {"counts": [(1, 2), (3, 4, 5)]}, r"\[2, 3\] counts per channel, expected pairs"),
        (InputError, {"counts": (90, 10)}, "expected at least two classes"),
        (InputError, {"softmax": True}, r"counts of shape \(3, 2\), expected one number per class"),
    ],
)
def test_wrong_options(error, options, message):
    with pytest.raises(error, match=message):
        WeightedFocal(**{"counts": PAIRS, "kind": "novel", **options})


def test_shapes_that_do_not_fit(regions):
    z, t = regions
    with pytest.raises(InputError, match=r"counts of 2 channels, 3 found.*every channel of the loss"):
        WeightedFocal(PAIRS[1:])(z, t)
    with pytest.raises(InputError, match=r"counts of 4 classes, 3 found"):
        WeightedFocal(CLASSES, softmax=True)(z, t)
    with pytest.raises(InputError, match=r"WeightedFocal: target shape \(2, 1, 4, 5, 3\).*shapes must be equal"):
        WeightedFocal(PAIRS)(z, t[:, :1])


@pytest.mark.parametrize("softmax", [False, True])
def test_compiles_without_graph_breaks(softmax):
    torch.manual_seed(0)
    torch._dynamo.reset()
    loss = WeightedFocal((90, 9, 1) if softmax else PAIRS, "novel", gamma=2.0, softmax=softmax)
    z, t = torch.randn(1, 3, 4, 4), torch.rand(1, 3, 4, 4)
    torch.testing.assert_close(torch.compile(loss, fullgraph=True, backend="eager")(z, t), loss(z, t))
