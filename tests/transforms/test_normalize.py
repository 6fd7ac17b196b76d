"""Normalisation inside the brain, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor

from rarevoxel.config import PowerConfig
from rarevoxel.errors import InputError
from rarevoxel.transforms.clip import ClipPercentiles
from rarevoxel.transforms.normalize import NormalizeBrain, NormalizeBraind
from rarevoxel.transforms.power import PowerTransform
from rarevoxel.transforms.zscore import ZScoreBrain


def volume(seed: int = 0, channels: int = 2) -> torch.Tensor:
    """Values of both signs in a box, exactly 0 around it, and a few outliers."""
    rng = np.random.default_rng(seed)
    image = np.zeros((channels, 12, 11, 10), np.float32)
    image[:, 2:10, 2:9, 1:8] = rng.normal(-3.0, 40.0, (channels, 8, 7, 7))
    image[:, 4, 4, 4] = 1e5
    image[:, 5, 5, 5] = -1e5
    return torch.from_numpy(image)


def by_numpy(channel: np.ndarray, low: float, high: float) -> np.ndarray:
    brain = channel != 0
    values = channel[brain].astype(np.float64)
    clipped = np.clip(values, *np.percentile(values, [low, high], method="nearest"))
    out = np.zeros(channel.shape)
    out[brain] = (clipped - clipped.mean()) / clipped.std()
    return out


@pytest.mark.parametrize("percentiles", [(0.5, 99.5), (0.0, 100.0), (5.0, 90.0)])
def test_each_channel_equals_numpy(percentiles: tuple[float, float]) -> None:
    image = volume()
    result = NormalizeBrain(percentiles)(image)
    for channel, expected in zip(result.numpy(), (by_numpy(c, *percentiles) for c in image.numpy()), strict=True):
        np.testing.assert_allclose(channel, expected, rtol=2e-4, atol=2e-4)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e4), shift=st.floats(-1e3, 1e3))
def test_mean_0_and_std_1_whatever_the_scanner_s_units(seed: int, scale: float, shift: float) -> None:
    image = volume(seed, channels=1)
    brain = image != 0
    other = torch.where(brain, (image + shift) * scale, 0.0)
    brain &= other != 0  # A value may land on 0 exactly.
    result = NormalizeBrain()(other)
    assert float(result[brain].mean()) == pytest.approx(0.0, abs=1e-3)
    assert float(result[brain].std(correction=0)) == pytest.approx(1.0, abs=1e-3)


def test_outside_stays_exactly_0_and_negative_voxels_are_brain() -> None:
    image = volume()
    result = NormalizeBrain()(image)
    outside = image == 0
    assert outside.any()
    assert torch.equal(result[outside], torch.zeros(int(outside.sum())))
    negative = image < -10
    assert (result[negative] < 0).all()
    assert (result[negative] != 0).all()


def test_outliers_are_clipped() -> None:
    result = NormalizeBrain((1.0, 99.0))(volume())
    assert float(result.abs().max()) < 4.0


def test_a_constant_channel_becomes_0_and_an_empty_one_stays_empty() -> None:
    image = volume(channels=3)
    image[1] = torch.where(image[1] != 0, 7.0, 0.0)
    image[2] = 0.0
    result = NormalizeBrain()(image)
    assert torch.isfinite(result).all()
    assert not result[1].any()
    assert not result[2].any()
    assert result[0].any()


def test_the_dictionary_form_keeps_affine_and_other_entries() -> None:
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    data = {"image": MetaTensor(volume(), affine=affine), "label": "untouched"}
    result = NormalizeBraind("image", (5.0, 95.0))(data)
    assert result["label"] == "untouched"
    assert torch.equal(result["image"].affine, affine)
    assert torch.equal(result["image"].as_tensor(), NormalizeBrain((5.0, 95.0))(volume()))
    assert torch.equal(data["image"].as_tensor(), volume()), "the input must not change"


def as_weights_were_trained(channel: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """The arithmetic of the shipped weights, operation by operation."""
    brain = channel != 0
    values = channel[brain]
    if values.numel() == 0:
        return channel
    bounds = [float(values.kthvalue(1 + round(p / 100 * (values.numel() - 1))).values) for p in (low, high)]
    values = values.clamp(*bounds)
    std = values.std(correction=0)
    scaled = torch.zeros_like(channel)
    scaled[brain] = (values - values.mean()) / torch.where(std > 0, std, 1.0)
    return scaled


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.int16])
@pytest.mark.parametrize("percentiles", [(0.5, 99.5), (3.0, 71.0)])
def test_not_one_bit_differs_from_what_weights_were_trained_with(dtype, percentiles) -> None:
    for seed in range(5):
        image = torch.cat([volume(seed), torch.zeros(1, 12, 11, 10), volume(seed, 1).ne(0) * 0.1]).clamp(-6e4, 6e4)
        image = image.to(dtype)
        expected = torch.stack([as_weights_were_trained(channel.float(), *percentiles) for channel in image])
        assert torch.equal(NormalizeBrain(percentiles)(image), expected)
        assert torch.equal(NormalizeBrain(percentiles, [PowerConfig()] * 4)(image), expected)


def test_is_clip_then_z_score() -> None:
    image = volume()
    torch.testing.assert_close(NormalizeBrain()(image), ZScoreBrain()(ClipPercentiles()(image)), rtol=0, atol=1e-37)


def test_a_power_function_acts_between_clip_and_z_score() -> None:
    image, power = volume(channels=2), [PowerConfig("log", shift=0.05), PowerConfig("box_cox", 2.5, 0.05)]
    result = NormalizeBrain((2.0, 98.0), power)(image)
    steps = ZScoreBrain()(PowerTransform(power, (2.0, 98.0))(ClipPercentiles((2.0, 98.0))(image)))
    torch.testing.assert_close(result, steps, rtol=0, atol=1e-6)
    values = image[0][image[0] != 0].double().numpy()
    low, high = np.percentile(values, [2, 98], method="nearest")
    logs = np.log((np.clip(values, low, high) - low) / (high - low) + 0.05)
    np.testing.assert_allclose(result[0][image[0] != 0], (logs - logs.mean()) / logs.std(), atol=1e-4)
    named = NormalizeBraind("image", (2.0, 98.0), power)({"image": image})["image"]
    assert torch.equal(named, result)


def test_a_power_function_leaves_constant_and_empty_channels_alone() -> None:
    image = volume(channels=2)
    image[0] = torch.where(image[0] != 0, 7.0, 0.0)
    image[1] = 0.0
    assert not NormalizeBrain(power=[PowerConfig("log", shift=0.05)] * 2)(image).any()
    constant = torch.full((1, 7, 7, 7), 0.1)
    assert torch.equal(NormalizeBrain(power=[PowerConfig("sqrt")])(constant), NormalizeBrain()(constant))


def test_impossible_parameters_are_refused() -> None:
    with pytest.raises(InputError, match=r"percentiles \(\(99.0, 1.0\)\) must satisfy 0 <= low < high <= 100"):
        NormalizeBrain((99.0, 1.0))
    with pytest.raises(InputError, match=r"NormalizeBrain: image of shape \(2, 12, 11, 10\) .* found 4"):
        NormalizeBrain(power=[PowerConfig()] * 4)(volume())
