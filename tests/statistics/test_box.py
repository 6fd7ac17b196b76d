from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from rarevoxel.statistics.box import nonzero_box


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    axes=st.permutations([0, 1, 2]),
    share=st.sampled_from([0.01, 0.1, 0.6]),
    dtype=st.sampled_from(["u1", "i2", "f4", "?", ">i4"]),
    flipped=st.booleans(),
    seed=st.integers(0, 99),
)
def test_same_as_scipy_for_every_layout(shape, axes, share, dtype, flipped, seed) -> None:
    array = (np.random.default_rng(seed).random(shape) < share).astype(dtype).transpose(axes)
    array = array[::-1] if flipped else array
    found = ndimage.find_objects((array != 0).astype(np.uint8))
    assert nonzero_box(array) == (found[0] if found else None)


def test_other_numbers_of_axes_and_values() -> None:
    assert nonzero_box(np.array([0.0, np.nan, -1.0, 0.0])) == (slice(1, 3),)
    assert nonzero_box(np.zeros((3, 4))) is None
    assert nonzero_box(np.zeros((0, 4))) is None


@pytest.mark.parametrize("corner", [(0, 0, 0), (4, 5, 6)])
def test_a_voxel_in_a_corner(corner: tuple[int, int, int]) -> None:
    array = np.zeros((5, 6, 7), order="F", dtype=np.uint8)
    array[corner] = 4
    assert nonzero_box(array) == tuple(slice(place, place + 1) for place in corner)
