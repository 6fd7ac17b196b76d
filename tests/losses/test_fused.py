"""Fused losses give the plain losses' values and gradients, keep next to nothing, and step aside where they must."""

from __future__ import annotations

import itertools
import logging

import pytest
import torch
from fused_pairs import check, pair
from monai.data import MetaTensor

from rarevoxel.errors import InputError
from rarevoxel.losses import Branch, CALFLoss, CompoundLoss, TermOptions, fused, fused_passes
from rarevoxel.losses.fused import fused_way, use_fused

SUMS = ("dice_focal", "dice_ce", "focal", "dice+0.5*focal+2*ce", "dice+0.5*bce+tversky")
MIXED = ("log10", "fisher", "arcsine", "logit")


pytestmark = pytest.mark.usefixtures("small_chunks")


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_sums_equal_the_plain_ones(name, activation):
    kinds = ("mask", "soft", "empty", "classes")
    for kind, channels, background, soft in itertools.product(kinds, (2, 3), (True, False), (True, False)):
        options = TermOptions(activation, background, soft)
        check(CompoundLoss(name, options, to_onehot_y=kind == "classes"), *pair(channels, kind))


@pytest.mark.parametrize("branch", [*(b.value for b in Branch), MIXED])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_calf_equals_the_plain_one(branch, activation):
    for kind, weight, background in itertools.product(("mask", "soft", "classes"), (None, 0.5), (True, False)):
        channels = 4 + (not background) if branch == MIXED else 3
        options = {activation: True, "include_background": background, "to_onehot_y": kind == "classes"}
        loss = CALFLoss(branch, region_weight=weight, reduction="sum" if weight else "mean", smooth_nr=1e-3, **options)
        check(loss, *pair(channels, kind))


@pytest.mark.parametrize("loss", [CompoundLoss("dice_focal"), CALFLoss("fisher")])
def test_one_channel_and_any_dimension(loss):
    for shape in ((11,), (4, 9), (3, 4, 5)):
        check(loss, *pair(1, "mask", shape))
        check(loss, *pair(3, "mask", shape, samples=1))


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_any_type_of_target_and_logits(activation):
    loss = CompoundLoss("dice_focal", TermOptions(activation))
    z, t = pair(3, "one-hot")
    for dtype in (torch.bool, torch.uint8, torch.int64, torch.float16, torch.float64):
        check(loss, z, t.to(dtype))
    for dtype, rtol in ((torch.float64, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 1e-2)):
        check(loss, z.to(dtype), t, rtol)
    classes = CompoundLoss("dice_focal", TermOptions(activation), to_onehot_y=True)
    z, t = pair(3, "classes")
    for dtype in (torch.uint8, torch.float32, torch.int32):
        check(classes, z, t.to(dtype))


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_channels_last_autocast_and_meta_tensors(activation):
    loss = CompoundLoss("dice_ce", TermOptions(activation))
    z, t = pair(3, "one-hot")
    last = z.contiguous(memory_format=torch.channels_last_3d)
    check(loss, last, t)
    check(loss, z, t[:, :, ::2].repeat_interleave(2, 2)[:, :, :5])
    with torch.autocast("cpu", torch.bfloat16):
        check(loss, z, t)
    torch.testing.assert_close(loss(z, MetaTensor(t)), loss(z, t))
    torch.testing.assert_close(loss(MetaTensor(z), t), loss(z, t))


@pytest.mark.parametrize("far", [30.0, 200.0, 6e4])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_far_logits_stay_finite_and_equal(far, activation):
    z, t = pair(3, "one-hot")
    z = far * z.sign()
    for loss in (
        CompoundLoss("dice_focal", TermOptions(activation)),
        CompoundLoss("dice_ce", TermOptions(activation)),
        *(CALFLoss(branch, **{activation: True}) for branch in Branch),
    ):
        # The plain softmax adds logarithms of 2 and 3 to logits of 6e4, which float32 holds to 0.004.
        check(loss, z, t, 1e-2 if far > 1e4 and activation == "softmax" else 1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        CompoundLoss("dice_focal+ce"),
        CompoundLoss("dice_focal+ce", TermOptions("softmax", False)),
        CompoundLoss("dice", TermOptions("softmax", soft_label=True)),
        CALFLoss(MIXED, region_weight=0.7),
        CALFLoss(MIXED[:3], softmax=True, include_background=False),
    ],
)
def test_gradcheck(loss):
    for kind in ("mask", "soft"):
        z, t = pair(4, kind, (4,), dtype=torch.float64)
        t = t.double()
        with use_fused(False):
            expected = loss(z, t).double()
        torch.testing.assert_close(loss(z, t), expected, rtol=1e-6, atol=0)
        assert torch.autograd.gradcheck(lambda x, t=t: loss(x, t), (z.requires_grad_(),))


def test_zero_logits_have_the_right_slope():
    z = torch.zeros(1, 2, 8, dtype=torch.float64, requires_grad=True)
    t = torch.zeros(1, 2, 8, dtype=torch.float64)
    CompoundLoss("ce")(z, t).backward()
    torch.testing.assert_close(z.grad, torch.full_like(z, 0.5 / 16))


def test_the_minimum_has_half_a_slope_where_both_are_equal():
    z, t = torch.zeros(1, 2, 8), torch.full((1, 2, 8), 0.5)
    for loss in (CompoundLoss("dice", TermOptions(soft_label=True)), CALFLoss("fisher")):
        check(loss, z, t)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_only_the_arguments_and_a_few_numbers_are_kept(activation):
    for loss in (CompoundLoss("dice_focal", TermOptions(activation)), CALFLoss("bce_dice", **{activation: True})):
        z, t = pair(4, "one-hot", (16, 16, 16), dtype=torch.bfloat16)
        z.requires_grad_()
        kept = []

        def keep(tensor, kept=kept):
            kept.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            value = loss(z, t)
        beyond = [k for k in kept if k.data_ptr() not in (z.data_ptr(), t.data_ptr())]
        assert len(beyond) < len(kept)
        assert sum(k.nbytes for k in beyond) < 1024
        value.backward()


def test_scaled_and_repeated_backward():
    loss = CompoundLoss("dice_focal")
    z, t = pair(3, "mask")
    z.requires_grad_()
    value = loss(z, t)
    once = torch.autograd.grad(value, z, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(-3 * value, z)[0], -3 * once)


def test_class_indices_without_a_channel_are_named():
    z, t = pair(3, "classes")
    t[1, 0, 0, 0, :2] = 7
    for loss in (CompoundLoss("dice_ce", to_onehot_y=True), CALFLoss("ln", softmax=True, to_onehot_y=True)):
        with pytest.raises(InputError, match=r"2 voxels of a sample hold no class index from 0 to 2 \(.*3 channels"):
            loss(z, t)


def test_the_plain_loss_does_what_is_not_fused(monkeypatch):
    def never(*args):
        raise AssertionError("fused")

    for module in ("rarevoxel.losses.calf", "rarevoxel.losses.compound"):
        monkeypatch.setattr(f"{module}.fused_loss", never)
    z, t = pair(3, "soft")
    CALFLoss("ln", variant="published")(z, t)
    CALFLoss("ln", reduction="none")(z, t)
    CompoundLoss("tversky")(z, t)
    CompoundLoss("dice_focal")(z, t.clone().requires_grad_())
    with pytest.warns(UserWarning, match="one channel only, include_background=False ignored"):
        CALFLoss("ln", include_background=False)(z[:, :1], t[:, :1])
    many = torch.zeros(1, fused.MOST_CHANNELS + 1, 4)
    CALFLoss("ln")(many, many)
    with use_fused(least=z.numel() + 1):
        CompoundLoss("dice_focal")(z, t)
    with pytest.raises(AssertionError, match="fused"):
        CompoundLoss("dice_focal")(z, t)


def test_the_switch(monkeypatch):
    z = t = torch.zeros(1, 2, 8)
    assert fused_way(z, t) == "chunked"
    with use_fused(False):
        assert fused_way(z, t) is None
        with use_fused(True, least=17):
            assert fused_way(z, t) is None
        with use_fused(True, compiled=True, least=16):
            assert fused_way(z, t) == ("compiled" if fused_passes.can_compile(z.device) else "chunked")
            monkeypatch.setattr(fused_passes, "_failed", {"cpu"})
            assert fused_way(z, t) == "chunked"
        assert fused_way(z, t) is None
    assert fused_way(z, t) == "chunked"


def test_the_rule_is_one_of_size(monkeypatch):
    monkeypatch.setattr(fused, "_switch", fused._Switch())
    monkeypatch.setattr(fused, "can_compile", lambda device: True)
    sizes = (2**22 - 1, 2**22, 2**24 - 1, 2**24)

    def ways():
        return [fused_way(torch.empty(1, 1, n, device="meta"), torch.empty(1, 1, n, device="meta")) for n in sizes]

    assert ways() == [None, "compiled", "compiled", "compiled"]
    monkeypatch.setattr(fused, "can_compile", lambda device: False)
    assert ways() == [None, None, None, "chunked"]


def test_without_a_compiler_it_goes_on(monkeypatch, caplog):
    monkeypatch.setattr(fused_passes, "_failed", set())

    def broken(*args):
        raise RuntimeError("no g++ today\nmore")

    monkeypatch.setattr(fused_passes, "_compiled", broken)
    z, t = pair(3, "mask")
    z.requires_grad_()
    with use_fused(True, compiled=True), caplog.at_level(logging.WARNING):
        value = CompoundLoss("dice_focal")(z, t)
        value.backward()
    assert caplog.messages == ["fused losses on cpu go on without a compiler: no g++ today"]
    torch.testing.assert_close(value, CompoundLoss("dice_focal")(z, t))
    assert not fused_passes.can_compile(z.device)


FULL_GRAPH = {
    **{name: CompoundLoss(name) for name in ("dice_focal", "dice_ce", "focal")},
    "softmax dice_focal": CompoundLoss("dice_focal", TermOptions("softmax", False)),
    "indices": CompoundLoss("dice_ce", TermOptions("softmax"), to_onehot_y=True),
    "calf": CALFLoss(["log10", "fisher", "arcsine"]),
    "calf softmax": CALFLoss("bce_dice", softmax=True),
}
QUICK = ("dice_focal", "calf")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FULL_GRAPH]
)
def test_one_graph_without_breaks(name):
    loss = FULL_GRAPH[name]
    z, t = pair(3, "classes" if name == "indices" else "mask")
    expected = loss(z.requires_grad_(), t)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    with use_fused(True, least=10**9):
        value = compiled(z, t)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(torch.autograd.grad(value, z), torch.autograd.grad(expected, z))


@pytest.mark.slow
@pytest.mark.skipif(not fused_passes.can_compile(torch.device("cpu")), reason="no C++ compiler")
@pytest.mark.parametrize("name", FULL_GRAPH)
def test_compiled_sweeps_equal_the_plain_loss(name):
    loss = FULL_GRAPH[name]
    for shape in ((5, 7, 3), (9, 8, 6)):
        z, t = pair(3, "classes" if name == "indices" else "mask", shape)
        with use_fused(True, compiled=True):
            assert fused_way(z, t) == "compiled"
            check(loss, z, t)
            check(loss, z.contiguous(memory_format=torch.channels_last_3d), t)
    assert fused_passes.can_compile(z.device), "the compiler gave up"
