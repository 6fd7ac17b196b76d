from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses import Branch, CALFLoss, GridCALFLoss
from rarevoxel.statistics import SizeStatistics

SHAPES = {1: (2, 3, 8), 2: (2, 3, 8, 6), 3: (2, 3, 4, 6, 5)}
NAMES = ["fisher", "bce_dice", "log10"]


def scene(shape, dtype=torch.float32):
    torch.manual_seed(0)
    return 2 * torch.randn(shape, dtype=dtype), (torch.rand(shape) < 0.2).to(dtype)


def test_hand_number():
    # p = 1/2 and ln 2 everywhere: FP + FN is 1/2 whatever the target.
    z, t = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    assert GridCALFLoss("ln", grid=(2, 2))(z, t).item() == pytest.approx(1.5 * math.log(2))
    # One cell of four is wrong by almost everything, (1 + 1) * 20; the others are perfect.
    z, t = torch.full((1, 1, 4, 4), -20.0), torch.zeros(1, 1, 4, 4)
    t[..., :2, 2:] = 1
    assert GridCALFLoss("ln", grid=(2, 2))(z, t).item() == pytest.approx(2 * 20 / 4, rel=1e-6)
    assert GridCALFLoss("ln", grid=(1, 1))(z, t).item() == pytest.approx(1.25 * 20 / 4, rel=1e-6)


@pytest.mark.parametrize("variant", ["stable", "published"])
@pytest.mark.parametrize("branch", list(Branch))
def test_one_cell_is_calf_times_its_errors(branch, variant):
    z, t = scene((1, 1, 5, 4, 3), torch.float64)
    p = torch.sigmoid(z)
    weight = 1 + (p * (1 - t)).mean() + ((1 - p) * t).mean()
    expected = weight * CALFLoss(branch, variant)(z, t)
    torch.testing.assert_close(GridCALFLoss(branch, variant=variant, grid=(1, 1, 1))(z, t), expected)


@pytest.mark.parametrize("shape", SHAPES.values())
def test_is_the_mean_over_cells_of_weight_times_loss(shape):
    z, t = scene(shape)
    each = CALFLoss(NAMES, reduction="none")(z, t)
    p = torch.sigmoid(z)
    wrong = p * (1 - t) + (1 - p) * t
    cells = []
    for rows in (slice(0, shape[2] // 2), slice(shape[2] // 2, None)):
        for columns in (slice(0, 3), slice(3, None)) if len(shape) > 3 else (...,):
            here = (slice(None), slice(None), rows, columns)
            spatial = tuple(range(2, z.ndim))
            cells.append((1 + wrong[here].mean(spatial)) * each[here].mean(spatial))
    value = GridCALFLoss(NAMES, grid=(2, 2))(z, t)
    torch.testing.assert_close(value, torch.stack(cells).mean())
    assert value.ndim == 0


def test_fewer_numbers_than_axes_leave_the_last_axes_whole():
    z, t = scene(SHAPES[3])
    torch.testing.assert_close(GridCALFLoss("ln", grid=(2,))(z, t), GridCALFLoss("ln", grid=(2, 1, 1))(z, t))
    torch.testing.assert_close(GridCALFLoss("ln", grid=(2, 3))(z, t), GridCALFLoss("ln", grid=(2, 3, 1))(z, t))
    z, t = scene((1, 1, 8, 8, 3))
    torch.testing.assert_close(GridCALFLoss("ln")(z, t), GridCALFLoss("ln", grid=(4, 4, 1))(z, t))


@pytest.mark.parametrize("shape", [(1, 2, 2, 3), (1, 2, 5, 7, 3), (2, 1, 1, 1, 1)])
def test_any_number_of_voxels_fits_any_number_of_cells(shape):
    z, t = scene(shape)
    z.requires_grad_()
    value = GridCALFLoss("fisher", grid=(4, 4, 2))(z, t)
    value.backward()
    assert torch.isfinite(value)
    assert (z.grad != 0).all()


def test_the_weights_carry_no_gradient():
    z, t = scene((1, 1, 4, 4), torch.float64)
    z.requires_grad_()
    (actual,) = torch.autograd.grad(GridCALFLoss("ln", grid=(2, 2))(z, t), z)
    p = torch.sigmoid(z.detach())
    rates = functional.avg_pool2d(p * (1 - t) + (1 - p) * t, 2)
    weight = 1 + functional.interpolate(rates, scale_factor=2)
    torch.testing.assert_close(actual, weight * (p - t) / 16)


def test_a_cell_with_errors_weighs_more():
    t = torch.zeros(1, 1, 8, 8)
    together, spread = torch.full((1, 1, 8, 8), -20.0), torch.full((1, 1, 8, 8), -20.0)
    together[..., :2, :2] = 20
    spread[..., ::4, ::4] = 20
    plain = CALFLoss("ln")
    torch.testing.assert_close(plain(together, t), plain(spread, t))
    loss = GridCALFLoss("ln", grid=(4, 4))
    assert loss(together, t).item() == pytest.approx(2 * 20 / 16, rel=1e-5)
    assert loss(spread, t).item() == pytest.approx(1.25 * 20 / 16, rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(cells=st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 3])), seed=st.integers(0, 99))
def test_lies_between_calf_and_twice_calf(cells, seed):
    generator = torch.Generator().manual_seed(seed)
    z = 4 * torch.randn(2, 2, 4, 3, generator=generator)
    t = (torch.rand(2, 2, 4, 3, generator=generator) < 0.3).float()
    plain, grid = CALFLoss("bce_dice")(z, t).item(), GridCALFLoss("bce_dice", grid=cells)(z, t).item()
    assert plain < grid < 2 * plain


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("branch", list(Branch))
def test_perfect_is_zero(branch, softmax):
    t = torch.zeros(1, 2, 4, 4, 4)
    t[:, 1, :2, :2, :2] = 1
    t[:, 0] = 1 - t[:, 1]
    assert GridCALFLoss(branch, softmax=softmax)(60 * (2 * t - 1), t).item() == pytest.approx(0, abs=1e-6)


def test_softmax_background_and_class_indices_are_calfs():
    torch.manual_seed(0)
    z, index = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 1, 4, 4))
    options = {"softmax": True, "include_background": False, "to_onehot_y": True}
    p = torch.softmax(z, 1)[:, 1:]
    t = functional.one_hot(index[:, 0], 3).movedim(-1, 1)[:, 1:].float()
    weight = 1 + (p * (1 - t) + (1 - p) * t).mean((2, 3))
    each = CALFLoss(["ln", "arcsine"], reduction="none", **options)(z, index).mean((2, 3))
    torch.testing.assert_close(
        GridCALFLoss(["ln", "arcsine"], grid=(1, 1), **options)(z, index), (weight * each).mean()
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("variant", ["stable", "published"])
@pytest.mark.parametrize("branch", list(Branch))
def test_finite_in_half_precision(branch, variant, dtype):
    for target in (torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 4, 4)):
        z = (6e4 * torch.randn(1, 2, 4, 4).sign()).to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = GridCALFLoss(branch, variant=variant)(z, target)
        value.backward()
        assert value.dtype == torch.float32
        assert torch.isfinite(value)
        assert torch.isfinite(z.grad).all()


def test_from_statistics_makes_a_grid():
    sizes = SizeStatistics.from_sizes([1.0] * 20 + [2.0] * 8 + [30.0, 60.0], bootstrap=0)
    loss = GridCALFLoss.from_statistics({"WT": sizes, "TC": sizes}, grid=(2, 1), region_weight=0.5)
    assert isinstance(loss, GridCALFLoss)
    assert loss.branches == (Branch.LOG10, Branch.LOG10)
    assert (loss.grid, loss.region_weight) == ((2, 1), 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": ()}, r"grid \(\) must be 1 to 3 whole numbers >= 1"),
        ({"grid": (4, 0)}, r"grid \(4, 0\) must be 1 to 3 whole numbers >= 1"),
        ({"grid": (1, 1, 1, 1)}, "must be 1 to 3 whole numbers >= 1"),
        ({"grid": (1.5, 2)}, r"grid \(1.5, 2\) must be 1 to 3 whole numbers >= 1"),
        ({"reduction": "none"}, "reduction 'none' found, expected 'mean'"),
        ({"reduction": "sum"}, "reduction 'sum' found, expected 'mean'"),
        ({"branch": "log11"}, r"unknown CALF branch 'log11'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(RequestError, match=message):
        GridCALFLoss(**options)
    assert GridCALFLoss(reduction="mean").reduction == "mean"


def test_shapes_that_do_not_fit():
    z = torch.zeros(1, 3, 4, 4)
    with pytest.raises(InputError, match=r"target shape \(1, 1, 4, 4\).*the shapes must be equal"):
        GridCALFLoss()(z, z[:, :1])
    with pytest.raises(InputError, match="2 branches for 3 channels"):
        GridCALFLoss(["ln", "ln"])(z, z)


def test_repr_names_the_grid():
    assert repr(GridCALFLoss("ln", grid=[2, 3])).endswith("region_weight=None, grid=(2, 3))")


def test_compiles_without_graph_breaks():
    torch._dynamo.reset()
    z, t = scene((1, 3, 4, 4))
    loss = GridCALFLoss(NAMES, grid=(2, 2))
    torch.testing.assert_close(torch.compile(loss, fullgraph=True, backend="eager")(z, t), loss(z, t))
