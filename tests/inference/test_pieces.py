"""Pieces of a predicted tumour that are left out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rarevoxel.inference.pieces import Dropped, drop_pieces


@pytest.fixture
def labels() -> npt.NDArray[np.uint8]:
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[1:4, 1:4, 1:4] = 2
    labels[4, 4, 4] = 3  # Touches by a corner.
    labels[7, 7, 7] = 3
    labels[9, 0, 0:2] = 1
    return labels


def test_small_pieces_go_and_what_touches_a_large_one_stays(labels: npt.NDArray[np.uint8]) -> None:
    p = np.zeros((3, *labels.shape), np.float32)
    kept, dropped = drop_pieces(labels, p, 2.0, smallest_mm3=5.0)
    assert sorted(dropped.small) == [2.0, 4.0]
    assert dropped.faint == ()
    assert np.count_nonzero(kept) == 28
    assert kept[4, 4, 4] == 3
    assert np.count_nonzero(labels) == 31, "the input must stay as it is"
    assert drop_pieces(labels, p, 2.0, smallest_mm3=4.0)[1].small == (2.0,), "a piece of exactly that volume stays"
    assert drop_pieces(labels, p, 2.0) == (labels, Dropped())
    assert not drop_pieces(labels, p, 2.0, smallest_mm3=1000.0)[0].any()


def test_a_piece_stays_whole_if_any_region_is_likely_anywhere_in_it(labels: npt.NDArray[np.uint8]) -> None:
    p = np.zeros((3, *labels.shape), np.float32)
    p[0][labels != 0] = 0.6
    p[0, 4, 4, 4] = 0.9  # The corner speaks for the cube it touches.
    p[2, 9, 0, 1] = 0.95
    p[0, 0, 0, 0] = 1.0  # Outside of every piece.
    kept, dropped = drop_pieces(labels, p, 2.0, peak=0.9)
    assert dropped == Dropped((), (2.0,), 0.0, 0.9)
    assert kept[7, 7, 7] == 0
    assert np.count_nonzero(kept) == 30
    assert drop_pieces(labels, p, 2.0, peak=0.91)[1].faint == (56.0, 2.0)
    both = drop_pieces(labels, p, 2.0, smallest_mm3=3.0, peak=0.91)[1]
    assert both == Dropped((2.0,), (56.0,), 3.0, 0.91), "what is small is told as small"


@given(
    hnp.arrays(np.float32, (2, 5, 6, 4), elements=st.floats(0, 1, width=32)),
    st.floats(0.3, 0.9),
    st.floats(0.3, 1.0),
)
def test_a_higher_peak_keeps_less_and_no_piece_in_part(
    p: npt.NDArray[np.float32], threshold: float, peak: float
) -> None:
    labels = (p[0] >= threshold).astype(np.uint8)
    kept, dropped = drop_pieces(labels, p, 1.0, peak=peak)
    assert ((kept == labels) | (kept == 0)).all()
    assert np.count_nonzero(labels) - np.count_nonzero(kept) == sum(dropped.faint)
    assert not (kept == 0)[(labels != 0) & (p.max(axis=0) >= np.float32(peak))].any()
    more = drop_pieces(labels, p, 1.0, peak=min(1.0, peak + 0.1))[0]
    assert not ((more != 0) & (kept == 0)).any()
