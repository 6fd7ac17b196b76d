from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses.top_k import TopKLoss


@pytest.fixture
def masks():
    """Logits and a hard target of three channels, float64."""
    torch.manual_seed(0)
    logits = 3 * torch.randn(2, 3, 4, 5, 3, dtype=torch.float64)
    return logits, (torch.rand(2, 3, 4, 5, 3) < 0.2).double()


@pytest.fixture
def classes():
    """Logits of three classes and class indices, float64."""
    torch.manual_seed(0)
    return 2 * torch.randn(2, 3, 4, 5, 3, dtype=torch.float64), torch.randint(0, 3, (2, 1, 4, 5, 3))


def test_hand_number():
    # Background voxels: cross-entropy ln(1 + e^z), largest at z = 2 and 1.
    z, t = torch.tensor([[[-3.0, 2.0, 0.0, 1.0, -1.0]]]), torch.zeros(1, 1, 5)
    expected = (math.log1p(math.exp(2)) + math.log1p(math.exp(1))) / 2
    assert TopKLoss(0.4)(z, t).item() == pytest.approx(expected, abs=1e-6)
    assert TopKLoss(0.21)(z, t).item() == pytest.approx(expected, abs=1e-6)
    assert TopKLoss(count=2)(z, t).item() == pytest.approx(expected, abs=1e-6)
    assert TopKLoss(count=2, reduction="sum")(z, t).item() == pytest.approx(2 * expected, abs=1e-6)
    assert TopKLoss(0.4)(-z, 1 - t).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_all_voxels_are_cross_entropy(masks, classes, reduction):
    for option in ({"fraction": 1.0}, {"count": 10**6}):
        binary = functional.binary_cross_entropy_with_logits(*masks, reduction=reduction)
        torch.testing.assert_close(TopKLoss(**option, reduction=reduction)(*masks), binary)
        z, index = classes
        categorical = functional.cross_entropy(z, index[:, 0], reduction=reduction)
        loss = TopKLoss(**option, softmax=True, to_onehot_y=True, reduction=reduction)(z, index)
        torch.testing.assert_close(loss, categorical)


@pytest.mark.parametrize(
    ("fraction", "voxels", "kept"),
    [
        (0.06, 100, 6),
        (0.06, 101, 7),
        (0.07, 100, 7),
        (0.29, 100, 29),
        (1e-9, 100, 1),
        (1.0, 100, 100),
        (0.0625, 256**2, 4096),
        (1 / 256, 512**2, 1024),
    ],
)
def test_number_of_kept_voxels(fraction, voxels, kept):
    assert TopKLoss(fraction).kept(voxels) == kept


def test_count_overrides_the_fraction_and_is_clipped():
    assert TopKLoss(0.5, count=3).kept(100) == 3
    assert TopKLoss(0.5, count=300).kept(100) == 100


def test_one_ranking_per_image_and_channel(masks):
    z, t = masks
    loss = TopKLoss(count=7)
    apart = [loss(z[i : i + 1, c : c + 1], t[i : i + 1, c : c + 1]) for i in range(2) for c in range(3)]
    torch.testing.assert_close(loss(z, t), torch.stack(apart).mean())
    together = functional.binary_cross_entropy_with_logits(z, t, reduction="none").flatten().topk(42).values.mean()
    assert loss(z, t) < together


def test_one_ranking_per_image_with_softmax(classes):
    z, index = classes
    loss = TopKLoss(0.1, softmax=True, to_onehot_y=True)
    apart = [loss(z[i : i + 1], index[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(loss(z, index), torch.stack(apart).mean())


def test_only_the_hardest_voxels_have_a_gradient(masks, classes):
    z, t = masks[0].requires_grad_(), masks[1]
    TopKLoss(count=7)(z, t).backward()
    threshold = functional.binary_cross_entropy_with_logits(z, t, reduction="none").flatten(2).topk(7).values[..., -1]
    hard = functional.binary_cross_entropy_with_logits(z, t, reduction="none") >= threshold[..., None, None, None]
    assert torch.equal(z.grad != 0, hard)
    z, index = classes[0].requires_grad_(), classes[1]
    TopKLoss(count=7, softmax=True, to_onehot_y=True)(z, index).backward()
    ce = functional.cross_entropy(z, index[:, 0], reduction="none")
    hard = ce >= ce.flatten(1).topk(7).values[:, -1, None, None, None]
    assert torch.equal((z.grad != 0).all(dim=1), hard)
    assert torch.equal((z.grad != 0).any(dim=1), hard)


def test_ranking_by_residual_is_ranking_by_cross_entropy(masks, classes):
    z, t = masks
    hardest = (torch.sigmoid(z) - t).abs().flatten(2).topk(9).indices
    ce = functional.binary_cross_entropy_with_logits(z, t, reduction="none").flatten(2)
    torch.testing.assert_close(TopKLoss(count=9)(z, t), ce.gather(2, hardest).mean())
    z, index = classes
    residual = 1 - torch.softmax(z, dim=1).gather(1, index)
    ce = functional.cross_entropy(z, index[:, 0], reduction="none").flatten(1)
    hardest = residual.flatten(1).topk(9).indices
    loss = TopKLoss(count=9, softmax=True, to_onehot_y=True)(z, index)
    torch.testing.assert_close(loss, ce.gather(1, hardest).mean())


def test_fewer_voxels_never_lower_the_mean(masks):
    values = [TopKLoss(f)(*masks).item() for f in (1.0, 0.5, 0.2, 0.06, 0.01)]
    assert values == sorted(values)
    assert values[0] < values[-1]


def test_permuting_the_classes_changes_nothing(masks, classes):
    order = [2, 0, 1]
    z, t = masks
    torch.testing.assert_close(TopKLoss()(z[:, order], t[:, order]), TopKLoss()(z, t))
    t = functional.one_hot(classes[1][:, 0], 3).movedim(-1, 1)
    loss = TopKLoss(softmax=True)
    torch.testing.assert_close(loss(z[:, order], t[:, order]), loss(z, t))


def test_softmax_of_two_classes_is_the_sigmoid_of_their_difference(masks):
    z, t = masks[0][:, :2], masks[1][:, :1]
    both = torch.cat([1 - t, t], dim=1)
    torch.testing.assert_close(TopKLoss(softmax=True)(z, both), TopKLoss(sigmoid=True)(z[:, 1:] - z[:, :1], t))


@pytest.mark.parametrize("softmax", [False, True])
def test_perfect_prediction_is_zero_and_worse_is_more(softmax):
    t = torch.zeros(1, 2, 4)
    t[0, 0, :3] = 1
    t[0, 1, 3:] = 1
    values = [TopKLoss(0.5, softmax=softmax)(k * (2 * t - 1), t).item() for k in (120.0, 4.0, 1.0, -1.0, -4.0)]
    assert values[0] == 0
    assert values == sorted(values)


@pytest.mark.parametrize("softmax", [False, True])
def test_gradcheck(softmax):
    torch.manual_seed(0)
    z = torch.randn(2, 2, 9, dtype=torch.float64, requires_grad=True)
    t = torch.rand(2, 2, 9, dtype=torch.float64)
    t = t / t.sum(dim=1, keepdim=True)
    assert torch.autograd.gradcheck(lambda x: TopKLoss(0.4, softmax=softmax)(x, t), (z,))


@pytest.mark.parametrize("fill", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("softmax", [False, True])
def test_value_and_gradient_are_finite_at_extreme_logits(softmax, dtype, fill):
    torch.manual_seed(0)
    for scale in (6e4, 17.0, 0.0):
        z = (scale * torch.randn(2, 2, 40).sign()).to(dtype).requires_grad_()
        loss = TopKLoss(softmax=softmax)(z, torch.full((2, 2, 40), fill))
        loss.backward()
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss)
        assert torch.isfinite(z.grad).all()


def test_half_precision_is_summed_in_float32():
    z, t = torch.zeros(1, 1, 300, 300, dtype=torch.float16), torch.ones(1, 1, 300, 300, dtype=torch.bool)
    assert TopKLoss(1.0, reduction="sum")(z, t).item() == pytest.approx(90_000 * math.log(2), rel=1e-5)


def test_background_can_be_left_out_of_sigmoid_channels_only(masks, classes):
    z, t = masks
    torch.testing.assert_close(TopKLoss(include_background=False)(z, t), TopKLoss()(z[:, 1:], t[:, 1:]))
    with pytest.warns(UserWarning, match="softmax needs the background, include_background=False ignored"):
        loss = TopKLoss(softmax=True, to_onehot_y=True, include_background=False)
    torch.testing.assert_close(loss(*classes), TopKLoss(softmax=True, to_onehot_y=True)(*classes))
    with pytest.warns(UserWarning, match="one channel only, include_background=False ignored"):
        TopKLoss(include_background=False)(z[:, :1], t[:, :1])


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("option", [{"fraction": 0.1}, {"count": 5}])
def test_compiles_without_graph_breaks(option, softmax):
    torch.manual_seed(0)
    torch._dynamo.reset()
    loss = TopKLoss(**option, softmax=softmax, to_onehot_y=softmax)
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    for side in (4, 5, 6):
        z = torch.randn(1, 3, side, side)
        t = torch.randint(0, 3, (1, 1, side, side)) if softmax else torch.rand(1, 3, side, side).round()
        torch.testing.assert_close(compiled(z, t), loss(z, t))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0.0}, r"fraction \(0.0\) must be in \(0, 1\]"),
        ({"fraction": 6}, r"fraction \(6\) must be in \(0, 1\]"),
        ({"fraction": math.nan}, r"fraction \(nan\) must be in"),
        ({"fraction": 2.0, "count": 5}, r"fraction \(2.0\) must be in"),
        ({"count": 0}, r"count \(0\) must be a whole number >= 1"),
        ({"count": 0.06}, r"count \(0.06\) must be a whole number >= 1"),
        ({"count": True}, r"count \(True\) must be a whole number >= 1"),
        ({"base": "cee"}, r"unknown base of TopKLoss 'cee'.*did you mean 'ce'"),
        ({"reduction": "none"}, r"unknown reduction 'none', expected one of mean, sum"),
        ({"sigmoid": True, "softmax": True}, "sigmoid=True and softmax=True, expected at most one"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(RequestError, match=message):
        TopKLoss(**options)


@pytest.mark.parametrize(
    ("options", "logits", "target", "message"),
    [
        ({}, (1, 3, 4), (1, 3, 5), "TopKLoss: target shape .* the shapes must be equal"),
        ({}, (2, 3), (2, 3), "with 1 to 3 spatial dimensions"),
        ({"softmax": True}, (1, 1, 4), (1, 1, 4), "softmax=True with one channel"),
    ],
)
def test_shapes_that_do_not_fit(options, logits, target, message):
    with pytest.raises(InputError, match=message):
        TopKLoss(**options)(torch.zeros(logits), torch.zeros(target))


def test_repr_names_what_is_kept():
    assert "fraction=0.06, base=ce, sigmoid" in repr(TopKLoss())
    assert "count=5, base=ce, softmax" in repr(TopKLoss(count=5, softmax=True))
