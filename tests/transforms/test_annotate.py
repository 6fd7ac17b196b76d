from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose
from scipy import stats

from rarevoxel.errors import InputError, LabelError, RequestError
from rarevoxel.labels import REGIONS, labels_to_regions
from rarevoxel.phantom import PhantomSpec, make_phantom
from rarevoxel.statistics import CaseStatistics, case_statistics
from rarevoxel.statistics.severity import case_severity
from rarevoxel.transforms.annotate import AnnotateStatistics, AnnotateStatisticsd

SPACING = (4.0, 5.0, 6.0)


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(3, PhantomSpec(size=(32, 28, 24), spacing=SPACING, severity="mild"))


@pytest.fixture
def item(phantom):
    affine = torch.as_tensor(phantom.affine)
    return {
        "id": "case-1",
        "image": MetaTensor(torch.from_numpy(phantom.images), affine=affine),
        "label": MetaTensor(torch.from_numpy(phantom.labels[None]), affine=affine),
    }


def test_the_record_is_the_case_statistics_and_reads_back(phantom, item):
    record = AnnotateStatisticsd()(item)["statistics"]
    expected = case_statistics(phantom.labels, SPACING, "case-1")
    assert expected.regions["ET"].voxels > 0
    assert CaseStatistics.from_dict(record) == expected
    assert record["severity"] == case_severity(expected).to_dict()
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_present_slices_are_those_with_voxels(phantom, item):
    record = AnnotateStatisticsd()(item)["statistics"]
    for name, mask in zip(REGIONS, labels_to_regions(phantom.labels), strict=True):
        counts = mask.sum((0, 1))
        assert record["present_slices"][name] == [k for k in range(24) if counts[k]]
        assert [counts[k] for k in record["present_slices"][name]] == record["regions"][name]["slice_voxels"]


def test_intensities_equal_scipy(phantom, item):
    intensity = AnnotateStatisticsd()(item)["statistics"]["intensity"]
    assert list(intensity) == ["t1n", "t1c", "t2w", "t2f"]
    masks = dict(zip(REGIONS, labels_to_regions(phantom.labels), strict=True))
    for channel, found in zip(phantom.images.astype(np.float64), intensity.values(), strict=True):
        for name, mask in {"brain": channel != 0, **masks}.items():
            values = channel[mask]
            assert found[name]["n"] == values.size
            moments = (values.mean(), values.std(), stats.skew(values), stats.kurtosis(values))
            assert tuple(list(found[name].values())[1:]) == pytest.approx(moments, rel=1e-9, abs=1e-9)


def test_hand_numbers_of_a_tiny_image():
    label = torch.zeros(1, 2, 2, 1)
    label[0, 0, 0, 0] = label[0, 1, 1, 0] = 2
    image = torch.tensor([[1.0, -3.0], [0.0, 5.0]]).reshape(1, 2, 2, 1)
    record = AnnotateStatistics(spacing=(1, 1, 1), sequences=["flair"])(label, image, "a")
    brain, wt, et = (record["intensity"]["flair"][name] for name in ("brain", "WT", "ET"))
    assert (brain["n"], brain["mean"]) == (3, 1.0)
    assert brain["std"] == pytest.approx(math.sqrt(32 / 3))
    assert (wt["n"], wt["mean"], wt["std"], wt["skewness"], wt["kurtosis"]) == (2, 3.0, 2.0, 0.0, -2.0)
    assert et == {"n": 0, "mean": None, "std": None, "skewness": None, "kurtosis": None}


def test_image_label_and_input_stay_as_they_are(item):
    before = {key: item[key].clone() for key in ("image", "label")}
    result = AnnotateStatisticsd()(item)
    assert "statistics" not in item
    for key, values in before.items():
        assert result[key] is item[key]
        assert torch.equal(item[key], values)
        assert item[key].applied_operations == []


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channel", [True, False])
def test_any_type_and_both_shapes_of_a_label_give_the_same(phantom, dtype, channel):
    label = torch.from_numpy(phantom.labels).to(dtype)
    annotate = AnnotateStatistics(spacing=SPACING)
    assert annotate(label[None] if channel else label) == annotate(phantom.labels)


def test_spacing_comes_from_the_argument_then_the_label_then_the_image(phantom, item):
    volume = phantom.labels.astype(bool).sum()
    plain, image = torch.from_numpy(phantom.labels), item["image"]

    def of(*data, spacing=None):
        return AnnotateStatistics(spacing)(*data)["regions"]["WT"]["volume"] / volume

    assert of(item["label"], spacing=(1, 1, 2)) == pytest.approx(2)
    assert of(item["label"]) == pytest.approx(120)
    assert of(plain, image) == pytest.approx(120)
    turned = torch.as_tensor(phantom.affine)[[1, 0, 2, 3]]
    assert of(MetaTensor(plain, affine=turned)) == pytest.approx(120)


def test_without_image_or_label_there_is_less(item):
    only_label = AnnotateStatisticsd(image_key=None)({key: item[key] for key in ("id", "label", "image")})
    assert "intensity" not in only_label["statistics"]
    assert "intensity" not in AnnotateStatisticsd()({"id": "a", "label": item["label"]})["statistics"]
    unlabelled = AnnotateStatisticsd(allow_missing_keys=True)({"id": "a", "image": item["image"]})["statistics"]
    assert set(unlabelled) == {"case_id", "intensity"}
    assert [set(found) for found in unlabelled["intensity"].values()] == [{"brain"}] * 4
    with pytest.raises(KeyError, match="label"):
        AnnotateStatisticsd()({"id": "a", "image": item["image"]})


def test_keys_and_names_can_be_chosen_and_it_runs_in_a_compose(item):
    data = {"mask": item["label"], "scan": item["image"][:2]}
    chain = Compose([AnnotateStatisticsd("mask", image_key="scan", case_key=None, output_key="record")])
    record = chain(data)["record"]
    assert record["case_id"] == ""
    assert list(record["intensity"]) == ["channel 0", "channel 1"]
    with pytest.raises(RequestError, match=r"keys \['a', 'b'\] must be one key"):
        AnnotateStatisticsd(["a", "b"])


@pytest.mark.parametrize(
    ("label", "image", "options", "error", "message"),
    [
        (None, None, {}, InputError, "case x: neither label nor image"),
        (torch.zeros(1, 2, 2, 2), None, {}, InputError, "case x: no spacing in Tensor label and NoneType image"),
        (torch.zeros(3, 2, 2, 2), None, {}, InputError, r"label of shape \(3, 2, 2, 2\), expected \(1, H, W, D\)"),
        (torch.zeros(2, 2), None, {}, InputError, r"label of shape \(2, 2\), expected"),
        (torch.full((2, 2, 2), 9), None, {"spacing": (1, 1, 1)}, LabelError, r"case x: label value 9 \(8 voxels\)"),
        (torch.zeros(2, 2, 2), None, {"spacing": (1, 1)}, InputError, "case x: spacing .* must be three positive"),
        (
            torch.zeros(2, 2, 2),
            torch.zeros(4, 2, 2, 3),
            {"spacing": (1, 1, 1)},
            InputError,
            r"image of shape \(4, 2, 2, 3\), expected \(C, 2, 2, 2\), the label's grid",
        ),
        (None, torch.zeros(2, 2, 3), {}, InputError, r"image of shape \(2, 2, 3\), expected \(C, H, W, D\)"),
        (
            None,
            torch.zeros(4, 2, 2, 3),
            {"sequences": ["flair"]},
            InputError,
            r"image with 4 channels, expected 1 \(flair\)",
        ),
    ],
)
def test_what_does_not_fit(label, image, options, error, message):
    with pytest.raises(error, match=message):
        AnnotateStatistics(**options)(label, image, "x")


def test_an_item_without_an_id(item):
    with pytest.raises(InputError, match=r"item with \['label'\] has no 'id'"):
        AnnotateStatisticsd()({"label": item["label"]})
