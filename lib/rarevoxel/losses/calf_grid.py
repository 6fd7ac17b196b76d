"""CALF's spatial variant: the image in cells, and cells with more errors weigh more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from rarevoxel.errors import RequestError
from rarevoxel.losses.calf import CALFLoss

_POOLS = (functional.adaptive_avg_pool1d, functional.adaptive_avg_pool2d, functional.adaptive_avg_pool3d)


class GridCALFLoss(CALFLoss):
    """Conditionally adaptive loss averaged over the cells of a spatial grid, weighted by the errors in each cell.

    `loss = mean over samples, channels and cells of (1 + FP + FN) * mean over the cell of L`, with the voxel loss L of
    `CALFLoss` (the Dice term of its channel included) and the soft error rates of the cell, `FP = mean(p (1 - t))` and
    `FN = mean((1 - p) t)`, both in [0, 1]. The weights carry no gradient.

    Args:
        branch: see `CALFLoss`.
        grid: cells along the spatial axes, each >= 1; fewer numbers than axes leave the last axes whole, so `(4, 4)`
            of a volume are 16 columns, and numbers without an axis are not used. On an axis whose voxels are no
            multiple of its cells, neighbouring cells share a voxel (`torch.nn.AdaptiveAvgPool3d`).
        options: the other arguments of `CALFLoss`, `reduction` excepted: it is the mean.

    Raises:
        RequestError: for an impossible grid or option.

    References:
        Alam et al., 2025, arXiv:2504.04458, region variant on a 4 x 4 grid. Theirs applies the rule of skewness and
        kurtosis anew in every cell of every mini-batch; here the branches are those of the training set, as in
        `CALFLoss`, because a handful of patches has no shape of sizes to speak of, and FP and FN are rates, so that a
        weight does not depend on the size of a cell.

    Example:
        >>> loss = GridCALFLoss("log10", grid=(2, 2), sigmoid=True)
        >>> float(loss(torch.full((1, 1, 4, 4, 4), -50.0), torch.zeros(1, 1, 4, 4, 4)))
        0.0
    """

    def __init__(self, *args: Any, grid: Sequence[int] = (4, 4), **options: Any) -> None:
        if options.get("reduction", "mean") != "mean":
            raise RequestError(f"GridCALFLoss: reduction {options['reduction']!r} found, expected 'mean'")
        super().__init__(*args, **options)
        if not 1 <= len(grid) <= 3 or any(not isinstance(cells, int) or cells < 1 for cells in grid):
            raise RequestError(f"GridCALFLoss: grid {tuple(grid)} must be 1 to 3 whole numbers >= 1")
        self.grid = tuple(grid)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss, a scalar; see `CALFLoss.forward`."""
        z, t = self.prepared(logits, target)
        axes = z.ndim - 2
        cells = (*self.grid, *(1,) * axes)[:axes]
        pool: Any = _POOLS[axes - 1]
        p = torch.sigmoid(z.detach())
        errors = pool(p * (1 - t) + (1 - p) * t, cells)
        loss: torch.Tensor = pool(self.voxel_map(z, t), cells)
        value: torch.Tensor = ((1 + errors) * loss).mean()
        return value

    def extra_repr(self) -> str:
        """Return the options that `print` shows."""
        return f"{super().extra_repr()}, grid={self.grid}"
