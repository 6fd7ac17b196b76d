from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from rarevoxel.statistics.box import nonzero_box
from rarevoxel.statistics.case_intensity import Labelled, sequence_intensities
from rarevoxel.statistics.dataset_intensity import intensity_table, summarize_intensities

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, top, (6, 7, 8)) for top in (100, 200, 300)]
LABELS = [
    RNG.integers(0, 3, (6, 7, 8)).astype(np.uint8),
    np.zeros((6, 7, 8), np.uint8),
    np.full((6, 7, 8), 2, np.uint8),
]


@pytest.fixture
def cases():
    found = {}
    for index, (image, labels) in enumerate(zip(IMAGES, LABELS, strict=True)):
        box = nonzero_box(labels)
        inside = labels[:0, :0, :0] if box is None else labels[box]
        found[f"c{index}"] = {"t1c": sequence_intensities(image, Labelled.of(inside, box, image.shape))}
    del found["c1"]["t1c"]
    found["c1"]["t2f"] = sequence_intensities(IMAGES[1], Labelled.of(LABELS[1][:0, :0, :0], None, IMAGES[1].shape))
    return found


def test_all_voxels_together_are_counted_exactly(cases) -> None:
    summary = summarize_intensities(cases)
    assert list(summary) == ["t1c", "t2f"]
    found = summary["t1c"]["WT"]
    pooled = np.concatenate([image[labels > 0] for image, labels in zip(IMAGES, LABELS, strict=True)])
    assert (found.cases, found.moments.n) == (2, pooled.size)
    assert found.moments.mean == pytest.approx(pooled.mean())
    assert found.moments.kurtosis == pytest.approx(stats.kurtosis(pooled))
    assert (found.minimum, found.maximum) == (pooled.min(), pooled.max())
    medians = [np.median(image[labels > 0]) for image, labels in zip(IMAGES[::2], LABELS[::2], strict=True)]
    assert found.median_range == (min(medians), max(medians))
    assert found.percentiles[50.0] == pytest.approx(np.median(medians))


def test_what_no_case_has_has_no_numbers(cases) -> None:
    summary = summarize_intensities(cases)
    assert summary["t2f"]["brain"].cases == 1
    assert summary["t2f"]["ET"].cases == 0
    record = json.loads(json.dumps(summary["t2f"]["ET"].to_dict(), allow_nan=False))
    assert (record["n"], record["mean"], record["median_range"]) == (0, None, [None, None])
    assert summarize_intensities({}) == {}


def test_table_has_a_row_for_whatever_has_voxels(cases) -> None:
    header, columns, *rows = intensity_table(summarize_intensities(cases)).splitlines()
    assert "percentiles and medians: median and range over cases" in header
    assert {tuple(row.split()[:2]) for row in rows} >= {("t1c", "brain"), ("t1c", "TC"), ("t2f", "brain")}
    assert not any(row.startswith("t2f") and "WT" in row for row in rows)
    assert len(columns.rsplit("  ", 1)[0]) == len(rows[0].rsplit("  ", 1)[0])
