"""The sizes of the connected components of a mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def component_sizes(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return the voxels of every component, largest first; components touch over faces, edges or corners.

    SimpleITK finds the components of a tumour in a quarter of the time `scipy.ndimage.label` takes, and lets other
    threads run meanwhile.

    Args:
        mask: `(H, W, D)`.

    Returns:
        `(N,)`, empty for an empty mask.
    """
    if not mask.any():
        return np.empty(0, dtype=np.int64)
    import SimpleITK as sitk

    # Which axis is which does not matter here; the bytes as they lie in memory do.
    image = sitk.GetImageFromArray((mask.T if mask.flags.f_contiguous else mask).view(np.uint8))
    components = sitk.ConnectedComponent(image, True)  # Named, because the view below does not keep it alive.
    sizes = np.bincount(sitk.GetArrayViewFromImage(components).ravel())[1:]
    return np.sort(sizes)[::-1]
