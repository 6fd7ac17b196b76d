from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses.weights import WEIGHT_KINDS, class_weights, read_counts

COUNTS = st.lists(st.integers(0, 10**9), min_size=2, max_size=6).filter(any)


def close(weights, expected):
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float32), rtol=0, atol=2e-5)


def test_kinds_are_the_documented_ones():
    assert WEIGHT_KINDS == (
        "uniform",
        "balanced",
        "exp_rising",
        "exp_falling",
        "novel",
        "novel_foreground",
        "binary",
    )


# f = 0.8, 0.15, 0.05; g = 0.75, 0.25; exp(e f) = 8.79935, 1.50340, 1.14559; exp(-e g) = 0.13019, 0.50684.
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("uniform", [1 / 3, 1 / 3, 1 / 3]),
        ("balanced", [1.25 / 27.91667, 6.66667 / 27.91667, 20 / 27.91667]),
        ("exp_rising", [8.79935 / 11.44834, 1.50340 / 11.44834, 1.14559 / 11.44834]),
        ("exp_falling", [0.11364 / 1.65171, 0.66516 / 1.65171, 0.87291 / 1.65171]),
        ("novel", [0.11364 / 0.75067, 0.13019 / 0.75067, 0.50684 / 0.75067]),
        ("novel_foreground", [0, 0.13019 / 0.63703, 0.50684 / 0.63703]),
        ("binary", [0.2 / 1.8, 0.8 / 1.8, 0.8 / 1.8]),
    ],
)
def test_hand_numbers(kind, expected):
    close(class_weights([800, 150, 50], kind), expected)
    close(class_weights([0.8, 0.15, 0.05], kind), expected)


def test_novel_is_the_default():
    torch.testing.assert_close(class_weights([800, 150, 50]), class_weights([800, 150, 50], "novel"))


def test_published_novel_weights_of_conic():
    # Published for seven classes: background 0.0228, foreground 0.039 to 0.220. Inverting exp(-e f) and exp(-e g):
    background = math.log(0.220 / 0.0228) / math.e  # f_bg - min g
    spread = math.log(0.220 / 0.039) / math.e  # max g - min g
    rarest = 0.006
    middle = [0.18, 0.13, 0.03]
    shares = [rarest + spread, *middle, 1 - spread - 2 * rarest - sum(middle), rarest]
    assert sum(shares) == pytest.approx(1)
    f_bg = background + rarest
    weights = class_weights([f_bg, *((1 - f_bg) * g for g in shares)], "novel")
    assert weights.shape == (7,)
    assert round(weights[0].item(), 4) == pytest.approx(0.0228)
    assert round(weights[1:].min().item(), 3) == pytest.approx(0.039)
    assert round(weights[1:].max().item(), 3) == pytest.approx(0.220)


@pytest.mark.parametrize("kind", WEIGHT_KINDS)
@settings(max_examples=50, deadline=None)
@given(counts=COUNTS, factor=st.sampled_from([1e-9, 0.5, 3.0, 1e20, 1e299]))
def test_weights_sum_to_one_and_only_ratios_matter(kind, counts, factor):
    weights = class_weights(counts, kind)
    assert weights.dtype == torch.float32
    assert weights.shape == (len(counts),)
    assert (weights >= 0).all()
    assert weights.double().sum().item() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(class_weights([n * factor for n in counts], kind), weights)


@pytest.mark.parametrize("kind", WEIGHT_KINDS)
@settings(max_examples=30, deadline=None)
@given(counts=COUNTS, data=st.data())
def test_permuting_the_foreground_permutes_the_weights(kind, counts, data):
    order = [0, *data.draw(st.permutations(range(1, len(counts))))]
    torch.testing.assert_close(class_weights([counts[i] for i in order], kind), class_weights(counts, kind)[order])


@pytest.mark.parametrize("kind", ["balanced", "exp_falling", "novel", "novel_foreground"])
def test_rarer_foreground_weighs_more(kind):
    weights = class_weights([10_000, 500, 300, 100, 7], kind)[1:]
    assert (weights.diff() > 0).all()


def test_rising_weighs_frequent_classes_more():
    assert (class_weights([10_000, 500, 300, 100, 7], "exp_rising").diff() < 0).all()


@pytest.mark.parametrize("kind", ["uniform", "balanced", "exp_rising", "exp_falling"])
def test_background_is_a_class_like_any_other_in_the_plain_kinds(kind):
    weights = class_weights([800, 150, 50], kind)
    torch.testing.assert_close(class_weights([50, 800, 150], kind), weights[[2, 0, 1]])


def test_novel_tells_rare_classes_apart_where_falling_does_not():
    counts = [10**7, 900, 100]
    falling, novel = class_weights(counts, "exp_falling"), class_weights(counts, "novel")
    assert (falling[2] / falling[1]).item() == pytest.approx(1, abs=1e-3)
    assert (novel[2] / novel[1]).item() == pytest.approx(math.exp(0.8 * math.e), rel=1e-5)


def test_a_class_without_voxels():
    close(class_weights([80, 0, 20], "balanced"), [0.2, 0, 0.8])
    close(class_weights([1, 0, 0], "balanced"), [1, 0, 0])
    close(class_weights([1, 0, 0], "novel_foreground"), [0, 0.5, 0.5])
    close(class_weights([0, 1, 1], "binary"), [1, 0, 0])
    for kind in WEIGHT_KINDS:
        for counts in ([80, 0, 20], [1, 0, 0], [0, 1, 1], [0, 1, 0], [1e308, 5e-324, 1e308], [1, 1e-310, 1]):
            assert torch.isfinite(class_weights(counts, kind)).all()


@pytest.mark.parametrize(
    "counts",
    [
        (800, 150, 50),
        np.array([800, 150, 50]),
        np.array([0.8, 0.15, 0.05], dtype=np.float32),
        torch.tensor([800, 150, 50]),
        torch.tensor([800.0, 150, 50], requires_grad=True),
        torch.tensor([800, 150, 50], dtype=torch.bfloat16),
        {"background": 800, "edema": 150, "necrosis": 50},
    ],
)
def test_anything_that_counts(counts):
    rtol = 1e-2 if getattr(counts, "dtype", None) == torch.bfloat16 else 1e-6
    torch.testing.assert_close(class_weights(counts), class_weights([800, 150, 50]), rtol=rtol, atol=0)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([0, 0, 0], r"class_weights: counts \[0.0, 0.0, 0.0\], expected at least one class with a voxel"),
        ([5, -1], "expected finite numbers >= 0"),
        ([5, math.nan], "expected finite numbers >= 0"),
        ([5, math.inf], "expected finite numbers >= 0"),
        ([5], r"counts of shape \(1,\), expected at least two classes"),
        (5, "expected at least two classes"),
        ([], "expected at least two classes"),
        ({}, "expected at least two classes"),
        ([[5, 1], [3, 2]], r"counts of shape \(2, 2\), expected one number per class"),
        ([[5, 1], [3]], "are not numbers of voxels"),
        (["a", "b"], "are not numbers of voxels"),
        (None, "expected at least two classes"),
        ({"edema": 5, "background": 90}, "counts of edema, background, expected the background first"),
    ],
)
def test_counts_that_are_none(counts, message):
    with pytest.raises(InputError, match=message):
        class_weights(counts)


def test_pairs_without_a_voxel_are_found():
    assert read_counts("x", [[5, 1], [3, 0]]).shape == (2, 2)
    with pytest.raises(InputError, match=r"x: counts .* expected at least one class with a voxel"):
        read_counts("x", [[5, 1], [0, 0]])


def test_unknown_kind():
    with pytest.raises(RequestError, match=r"unknown kind of class weights 'novell', .*did you mean 'novel'"):
        class_weights([5, 1], "novell")
