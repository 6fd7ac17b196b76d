"""Clipping and z-score inside the brain: against numpy, and every brain voxel stays in the brain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import decollate_batch, list_data_collate
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose, Flipd

from rarevoxel.errors import InputError
from rarevoxel.transforms.clip import ClipPercentiles, ClipPercentilesd, clip_values, unit_range
from rarevoxel.transforms.zscore import ZScoreBrain, ZScoreBraind

AFFINE = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))

channels = st.lists(
    st.one_of(st.just(0.0), st.floats(-1e9, 1e9, width=32), st.sampled_from([-7.0, 5.0])), min_size=1, max_size=40
)


def line(*values: float) -> torch.Tensor:
    """An image of one channel and `len(values)` voxels."""
    return torch.tensor(values).reshape(1, -1, 1, 1)


def volume(seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    image = np.zeros((2, 7, 6, 5), np.float32)
    image[:, 1:6, 1:5, 1:4] = rng.normal(1.0, 40.0, (2, 5, 4, 3))
    return torch.from_numpy(image)


def test_hand_numbers() -> None:
    # Brain -9, -1, 2, 4, 50: ranks 1 and 3 of 0 to 4.
    assert ClipPercentiles((25.0, 75.0))(line(0, -9, 50, 2, 4, -1)).flatten().tolist() == [0, -1, 4, 2, 4, -1]


@pytest.mark.parametrize("percentiles", [(0.0, 100.0), (0.5, 99.5), (10.0, 60.0)])
def test_equals_numpy(percentiles: tuple[float, float]) -> None:
    image = volume()
    result = ClipPercentiles(percentiles)(image).numpy()
    for found, channel in zip(result, image.numpy(), strict=True):
        brain = channel != 0
        low, high = np.percentile(channel[brain], percentiles, method="nearest")
        np.testing.assert_array_equal(found, np.where(brain, np.clip(channel, low, high), 0))


@settings(max_examples=150, deadline=None)
@given(values=channels, low=st.floats(0, 49), high=st.floats(51, 100))
def test_the_brain_stays_the_brain_and_a_second_time_changes_nothing(values, low, high) -> None:
    image = line(*values)
    clip = ClipPercentiles((low, high))
    once = clip(image)
    assert torch.equal(once != 0, image != 0)
    assert torch.equal(clip(once), once)
    scaled = ZScoreBrain()(image)
    assert scaled.isfinite().all()
    assert torch.equal(scaled != 0, image != 0)


def test_a_missing_channel_stays_missing() -> None:
    image = volume()
    image[0] = 0
    for transform in (ClipPercentiles(), ZScoreBrain()):
        result = transform(image)
        assert not result[0].any()
        assert result[1].any()


@pytest.mark.parametrize("percentiles", [(-1.0, 99.0), (1.0, 101.0), (50.0, 50.0), (float("nan"), 99.0)])
def test_impossible_percentiles(percentiles: tuple[float, float]) -> None:
    with pytest.raises(InputError, match=r"percentiles \(.*\) must satisfy 0 <= low < high <= 100"):
        ClipPercentiles(percentiles)


def test_unit_range() -> None:
    values = torch.tensor([-3.0, 1.0, 2.0, 9.0])
    assert unit_range(values, (1.0, 5.0)).tolist() == [0.0, 0.0, 0.25, 1.0]
    assert unit_range(values, (2.0, 2.0)).tolist() == [0.0] * 4
    assert clip_values(values[:0], (1.0, 99.0))[1] == (0.0, 0.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int16, torch.float64])
def test_any_type_comes_out_as_float32(dtype: torch.dtype) -> None:
    for transform in (ClipPercentiles(), ZScoreBrain()):
        result = transform(volume().to(dtype))
        assert result.dtype == torch.float32
        assert result.isfinite().all()


def test_the_dictionary_form_of_the_clip_keeps_metadata_and_other_entries() -> None:
    data = {"image": MetaTensor(volume(), affine=AFFINE, applied_operations=[{"class": "Other"}]), "label": "untouched"}
    result = ClipPercentilesd("image", (5.0, 95.0))(data)
    assert result["label"] == "untouched"
    assert torch.equal(result["image"].affine, AFFINE)
    assert result["image"].applied_operations == [{"class": "Other"}]
    assert torch.equal(result["image"].as_tensor(), ClipPercentiles((5.0, 95.0))(volume()))
    assert torch.equal(data["image"].as_tensor(), volume()), "the input must not change"


def test_z_score_equals_numpy() -> None:
    image = volume()
    result, parameters = ZScoreBrain().measured(image)
    for found, channel, (mean, std) in zip(result.numpy(), image.numpy(), parameters, strict=True):
        brain = channel != 0
        values = channel[brain].astype(np.float64)
        assert (mean, std) == pytest.approx((values.mean(), values.std()), rel=1e-5)
        np.testing.assert_allclose(found[brain], (values - values.mean()) / values.std(), atol=1e-5)
        assert not found[~brain].any()


@settings(max_examples=100, deadline=None)
@given(values=channels)
def test_z_score_and_back(values) -> None:
    image = line(*values)
    scaled, parameters = ZScoreBrain().measured(image)
    back = ZScoreBrain().inverse(scaled, parameters)
    assert torch.equal(back != 0, image != 0)
    torch.testing.assert_close(back, image, rtol=0, atol=4e-6 * float(image.abs().max()))


@pytest.mark.parametrize("value", [7.0, 0.1, -3.3])
def test_a_constant_channel_becomes_nothing_and_comes_back(value: float) -> None:
    # The float32 mean of 343 times 0.1 is not 0.1, and its error would be all of the standard deviation.
    image = torch.full((1, 7, 7, 7), value)
    scaled, parameters = ZScoreBrain().measured(image)
    assert float(scaled.abs().max()) < 1e-37
    assert torch.equal(ZScoreBrain().inverse(scaled, parameters), image)


def test_a_voxel_at_the_mean_stays_in_the_brain() -> None:
    scaled, parameters = ZScoreBrain().measured(line(0, 1, 2, 3))
    assert (scaled != 0).flatten().tolist() == [False, True, True, True]
    assert ZScoreBrain().inverse(scaled, parameters).flatten().tolist() == [0, 1, 2, 3]


def test_z_score_wants_parameters_for_every_channel() -> None:
    with pytest.raises(InputError, match=r"ZScoreBrain: image of shape \(2, 7, 6, 5\) needs .* per channel, found 1"):
        ZScoreBrain().inverse(volume(), [(0.0, 1.0)])


@pytest.mark.parametrize("wrap", [torch.clone, lambda x: MetaTensor(x, affine=AFFINE)])
def test_each_item_remembers_its_own_parameters(wrap) -> None:
    chain = Compose([Flipd("image", 1), ZScoreBraind("image"), Flipd("image", 0)])
    items = [{"image": wrap(volume(seed) * (1 + 9 * seed)), "id": str(seed)} for seed in (0, 1)]
    done = [chain(item) for item in items]
    names = [step["class"] for step in done[0]["image"].applied_operations]
    assert names == ["Flip", "ZScoreBraind", "Flip"]
    back = [chain.inverse(item) for item in done]
    for seed, item in enumerate(back):
        torch.testing.assert_close(item["image"].as_tensor(), volume(seed) * (1 + 9 * seed), rtol=1e-4, atol=1e-3)
        assert item["image"].applied_operations == []
        assert item["id"] == str(seed)
    assert torch.equal(items[0]["image"], volume()), "the input must not change"


def test_the_inverse_leaves_its_input_alone() -> None:
    transform = ZScoreBraind("image")
    done = transform({"image": MetaTensor(volume())})
    first, second = transform.inverse(done), transform.inverse(done)
    assert torch.equal(first["image"], second["image"])
    assert torch.equal(done["image"].as_tensor(), ZScoreBrain()(volume()))


def test_parameters_survive_a_batch() -> None:
    chain = Compose([ZScoreBraind("image")])
    batch = list_data_collate([chain({"image": MetaTensor(volume(seed))}) for seed in (3, 4)])
    for seed, item in zip((3, 4), decollate_batch(batch), strict=True):
        torch.testing.assert_close(chain.inverse(item)["image"].as_tensor(), volume(seed), rtol=1e-4, atol=1e-3)


def test_the_result_is_contiguous_though_files_have_the_first_axis_fastest() -> None:
    image = torch.rand(4, 6, 5, 3).transpose(1, 3)
    assert not image.is_contiguous()
    clipped = ClipPercentiles()(image)
    assert clipped.is_contiguous()
    assert torch.equal(clipped, ClipPercentiles()(image.contiguous()))
