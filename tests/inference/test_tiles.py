"""Which windows an image is cut into."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from monai.data.utils import dense_patch_slices
from monai.inferers.utils import _get_scan_interval

from rarevoxel.errors import UnavailableError
from rarevoxel.inference.tiles import Tiling, choose_tiling
from rarevoxel.inference.windows import padded_shape

BRAIN = (150, 190, 155)


def monai_windows(shape: tuple[int, ...], window: tuple[int, ...], overlap: float) -> int:
    interval = _get_scan_interval(shape, window, 3, (overlap,) * 3)
    return len(dense_patch_slices(shape, window, interval))


def test_a_usual_brain_is_one_window_of_the_usual_size() -> None:
    shape = padded_shape(BRAIN, 16)
    assert shape == (160, 192, 160)
    assert choose_tiling(shape, (160, 192, 160), 0.25, 16) == Tiling((160, 192, 160), 1)


def test_a_brain_a_little_too_large_needs_two_small_windows_by_hand() -> None:
    # Two windows of n voxels, a quarter shared, reach over 1.75 n: 176 / 1.75 = 100.6, so 112.
    found = choose_tiling((176, 192, 160), (160, 192, 160), 0.25, 16)
    assert found == Tiling((112, 192, 160), 2)
    assert found.voxels == 2 * 112 * 192 * 160 < 2 * 160 * 192 * 160


def test_a_window_larger_than_the_image_is_the_image() -> None:
    assert choose_tiling((48, 64, 32), (96, 96, 96), 0.25, 16) == Tiling((48, 64, 32), 1)


@pytest.mark.parametrize(("voxels", "window"), [(math.inf, (160, 192, 160)), (4e6, (96, 96, 96))])
def test_one_pass_over_more_than_the_window_needs_the_word_and_the_memory(
    voxels: float, window: tuple[int, ...]
) -> None:
    shape = (160, 192, 160)
    always = choose_tiling(shape, window, 0.25, 16, single_pass="always", voxels=voxels)
    assert (always.count == 1) is (voxels == math.inf)
    assert choose_tiling(shape, (96, 96, 96), 0.25, 16).count > 1


def test_memory_makes_windows_smaller_but_not_too_small() -> None:
    shape = window = (160, 192, 160)
    assert choose_tiling(shape, window, 0.25, 16, voxels=0.6 * math.prod(shape)) == Tiling((160, 112, 160), 2)
    with pytest.raises(UnavailableError, match="memory holds 1000 voxels in one pass, the smallest window has 614400"):
        choose_tiling(shape, window, 0.25, 16, voxels=1000)


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(*[st.integers(1, 260)] * 3),
    st.tuples(*[st.integers(32, 200)] * 3),
    st.floats(0, 0.7),
    st.sampled_from([2, 4, 8, 16]),
    st.floats(0.5, 9),
)
def test_windows_can_be_halved_fit_and_are_counted_as_monai_lays_them(
    size: tuple[int, ...], window: tuple[int, ...], overlap: float, multiple: int, share: float
) -> None:
    shape = padded_shape(size, multiple)
    voxels = share * math.prod(window)
    assume(voxels > 2 * math.prod(max(0.5 * n + multiple, 2 * multiple) for n in map(min, window, shape)))
    found = choose_tiling(shape, window, overlap, multiple, voxels=voxels)
    assert all(n % multiple == 0 for n in found.window)
    assert any(n > multiple for n in found.window)
    assert all(n <= most for n, most in zip(found.window, shape, strict=True))
    assert math.prod(found.window) <= voxels
    assert found.count == monai_windows(shape, found.window, overlap)


@settings(max_examples=100, deadline=None)
@given(st.tuples(*[st.integers(60, 260)] * 3), st.floats(0, 0.7))
def test_it_never_costs_more_than_windows_of_the_configured_size(size: tuple[int, ...], overlap: float) -> None:
    shape = padded_shape(size, 16)
    window = tuple(min(n, w) for n, w in zip(shape, (96, 112, 96), strict=True))
    found = choose_tiling(shape, (96, 112, 96), overlap, 16)
    assert found.voxels <= monai_windows(shape, window, overlap) * math.prod(window)
