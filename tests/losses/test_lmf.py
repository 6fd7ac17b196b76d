from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import FocalLoss
from torch.nn import functional

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses.lmf import CosineHead, LMFLoss, margins

COUNTS = [90_000, 900, 90]
PAIRS = [(900, 100), (990, 10), (999, 1)]


@pytest.fixture
def classes():
    """Logits of three classes and class indices, float64."""
    torch.manual_seed(0)
    return 2 * torch.randn(2, 3, 4, 5, 3, dtype=torch.float64), torch.randint(0, 3, (2, 1, 4, 5, 3))


def one_hot(index, classes=3):
    return functional.one_hot(index[:, 0], classes).movedim(-1, 1).double()


def ldam_by_hand(z, index, margin, scale):
    """Lower the logit of the true class by its margin, then cross-entropy weighted by the margin."""
    lowered = z.clone()
    m = margin.double()
    lowered.scatter_add_(1, index, -m[index])
    return m[index[:, 0]] * functional.cross_entropy(scale * lowered, index[:, 0], reduction="none")


def test_margins_are_the_published_ones():
    torch.testing.assert_close(margins([99.5, 0.5]), torch.tensor([0.133, 0.5]), rtol=0, atol=5e-4)
    torch.testing.assert_close(margins([16, 1, 81]), torch.tensor([0.25, 0.5, 0.5 / 3]))
    torch.testing.assert_close(margins([16, 1, 81], max_margin=3.0), torch.tensor([1.5, 3.0, 1.0]))


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(1, 10**9), min_size=2, max_size=5),
    factor=st.sampled_from([1e-12, 0.5, 7.0, 1e12]),
    data=st.data(),
)
def test_margins_depend_on_ratios_only_and_follow_the_classes(counts, factor, data):
    m = margins(counts)
    assert m.max().item() == 0.5
    assert (m > 0).all()
    torch.testing.assert_close(margins([n * factor for n in counts]), m)
    order = data.draw(st.permutations(range(len(counts))))
    torch.testing.assert_close(margins([counts[i] for i in order]), m[list(order)])


def test_a_class_without_voxels_counts_as_one_voxel():
    torch.testing.assert_close(margins([16, 0, 81]), margins([16, 1, 81]))
    torch.testing.assert_close(margins([0.9, 0.1, 0.0]), margins([0.9, 0.1, 0.1]))
    torch.testing.assert_close(margins([[16, 0], [0.5, 0]]), torch.tensor([[0.25, 0.5], [0.5, 0.5]]))
    loss = LMFLoss([16, 0, 81], softmax=True)(torch.randn(1, 3, 4), torch.ones(1, 3, 4) / 3)
    assert torch.isfinite(loss)


def test_margins_of_pairs_mappings_and_arrays():
    pairs = margins(PAIRS)
    for row, pair in zip(pairs, PAIRS, strict=True):
        torch.testing.assert_close(row, margins(pair))
    named = {"background": 90_000, "edema": 900, "necrosis": 90}
    for counts in (named, np.array(COUNTS), torch.tensor(COUNTS)):
        torch.testing.assert_close(margins(counts), margins(COUNTS))


def test_hand_number():
    # One voxel of class 1, logits 0 and 0.3; counts 16 to 1: margins 0.25 and 0.5; s = 2.
    z = torch.tensor([[[0.0], [0.3]]])
    t = torch.tensor([[[0.0], [1.0]]])
    ldam = 0.5 * math.log1p(math.exp(-2 * (0.3 - 0.5)))
    q = 1 / (1 + math.exp(-0.3))
    focal = 0.5 * (1 - q) ** 1.5 * -math.log(q)
    loss = LMFLoss([16, 1], softmax=True, scale=2.0)
    assert loss(z, t).item() == pytest.approx(1.5 * ldam + focal, rel=1e-5)
    ldam = 0.25 * math.log1p(math.exp(2 * (0.3 + 0.25)))
    focal = 0.25 * q**1.5 * -math.log(1 - q)
    assert loss(z, 1 - t).item() == pytest.approx(1.5 * ldam + focal, rel=1e-5)


@pytest.mark.parametrize("scale", [30.0, 2.0])
def test_without_beta_it_is_ldam(classes, scale):
    z, index = classes
    loss = LMFLoss(COUNTS, alpha=0.7, beta=0, scale=scale, softmax=True, to_onehot_y=True, reduction="none")(z, index)
    expected = 0.7 * ldam_by_hand(z, index, margins(COUNTS), scale)
    assert loss.shape == (2, 1, 4, 5, 3)
    torch.testing.assert_close(loss[:, 0], expected)


def test_without_alpha_it_is_focal(classes):
    z, index = classes
    options = {"alpha": 0, "beta": 2.0, "gamma": 1.5, "softmax": True, "to_onehot_y": True}
    # MONAI's mean is over voxels and channels.
    plain = FocalLoss(gamma=1.5, use_softmax=True)(z, one_hot(index)) * 3
    torch.testing.assert_close(LMFLoss(COUNTS, **options, weighted=False)(z, index).float(), 2 * plain)
    weights = margins(COUNTS).double()
    weighted = (FocalLoss(gamma=1.5, use_softmax=True, reduction="none")(z, one_hot(index)).sum((0, 2, 3, 4))) * weights
    torch.testing.assert_close(
        LMFLoss(COUNTS, **options)(z, index), 2 * weighted.sum() / index.numel(), rtol=1e-5, atol=0
    )


def test_focal_without_gamma_is_weighted_cross_entropy(classes):
    z, index = classes
    loss = LMFLoss(COUNTS, alpha=0, gamma=0, softmax=True, to_onehot_y=True, reduction="sum")(z, index)
    expected = functional.cross_entropy(z, index[:, 0], weight=margins(COUNTS).double(), reduction="sum")
    torch.testing.assert_close(loss, expected)


def test_ldam_without_margin_is_cross_entropy_of_the_scaled_logits(classes):
    z, index = classes
    options = {"alpha": 1, "beta": 0, "scale": 5.0, "max_margin": 1e-12, "weighted": False}
    loss = LMFLoss(COUNTS, **options, softmax=True, to_onehot_y=True)(z, index)
    torch.testing.assert_close(loss, functional.cross_entropy(5 * z, index[:, 0]))
    t = one_hot(index)
    loss = LMFLoss(PAIRS, **options, sigmoid=True)(z, t)
    torch.testing.assert_close(loss, functional.binary_cross_entropy_with_logits(5 * z, t))


@pytest.mark.parametrize("weighted", [True, False])
def test_sigmoid_is_softmax_over_zero_and_z(classes, weighted):
    z, t = classes[0], one_hot(classes[1])
    sigmoid = LMFLoss(PAIRS, sigmoid=True, weighted=weighted, reduction="none")(z, t)
    for c, pair in enumerate(PAIRS):
        logits = torch.cat([torch.zeros_like(z[:, :1]), z[:, c : c + 1]], dim=1)
        both = torch.cat([1 - t[:, c : c + 1], t[:, c : c + 1]], dim=1)
        softmax = LMFLoss(pair, softmax=True, weighted=weighted, reduction="none")(logits, both)
        torch.testing.assert_close(sigmoid[:, c : c + 1], softmax)
        alone = LMFLoss(pair, weighted=weighted)(z[:, c : c + 1], t[:, c : c + 1])
        torch.testing.assert_close(alone, softmax.mean())


def test_permuting_the_classes_changes_nothing(classes):
    z, t = classes[0], one_hot(classes[1])
    order = [2, 0, 1]
    one = LMFLoss(COUNTS, softmax=True)(z, t)
    torch.testing.assert_close(LMFLoss([COUNTS[i] for i in order], softmax=True)(z[:, order], t[:, order]), one)
    one = LMFLoss(PAIRS)(z, t)
    torch.testing.assert_close(LMFLoss([PAIRS[i] for i in order])(z[:, order], t[:, order]), one)


@pytest.mark.parametrize("softmax", [False, True])
def test_soft_targets_mix_the_losses(classes, softmax):
    z, t = classes[0], one_hot(classes[1])
    other = t.roll(1, dims=1)
    loss = LMFLoss(COUNTS if softmax else PAIRS, softmax=softmax, reduction="none")
    torch.testing.assert_close(loss(z, 0.3 * t + 0.7 * other), 0.3 * loss(z, t) + 0.7 * loss(z, other))


def test_a_larger_margin_is_a_larger_loss(classes):
    z, t = classes[0], one_hot(classes[1])
    for softmax, counts in ((True, COUNTS), (False, PAIRS)):
        options = {"softmax": softmax, "reduction": "none", "beta": 0, "weighted": False}
        small, large = (LMFLoss(counts, max_margin=m, **options)(z, t) for m in (0.2, 0.5))
        assert (large > small).all()
    # The rare class pays more than the frequent one for the same mistake.
    z = torch.zeros(1, 2, 2)
    t = torch.eye(2)[None]
    frequent, rare = LMFLoss([1000, 1], softmax=True, weighted=False, reduction="none")(z, t)[0, 0]
    assert rare > frequent


@pytest.mark.parametrize("softmax", [False, True])
def test_perfect_prediction_is_zero_and_worse_is_more(softmax):
    t = torch.zeros(1, 2, 4)
    t[0, 0, :3] = 1
    t[0, 1, 3:] = 1
    loss = LMFLoss([9, 1] if softmax else [(9, 1), (1, 9)], softmax=softmax)
    values = [loss(k * (2 * t - 1), t).item() for k in (60.0, 4.0, 1.0, -1.0, -4.0)]
    assert values[0] == pytest.approx(0, abs=1e-12)
    assert values == sorted(values)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("softmax", [False, True])
def test_gradcheck(softmax, gamma):
    torch.manual_seed(0)
    z = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    t = torch.softmax(torch.randn(2, 2, 3, dtype=torch.float64), dim=1)
    loss = LMFLoss([9, 1] if softmax else [(9, 1), (1, 9)], softmax=softmax, gamma=gamma, scale=3.0)
    assert torch.autograd.gradcheck(lambda x: loss(x, t), (z,))


@pytest.mark.parametrize("fill", [0.0, 1.0, None])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("softmax", [False, True])
def test_value_and_gradient_are_finite_at_extreme_logits(softmax, dtype, fill):
    torch.manual_seed(0)
    t = torch.rand(2, 2, 40).round() if fill is None else torch.full((2, 2, 40), fill)
    loss = LMFLoss([9, 1] if softmax else [(9, 1), (1, 9)], softmax=softmax, gamma=0.5)
    for scale in (6e4, 1e3, 17.0, 0.0):
        z = (scale * torch.randn(2, 2, 40).sign()).to(dtype).requires_grad_()
        value = loss(z, t.to(dtype))
        value.backward()
        assert value.dtype == torch.float32
        assert torch.isfinite(value)
        assert torch.isfinite(z.grad).all()


def test_gradient_is_bounded_by_the_scale():
    z = torch.full((1, 1, 1), -100.0, requires_grad=True)
    LMFLoss((9, 1), weighted=False, beta=0, alpha=1.0)(z, torch.ones(1, 1, 1)).backward()
    assert z.grad.item() == pytest.approx(-30)


@pytest.mark.parametrize("softmax", [False, True])
def test_reductions_agree(classes, softmax):
    z, t = classes[0], one_hot(classes[1])
    counts = COUNTS if softmax else PAIRS
    each = LMFLoss(counts, softmax=softmax, reduction="none")(z, t)
    assert each.shape == (2, 1 if softmax else 3, 4, 5, 3)
    torch.testing.assert_close(LMFLoss(counts, softmax=softmax, reduction="sum")(z, t), each.sum())
    torch.testing.assert_close(LMFLoss(counts, softmax=softmax)(z, t), each.mean())


def test_background_can_be_left_out_of_sigmoid_channels_only(classes):
    z, t = classes[0], one_hot(classes[1])
    expected = LMFLoss(PAIRS[1:])(z[:, 1:], t[:, 1:])
    torch.testing.assert_close(LMFLoss(PAIRS[1:], include_background=False)(z, t), expected)
    with pytest.warns(UserWarning, match="softmax needs the background, include_background=False ignored"):
        loss = LMFLoss(COUNTS, softmax=True, include_background=False)
    torch.testing.assert_close(loss(z, t), LMFLoss(COUNTS, softmax=True)(z, t))
    with pytest.warns(UserWarning, match="one channel only, include_background=False ignored"):
        LMFLoss(PAIRS[0], include_background=False)(z[:, :1], t[:, :1])


def test_margins_are_no_part_of_a_checkpoint_and_follow_the_type():
    assert not LMFLoss(COUNTS, softmax=True).state_dict()
    assert LMFLoss(COUNTS, softmax=True).to(torch.float64).margin.dtype == torch.float64


@pytest.mark.parametrize("softmax", [False, True])
def test_compiles_without_graph_breaks(softmax):
    torch.manual_seed(0)
    torch._dynamo.reset()
    loss = LMFLoss(COUNTS if softmax else PAIRS, softmax=softmax, to_onehot_y=softmax)
    z = torch.randn(1, 3, 4, 4)
    t = torch.randint(0, 3, (1, 1, 4, 4)) if softmax else torch.rand(1, 3, 4, 4).round()
    torch.testing.assert_close(torch.compile(loss, fullgraph=True, backend="eager")(z, t), loss(z, t))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigmoid": True, "softmax": True}, "sigmoid=True and softmax=True, expected at most one"),
        ({"reduction": "avg"}, r"unknown reduction 'avg', expected one of mean, sum, none"),
        ({"alpha": -1.0}, r"alpha \(-1.0\) must be >= 0"),
        ({"beta": math.nan}, r"beta \(nan\) must be >= 0"),
        ({"gamma": math.inf}, r"gamma \(inf\) must be >= 0 and finite"),
        ({"alpha": 0, "beta": 0}, "alpha and beta are 0"),
        ({"scale": 0.0}, r"scale \(0.0\) must be > 0"),
        ({"max_margin": 0.0}, r"max_margin \(0.0\) must be > 0"),
        ({"max_margin": math.nan}, r"max_margin \(nan\) must be > 0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(RequestError, match=message):
        LMFLoss([9, 1], **options)


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ([9, 3, 1], {}, r"counts of shape \(3,\), expected a pair per channel without softmax"),
        ([[[9, 1]]], {}, r"counts of shape \(1, 1, 2\), expected a pair per channel"),
        ([[9, 1], [8, 2]], {"softmax": True}, r"counts of shape \(2, 2\), expected one per class with softmax"),
        ([9], {"softmax": True}, "expected at least two classes"),
        ([0, 0], {}, "expected at least one class with a voxel"),
        ([[9, 1], [0, 0]], {}, "expected at least one class with a voxel"),
        ([9, -1], {}, "expected finite numbers >= 0"),
        ([(math.inf, 1)], {}, "expected finite numbers >= 0"),
    ],
)
def test_wrong_counts(counts, options, message):
    with pytest.raises(InputError, match=message):
        LMFLoss(counts, **options)


@pytest.mark.parametrize(
    ("counts", "options", "channels", "message"),
    [
        ([9, 1], {"softmax": True}, 3, "counts of 2 channels for 3 channels"),
        ([9, 1], {"softmax": True}, 1, "counts of 2 channels for 1 channels"),
        ([9, 1], {}, 3, "counts of 1 channels for 3 channels"),
        ([(9, 1)] * 3, {"include_background": False}, 3, "counts of 3 channels for 2 channels"),
    ],
)
def test_counts_that_do_not_fit_the_logits(counts, options, channels, message):
    with pytest.raises(InputError, match=message):
        LMFLoss(counts, **options)(torch.zeros(1, channels, 4), torch.zeros(1, channels, 4))


def test_shapes_that_do_not_fit():
    with pytest.raises(InputError, match=r"LMFLoss: target shape .* the shapes must be equal"):
        LMFLoss([9, 1])(torch.zeros(1, 1, 4), torch.zeros(1, 1, 5))


def test_repr_names_the_options():
    assert "alpha=1.5, beta=1.0, gamma=1.5, scale=30.0, softmax" in repr(LMFLoss([9, 1], softmax=True))


@pytest.mark.parametrize("shape", [(2, 5, 7), (2, 5, 4, 3), (2, 5, 4, 3, 2)])
def test_cosine_head_gives_cosines(shape):
    torch.manual_seed(0)
    head, x = CosineHead(5, 3), 10 * torch.randn(shape)
    z = head(x)
    assert z.shape == (2, 3, *shape[2:])
    for c in range(3):
        direction = head.weight[c].reshape(1, -1, *(1,) * (len(shape) - 2))
        torch.testing.assert_close(z[:, c], functional.cosine_similarity(x, direction, dim=1))
    assert z.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(head(7 * x), z)
    along = head.weight[1].detach().reshape(1, 5, 1)
    assert head(along)[0, 1].item() == pytest.approx(1)
    assert head(-along)[0, 1].item() == pytest.approx(-1)


def test_cosine_head_bounds_the_slope_where_there_are_no_features():
    head, x = CosineHead(4, 2), torch.zeros(1, 4, 3, requires_grad=True)
    z = head(x)
    z.sum().backward()
    assert torch.equal(z, torch.zeros(1, 2, 3))
    assert torch.isfinite(head.weight.grad).all()
    assert x.grad.norm(dim=1).max() <= 2 * 1e3 + 1


def test_cosine_head_stays_in_float32():
    torch.manual_seed(0)
    head, x = CosineHead(64, 3), torch.randn(1, 64, 9).bfloat16()
    expected = head(x.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(head(x), expected)
    assert head(x.double()).dtype == torch.float64


def test_cosine_head_learns_with_the_loss():
    torch.manual_seed(0)
    index = (torch.arange(200) < 20).long()[None]
    head, x = CosineHead(4, 2), torch.randn(1, 4, 200)
    x[:, 0] += 12.0 * index - 6.0
    t = functional.one_hot(index, 2).movedim(-1, 1)
    loss = LMFLoss(t.sum((0, 2)), softmax=True)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        value = loss(head(x), t)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0] / 10
    assert torch.equal(head(x).argmax(dim=1), index)


def test_cosine_head_compiles_without_graph_breaks():
    torch._dynamo.reset()
    head, x = CosineHead(5, 3), torch.randn(1, 5, 4, 4)
    torch.testing.assert_close(torch.compile(head, fullgraph=True, backend="eager")(x), head(x))


@pytest.mark.parametrize("channels", [(0, 2), (2, 0)])
def test_cosine_head_without_channels(channels):
    with pytest.raises(RequestError, match=r"in_channels .* and num_classes .* must be >= 1"):
        CosineHead(*channels)


@pytest.mark.parametrize("shape", [(1, 4, 3), (1, 5)])
def test_cosine_head_with_other_features(shape):
    with pytest.raises(InputError, match=r"CosineHead: features of shape .*, expected B 5 H"):
        CosineHead(5, 2)(torch.zeros(shape))
