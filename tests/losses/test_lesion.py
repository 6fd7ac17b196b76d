from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.losses import DiceLoss

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses.lesion import LesionDiceLoss, voronoi_lesions
from rarevoxel.losses.soft_dice import soft_dice

SMOOTH = 1e-5


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _components(mask):
    """Lesions of a mask as lists of voxels, by flooding in plain Python."""
    left, lesions = {tuple(voxel) for voxel in np.argwhere(mask)}, []
    while left:
        lesion, front = [], [left.pop()]
        while front:
            voxel = front.pop()
            lesion.append(voxel)
            near = {other for other in left if max(abs(a - b) for a, b in zip(voxel, other, strict=True)) == 1}
            left -= near
            front.extend(near)
        lesions.append(np.array(lesion))
    return lesions


def _distances(mask, spacing):
    """Distance of each voxel to each lesion, `lesions H [W D]`, by comparing all pairs."""
    grid = np.stack(np.indices(mask.shape), axis=-1)[..., None, :]
    return np.stack(
        [np.sqrt((((grid - lesion) * np.asarray(spacing)) ** 2).sum(-1)).min(-1) for lesion in _components(mask)]
    )


def _scene(seed, shape=(9, 8, 7), spacing=None):
    """A random mask of several lesions, and probabilities that are 0 where two lesions are equally near."""
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < 0.02
    mask[(slice(2),) * min(2, len(shape))] = True
    p = rng.random(shape)
    distances = np.sort(_distances(mask, spacing or (1.0,) * len(shape)), axis=0)
    if len(distances) > 1:
        p[np.isclose(distances[0], distances[1]) & ~mask] = 0
    return mask, p


def _logits(p):
    return torch.logit(torch.from_numpy(p)[None, None]).clamp(-800, 800)


def _brute_force(mask, p, spacing):
    owner = _distances(mask, spacing).argmin(0)
    dice = []
    for lesion in range(owner.max() + 1):
        here = owner == lesion
        shared, size = (p * mask)[here].sum(), p[here].sum() + mask[here].sum()
        dice.append(1 - (2 * shared + SMOOTH) / (size + SMOOTH))
    return np.mean(dice)


@pytest.mark.parametrize("spacing", [None, (1.0, 1.0, 5.0), (0.7, 2.0, 1.3)])
@pytest.mark.parametrize("seed", range(4))
def test_against_brute_force(seed, spacing):
    mask, p = _scene(seed, spacing=spacing)
    expected = _brute_force(mask, p, spacing or (1, 1, 1))
    loss = LesionDiceLoss(spacing=spacing)(_logits(p), torch.from_numpy(mask)[None, None])
    assert len(_components(mask)) > 3
    assert loss.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("shape", [(40,), (14, 13)])
def test_against_brute_force_in_fewer_dimensions(shape):
    mask, p = _scene(5, shape)
    loss = LesionDiceLoss()(_logits(p), torch.from_numpy(mask)[None, None])
    assert loss.item() == pytest.approx(_brute_force(mask, p, (1,) * len(shape)), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), density=st.sampled_from([0.01, 0.05, 0.3]), depth=st.sampled_from([0.5, 1.0, 4.0]))
def test_every_voxel_goes_to_a_nearest_lesion(seed, density, depth):
    mask = np.random.default_rng(seed).random((6, 5, 5)) < density
    labels, count = voronoi_lesions(mask, (1.0, 1.0, depth))
    lesions = _components(mask)
    assert count == len(lesions)
    assert labels.dtype == np.int32
    if not count:
        assert not labels.any()
        return
    distances = _distances(mask, (1.0, 1.0, depth))
    names = [int(labels[tuple(lesion[0])]) for lesion in lesions]
    assert sorted(names) == list(range(1, count + 1))
    for lesion, name in zip(lesions, names, strict=True):
        assert (labels[tuple(lesion.T)] == name).all()
    own = np.take_along_axis(distances, np.argsort(names)[labels - 1][None], axis=0)[0]
    np.testing.assert_allclose(own, distances.min(0))


def test_spacing_moves_the_border():
    mask = np.zeros((3, 9))
    mask[0, 0] = mask[2, 8] = 1
    assert voronoi_lesions(mask)[0][2, 3] == 1
    assert voronoi_lesions(mask, (9.0, 1.0))[0][2, 3] == 2


def test_lesions_touch_by_corners():
    mask = np.zeros((3, 3, 3))
    mask[0, 0, 0] = mask[1, 1, 1] = 1
    assert voronoi_lesions(mask)[1] == 1
    assert voronoi_lesions(mask[0] + mask[1])[1] == 1
    mask[1, 1, 1], mask[2, 2, 2] = 0, 1
    assert voronoi_lesions(mask)[1] == 2


def _large_and_tiny():
    target = torch.zeros(1, 1, 20, 12, 12)
    target[..., 1:11, 1:11, 1:11] = 1
    target[..., 17, 5, 5] = 1
    large, tiny = target.clone(), target.clone()
    large[..., 17, 5, 5] = 0
    tiny[..., :11, :, :] = 0
    return target, large, tiny


def test_a_tiny_lesion_weighs_as_much_as_a_large_one():
    target, large, tiny = _large_and_tiny()
    for found in (large, tiny):
        assert LesionDiceLoss()(200 * (found - 0.5), target).item() == pytest.approx(0.5, abs=1e-4)
    plain = DiceLoss(sigmoid=True)
    assert plain(200 * (large - 0.5), target).item() < 1e-3, "Dice hardly notices the tiny one"
    assert plain(200 * (tiny - 0.5), target).item() > 0.99


def test_a_false_positive_counts_against_the_nearest_lesion_only():
    target, _, _ = _large_and_tiny()
    found = target.clone()
    found[..., 19, 11, 11] = 1
    # The tiny lesion alone: one voxel of two, Dice 2 / 3.
    assert LesionDiceLoss()(200 * (found - 0.5), target).item() == pytest.approx(0.5 * (1 - 2 / 3), abs=1e-4)


def test_perfect_prediction_is_zero_and_worse_is_more():
    target, _, _ = _large_and_tiny()
    values = [LesionDiceLoss()(k * (2 * target - 1), target).item() for k in (60.0, 6.0, 2.0, 0.0, -2.0)]
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values == sorted(values)


@pytest.mark.parametrize("lesion", [None, (slice(2, 5), slice(1, 3), slice(0, 4)), (0, 0, 0)])
def test_one_lesion_or_none_is_soft_dice_of_the_image(lesion):
    torch.manual_seed(0)
    z, t = torch.randn(2, 2, 6, 5, 4), torch.zeros(2, 2, 6, 5, 4)
    if lesion is not None:
        t[(slice(None), slice(None), *lesion)] = 1
    expected = soft_dice(torch.sigmoid(z), t).flatten(1)
    torch.testing.assert_close(LesionDiceLoss(reduction="none")(z, t), expected)
    torch.testing.assert_close(LesionDiceLoss()(z, t), DiceLoss(sigmoid=True)(z, t))


def test_empty_target():
    t = torch.zeros(1, 1, 4, 4, 4)
    assert LesionDiceLoss()(torch.full_like(t, -80), t).item() == pytest.approx(0, abs=1e-6)
    z = torch.full_like(t, -3).requires_grad_()
    loss = LesionDiceLoss(smooth_nr=1, smooth_dr=1)(z, t)
    loss.backward()
    assert 0 < loss < 1
    assert (z.grad > 0).all(), "false positives are pushed down"


def test_samples_and_channels_are_judged_one_by_one():
    scenes = [_scene(seed) for seed in range(6)]
    z = torch.cat([_logits(p) for _, p in scenes]).view(2, 3, 9, 8, 7)
    t = torch.stack([torch.from_numpy(mask) for mask, _ in scenes]).view(2, 3, 9, 8, 7)
    z[0, 1], t[0, 1] = 0, False
    each = LesionDiceLoss(reduction="none")(z, t)
    apart = [
        [LesionDiceLoss()(z[b : b + 1, c : c + 1], t[b : b + 1, c : c + 1]).item() for c in range(3)] for b in range(2)
    ]
    torch.testing.assert_close(each, torch.tensor(apart, dtype=torch.float64))
    torch.testing.assert_close(LesionDiceLoss()(z, t), each.mean())
    torch.testing.assert_close(LesionDiceLoss(reduction="sum")(z, t), each.sum())
    order = [2, 0, 1]
    torch.testing.assert_close(LesionDiceLoss(reduction="none")(z[:, order], t[:, order]), each[:, order])


def test_order_of_the_lesions_does_not_matter():
    mask, p = _scene(3)
    z, t = _logits(p), torch.from_numpy(mask)[None, None]
    expected = LesionDiceLoss()(z, t)
    for axes in ((2,), (3, 4), (2, 3, 4)):
        torch.testing.assert_close(LesionDiceLoss()(z.flip(axes), t.flip(axes)), expected)
    turned = LesionDiceLoss()(z.permute(0, 1, 4, 2, 3), t.permute(0, 1, 4, 2, 3))
    torch.testing.assert_close(turned, expected)


def test_soft_targets_have_their_lesions_above_one_half():
    t = torch.zeros(1, 1, 12, dtype=torch.float64)
    t[..., 1:3], t[..., 6], t[..., 9:11] = 0.9, 0.4, 0.6
    z = torch.randn(1, 1, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels, count = voronoi_lesions(t[0, 0].numpy() > 0.5)
    assert count == 2
    p, parts = torch.sigmoid(z), [torch.from_numpy(labels == k) for k in (1, 2)]
    expected = torch.stack([soft_dice(p[..., part], t[..., part]) for part in parts]).mean()
    torch.testing.assert_close(LesionDiceLoss()(z, t), expected)
    exact = LesionDiceLoss()(torch.logit(t.clamp(1e-12, 1)), t)
    assert exact.item() == pytest.approx(0, abs=1e-6)


def test_gradcheck_with_two_lesions_one_and_none():
    torch.manual_seed(0)
    z = torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    t = torch.zeros(1, 3, 4, 4, dtype=torch.float64)
    t[0, 0, 0, 0] = t[0, 0, 3, 2] = t[0, 0, 3, 3] = t[0, 1, 1, 1] = 1
    for softmax in (False, True):
        loss = LesionDiceLoss(softmax=softmax, smooth_nr=0.1, smooth_dr=0.1)
        assert torch.autograd.gradcheck(lambda x, loss=loss: loss(x, t), (z,))


def test_the_gradient_on_a_lesion_does_not_depend_on_the_size_of_the_others():
    target, _, _ = _large_and_tiny()
    alone = torch.zeros_like(target)
    alone[..., 17, 5, 5] = alone[..., 5, 5, 5] = 1
    grads = []
    for t in (target, alone):
        z = torch.full_like(t, -8).requires_grad_()
        LesionDiceLoss()(z, t).backward()
        grads.append(z.grad[..., 17, 5, 5].item())
    assert grads[0] == pytest.approx(grads[1], rel=0.2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("softmax", [False, True])
def test_value_and_gradient_are_finite(dtype, softmax):
    torch.manual_seed(0)
    t = (torch.rand(2, 3, 6, 6, 6) < 0.05).to(dtype)
    t[0, 0], t[1, 1] = 0, 1
    for scale in (6e4, 17.0, 0.0):
        z = (scale * torch.randn(t.shape).sign()).to(dtype).requires_grad_()
        loss = LesionDiceLoss(softmax=softmax)(z, t)
        loss.backward()
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss)
        assert torch.isfinite(z.grad).all()


def test_small_values_are_not_lost_in_a_large_sum():
    # A sum in float32, one voxel after the other, makes this 2 % too small.
    t = torch.zeros(1, 1, 1 << 20)
    t[..., :1000], t[..., -1000:] = 1, 1
    z = torch.where(t > 0, 10.0, -7.5)
    exact = LesionDiceLoss()(z.double(), t)
    torch.testing.assert_close(LesionDiceLoss()(z, t).double(), exact, rtol=1e-4, atol=0)


def test_class_indices_softmax_and_background():
    torch.manual_seed(0)
    z, index = torch.randn(2, 3, 5, 6), torch.randint(0, 3, (2, 1, 5, 6))
    one_hot = torch.nn.functional.one_hot(index[:, 0], 3).movedim(-1, 1)
    each = LesionDiceLoss(softmax=True, reduction="none")
    options = {"softmax": True, "to_onehot_y": True, "include_background": False, "reduction": "none"}
    torch.testing.assert_close(LesionDiceLoss(**options)(z, index), each(z, one_hot)[:, 1:])
    p = torch.softmax(z.double(), 1)
    torch.testing.assert_close(each(z.double(), one_hot), LesionDiceLoss(reduction="none")(torch.logit(p), one_hot))


def test_any_target_type_and_no_gradient_into_the_target():
    target, _, _ = _large_and_tiny()
    z = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    expected = LesionDiceLoss(sigmoid=True)(z, target)
    for other in (target.bool(), target.to(torch.uint8), target.double(), target.clone().requires_grad_()):
        torch.testing.assert_close(LesionDiceLoss()(z, other), expected)
    torch.testing.assert_close(torch.as_tensor(LesionDiceLoss()(MetaTensor(z), MetaTensor(target))).float(), expected)


def test_six_channels_of_several_lesions_take_well_under_a_tenth_of_a_second():
    rng = np.random.default_rng(0)
    t = torch.zeros(2, 3, 48, 48, 48)
    for b, c, _ in np.ndindex(2, 3, 5):
        i, j, k = rng.integers(0, 42, 3)
        t[b, c, i : i + 4, j : j + 5, k : k + 3] = 1
    z = torch.randn(t.shape).requires_grad_()
    seconds = []
    for _ in range(3):
        start = time.process_time()
        LesionDiceLoss()(z, t).backward()
        seconds.append(time.process_time() - start)
    # Processor time, and generous: alone it takes about 0.07 s.
    assert min(seconds) < 0.5


def test_single_channel_ignores_background_and_one_hot_with_a_warning():
    z, t = torch.zeros(1, 1, 4), torch.ones(1, 1, 4)
    with pytest.warns(UserWarning, match="include_background=False ignored"):
        assert LesionDiceLoss(include_background=False)(z, t) == LesionDiceLoss()(z, t)
    with pytest.warns(UserWarning, match="to_onehot_y=True ignored"):
        assert LesionDiceLoss(to_onehot_y=True)(z, t) == LesionDiceLoss()(z, t)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigmoid": True, "softmax": True}, "sigmoid=True and softmax=True, expected at most one"),
        ({"reduction": "avg"}, "unknown reduction 'avg', expected one of mean, sum, none"),
        ({"smooth_dr": 0.0}, r"smooth_nr \(1e-05\) and smooth_dr \(0.0\) must be > 0"),
        ({"spacing": (1.0, 0.0)}, r"spacing \(\(1.0, 0.0\)\) must be finite numbers > 0"),
        ({"spacing": ()}, r"spacing \(\(\)\) must be finite numbers > 0"),
        ({"spacing": (1.0, math.nan)}, "must be finite numbers > 0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(RequestError, match=message):
        LesionDiceLoss(**options)


@pytest.mark.parametrize(
    ("options", "logits", "target", "message"),
    [
        ({}, (1, 3, 4), (1, 3, 5), r"LesionDiceLoss: target shape \(1, 3, 5\).*the shapes must be equal"),
        ({"softmax": True}, (1, 1, 4), (1, 1, 4), "softmax=True with one channel"),
        ({"spacing": (1.0, 1.0)}, (1, 1, 4), (1, 1, 4), "2 spacings for 1 spatial dimensions"),
    ],
)
def test_shapes_that_do_not_fit(options, logits, target, message):
    with pytest.raises(InputError, match=message):
        LesionDiceLoss(**options)(torch.zeros(logits), torch.zeros(target))


def test_voronoi_of_wrong_arguments():
    with pytest.raises(RequestError, match=r"spacing \(\[1.0\]\) must be 2 finite numbers > 0"):
        voronoi_lesions(np.ones((2, 2)), [1.0])
    with pytest.raises(RequestError, match="must be 1 finite numbers > 0"):
        voronoi_lesions(np.ones(2), [-1.0])
    with pytest.raises(InputError, match="the mask is a single number"):
        voronoi_lesions(np.array(1))


def test_repr_names_the_options():
    assert "sigmoid, spacing=(1.0, 2.0)" in repr(LesionDiceLoss(spacing=[1, 2]))
