from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import AsymmetricUnifiedFocalLoss, DiceLoss, TverskyLoss
from torch.nn import functional

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses.unified_focal import UnifiedFocalLoss

SMOOTH = 1e-7
"""MONAI's epsilon."""


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def regions():
    torch.manual_seed(0)
    logits = 2 * torch.randn(2, 3, 4, 5, 3, dtype=torch.float64)
    return logits, (torch.rand(2, 3, 4, 5, 3) < 0.2).double()


@pytest.fixture
def classes():
    torch.manual_seed(1)
    logits = 2 * torch.randn(2, 4, 4, 5, 3, dtype=torch.float64)
    return logits, _one_hot(torch.randint(0, 4, (2, 4, 5, 3)), 4)


def _one_hot(index, channels):
    return functional.one_hot(index, channels).movedim(-1, 1).double()


@pytest.mark.parametrize("asymmetric", [True, False])
def test_hand_numbers_of_both_terms(asymmetric):
    # p = 0.75 on the one lesion voxel, 0.25 on three others.
    z = math.log(3) * torch.tensor([[[1.0, -1.0, -1.0, -1.0]]], dtype=torch.float64)
    t = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]], dtype=torch.float64)
    options = {"delta": 0.6, "gamma": 0.5, "asymmetric": asymmetric, "smooth": 1e-12}
    ce = -math.log(0.75)
    lesion = 0.6 * ce * (1 if asymmetric else 0.25**0.5)
    background = 0.4 * 3 * ce * 0.25**0.5
    focal = UnifiedFocalLoss(1.0, **options)(z, t)
    assert focal.item() == pytest.approx((lesion + background) / 4)
    # Lesion: TP 0.75, FN 0.25, FP 0.75. Background: TP 2.25, FN 0.75, FP 0.25.
    rare = 1 - 0.75 / (0.75 + 0.6 * 0.25 + 0.4 * 0.75)
    common = 1 - 2.25 / (2.25 + 0.6 * 0.75 + 0.4 * 0.25)
    tversky = UnifiedFocalLoss(0.0, **options)(z, t)
    assert tversky.item() == pytest.approx((rare**0.5 + common ** (1 if asymmetric else 0.5)) / 2)
    assert UnifiedFocalLoss(0.3, **options)(z, t).item() == pytest.approx(0.3 * focal.item() + 0.7 * tversky.item())


@pytest.mark.parametrize("gamma", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("delta", [0.5, 0.6, 0.8])
def test_two_classes_against_monai_whose_focal_term_is_halved(delta, gamma):
    torch.manual_seed(2)
    z, index = 2 * torch.randn(2, 2, 4, 5, 3, dtype=torch.float64), torch.randint(0, 2, (2, 1, 4, 5, 3))
    p, t = torch.softmax(z, 1), _one_hot(index[:, 0], 2)
    for weight in (0.0, 0.3, 1.0):
        ours = UnifiedFocalLoss(weight, delta, gamma, smooth=SMOOTH, softmax=True)(z, t)
        focal = AsymmetricUnifiedFocalLoss(weight=1.0, delta=delta, gamma=gamma)(p, t)
        tversky = AsymmetricUnifiedFocalLoss(weight=0.0, delta=delta, gamma=gamma)(p, t)
        torch.testing.assert_close(ours, weight * 2 * focal + (1 - weight) * tversky, rtol=1e-6, atol=1e-7)


def test_where_monai_differs():
    z = torch.tensor([[[[2.0, -3.0]]]], dtype=torch.float64)
    t = torch.tensor([[[[1.0, 0.0]]]], dtype=torch.float64)
    theirs = AsymmetricUnifiedFocalLoss(weight=0.0, delta=0.6)
    ours = UnifiedFocalLoss(0.0, smooth=SMOOTH)(z, t)
    torch.testing.assert_close(theirs(torch.sigmoid(z), t), ours, rtol=1e-6, atol=1e-7)
    assert theirs(z, t) < 1e-3 < 0.1 < ours, "it takes the logits of its docstring for probabilities"
    summed = AsymmetricUnifiedFocalLoss(weight=0.0, delta=0.6, reduction="sum")
    z, t = z.repeat(3, 1, 1, 1), t.repeat(3, 1, 1, 1)
    torch.testing.assert_close(summed(torch.sigmoid(z), t), theirs(torch.sigmoid(z), t))
    torch.testing.assert_close(UnifiedFocalLoss(0.0, smooth=SMOOTH, reduction="sum")(z, t), 3 * ours)


@pytest.mark.parametrize("asymmetric", [True, False])
def test_without_focus_the_first_term_is_half_the_cross_entropy(classes, regions, asymmetric):
    loss = UnifiedFocalLoss(1.0, 0.5, 0.0, asymmetric, softmax=True)
    torch.testing.assert_close(loss(*classes), functional.cross_entropy(*classes) / 2)
    loss = UnifiedFocalLoss(1.0, 0.5, 0.0, asymmetric, sigmoid=True)
    torch.testing.assert_close(loss(*regions), functional.binary_cross_entropy_with_logits(*regions) / 2)


@pytest.mark.parametrize("asymmetric", [True, False])
def test_without_focus_the_second_term_is_dice_or_tversky(classes, regions, asymmetric):
    options = {"asymmetric": asymmetric, "smooth": 1e-5}
    dice = DiceLoss(softmax=True, smooth_nr=2e-5, smooth_dr=2e-5)
    loss = UnifiedFocalLoss(0.0, 0.5, 0.0, softmax=True, **options)
    torch.testing.assert_close(loss(*classes), dice(*classes))
    tversky = TverskyLoss(softmax=True, include_background=False, alpha=0.3, beta=0.7)
    loss = UnifiedFocalLoss(0.0, 0.7, 0.0, softmax=True, include_background=False, **options)
    torch.testing.assert_close(loss(*classes), tversky(*classes))
    z, t = regions
    both = (TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7), UnifiedFocalLoss(0.0, 0.7, 0.0, **options))
    expected = (both[0](z, t) + both[0](-z, 1 - t)) / 2
    torch.testing.assert_close(both[1](z, t), expected)


def test_multi_class_focal_term_by_hand(classes):
    z, t = classes
    p = torch.softmax(z, 1)
    terms = -t * p.log()
    common, rare = 0.3 * (1 - p[:, 0]) ** 0.4 * terms[:, 0], 0.7 * terms[:, 1:].sum(1)
    torch.testing.assert_close(UnifiedFocalLoss(1.0, 0.7, 0.4, softmax=True)(z, t), (common + rare).mean())
    rare = (0.7 * (1 - p[:, 1:]) ** 0.4 * terms[:, 1:]).sum(1)
    torch.testing.assert_close(UnifiedFocalLoss(1.0, 0.7, 0.4, False, softmax=True)(z, t), (common + rare).mean())


def test_symmetric_and_asymmetric_differ_only_by_gamma(classes):
    pair = [UnifiedFocalLoss(gamma=0.5, asymmetric=a, softmax=True)(*classes) for a in (True, False)]
    assert abs(pair[0] - pair[1]) > 1e-3
    pair = [UnifiedFocalLoss(gamma=0.0, asymmetric=a, softmax=True)(*classes) for a in (True, False)]
    torch.testing.assert_close(*pair)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_one_channel_is_two_classes(regions, weight):
    z, t = regions[0][:, :1], regions[1][:, :1]
    both = torch.cat([torch.zeros_like(z), z], 1), torch.cat([1 - t, t], 1)
    torch.testing.assert_close(UnifiedFocalLoss(weight)(z, t), UnifiedFocalLoss(weight, softmax=True)(*both))


def test_samples_and_regions_are_judged_one_by_one(regions, classes):
    z, t = regions
    apart = [[UnifiedFocalLoss()(z[b : b + 1, c : c + 1], t[b : b + 1, c : c + 1]) for c in range(3)] for b in range(2)]
    each = torch.tensor(apart, dtype=torch.float64)
    torch.testing.assert_close(UnifiedFocalLoss(reduction="none")(z, t), each)
    torch.testing.assert_close(UnifiedFocalLoss()(z, t), each.mean())
    torch.testing.assert_close(UnifiedFocalLoss(reduction="sum")(z, t), each.sum())
    z, t = classes
    each = UnifiedFocalLoss(softmax=True, reduction="none")(z, t)
    assert each.shape == (2, 1)
    torch.testing.assert_close(each[1, 0], UnifiedFocalLoss(softmax=True)(z[1:], t[1:]))


def test_permuting_regions_or_foreground_classes_changes_nothing(regions, classes):
    z, t = regions
    order = [2, 0, 1]
    each = UnifiedFocalLoss(reduction="none")
    torch.testing.assert_close(each(z, t)[:, order], each(z[:, order], t[:, order]))
    z, t = classes
    order = [0, 3, 1, 2]
    loss = UnifiedFocalLoss(softmax=True)
    torch.testing.assert_close(loss(z, t), loss(z[:, order], t[:, order]))
    order = [1, 0, 2, 3]
    assert abs(loss(z, t) - loss(z[:, order], t[:, order])) > 1e-3, "the background is not one class among others"


@pytest.mark.parametrize("asymmetric", [True, False])
@pytest.mark.parametrize("softmax", [False, True])
def test_perfect_prediction_is_zero_and_worse_is_more(classes, asymmetric, softmax):
    t = classes[1].float()
    loss = UnifiedFocalLoss(asymmetric=asymmetric, softmax=softmax)
    values = [loss(k * (2 * t - 1), t).item() for k in (60.0, 6.0, 2.0, 0.5, -1.0, -4.0)]
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values == sorted(values)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("asymmetric", [True, False])
@pytest.mark.parametrize("softmax", [False, True])
def test_value_and_gradient_are_finite_at_extreme_logits_and_for_absent_classes(softmax, asymmetric, dtype):
    torch.manual_seed(0)
    index = torch.randint(0, 3, (2, 40))
    index[0] = 0
    t = _one_hot(index, 3)
    for direction in (torch.randn(2, 3, 40).sign(), 2 * t - 1, 1 - 2 * t):
        for scale in (6e4, 1e3, 17.0, 0.0):
            z = (scale * direction).to(dtype).requires_grad_()
            loss = UnifiedFocalLoss(gamma=0.9, asymmetric=asymmetric, softmax=softmax)(z, t.to(dtype))
            loss.backward()
            assert loss.dtype == torch.float32
            assert torch.isfinite(loss)
            assert torch.isfinite(z.grad).all()


def test_absent_class_costs_nothing_if_none_is_predicted():
    t = torch.zeros(1, 3, 6)
    t[:, 0] = 1
    assert UnifiedFocalLoss(softmax=True)(100 * (t - 0.5), t).item() == pytest.approx(0, abs=1e-6)
    assert UnifiedFocalLoss()(torch.full((1, 1, 6), -80.0), torch.zeros(1, 1, 6)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("asymmetric", [True, False])
@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_gradcheck(weight, softmax, asymmetric):
    torch.manual_seed(0)
    z = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    t = _one_hot(torch.randint(0, 3, (2, 4)), 3)
    loss = UnifiedFocalLoss(weight, 0.7, 0.6, asymmetric, softmax=softmax)
    assert torch.autograd.gradcheck(lambda x: loss(x, t), (z,))


@settings(max_examples=40, deadline=None)
@given(
    t=st.lists(st.floats(0.01, 0.99), min_size=2, max_size=5),
    shift=st.lists(st.floats(-4, 4), min_size=5, max_size=5),
    asymmetric=st.booleans(),
)
def test_soft_targets_have_their_tversky_minimum_at_the_target(t, shift, asymmetric):
    target = torch.tensor(t, dtype=torch.float64).view(1, 1, -1)
    loss = UnifiedFocalLoss(0.0, asymmetric=asymmetric)
    at_target = loss(torch.logit(target), target).item()
    assert at_target == pytest.approx(0, abs=1e-6)
    moved = torch.logit(target) + torch.tensor(shift[: len(t)], dtype=torch.float64)
    assert loss(moved, target).item() >= at_target - 1e-9


def test_soft_target_hand_number():
    # p = 0.5, t = 0.25. Lesion: TP 0.25, FP 0.25. Background: TP 0.5, FN 0.25.
    loss = UnifiedFocalLoss(0.0, 0.6, 0.0, smooth=1e-12)(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.25))
    assert loss.item() == pytest.approx((0.1 / 0.35 + 0.15 / 0.65) / 2)


def test_soft_targets_have_their_focal_minimum_at_the_target_only_without_focus():
    target = torch.full((1, 1, 2), 0.3, dtype=torch.float64)
    for options, proper in ((((1.0, 0.5, 0.0)), True), ((1.0, 0.6, 0.0), False), ((1.0, 0.5, 0.5), False)):
        z = torch.logit(target).requires_grad_()
        UnifiedFocalLoss(*options)(z, target).backward()
        assert (z.grad.abs().max().item() < 1e-12) == proper


def test_without_background_the_softmax_focal_term_still_sees_false_positives(classes):
    z, t = classes
    full, rest = (UnifiedFocalLoss(1.0, softmax=True, include_background=flag)(z, t) for flag in (True, False))
    torch.testing.assert_close(full, rest)
    full, rest = (UnifiedFocalLoss(0.0, softmax=True, include_background=flag)(z, t) for flag in (True, False))
    assert abs(full - rest) > 1e-3
    z, t = z[:, :3], t[:, :3]
    without = UnifiedFocalLoss(sigmoid=True, include_background=False)(z, t)
    torch.testing.assert_close(without, UnifiedFocalLoss()(z[:, 1:], t[:, 1:]))


def test_class_indices_equal_one_hot(classes):
    z, t = classes
    loss = UnifiedFocalLoss(softmax=True, to_onehot_y=True)
    torch.testing.assert_close(loss(z, t.argmax(1, keepdim=True)), UnifiedFocalLoss(softmax=True)(z, t))


def test_any_target_type_and_half_logits_are_raised(regions):
    z, t = regions
    for target in (t.bool(), t.to(torch.uint8), t.float()):
        torch.testing.assert_close(UnifiedFocalLoss()(z, target), UnifiedFocalLoss(sigmoid=True)(z, t))
    half = z.bfloat16()
    torch.testing.assert_close(UnifiedFocalLoss()(half, t), UnifiedFocalLoss()(half.float(), t), rtol=0, atol=0)


def test_single_channel_ignores_background_and_one_hot_with_a_warning(regions):
    z, t = regions[0][:, :1], regions[1][:, :1]
    with pytest.warns(UserWarning, match="include_background=False ignored"):
        assert UnifiedFocalLoss(include_background=False)(z, t) == UnifiedFocalLoss()(z, t)
    with pytest.warns(UserWarning, match="to_onehot_y=True ignored"):
        assert UnifiedFocalLoss(to_onehot_y=True)(z, t) == UnifiedFocalLoss()(z, t)


@pytest.mark.parametrize("softmax", [False, True])
def test_compiles_without_graph_breaks(softmax):
    torch._dynamo.reset()
    loss = UnifiedFocalLoss(softmax=softmax)
    z, t = torch.randn(1, 3, 4, 4), torch.rand(1, 3, 4, 4).round()
    torch.testing.assert_close(torch.compile(loss, fullgraph=True, backend="eager")(z, t), loss(z, t))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigmoid": True, "softmax": True}, "sigmoid=True and softmax=True, expected at most one"),
        ({"weight": 1.5}, r"weight \(1.5\) must be in \[0, 1\]"),
        ({"weight": math.nan}, r"weight \(nan\) must be in \[0, 1\]"),
        ({"delta": 1.0}, r"delta \(1.0\) must be in \(0, 1\)"),
        ({"gamma": 1.0}, r"gamma \(1.0\) must be in \[0, 1\)"),
        ({"gamma": -0.1}, r"gamma \(-0.1\) must be in \[0, 1\)"),
        ({"smooth": 0.0}, r"smooth \(0.0\) must be > 0"),
        ({"reduction": "avg"}, "unknown reduction 'avg', expected one of mean, sum, none"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(RequestError, match=message):
        UnifiedFocalLoss(**options)


@pytest.mark.parametrize(
    ("options", "logits", "target", "message"),
    [
        ({}, (1, 3, 4), (1, 3, 5), r"UnifiedFocalLoss: target shape \(1, 3, 5\).*the shapes must be equal"),
        ({"softmax": True, "to_onehot_y": True}, (1, 3, 4), (1, 3, 4), "expects class indices in one channel"),
        ({"softmax": True}, (1, 1, 4), (1, 1, 4), "softmax=True with one channel"),
    ],
)
def test_shapes_that_do_not_fit(options, logits, target, message):
    with pytest.raises(InputError, match=message):
        UnifiedFocalLoss(**options)(torch.zeros(logits), torch.zeros(target))


def test_repr_names_the_options():
    assert "symmetric, weight=0.5, delta=0.7, gamma=0.5, softmax" in repr(UnifiedFocalLoss(delta=0.7, softmax=True))
