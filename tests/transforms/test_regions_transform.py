"""Label maps to region masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor

from rarevoxel.labels import labels_to_regions
from rarevoxel.transforms import LabelToRegions, LabelToRegionsd


def test_by_hand() -> None:
    # background, necrosis, edema, enhancing tumor, resection cavity
    label = torch.tensor([0, 1, 2, 3, 4], dtype=torch.uint8).reshape(1, 5, 1, 1)
    regions = LabelToRegions()(label)
    assert regions.shape == (3, 5, 1, 1)
    assert regions.dtype == torch.float32
    assert regions[0].ravel().tolist() == [0, 1, 1, 1, 0]  # WT
    assert regions[1].ravel().tolist() == [0, 1, 0, 1, 0]  # TC
    assert regions[2].ravel().tolist() == [0, 0, 0, 1, 0]  # ET


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32])
def test_equals_the_numpy_road(dtype: torch.dtype) -> None:
    label = np.random.default_rng(0).integers(0, 5, (6, 7, 8)).astype(np.uint8)
    regions = LabelToRegions()(torch.from_numpy(label)[None].to(dtype))
    assert np.array_equal(regions.numpy().astype(bool), labels_to_regions(label))


def test_the_dictionary_form_keeps_the_affine() -> None:
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    label = MetaTensor(torch.full((1, 2, 2, 2), 3, dtype=torch.uint8), affine=affine)
    result = LabelToRegionsd("label")({"label": label})["label"]
    assert torch.equal(result.affine, affine)
    assert bool((result == 1).all())
