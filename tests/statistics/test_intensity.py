from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rarevoxel.errors import InputError
from rarevoxel.labels import CLIENT_LABELS, REGIONS
from rarevoxel.statistics import case_intensity
from rarevoxel.statistics.box import nonzero_box
from rarevoxel.statistics.case_intensity import Labelled, SequenceIntensities, sequence_intensities
from rarevoxel.statistics.intensity import PERCENTILES, IntensityStatistics

SETTINGS = settings(max_examples=40, deadline=None)


def assert_is(found: IntensityStatistics, values: np.ndarray) -> None:
    """Compare with numpy and scipy on the values themselves."""
    values = np.asarray(values, dtype=np.float64).ravel()
    assert found.n == values.size
    if not values.size:
        assert all(map(math.isnan, (found.mean, found.minimum, found.maximum, *found.percentiles.values())))
        return
    assert (found.minimum, found.maximum) == (values.min(), values.max())
    assert found.mean == pytest.approx(values.mean(), rel=1e-12, abs=1e-9)
    assert found.std == pytest.approx(values.std(), rel=1e-10, abs=1e-9)
    assert tuple(found.percentiles) == PERCENTILES
    assert list(found.percentiles.values()) == pytest.approx(np.percentile(values, PERCENTILES), rel=1e-6, abs=1e-9)
    if values.std() > 1e-6 * abs(values.mean()):
        assert found.skewness == pytest.approx(stats.skew(values), rel=1e-7, abs=1e-7)
        assert found.kurtosis == pytest.approx(stats.kurtosis(values), rel=1e-7, abs=1e-7)


def measured(image: np.ndarray, labels: np.ndarray) -> SequenceIntensities:
    box = nonzero_box(labels)
    return sequence_intensities(
        image, Labelled.of(labels[:0, :0, :0] if box is None else labels[box], box, labels.shape)
    )


def check(image: np.ndarray, labels: np.ndarray) -> None:
    found = measured(image, labels)
    assert_is(found.brain, image[image != 0])
    for name, value in CLIENT_LABELS.items():
        assert_is(found.labels[name], image[labels == value])
    for name, own in REGIONS.items():
        assert_is(found.regions[name], image[np.isin(labels, [CLIENT_LABELS[label] for label in own])])


@SETTINGS
@given(st.lists(st.integers(-50, 50), min_size=1, max_size=60))
def test_a_histogram_is_its_values(values) -> None:
    support, counts = np.unique(values, return_counts=True)
    assert_is(IntensityStatistics.from_counts(support, counts), values)
    assert_is(IntensityStatistics.from_values(np.array(values)), values)


def test_hand_numbers() -> None:
    found = IntensityStatistics.from_counts(np.array([1, 2, 3, 4, 7]), np.array([0, 1, 0, 2, 1]))
    assert (found.n, found.mean, found.minimum, found.maximum) == (4, 4.25, 2.0, 7.0)
    assert found.percentiles[50.0] == 4.0
    assert found.percentiles[90.0] == pytest.approx(4 + 0.7 * 3)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", ">i2", "i4", "i8", "u8", "f4", "f8", ">f4"])
def test_every_type_against_numpy_and_scipy(dtype: str, order: str) -> None:
    rng = np.random.default_rng(0)
    low = -20 if np.dtype(dtype).kind != "u" else 0
    image = rng.integers(low, 100, (9, 10, 11)).astype(dtype)
    image[rng.random(image.shape) < 0.4] = 0
    if np.dtype(dtype).kind == "f":
        image *= 0.37
    labels = np.zeros(image.shape, np.uint8)
    labels[2:7, 1:6, 3:9] = rng.integers(0, 4, (5, 5, 6))
    check(np.asarray(image, order=order), np.asarray(labels, order=order))


@pytest.mark.parametrize("kind", ["whole floats", "wide", "huge", "negative only", "all zero", "zero in the tumour"])
def test_kinds_of_images(kind: str) -> None:
    rng = np.random.default_rng(1)
    image = {
        "whole floats": rng.integers(0, 900, (6, 7, 8)).astype(np.float32),
        "wide": rng.integers(0, 1 << 30, (6, 7, 8)),
        "huge": rng.integers(1 << 40, 1 << 50, (6, 7, 8)),
        "negative only": rng.integers(-900, -5, (6, 7, 8)).astype(np.int16),
        "all zero": np.zeros((6, 7, 8), np.int16),
        "zero in the tumour": rng.integers(5, 9, (6, 7, 8)).astype(np.uint8),
    }[kind]
    labels = rng.integers(0, 5, image.shape).astype(np.uint8)
    if kind == "zero in the tumour":
        image[::2] = 0
    check(image, labels)


def test_no_label_at_all() -> None:
    image = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    check(image, np.zeros(image.shape, np.uint8))
    check(image * 0.5, np.zeros(image.shape, np.uint8))


def test_whole_numbers_take_the_histogram_and_fractions_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    for name in ("_of_counts", "_of_values"):
        way = getattr(case_intensity, name)
        monkeypatch.setattr(case_intensity, name, lambda *a, n=name, w=way: (taken.append(n), w(*a))[1])
    labels = np.ones((2, 2, 2), np.uint8)
    for image in (np.ones((2, 2, 2), np.int64), np.full((2, 2, 2), 3.0), np.full((2, 2, 2), 0.5)):
        measured(image, labels)
    assert taken == ["_of_counts", "_of_counts", "_of_values"]


def test_moments_of_two_halves_are_those_of_the_whole() -> None:
    image = np.random.default_rng(2).gamma(2, 100, (8, 9, 10))
    labels = np.zeros(image.shape, np.uint8)
    halves = [measured(half, labels[:4]).brain.moments for half in (image[:4], image[4:])]
    whole = measured(image, labels).brain
    assert (halves[0] + halves[1]).kurtosis == pytest.approx(whole.kurtosis, rel=1e-10)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_refused(bad: float) -> None:
    image = np.ones((2, 3, 4))
    image[0, 0, :2] = bad
    with pytest.raises(InputError, match="2 of 24 voxels are NaN or infinite"):
        measured(image, np.zeros(image.shape, np.uint8))


def test_record_survives_json() -> None:
    rng = np.random.default_rng(3)
    image, labels = rng.integers(0, 200, (5, 6, 7)), rng.integers(0, 3, (5, 6, 7)).astype(np.uint8)
    found = measured(image, labels)
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    again = SequenceIntensities.from_dict(record)
    assert json.dumps(again.to_dict()) == json.dumps(found.to_dict())
    assert again.brain == found.brain
    assert again.labels["resection cavity"].n == 0


@pytest.mark.parametrize(
    ("change", "text"),
    [({"central_sums": [1, 2]}, "ValueError"), ({"percentiles": {}}, "KeyError '0.5'"), ({"n": None}, "TypeError")],
)
def test_damaged_record_is_refused(change: dict[str, object], text: str) -> None:
    record = IntensityStatistics.from_values(np.arange(5)).to_dict()
    with pytest.raises(InputError, match=f"intensity statistics record cannot be read: {text}"):
        IntensityStatistics.from_dict({**record, **change})
    with pytest.raises(InputError, match="sequence intensities record cannot be read: KeyError 'labels'"):
        SequenceIntensities.from_dict({"brain": record})


def test_labelled_voxels_are_found_in_either_layout_and_in_images_of_the_same_shape_only() -> None:
    rng = np.random.default_rng(3)
    labels = np.zeros((6, 7, 8), dtype=np.uint8)
    labels[1:4, 2:7, 3:5] = rng.integers(0, 4, (3, 5, 2))
    image = rng.integers(0, 50, labels.shape).astype(np.int16)
    expected = image[labels == 2].mean()
    for order in ("C", "F"):
        found = measured(image.copy(order=order), labels.copy(order=order))  # type: ignore[arg-type]
        assert found.labels["edema"].mean == pytest.approx(expected)
    box = nonzero_box(labels)
    assert box is not None
    labelled = Labelled.of(labels[box], box, labels.shape)
    np.testing.assert_array_equal(
        np.unravel_index(labelled.places, labels.shape, order="F"), np.nonzero(labels.T)[::-1]
    )
    with pytest.raises(InputError, match=r"image of shape \(6, 7\), expected \(6, 7, 8\)"):
        sequence_intensities(image[..., 0], labelled)
