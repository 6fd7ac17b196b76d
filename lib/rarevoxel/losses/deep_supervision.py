"""One loss at every depth of a network, against a target in which no lesion is lost on the way down."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from monai.networks import one_hot
from torch import nn
from torch.nn import functional

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses.checks import as_float, unknown_name

Downsample = Literal["max", "nearest"]
Outputs = torch.Tensor | Sequence[torch.Tensor]

_POOL: dict[int, Callable[[torch.Tensor, list[int]], torch.Tensor]] = {
    3: functional.adaptive_max_pool1d,
    4: functional.adaptive_max_pool2d,
    5: functional.adaptive_max_pool3d,
}


class DeepSupervisionLoss(nn.Module):
    """Weighted sum of one loss over the outputs of a deeply supervised network: `sum_i w_i loss(logits_i, target_i)`.

    Outputs can be given in three ways, told apart by type and dimensions:

    - one tensor `B C H [W D]`, as in validation: the loss itself, without weights;
    - a sequence of tensors of falling resolution, the first the finest;
    - one tensor `B heads C H [W D]`, as MONAI's `DynUNet` returns in training, all at full resolution.

    A target is brought to the resolution of a coarser output by `downsample`. With `nearest`, a lesion smaller than the
    stride is mostly gone at the deeper outputs, which then learn that there is none. `max` keeps every lesion:

    - regions and masks: each channel has the maximum of its window (a soft target, too);
    - class indices (`B 1 H [W D]` for logits of several channels, the `to_onehot_y` of the wrapped loss): a maximum of
      indices would mean nothing, so a window has the foreground class that is the rarest in its sample, and background
      (index 0) where it holds nothing else; between equally rare classes the higher index wins;
    - `exclusive=True`: one-hot classes in the same way, so that they stay one-hot. With channel-wise maxima a window
      would be lesion and background at once. For mixed (soft) exclusive targets use `nearest`.

    Args:
        loss: called `(logits, target)`; it must return a scalar (its reduction must not be `none`).
        weights: one per output, finite and >= 0, not all 0; used as they are. None: 1, 1/2, 1/4, ... divided by their
            sum, so that the loss has the scale of the wrapped one however many outputs there are.
        downsample: `max` or `nearest`.
        exclusive: the target's channels are one-hot classes, background in channel 0.

    Raises:
        RequestError: if an option is unknown or out of range.

    References:
        Lee et al., 2015, arXiv:1409.5185; weights halved per level as in Isensee et al., 2021,
        doi:10.1038/s41592-020-01008-z. `monai.losses.DeepSupervisionLoss` is not wrapped: it takes no stacked outputs
        (as one tensor they reach the loss unchanged), samples targets by nearest neighbour, which exists for floating
        targets only, casts float64 logits to float32, does not normalise, and replaces too few weights without a word.

    Example:
        >>> from monai.losses import DiceLoss
        >>> loss = DeepSupervisionLoss(DiceLoss(sigmoid=True))
        >>> outputs = [torch.zeros(1, 3, 16 // s, 16 // s, 16 // s) for s in (1, 2, 4)]
        >>> bool(loss(outputs, torch.zeros(1, 3, 16, 16, 16)) > 0)
        True
    """

    def __init__(
        self,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        weights: Sequence[float] | None = None,
        *,
        downsample: Downsample = "max",
        exclusive: bool = False,
    ) -> None:
        super().__init__()
        if downsample not in get_args(Downsample):
            raise unknown_name("downsample", downsample, get_args(Downsample))
        if weights is not None and not (all(0 <= w < math.inf for w in weights) and any(w > 0 for w in weights)):
            msg = f"DeepSupervisionLoss: weights ({weights}) must be finite and >= 0, and not all 0"
            raise RequestError(msg, "give one weight per output of the network, the finest first, or None")
        self.loss = loss
        self.weights = None if weights is None else tuple(float(w) for w in weights)
        self.downsample: Downsample = downsample
        self.exclusive = exclusive

    def forward(self, outputs: Outputs, target: torch.Tensor) -> torch.Tensor:
        """Return the weighted sum of the losses.

        Args:
            outputs: logits in one of the three forms above, any floating type.
            target: at full resolution, `B C H [W D]`, or class indices `B 1 H [W D]`; any type.

        Returns:
            A scalar, of the type that the wrapped loss returns.

        Raises:
            InputError: if the outputs are none of the three forms, do not fit the weights, or are finer than the
                target.
        """
        if isinstance(outputs, torch.Tensor) and outputs.ndim == target.ndim:
            return self._at(outputs, target)
        heads = _heads(outputs, target)
        weights = self._weights(len(heads))
        losses = [w * self._at(head, target) for w, head in zip(weights, heads, strict=True) if w > 0]
        return torch.stack(losses).sum()

    def extra_repr(self) -> str:
        """Return the options that `print` shows."""
        return f"weights={self.weights}, downsample={self.downsample}, exclusive={self.exclusive}"

    def _weights(self, heads: int) -> tuple[float, ...]:
        if self.weights is None:
            return tuple(0.5**i / (2 - 0.5 ** (heads - 1)) for i in range(heads))
        if len(self.weights) != heads:
            msg = f"DeepSupervisionLoss: {len(self.weights)} weights for {heads} outputs, expected one per output"
            raise InputError(msg, "weights=None fits any number of outputs")
        return self.weights

    def _at(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.loss(logits, self._resize(target, logits))

    def _resize(self, target: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        size = logits.shape[2:]
        if size == target.shape[2:]:
            return target
        if any(fine > full for fine, full in zip(size, target.shape[2:], strict=True)):
            msg = f"DeepSupervisionLoss: an output of {tuple(size)} voxels for a target of {tuple(target.shape[2:])}"
            raise InputError(msg, "give the target at full resolution: it is only ever made coarser")
        if self.downsample == "nearest":
            nearest: torch.Tensor = functional.interpolate(as_float(target), size=size, mode="nearest-exact")
            return nearest
        if target.shape[1] == 1 and logits.shape[1] > 1:
            return _rarest(one_hot(target, num_classes=logits.shape[1]), size)
        if self.exclusive and target.shape[1] > 1:
            exclusive: torch.Tensor = one_hot(_rarest(target, size), num_classes=target.shape[1])
            return exclusive
        return _max_pool(target, size)


def _heads(outputs: Outputs, target: torch.Tensor) -> list[torch.Tensor]:
    if isinstance(outputs, torch.Tensor):
        if outputs.ndim == target.ndim + 1 and outputs.shape[1] > 0:
            return list(outputs.unbind(1))
        found = f"one output of shape {tuple(outputs.shape)}"
    else:
        heads = list(outputs)
        if heads and all(isinstance(head, torch.Tensor) and head.ndim == target.ndim for head in heads):
            return heads
        found = f"outputs {[tuple(head.shape) if isinstance(head, torch.Tensor) else type(head) for head in heads]}"
    msg = f"DeepSupervisionLoss: {found} for a target of shape {tuple(target.shape)}"
    raise InputError(msg, "expected B C H [W D], a sequence of such tensors, or B heads C H [W D] as DynUNet returns")


def _max_pool(target: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Return `target` with the maximum of each window; the windows cover every voxel, for any ratio of sizes."""
    return _POOL[target.ndim](as_float(target), list(size))


def _rarest(classes: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Return the index, `B 1 H [W D]`, of the rarest foreground class in each window of one-hot `classes`."""
    counts = classes.flatten(2).sum(2, dtype=torch.float64)
    order = counts[:, 1:].argsort(dim=1, descending=True, stable=True)
    ranks = order.argsort(dim=1) + 1
    ranks = torch.cat([torch.zeros_like(ranks[:, :1]), ranks], dim=1).view(*counts.shape, *(1,) * len(size))
    present = _max_pool(classes, size) > 0.5
    return torch.where(present, ranks, -1).argmax(dim=1, keepdim=True)
