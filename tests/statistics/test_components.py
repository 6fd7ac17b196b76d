from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from rarevoxel.statistics.components import component_sizes


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    axes=st.permutations([0, 1, 2]),
    share=st.sampled_from([0.02, 0.15, 0.5]),
    step=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
def test_same_as_scipy_for_every_layout(shape, axes, share, step, seed) -> None:
    mask = (np.random.default_rng(seed).random(shape) < share).transpose(axes)[::step]
    labelled, _ = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    assert component_sizes(mask).tolist() == sorted(np.bincount(labelled.ravel())[1:].tolist(), reverse=True)


@pytest.mark.parametrize(("place", "sizes"), [((1, 1, 1), [2]), ((2, 1, 1), [1, 1]), ((0, 0, 2), [1, 1])])
def test_corners_touch_and_gaps_do_not(place: tuple[int, int, int], sizes: list[int]) -> None:
    mask = np.zeros((4, 4, 4), dtype=bool)
    mask[0, 0, 0] = mask[place] = True
    assert component_sizes(mask).tolist() == sizes


def test_nothing_has_no_components() -> None:
    assert component_sizes(np.zeros((3, 3, 3), dtype=bool)).tolist() == []
    assert component_sizes(np.zeros((0, 0, 0), dtype=bool)).tolist() == []


@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("level", [0.3, 0.9, 1.6])
def test_same_as_scipy_for_lesions(level: float, layout: str) -> None:
    for seed in range(4):
        noise = np.random.default_rng(seed).standard_normal((40, 33, 27))
        smooth = ndimage.gaussian_filter(noise, 1.5, mode="wrap")
        mask = np.asarray(smooth > level * smooth.std(), order=layout)
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
        assert count > 1
        assert component_sizes(mask).tolist() == sorted(np.bincount(labelled.ravel())[1:].tolist(), reverse=True)
