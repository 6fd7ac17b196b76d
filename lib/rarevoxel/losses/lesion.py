"""A Dice loss in which every lesion weighs alike, however small: one soft Dice per lesion and its surroundings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import nn

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses.checks import check_activation, check_classes, drop_background, prepare, unknown_name

Reduction = Literal["mean", "sum", "none"]

_CHUNK = 512


class LesionDiceLoss(nn.Module):
    """Mean soft Dice over lesions: `1/K sum_k [1 - (2 sum_k min(p, t) + nr) / (sum_k p + sum_k t + dr)]`.

    The K lesions are the connected components (26 neighbours, 8 in 2D) of `target > 0.5`, per sample and channel.
    `sum_k` runs over the Voronoi region of lesion k: all voxels that are nearer to it than to any other lesion. The
    regions fill the image, so every false positive counts, against the lesion it is nearest to.

    With one lesion this is the soft Dice of the image (`rarevoxel.losses.soft_dice`), and so it is **with none**: 0 for
    an empty prediction, near 1 otherwise, always finite. Leaving such channels out would let false positives in empty
    patches go free. While `sum p` is far above `smooth_dr` the gradient there is weak, as for every Dice loss:
    a cross-entropy term beside this one, as in the reference, drives false positives down; larger smoothing also does.

    Soft targets: components are those of `t > 0.5`; the sums take t as it is, and p = t is the minimum, 0.

    Components and distances are computed on the CPU from the detached target (about 10 ms for a channel of 48^3, 2 ms
    for one with a single lesion, nothing for an empty one), the sums on the device of the logits and the target, which
    must be one. `torch.compile` breaks the graph here; `fullgraph=True` is not possible.

    Args:
        spacing: size of a voxel in mm along each spatial dimension, for the distance; None is 1 for all.
        include_background: if False, channel 0 is left out; ignored, with a warning, for a single channel. Advised with
            softmax: the background is a single component as a rule, and costs a needless distance map if it is not.
        sigmoid: independent channels; also what is done when neither `sigmoid` nor `softmax` is set.
        softmax: exclusive classes.
        to_onehot_y: the target holds class indices `B 1 H [W D]`; ignored, with a warning, for a single channel.
        smooth_nr: smoothing of each numerator, > 0.
        smooth_dr: smoothing of each denominator, > 0.
        reduction: `none` is one value per sample and channel, `B C`; `mean` and `sum` are taken over these.

    Raises:
        RequestError: if an option is unknown or out of range, or both `sigmoid` and `softmax` are set.

    References:
        Bouteille et al., 2025, arXiv:2511.17146 (CC-DiceCE; there a cross-entropy and the global Dice stand beside it,
        here they are the caller's choice). Regions as in Jaus et al., 2024, arXiv:2410.18684 (CC-Metrics); channels one
        against the rest as in Kundu et al., 2026, arXiv:2604.24276. The neighbour is Kofler et al., 2022,
        arXiv:2205.08209 (blob loss), which masks the other lesions out instead, so that a false positive counts once
        for each lesion.

    Example:
        >>> target = torch.zeros(1, 1, 16, 16, 16)
        >>> target[..., 2:10, 2:10, 2:10] = 1
        >>> target[..., 14, 14, 14] = 1
        >>> only_large = 100 * (target - 0.5)
        >>> only_large[..., 14, 14, 14] = -50
        >>> round(float(LesionDiceLoss()(only_large, target)), 3)
        0.5
    """

    def __init__(
        self,
        *,
        spacing: Sequence[float] | None = None,
        include_background: bool = True,
        sigmoid: bool = False,
        softmax: bool = False,
        to_onehot_y: bool = False,
        smooth_nr: float = 1e-5,
        smooth_dr: float = 1e-5,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        check_activation("LesionDiceLoss", sigmoid, softmax)
        if reduction not in get_args(Reduction):
            raise unknown_name("reduction", reduction, get_args(Reduction))
        if not (smooth_nr > 0 and smooth_dr > 0):
            msg = f"LesionDiceLoss: smooth_nr ({smooth_nr}) and smooth_dr ({smooth_dr}) must be > 0"
            raise RequestError(msg, "without smoothing an empty mask has no finite Dice")
        if spacing is not None and not _is_spacing(spacing):
            raise RequestError(f"LesionDiceLoss: spacing ({spacing}) must be finite numbers > 0, in mm")
        self.spacing = None if spacing is None else tuple(float(size) for size in spacing)
        self.include_background = include_background
        self.softmax = softmax
        self.to_onehot_y = to_onehot_y
        self.smooth_nr = float(smooth_nr)
        self.smooth_dr = float(smooth_dr)
        self.reduction: Reduction = reduction

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss.

        Args:
            logits: `B C H [W D]`, any floating type, before any activation.
            target: the same shape (or `B 1 H [W D]` with `to_onehot_y`), in [0, 1]; any type.

        Returns:
            A scalar, or `B C` with reduction `none`; float32, or float64 for float64 logits.

        Raises:
            InputError: if the shapes do not fit each other, the softmax or the spacing.
        """
        z, t = prepare("LesionDiceLoss", logits, target, self.to_onehot_y)
        if self.softmax:
            check_classes("LesionDiceLoss", z)
        p = torch.softmax(z, dim=1) if self.softmax else torch.sigmoid(z)
        if not self.include_background:
            p, t = drop_background("LesionDiceLoss", p), drop_background("LesionDiceLoss", t)
        regions, counts = _regions(t, self.spacing)
        shared = _sum_by_region(torch.minimum(p, t), regions, counts)
        size = _sum_by_region(p + t, regions, counts)
        dice = 1 - (2 * shared + self.smooth_nr) / (size + self.smooth_dr)
        # An image without lesions is one region, too.
        regions_of = counts.clamp_min(1).unsqueeze(2)
        filled = torch.arange(dice.shape[2], device=dice.device) < regions_of
        loss = torch.where(filled, dice / regions_of, 0).sum(2)
        if self.reduction == "none":
            return loss
        return loss.mean() if self.reduction == "mean" else loss.sum()

    def extra_repr(self) -> str:
        """Return the options that `print` shows."""
        return f"{'softmax' if self.softmax else 'sigmoid'}, spacing={self.spacing}"


def voronoi_lesions(mask: npt.ArrayLike, spacing: Sequence[float] | None = None) -> tuple[npt.NDArray[np.int32], int]:
    """Return the lesion that each voxel of an image is nearest to, and the number of lesions.

    Lesions are connected components that touch by faces, edges or corners. The distance is Euclidean, from voxel
    centre to voxel centre; where two lesions are equally near, one of them is taken, always the same.

    Args:
        mask: non-zero in the lesions; `H [W D]`.
        spacing: size of a voxel in mm along each dimension; None is 1 for all.

    Returns:
        Labels 1..count of the shape of `mask`, all 0 without a lesion; and the count.

    Raises:
        InputError: if the mask has no dimension.
        RequestError: if the spacing does not fit the mask, or is not finite and positive.

    Example:
        >>> voronoi_lesions([1, 0, 0, 0, 0, 1, 1])
        (array([1, 1, 1, 2, 2, 2, 2], dtype=int32), 2)
    """
    lesions = np.asarray(mask) != 0
    if lesions.ndim == 0:
        raise InputError("voronoi_lesions: the mask is a single number, expected an array H [W D]")
    if spacing is not None and not (_is_spacing(spacing) and len(spacing) == lesions.ndim):
        msg = f"voronoi_lesions: spacing ({spacing}) must be {lesions.ndim} finite numbers > 0, in mm"
        raise RequestError(msg, "give one number for each dimension of the mask")
    if not lesions.any():
        return np.zeros(lesions.shape, dtype=np.int32), 0
    components, count = ndimage.label(lesions, structure=np.ones((3,) * lesions.ndim, dtype=bool))
    labels: npt.NDArray[np.int32] = components.astype(np.int32, copy=False)
    if count == 1:
        labels = np.ones_like(labels)
    else:
        nearest = ndimage.distance_transform_edt(
            ~lesions, sampling=spacing, return_distances=False, return_indices=True
        )
        labels = labels[tuple(nearest)]
    return labels, int(count)


def _is_spacing(spacing: Sequence[float]) -> bool:
    return len(spacing) > 0 and all(math.isfinite(size) and size > 0 for size in spacing)


def _regions(target: torch.Tensor, spacing: Sequence[float] | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each voxel's region, counted from 0, `B C N`, and the number of lesions, `B C`."""
    if spacing is not None and len(spacing) != target.ndim - 2:
        msg = f"LesionDiceLoss: {len(spacing)} spacings for {target.ndim - 2} spatial dimensions"
        raise InputError(msg, "give one number of mm for each spatial dimension of the logits")
    masks = (target.detach() > 0.5).cpu().numpy()
    regions = np.zeros(masks.shape, dtype=np.int64)
    counts = np.zeros(masks.shape[:2], dtype=np.int64)
    for index in np.ndindex(*counts.shape):
        labels, counts[index] = voronoi_lesions(masks[index], spacing)
        if counts[index] > 1:
            regions[index] = labels - 1
    device = target.device
    return torch.from_numpy(regions).to(device).flatten(2), torch.from_numpy(counts).to(device)


def _sum_by_region(values: torch.Tensor, regions: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Return the sums of `values` (`B C H [W D]`) over each region, `B C K`, K the most regions of any channel."""
    most = max(1, int(counts.max())) if counts.numel() else 1
    flat = values.flatten(2)
    # Summed one after the other in float32, small values no longer reach a large sum: chunks are summed apart first.
    chunk = torch.arange(flat.shape[2], device=flat.device) // _CHUNK
    chunks = -(-flat.shape[2] // _CHUNK)
    table = flat.new_zeros((*flat.shape[:2], chunks * most))
    table = table.scatter_add(2, regions + most * chunk, flat)
    return table.view(*flat.shape[:2], chunks, most).sum(2)
