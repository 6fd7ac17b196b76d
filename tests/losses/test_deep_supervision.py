from __future__ import annotations

import math

import pytest
import torch
from monai.losses import DeepSupervisionLoss as MonaiDeepSupervisionLoss
from monai.losses import DiceCELoss, DiceLoss
from monai.networks.nets import DynUNet
from torch import nn

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses import CALFLoss
from rarevoxel.losses.deep_supervision import DeepSupervisionLoss


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Seen(nn.Module):
    """Keeps the targets it was given, and returns the logits' first value."""

    def __init__(self):
        super().__init__()
        self.targets = []

    def forward(self, logits, target):
        self.targets.append(target)
        return logits.flatten()[0]


def _heads(channels=3, sizes=(16, 8, 4, 2), dtype=torch.float32, batch=1):
    torch.manual_seed(0)
    return [torch.randn(batch, channels, n, n, n, dtype=dtype) for n in sizes]


def test_default_weights_are_halved_and_sum_to_one():
    heads = [torch.full((1, 1, n), float(value)) for n, value in ((8, 1), (4, 10), (2, 100))]
    loss = DeepSupervisionLoss(Seen())(heads, torch.zeros(1, 1, 8))
    assert loss.item() == pytest.approx((4 * 1 + 2 * 10 + 1 * 100) / 7)
    for count in (1, 2, 5):
        same = [torch.full((1, 1, 8), 3.0)] * count
        assert DeepSupervisionLoss(Seen())(same, torch.zeros(1, 1, 8)).item() == pytest.approx(3)


def test_given_weights_are_used_as_they_are_and_a_zero_skips_its_output():
    heads = [torch.full((1, 1, n), value) for n, value in ((8, 1.0), (4, math.nan), (2, 100.0))]
    seen = Seen()
    loss = DeepSupervisionLoss(seen, weights=(2, 0, 0.5))(heads, torch.zeros(1, 1, 8))
    assert loss.item() == pytest.approx(52)
    assert len(seen.targets) == 2


def test_nearest_equals_monai():
    heads = _heads()
    target = (torch.rand(1, 3, 16, 16, 16) < 0.3).float()
    ours = DeepSupervisionLoss(DiceLoss(sigmoid=True), (1, 0.5, 0.25, 0.125), downsample="nearest")(heads, target)
    torch.testing.assert_close(ours, MonaiDeepSupervisionLoss(DiceLoss(sigmoid=True))(heads, target))


def test_one_tensor_is_the_loss_itself_whatever_the_weights():
    z, target = _heads(sizes=(8,))[0], (torch.rand(1, 3, 8, 8, 8) < 0.3).float()
    expected = DiceLoss(sigmoid=True)(z, target)
    for weights in (None, (3.0, 1.0)):
        assert DeepSupervisionLoss(DiceLoss(sigmoid=True), weights)(z, target) == expected
    torch.testing.assert_close(DeepSupervisionLoss(DiceLoss(sigmoid=True))([z], target), expected)


def test_stacked_outputs_equal_the_sequence():
    torch.manual_seed(0)
    stacked = torch.randn(2, 3, 4, 6, 5, 4)
    target = (torch.rand(2, 4, 6, 5, 4) < 0.3).float()
    loss = DeepSupervisionLoss(CALFLoss("ln"))
    parts = [CALFLoss("ln")(stacked[:, i], target) for i in range(3)]
    torch.testing.assert_close(loss(stacked, target), (4 * parts[0] + 2 * parts[1] + parts[2]) / 7)
    torch.testing.assert_close(loss(stacked, target), loss(list(stacked.unbind(1)), target))
    index = torch.randint(0, 4, (2, 1, 6, 5, 4))
    loss = DeepSupervisionLoss(DiceCELoss(softmax=True, to_onehot_y=True))
    torch.testing.assert_close(loss(stacked, index), loss(tuple(stacked.unbind(1)), index))


def test_trains_a_dynunet_and_validates_it():
    torch.manual_seed(0)
    strides = [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]]
    network = DynUNet(
        3, 2, 3, [3] * 4, strides, strides[1:], filters=[2, 2, 2, 4], deep_supervision=True, deep_supr_num=2
    )
    image, target = torch.randn(2, 2, 16, 16, 16), (torch.rand(2, 3, 16, 16, 16) < 0.1)
    loss = DeepSupervisionLoss(CALFLoss("bce_dice"))
    outputs = network.train()(image)
    assert outputs.shape == (2, 3, 3, 16, 16, 16)
    loss(outputs, target).backward()
    heads = [parameter.grad for name, parameter in network.named_parameters() if "deep_supervision_heads" in name]
    assert heads
    assert all(grad is not None and grad.abs().sum() > 0 for grad in heads)
    with torch.no_grad():
        output = network.eval()(image)
        assert loss(output, target) == CALFLoss("bce_dice")(output, target)


@pytest.mark.parametrize("sizes", [(16, 8, 4, 2, 1), (16, 7, 5, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.bool, torch.float16])
def test_a_lesion_of_one_voxel_survives_at_every_depth(dtype, sizes):
    for voxel in ((0, 0, 0), (15, 7, 2), (9, 9, 9)):
        target = torch.zeros(1, 3, 16, 16, 16, dtype=dtype)
        target[(0, 1, *voxel)] = 1
        seen = Seen()
        DeepSupervisionLoss(seen)(_heads(sizes=sizes), target)
        for size, small in zip(sizes, seen.targets, strict=True):
            assert small.shape == (1, 3, size, size, size)
            assert small[:, [0, 2]].sum() == 0
            at = tuple(math.floor(i * size / 16) for i in voxel)
            assert small[(0, 1, *at)] == 1
        if 16 % sizes[-1] == 0:
            assert [small.sum() for small in seen.targets] == [1] * len(sizes)


def test_nearest_loses_it():
    target = torch.zeros(1, 3, 16, 16, 16, dtype=torch.uint8)
    target[0, 1, 9, 9, 8] = 1
    seen = Seen()
    DeepSupervisionLoss(seen, downsample="nearest")(_heads(), target)
    assert [int(small.sum()) for small in seen.targets] == [1, 0, 0, 0]


def test_max_pooling_in_one_and_two_dimensions_and_of_soft_targets():
    seen = Seen()
    target = torch.tensor([[[0.0, 0.2, 0.7, 0.0, 0.0, 0.0]]])
    DeepSupervisionLoss(seen)([torch.zeros(1, 1, 6), torch.zeros(1, 1, 3), torch.zeros(1, 1, 2)], target)
    torch.testing.assert_close(seen.targets[1], torch.tensor([[[0.2, 0.7, 0.0]]]))
    torch.testing.assert_close(seen.targets[2], torch.tensor([[[0.7, 0.0]]]))
    seen = Seen()
    target = torch.eye(4)[None, None]
    DeepSupervisionLoss(seen)([torch.zeros(1, 1, 2, 2)] * 2, target)
    torch.testing.assert_close(seen.targets[0], torch.eye(2)[None, None])


def _indices():
    """Class 3 is one voxel in a window of 2s; 1 and 2 share a window; a last window is background."""
    index = torch.zeros(1, 1, 16, dtype=torch.long)
    index[..., 0:4] = torch.tensor([2, 2, 3, 2])
    index[..., 4:8] = torch.tensor([1, 2, 0, 0])
    index[..., 8:12] = torch.tensor([0, 0, 0, 2])
    return index


def test_class_indices_keep_the_rarest_foreground_class():
    seen = Seen()
    DeepSupervisionLoss(seen)([torch.zeros(1, 4, 16), torch.zeros(1, 4, 4)], _indices())
    assert seen.targets[0].equal(_indices())
    assert seen.targets[1].tolist() == [[[3, 1, 2, 0]]], "a maximum of indices would be 3, 2, 2, 0"


def test_background_loses_however_rare_and_equally_rare_classes_go_to_the_higher_index():
    index = torch.tensor([[[1, 1, 1, 2, 2, 2, 0, 1], [1, 2, 2, 2, 0, 0, 0, 0]]]).transpose(0, 1)
    seen = Seen()
    DeepSupervisionLoss(seen)([torch.zeros(2, 4, 2)] * 2, index)
    # Rarity is counted in each sample by itself: 2 is the rarer class in the first, 1 in the second.
    assert seen.targets[0].tolist() == [[[2, 2]], [[1, 0]]]
    DeepSupervisionLoss(seen)([torch.zeros(1, 3, 2)] * 2, torch.tensor([[[1, 2, 0, 0]]]))
    assert seen.targets[2].tolist() == [[[2, 0]]]


def test_class_indices_reach_the_loss_at_every_depth():
    heads, index = _heads(4), torch.randint(0, 4, (1, 1, 16, 16, 16))
    loss = DiceCELoss(softmax=True, to_onehot_y=True)
    value = DeepSupervisionLoss(loss)(heads, index)
    seen = Seen()
    DeepSupervisionLoss(seen)(heads, index)
    parts = [loss(head, small) for head, small in zip(heads, seen.targets, strict=True)]
    torch.testing.assert_close(value, sum(w * part for w, part in zip((8, 4, 2, 1), parts, strict=True)) / 15)
    assert {int(small.max()) for small in seen.targets} <= {0, 1, 2, 3}
    assert torch.isfinite(DeepSupervisionLoss(loss, downsample="nearest")(heads, index))


def test_exclusive_one_hot_stays_one_hot():
    index = _indices()
    one_hot = nn.functional.one_hot(index[:, 0], 4).movedim(-1, 1)
    heads = [torch.zeros(1, 4, 16), torch.zeros(1, 4, 4)]
    plain, exclusive = Seen(), Seen()
    DeepSupervisionLoss(plain)(heads, one_hot)
    DeepSupervisionLoss(exclusive, exclusive=True)(heads, one_hot)
    assert plain.targets[1].sum(1).max() > 1
    assert exclusive.targets[1].sum(1).eq(1).all()
    assert exclusive.targets[1].argmax(1).tolist() == [[3, 1, 2, 0]]


def test_gradcheck_in_float64():
    heads = [head.requires_grad_() for head in _heads(2, (4, 2), torch.float64)]
    target = (torch.rand(1, 2, 4, 4, 4) < 0.2).double()
    loss = DeepSupervisionLoss(CALFLoss("bce_dice"))
    assert loss(heads, target).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda *outputs: loss(outputs, target), heads)


def test_half_precision_and_empty_targets_are_finite():
    heads = [head.bfloat16().requires_grad_() for head in _heads()]
    loss = DeepSupervisionLoss(CALFLoss("bce_dice"))(heads, torch.zeros(1, 3, 16, 16, 16))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(head.grad).all() for head in heads)


def test_the_wrapped_loss_is_a_submodule_and_a_function_will_do():
    assert list(DeepSupervisionLoss(DiceLoss()).children())
    loss = DeepSupervisionLoss(nn.functional.mse_loss)
    assert loss(torch.ones(1, 2, 1, 4), torch.zeros(1, 1, 4)).item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"downsample": "mean"}, "unknown downsample 'mean', expected one of max, nearest"),
        ({"weights": (1.0, -0.5)}, r"weights \(\(1.0, -0.5\)\) must be finite and >= 0, and not all 0"),
        ({"weights": (0.0, 0.0)}, "must be finite and >= 0, and not all 0"),
        ({"weights": ()}, "must be finite and >= 0, and not all 0"),
        ({"weights": (1.0, math.nan)}, "must be finite and >= 0, and not all 0"),
        ({"weights": (1.0, math.inf)}, "must be finite and >= 0, and not all 0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(RequestError, match=message):
        DeepSupervisionLoss(DiceLoss(), **options)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (torch.zeros(1, 8, 8), r"one output of shape \(1, 8, 8\) for a target of shape \(1, 1, 8, 8\)"),
        (torch.zeros(1, 1, 1, 1, 8, 8), "expected B C H"),
        (torch.zeros(1, 0, 1, 8, 8), r"one output of shape \(1, 0, 1, 8, 8\)"),
        ([], r"outputs \[\] for a target"),
        ([torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 4)], r"outputs \[\(1, 1, 8, 8\), \(1, 1, 4\)\]"),
        ([torch.zeros(1, 1, 8, 8), 3.0], "<class 'float'>"),
        (torch.zeros(1, 1, 8, 16), r"an output of \(8, 16\) voxels for a target of \(8, 8\)"),
    ],
)
def test_outputs_that_do_not_fit(outputs, message):
    with pytest.raises(InputError, match=message):
        DeepSupervisionLoss(DiceLoss(sigmoid=True))(outputs, torch.zeros(1, 1, 8, 8))


def test_weights_that_do_not_fit_the_outputs():
    with pytest.raises(InputError, match="2 weights for 3 outputs, expected one per output"):
        DeepSupervisionLoss(DiceLoss(sigmoid=True), (1, 0.5))(torch.zeros(1, 3, 1, 8, 8), torch.zeros(1, 1, 8, 8))


def test_repr_names_the_options():
    assert "weights=None, downsample=max, exclusive=False" in repr(DeepSupervisionLoss(DiceLoss()))
