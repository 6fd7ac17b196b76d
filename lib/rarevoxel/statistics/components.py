"""The sizes of the connected components of a mask, found from its runs along the axis that lies together in memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rarevoxel.statistics.box import nonzero_box

_TOUCHING = np.ones((3, 3, 3), dtype=bool)

_RAGGED = 16
"""Voxels per run below which looking at voxels is faster than looking at runs: noise, and no lesion."""

_LATER = ((0, 1), (1, -1), (1, 0), (1, 1))
"""The rows a row touches that come after it, by steps along the first two axes; it is touched by those before."""

Runs = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]


def component_sizes(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return the voxels of every component, largest first; components touch over faces, edges or corners.

    Labels of lesions are runs of many voxels side by side, and there are far fewer runs than voxels in the box around
    them, which `scipy.ndimage.label` walks through.

    Args:
        mask: `(H, W, D)`; only the box around what is true is looked at.

    Returns:
        `(N,)`, empty for an empty mask.
    """
    box = nonzero_box(mask)
    if box is None:
        return np.empty(0, dtype=np.int64)
    # Which axis is which does not matter here; how they lie in memory does.
    part = mask[box].T if mask.flags.f_contiguous else mask[box]
    first, stop = _runs(part)
    if first.size * _RAGGED > part.size:
        found, _ = ndimage.label(part, structure=_TOUCHING)
        return np.sort(np.bincount(found[part])[1:])[::-1]
    pairs = _touching(first, stop, part.shape)
    graph = coo_array((np.ones(pairs.shape[1], dtype=bool), pairs), shape=(first.size, first.size))
    _, component = connected_components(graph, directed=False)
    sizes = np.bincount(component, weights=stop - first).astype(np.int64)
    return np.sort(sizes)[::-1]


def _runs(part: npt.NDArray[np.bool_]) -> Runs:
    """Return where runs of true voxels start and stop, in a volume whose rows are one voxel longer than they are."""
    rows = np.zeros((*part.shape[:2], part.shape[2] + 1), dtype=bool)
    rows[..., :-1] = part
    flat = rows.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[0]:
        edges = np.concatenate([[0], edges])
    return edges[::2], edges[1::2]


def _touching(first: npt.NDArray[np.intp], stop: npt.NDArray[np.intp], shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
    """Return the pairs of runs that touch, `(2, P)`: each with those in later rows."""
    columns, length = shape[1], shape[2] + 1
    column = first // length % columns
    number = np.arange(first.size)
    pairs = []
    for down, along in _LATER:
        moved = (down * columns + along) * length
        # Rows end with a voxel that is in no run, so that what is found beside a row's end lies in that row.
        low = np.searchsorted(stop, first + moved)
        high = np.searchsorted(first, stop + moved, side="right")
        count = np.maximum(high - low, 0)
        if along:
            count[column == (columns - 1 if along > 0 else 0)] = 0
        one = np.repeat(number, count)
        other = np.arange(one.size) + np.repeat(low - (np.cumsum(count) - count), count)
        pairs.append((one, other))
    return np.concatenate(pairs, axis=1)
