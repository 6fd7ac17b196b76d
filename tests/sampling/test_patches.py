"""Patch centres by class: what is indexed once, which classes are drawn, and what the crops hold."""

from __future__ import annotations

import math
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import CacheDataset, Dataset, MetaTensor
from monai.transforms import Compose, MapTransform, RandFlipd, SpatialPadd
from monai.utils import first
from scipy import stats

from rarevoxel.errors import InputError, LabelError, RequestError
from rarevoxel.sampling import SAMPLER_NAMES, ClassCentresd, RandPatchesd


def make_case(shape=(12, 11, 10), meta=False):
    """Background with 64 voxels of class 1, 16 of class 3, one of class 4; the image holds flat indices."""
    label = torch.zeros(1, *shape)
    label[0, 2:6, 2:6, 2:6] = 1
    label[0, 7:9, 7:9, 4:8] = 3
    label[0, -1, -1, -1] = 4
    index = torch.arange(math.prod(shape), dtype=torch.float32).reshape(1, *shape)
    image = torch.cat([index, -index])
    if meta:
        image, label = MetaTensor(image), MetaTensor(label)
    return {"image": image, "label": label, "id": "case-1", "note": {"visits": [1]}}


def prepared(shape=(12, 11, 10), **options):
    return ClassCentresd(**options)(make_case(shape))


def patches_of(data, seed=0, size=(4, 4, 4), num_patches=4, **options):
    return RandPatchesd(size=size, num_patches=num_patches, **options).set_random_state(seed=seed)(data)


# --- centres


def test_centres_are_every_voxel_of_every_class():
    case = make_case()
    result = ClassCentresd()(case)
    centres = result["centres"]
    flat = case["label"].numpy().ravel()
    assert "centres" not in case
    assert [tuple(i.tolist()) for i in centres["indices"]] == [tuple(np.flatnonzero(flat == c)) for c in range(5)]
    assert centres["counts"] == [1320 - 64 - 16 - 1, 64, 0, 16, 1]
    assert centres["shape"] == [12, 11, 10]
    assert all(i.dtype == torch.int32 for i in centres["indices"])


@pytest.mark.parametrize("kind", [torch.tensor, MetaTensor, np.asarray])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "int64"])
def test_centres_of_any_container_and_type(kind, dtype):
    label = kind(np.array([[[[0, 2], [0, 2]]]], dtype=dtype))
    centres = ClassCentresd(output="where", classes=3)({"label": label})["where"]
    assert [i.tolist() for i in centres["indices"]] == [[0, 2], [], [1, 3]]


@given(n=st.integers(1, 400), limit=st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_thinning_keeps_one_index_of_each_equal_run(n, limit):
    label = torch.zeros(1, n, 1, 1)
    centres = ClassCentresd(classes=1, max_per_class=limit)({"label": label})["centres"]
    kept = centres["indices"][0].tolist()
    assert centres["counts"] == [n]
    assert len(kept) == min(n, limit)
    if n > limit:
        assert all(k * n // limit <= i < (k + 1) * n // limit for k, i in enumerate(kept))


def test_thinning_does_not_fall_into_step_with_the_rows():
    centres = ClassCentresd(classes=1, max_per_class=256)({"label": torch.zeros(1, 16, 16, 16)})["centres"]
    voxels = np.unravel_index(centres["indices"][0].numpy(), (16, 16, 16))
    for axis in voxels:
        assert np.bincount(axis, minlength=16).min() >= 8


def test_thinning_is_deterministic_and_spares_small_classes():
    one, other = prepared(max_per_class=20)["centres"], prepared(max_per_class=20)["centres"]
    assert [len(i) for i in one["indices"]] == [20, 20, 0, 16, 1]
    assert all(torch.equal(a, b) for a, b in zip(one["indices"], other["indices"], strict=True))


@pytest.mark.parametrize(
    ("label", "error", "message"),
    [
        (torch.tensor([[[[0, 5], [7, 2]]]]), LabelError, r"'label' holds the values 5, 7, expected 0 to 4"),
        (torch.tensor([[[[0, 0.5], [0, 2]]]]), LabelError, r"holds the values 0.5, expected 0 to 4"),
        (torch.tensor([[[[0, math.nan], [0, 2]]]]), LabelError, r"holds the values nan, expected"),
        (torch.tensor([[[[-1, 0]]]]), LabelError, r"holds the values -1, expected"),
        (torch.zeros(3, 2, 2, 2), InputError, r"shape \(3, 2, 2, 2\), expected a label map \(1, H, W, D\)"),
    ],
)
def test_labels_that_are_no_label_map(label, error, message):
    with pytest.raises(error, match=message):
        ClassCentresd()({"label": label})


@pytest.mark.parametrize("options", [{"classes": 0}, {"max_per_class": 0}])
def test_wrong_centre_options(options):
    with pytest.raises(RequestError, match=r"classes \(\d\) and max_per_class \(\d+\) must be >= 1"):
        ClassCentresd(**options)


# --- which classes are drawn


def drawn_classes(seed=0, n=1500, **options):
    patches = patches_of(prepared(), seed, size=(1, 1, 1), num_patches=n, **options)
    return np.bincount([patch["patch_class"] for patch in patches], minlength=5)


COUNTS = np.array([1239, 64, 0, 16, 1])


@pytest.mark.parametrize("options", [{"stream": "instance"}, {"exponent": 0.0}, {"exponent": 0.5}, {"exponent": 1.0}])
def test_classes_are_drawn_with_the_stated_probabilities(options):
    q = options.get("exponent", 0.0)
    present = COUNTS > 0
    expected = COUNTS[present] ** (1 - q)
    observed = drawn_classes(seed=3, **options)
    assert observed[~present].sum() == 0
    # Classes expected in fewer than five patches are pooled, as the chi-square distribution asks.
    expected = 1500 * expected / expected.sum()
    few = expected < 5
    f_exp = np.append(expected[~few], expected[few].sum())
    f_obs = np.append(observed[present][~few], observed[present][few].sum())
    keep = f_exp > 0
    assert stats.chisquare(f_obs[keep], f_exp[keep]).pvalue > 0.01


def test_balanced_differs_from_instance_and_a_large_exponent_draws_the_rarest():
    assert drawn_classes()[4] > 300
    assert drawn_classes(stream="instance")[4] < 20
    assert drawn_classes(exponent=400.0)[4] == 1500


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_foreground_share_leaves_the_other_classes_their_proportions(share):
    alike = drawn_classes(seed=4, foreground=share)
    assert stats.chisquare(alike[[0, 1, 3, 4]], 1500 * np.array([1 - share, *[share / 3] * 3])).pvalue > 0.01
    rooted = drawn_classes(seed=4, foreground=share, exponent=0.5)
    expected = 1500 * np.array([1 - share, *(share * np.array([8, 4, 1]) / 13)])
    assert stats.chisquare(rooted[[0, 1, 3, 4]], expected).pvalue > 0.01


@pytest.mark.parametrize("label", [0.0, 3.0])
def test_a_foreground_share_needs_both_sides(label):
    data = ClassCentresd()({"image": torch.zeros(1, 4, 4, 4), "label": torch.full((1, 4, 4, 4), label)})
    assert {p["patch_class"] for p in patches_of(data, num_patches=20, foreground=0.5)} == {int(label)}


def test_thinning_does_not_change_the_class_probabilities():
    full = patches_of(prepared(), 1, (1, 1, 1), 200, exponent=0.5)
    thin = patches_of(prepared(max_per_class=10), 1, (1, 1, 1), 200, exponent=0.5)
    assert [p["patch_class"] for p in full] == [p["patch_class"] for p in thin]


@pytest.mark.parametrize(("u", "value", "voxel"), [(0.0, 1, 0), (1 - 2**-53, 3, 7)])
def test_the_ends_of_the_random_range_meet_classes_that_are_there(u, value, voxel):
    label = torch.tensor([1.0, 1, 1, 1, 3, 3, 3, 3]).reshape(1, 2, 2, 2)
    data = ClassCentresd()({"image": torch.arange(8.0).reshape(1, 2, 2, 2), "label": label})
    crop = RandPatchesd(size=(1, 1, 1), num_patches=1)
    crop.R = SimpleNamespace(random_sample=lambda shape: np.full(shape, u))
    patch = crop(data)[0]
    assert (patch["patch_class"], int(patch["image"])) == (value, voxel)


def test_every_voxel_of_a_class_is_drawn_alike():
    patches = patches_of(prepared(), 5, (1, 1, 1), 2000)
    voxels = [int(p["image"][0]) for p in patches if p["patch_class"] == 3]
    _, counts = np.unique(voxels, return_counts=True)
    assert len(counts) == 16
    assert stats.chisquare(counts).pvalue > 0.01


def test_instance_stream_draws_every_voxel_alike():
    patches = patches_of(
        make_case((4, 4, 4)) | {"label": torch.zeros(1, 4, 4, 4)}, 5, (1, 1, 1), 3200, stream="instance"
    )
    counts = np.bincount([int(p["image"][0]) for p in patches], minlength=64)
    assert stats.chisquare(counts).pvalue > 0.01


# --- what a patch holds


@given(
    shape=st.tuples(*[st.integers(9, 13)] * 3),
    size=st.tuples(*[st.integers(1, 9)] * 3),
    seed=st.integers(0, 1000),
    stream=st.sampled_from(["balanced", "instance"]),
)
@settings(max_examples=50, deadline=None)
def test_patches_lie_inside_hold_their_centre_and_agree(shape, size, seed, stream):
    case = prepared(shape)
    index = case["image"][0]
    for patch in patches_of(case, seed, size, 3, stream=stream):
        assert patch["image"].shape == (2, *size)
        start = np.unravel_index(int(patch["image"][0, 0, 0, 0]), shape)
        window = tuple(slice(a, a + s) for a, s in zip(start, size, strict=True))
        torch.testing.assert_close(patch["image"], torch.stack([index, -index])[(slice(None), *window)])
        torch.testing.assert_close(patch["label"], case["label"][(slice(None), *window)])
        assert (patch["label"] == patch["patch_class"]).any()


@pytest.mark.parametrize("size", [(3, 3, 3), (4, 4, 4), (4, 3, 1)])
def test_the_drawn_voxel_is_the_centre_unless_a_border_is_near(size):
    case = {"image": torch.zeros(1, 9, 9, 9), "label": torch.zeros(1, 9, 9, 9)}
    case["label"][0, 4, 5, 3] = 2
    patches = patches_of(ClassCentresd()(case), size=size, num_patches=8)
    hits = [p["label"][0] for p in patches if p["patch_class"] == 2]
    assert hits
    for label in hits:
        assert label[tuple(s // 2 for s in size)] == 2


def test_corner_voxel_shifts_the_patch_into_the_volume():
    patch = next(p for p in patches_of(prepared(), num_patches=40) if p["patch_class"] == 4)
    assert patch["label"][0, -1, -1, -1] == 4
    assert int(patch["image"][0].max()) == 12 * 11 * 10 - 1


def test_volume_of_patch_size_is_one_patch_of_its_own_memory():
    case = prepared()
    patch = patches_of(case, size=(12, 11, 10), num_patches=1)[0]
    torch.testing.assert_close(patch["image"], case["image"])
    patch["image"].zero_()
    assert case["image"].any()


def test_patches_are_plain_contiguous_tensors_and_other_entries_are_copied():
    case = ClassCentresd()(make_case(meta=True))
    before = set(case)
    one, other = patches_of(case, num_patches=2)
    assert set(case) == before
    assert set(one) == {"image", "label", "id", "note", "patch_class"}
    for key in ("image", "label"):
        assert type(one[key]) is torch.Tensor
        assert one[key].is_contiguous()
    assert type(one["patch_class"]) is int
    one["note"]["visits"].append(2)
    assert case["note"] == other["note"] == {"visits": [1]}


def test_the_label_is_never_searched():
    case = prepared()
    case["centres"]["indices"][1] = torch.tensor([321], dtype=torch.int32)
    case["label"] = torch.full_like(case["label"], 9)
    patches = patches_of(case, size=(1, 1, 1), num_patches=50)
    assert {int(p["image"][0]) for p in patches if p["patch_class"] == 1} == {321}


def test_instance_stream_needs_no_centres_but_removes_them():
    assert patches_of(make_case(), stream="instance")[0]["image"].shape == (2, 4, 4, 4)
    assert "centres" not in patches_of(prepared(), stream="instance")[0]
    for patch in patches_of(make_case(), size=(1, 1, 1), num_patches=300, stream="instance"):
        assert patch["patch_class"] == int(patch["label"])


# --- random state


def centres_of(patches):
    return [int(p["image"][0, 0, 0, 0]) for p in patches]


def test_seed_decides_and_state_advances():
    case = prepared()
    crop = RandPatchesd(size=(2, 2, 2), num_patches=6).set_random_state(seed=7)
    a, b = centres_of(crop(case)), centres_of(crop(case))
    assert a != b
    crop.set_random_state(seed=7)
    assert centres_of(crop(case)) == a
    assert centres_of(pickle.loads(pickle.dumps(crop))(case)) == b
    assert centres_of(patches_of(case, 8, (2, 2, 2), 6)) != a


@pytest.mark.parametrize("stream", ["balanced", "instance"])
def test_patches_of_a_case_do_not_depend_on_the_case_before(stream):
    crop = RandPatchesd(size=(2, 2, 2), num_patches=3, stream=stream)
    second = []
    for before in (prepared(), prepared((9, 13, 9), max_per_class=3)):
        crop.set_random_state(seed=1)
        crop(before)
        second.append(centres_of(crop(prepared())))
    assert second[0] == second[1]


class Counted(MapTransform):
    calls = 0

    def __call__(self, data):
        type(self).calls += 1
        return dict(data)


def chain(**options):
    return Compose(
        [
            SpatialPadd(("image", "label"), spatial_size=(12, 12, 12)),
            Counted("label"),
            ClassCentresd(),
            RandPatchesd(size=(4, 4, 4), num_patches=3, **options),
            RandFlipd(("image", "label"), prob=0.5, spatial_axis=0),
        ]
    )


def test_cache_dataset_indexes_once_and_repeats_under_a_seed():
    Counted.calls = 0
    runs = []
    for seed in (0, 0, 1):
        transforms = chain()
        transforms.set_random_state(seed)
        data = CacheDataset([make_case(meta=True)] * 2, transforms, progress=False, copy_cache=False)
        kept = [item["image"].clone() for item in data._cache]
        runs.append([patch["image"] for _ in range(3) for i in range(2) for patch in data[i]])
        assert all(torch.equal(a, item["image"]) for a, item in zip(kept, data._cache, strict=True))
    assert Counted.calls == 3 * 2
    assert len(runs[0]) == 18
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(runs[0], runs[2], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(runs[0][:6], runs[0][6:12], strict=True))


def test_two_streams_can_share_one_cache():
    cache = CacheDataset([make_case()], Compose([ClassCentresd()]), progress=False)
    streams = [
        Dataset(cache, Compose([RandPatchesd(size=(4, 4, 4), num_patches=2, stream=stream)]))
        for stream in ("instance", "balanced")
    ]
    assert [len(first(stream)) for stream in streams] == [2, 2]
    assert "centres" in cache[0]


# --- errors


def test_volume_smaller_than_the_patch():
    with pytest.raises(InputError, match=r"volume \(12, 11, 10\) holds no patch of size \(4, 12, 4\).*SpatialPadd"):
        patches_of(prepared(), size=(4, 12, 4))
    with pytest.raises(InputError, match=r"volume \(12, 11, 10\) holds no patch of size \(4, 4\)"):
        patches_of(prepared(), size=(4, 4))


def test_entries_on_different_grids():
    with pytest.raises(InputError, match=r"\{'image': \(2, 2, 2\), 'label': \(12, 11, 10\)\} differ"):
        patches_of(prepared() | {"image": torch.zeros(1, 2, 2, 2)})


def test_centres_missing_or_of_another_grid():
    with pytest.raises(InputError, match=r"no entry 'centres'.*put ClassCentresd before it"):
        patches_of(make_case())
    with pytest.raises(InputError, match=r"centres of a \(12, 11, 10\) grid, but the volume is \(9, 9, 9\)"):
        patches_of(make_case((9, 9, 9)) | {"centres": prepared()["centres"]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stream": "balance"}, r"unknown patch stream 'balance'.*did you mean 'balanced'"),
        ({"size": (4, 0, 4)}, r"size \(\(4, 0, 4\)\) and num_patches \(4\) must be >= 1"),
        ({"num_patches": 0}, r"num_patches \(0\) must be >= 1"),
        ({"exponent": -0.1}, r"exponent \(-0.1\) must be >= 0 and finite"),
        ({"foreground": 0.0}, r"foreground \(0.0\) must be between 0 and 1, or None"),
        ({"foreground": 1.0}, r"foreground \(1.0\) must be between 0 and 1, or None"),
        ({"exponent": math.nan}, r"exponent \(nan\) must be >= 0 and finite"),
    ],
)
def test_wrong_patch_options(options, message):
    with pytest.raises(RequestError, match=message):
        patches_of(prepared(), **options)


def test_sampler_names():
    assert SAMPLER_NAMES == ("pos_neg", "balanced", "instance", "square_root", "balanced_mixup")
