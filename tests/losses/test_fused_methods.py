"""LMF, the unified focal loss and top-k give in two sweeps what they give in torch's operators, gradients too."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from fused_pairs import both, check, pair
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from rarevoxel.errors import InputError
from rarevoxel.losses import LMFLoss, TopKLoss, UnifiedFocalLoss, fused_passes
from rarevoxel.losses.fused import fused_way, use_fused
from rarevoxel.losses.fused_powers import power
from rarevoxel.losses.fused_top_k import STEP, hardest

pytestmark = pytest.mark.usefixtures("small_chunks")

COUNTS = {"softmax": [900.0, 90.0, 9.0, 1.0], "sigmoid": [(100.0, 1.0), (9.0, 1.0), (1.0, 4.0), (50.0, 2.0)]}
KINDS = ("mask", "soft", "empty", "full", "one-hot", "classes")
ACTIVATIONS = ("sigmoid", "softmax")


def lmf(activation, channels=3, **options):
    return LMFLoss(COUNTS[activation][:channels], **{activation: True}, **options)


def unified(activation, **options):
    return UnifiedFocalLoss(**{activation: True}, **options)


def top_k(activation, **options):
    return TopKLoss(**{activation: True}, **options)


def exact(loss, z, t):
    """In float64 the two ways agree to round-off, and in float32 the fused one is as near to that as float32 allows."""
    (plain, plain_grad), (value, grad) = both(loss, z.double(), t)
    torch.testing.assert_close(value, plain, rtol=1e-10, atol=1e-14)
    scale = max(float(plain_grad.abs().max()), 1 / z.numel())
    torch.testing.assert_close(grad, plain_grad, rtol=0, atol=1e-10 * scale)
    single = z.float().requires_grad_()
    value = loss(single, t)
    value.backward()
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), plain, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(single.grad.double(), plain_grad, rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_lmf(activation, scale):
    weights = ((1.5, 1.0), (0.0, 1.0), (2.0, 0.0))
    for kind, gamma, (alpha, beta) in itertools.product(KINDS, (0.3, 1.5), weights):
        weighted = gamma > 1
        options = {"alpha": alpha, "beta": beta, "gamma": gamma, "scale": scale, "weighted": weighted}
        loss = lmf(activation, **options, to_onehot_y=kind == "classes", reduction="mean" if weighted else "sum")
        z, t = pair(3, kind, (5, 4))
        # Scaled by 30 the logits hold 1e-5 in float32 before anything is computed.
        exact(loss, (z * 64).round() / 64 if scale > 1 else z, t)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("asymmetric", [True, False])
def test_unified_focal(activation, asymmetric):
    for kind, gamma, weight in itertools.product(KINDS, (0.0, 0.5, 0.7), (0.0, 0.4)):
        options = {"gamma": gamma, "weight": weight, "delta": 0.7, "smooth": 1e-3, "asymmetric": asymmetric}
        loss = unified(activation, **options, to_onehot_y=kind == "classes", include_background=gamma > 0)
        exact(loss, *pair(3, kind, (5, 4)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_top_k(activation):
    for kind, fraction in itertools.product(KINDS, (0.04, 0.5, 1.0)):
        if kind == "classes" and activation == "sigmoid":
            continue
        exact(top_k(activation, fraction=fraction, to_onehot_y=kind == "classes"), *pair(3, kind, (9, 8)))
    exact(top_k(activation, count=2, reduction="sum"), *pair(3, "mask", (5, 4)))


@pytest.mark.parametrize("make", [lmf, unified, top_k])
def test_types_layouts_and_dimensions(make):
    for activation in ACTIVATIONS:
        loss = make(activation)
        z, t = pair(3, "one-hot")
        for dtype in (torch.bool, torch.uint8, torch.int64, torch.float16, torch.float64):
            check(loss, z / 8, t.to(dtype), 4e-6)
        for dtype, rtol in ((torch.float16, 2e-3), (torch.bfloat16, 2e-2)):
            if make is top_k:  # So few digits make equals, of which the plain loss takes any.
                torch.testing.assert_close(*(value for value, _ in both(loss, (z / 8).to(dtype), t)))
            else:
                check(loss, (z / 8).to(dtype), t, rtol)
        check(loss, (z / 8).contiguous(memory_format=torch.channels_last_3d), t, 4e-6)
        with torch.autocast("cpu", torch.bfloat16):
            check(loss, z / 8, t, 4e-6)
        torch.testing.assert_close(loss(MetaTensor(z), MetaTensor(t)), loss(z, t))
        for shape in ((11,), (4, 9)):
            check(loss, *(x / d for x, d in zip(pair(3, "one-hot", shape, samples=1), (8, 1), strict=True)), 4e-6)


@pytest.mark.parametrize("far", [30.0, 200.0, 6e4])
def test_far_logits_stay_finite(far):
    for make, activation in itertools.product((lmf, unified, top_k), ACTIVATIONS):
        z, t = pair(3, "one-hot")
        (plain, _), (value, grad) = both(make(activation), far * z.sign(), t)
        torch.testing.assert_close(value, plain, rtol=1e-5, atol=1e-6)
        assert bool(grad.isfinite().all())


def test_a_perfect_prediction_costs_nothing_and_has_a_finite_slope():
    for make, activation in itertools.product((lmf, unified, top_k), ACTIVATIONS):
        _, t = pair(3, "one-hot")
        z = (400 * t - 200).requires_grad_()
        value = make(activation)(z, t)
        value.backward()
        assert float(value) < 1e-5
        assert bool(z.grad.isfinite().all())


@pytest.mark.parametrize("make", [lmf, unified, top_k])
def test_gradcheck(make):
    for activation, kind in itertools.product(ACTIVATIONS, ("mask", "soft")):
        z, t = pair(3, kind, (4,), dtype=torch.float64)
        loss = make(activation)
        assert torch.autograd.gradcheck(lambda x, loss=loss, t=t: loss(x, t.double()), (z.requires_grad_(),))


@pytest.mark.parametrize("make", [lmf, unified, top_k])
def test_next_to_nothing_is_kept(make):
    for activation in ACTIVATIONS:
        z, t = pair(3, "one-hot", (16, 16, 16))
        z.requires_grad_()
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, kept=kept: kept.append(x) or x, lambda x: x):
            value = make(activation)(z, t)
        beyond = [k for k in kept if k.data_ptr() not in (z.data_ptr(), t.data_ptr())]
        assert 0 < sum(k.nbytes for k in beyond) < 1024
        value.backward()


def test_the_plain_loss_does_what_is_not_fused(monkeypatch):
    def never(*args):
        raise AssertionError("fused")

    for name in ("lmf.fused_loss", "unified_focal.fused_loss", "top_k.top_k_loss"):
        monkeypatch.setattr(f"rarevoxel.losses.{name}", never)
    z, t = pair(3, "soft")
    for loss in (
        lmf("sigmoid", reduction="none"),
        lmf("sigmoid", scale=30.0, max_margin=2.1),
        unified("sigmoid", reduction="none"),
        unified("softmax", reduction="sum"),
    ):
        loss(z, t)
    top_k("sigmoid", include_background=False)(z, t)
    for make in (lmf, unified, top_k):
        with use_fused(False):
            make("sigmoid")(z, t)
        with pytest.raises(AssertionError, match="fused"):
            make("sigmoid")(z, t)


def test_class_indices_without_a_channel_are_named():
    z, t = pair(3, "classes")
    t[1, 0, 0, 0, :2] = 7
    for make in (lmf, unified, top_k):
        with pytest.raises(InputError, match=r"2 voxels of a sample hold no class index from 0 to 2 \(.*3 channels"):
            make("softmax", to_onehot_y=True)(z, t)


def test_powers():
    x = torch.tensor([0.0, 1e-6, 0.3, 1.0], dtype=torch.float64)
    for gamma in (0, 0.5, 1, 1.5, 2, 0.3, 2.7, 5):
        torch.testing.assert_close(power(x, gamma), x**gamma, rtol=1e-12, atol=1e-8)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40 * STEP), st.floats(0, 1), st.sampled_from(["smooth", "ties", "zeros", "sparse"]))
def test_the_hardest_are_those_of_a_sort(voxels, part, kind):
    rng = np.random.default_rng(voxels)
    values = rng.exponential(size=voxels).astype(np.float32)
    if kind == "ties":
        values = np.round(values)
    elif kind == "zeros":
        values[:] = 0
    elif kind == "sparse":
        values[np.arange(voxels) % STEP != 1] = 0
    kept = max(1, round(part * voxels))
    total, low, high, above, equal = hardest(torch.from_numpy(values), kept)
    assert total == pytest.approx(float(np.sort(values.astype(np.float64))[-kept:].sum()), rel=1e-6)
    shares = above * np.count_nonzero(values > high) + equal * np.count_nonzero((values >= low) & (values <= high))
    assert shares == pytest.approx(kept)
    assert 0 < equal <= 1


def test_equals_share_what_is_left():
    z = torch.tensor([[[3.0, 1.0, 1.0, 1.0, 0.0]]], requires_grad=True)
    loss = TopKLoss(count=2)(z, torch.zeros(1, 1, 5))
    loss.backward()
    slope = torch.sigmoid(z.detach()) / 2
    torch.testing.assert_close(z.grad, slope * torch.tensor([1, 1 / 3, 1 / 3, 1 / 3, 0]))


@pytest.mark.slow
@pytest.mark.skipif(not fused_passes.can_compile(torch.device("cpu")), reason="no C++ compiler")
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("make", [lmf, unified, top_k])
def test_compiled_sweeps_equal_the_plain_loss(make, activation):
    loss = make(activation)
    for shape in ((5, 7, 3), (9, 8, 7)):  # With (9, 8, 6) two losses tie for the last place, which the fused shares.
        z, t = pair(3, "one-hot", shape)
        with use_fused(True, compiled=True):
            assert fused_way(z, t) == "compiled"
            check(loss, z / 8, t, 4e-6)
    assert fused_passes.can_compile(z.device), "the compiler gave up"
