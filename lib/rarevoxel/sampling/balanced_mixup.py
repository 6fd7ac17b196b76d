"""Balanced-MixUp: mix an instance-sampled batch with a class-balanced one, and the losses for such targets."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import nn

from rarevoxel.errors import InputError, RequestError
from rarevoxel.losses.checks import unknown_name
from rarevoxel.sampling.soft_targets import Loss, SoftTargetCheck, check_soft_targets

logger = logging.getLogger(__name__)

Per = Literal["batch", "item"]
Mode = Literal["auto", "targets", "losses"]
Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class MixedTarget:
    """The two targets of a mixed batch and how much of each.

    Args:
        instance: target of the instance stream, `B C H W D` (one-hot or regions; class indices `B 1 H W D` where
            losses are mixed).
        balanced: target of the balanced stream, the same shape.
        lam: lambda in [0, 1], the share of the balanced stream, `B 1 1 1 1`.

    Raises:
        InputError: if the shapes do not fit each other.
    """

    instance: torch.Tensor
    balanced: torch.Tensor
    lam: torch.Tensor

    def __post_init__(self) -> None:
        expected = (self.instance.shape[0], *(1,) * (self.instance.ndim - 1))
        if self.instance.shape != self.balanced.shape or self.lam.shape != expected:
            msg = (
                f"MixedTarget: instance {tuple(self.instance.shape)}, balanced {tuple(self.balanced.shape)}, "
                f"lam {tuple(self.lam.shape)}, expected two equal shapes and lam {tuple(expected)}"
            )
            raise InputError(msg, "draw batches of the same size from both streams")

    @property
    def soft(self) -> torch.Tensor:
        """`(1 - lambda) instance + lambda balanced`, floating, of the targets' shape; for one-hot targets only."""
        return _mix(_floating(self.instance), _floating(self.balanced), self.lam)

    def narrow(self, dim: int, start: int, length: int) -> MixedTarget:
        """Return the target of some channels, as `torch.Tensor.narrow` with `dim` >= 1."""
        return MixedTarget(self.instance.narrow(dim, start, length), self.balanced.narrow(dim, start, length), self.lam)

    def items(self, start: int, stop: int) -> MixedTarget:
        """Return the target of the items `start` to `stop - 1` of the batch."""
        return MixedTarget(self.instance[start:stop], self.balanced[start:stop], self.lam[start:stop])

    def to(self, device: torch.device | str) -> MixedTarget:
        """Return the same target with all its tensors on `device`."""
        return MixedTarget(self.instance.to(device), self.balanced.to(device), self.lam.to(device))


class BalancedMixUp:
    """Mix two batches by a random lambda that is mostly small: `x = (1 - lambda) x_instance + lambda x_balanced`.

    lambda ~ Beta(alpha, 1), with mean `alpha / (1 + alpha)`: 0.17 for alpha 0.2. The balanced stream thus adds a
    little of the rare classes to nearly natural batches; training on it alone hurts. For training steps only, never
    for validation, and after intensity normalization. `monai.transforms.MixUp` is another method: Beta(alpha, alpha)
    between the items of one batch.

    Args:
        alpha: > 0; 0.2, or 0.1 for small networks.
        per: `batch` draws one lambda for all items, as published; `item` one for each.
        seed: of the sequence of lambdas.

    Raises:
        RequestError: if `alpha` is not above 0 and finite, or `per` is unknown.

    References:
        Galdran, Carneiro, Gonzalez Ballester, Balanced-MixUp, MICCAI 2021, arXiv:2109.09850. There the samples are
        whole images of one class each; here they are 3D patches whose class is that of their centre voxel
        (`RandPatchesd`), and targets are mixed voxel by voxel, or their losses are (`MixedLoss`).

    Example:
        >>> patch, mask = torch.zeros(2, 4, 8, 8, 8), torch.zeros(2, 3, 8, 8, 8)
        >>> image, target = BalancedMixUp(alpha=0.2).mix((patch, mask), (patch + 1, mask + 1))
        >>> bool((image[:, :1] == target.soft[:, :1]).all())
        True
    """

    def __init__(self, alpha: float = 0.2, per: Per = "batch", seed: int = 0) -> None:
        if not 0 < alpha < float("inf"):
            msg = f"BalancedMixUp: alpha ({alpha}) must be above 0 and finite"
            raise RequestError(msg, "0.2 is the usual value; without mixing, use the instance stream alone")
        if per not in get_args(Per):
            raise unknown_name("BalancedMixUp per", per, get_args(Per))
        self.alpha = float(alpha)
        self.per: Per = per
        self._rng = np.random.default_rng(seed)

    def draw(self, batch_size: int) -> torch.Tensor:
        """Return the next lambdas, float32 `(batch_size,)`; all equal with `per="batch"`."""
        drawn = self._rng.beta(self.alpha, 1.0, size=batch_size if self.per == "item" else 1)
        return torch.as_tensor(drawn, dtype=torch.float32).expand(batch_size).clone()

    def reseed(self, seed: int) -> None:
        """Begin another sequence of lambdas."""
        self._rng = np.random.default_rng(seed)

    def mix(self, instance: Pair, balanced: Pair) -> tuple[torch.Tensor, MixedTarget]:
        """Return the mixed image and target of two batches `(image, target)`.

        Args:
            instance: images `B K H W D`, floating, and targets `B C H W D` of the instance stream.
            balanced: the same of the balanced stream, with the same shapes.

        Returns:
            The image in its own type and the target for `MixedLoss`, both on the device of the images.

        Raises:
            InputError: if shapes differ or the images are not floating.
        """
        image, other = instance[0], balanced[0]
        if image.shape != other.shape or image.shape[0] != instance[1].shape[0]:
            msg = (
                f"BalancedMixUp: images {tuple(image.shape)} and {tuple(other.shape)}, "
                f"targets {tuple(instance[1].shape)}, expected equal images and as many targets"
            )
            raise InputError(msg, "draw batches of the same size from both streams")
        if not image.is_floating_point():
            raise InputError(f"BalancedMixUp: images of type {image.dtype}, expected floating, normalized intensities")
        lam = self.draw(image.shape[0]).to(image.device)
        target = MixedTarget(instance[1], balanced[1], lam.reshape(-1, *(1,) * (instance[1].ndim - 1)))
        return _mix(image, other, lam.reshape(-1, *(1,) * (image.ndim - 1))), target


class MixedLoss(nn.Module):
    """Give a loss function a `MixedTarget`; a plain target passes through to it.

    ===========  ===========================================================  ==============================
    mode         value                                                        valid for
    ===========  ===========================================================  ==============================
    `targets`    `L(f, (1 - lambda) y_inst + lambda y_bal)`                   losses for soft targets
    `losses`     `(1 - lambda) L(f, y_inst) + lambda L(f, y_bal)`             every loss; computes it twice
    `auto`       `targets` where `check_soft_targets` allows it, else `losses`, decided and logged at the first
                 mixed batch
    ===========  ===========================================================  ==============================

    For a loss that is linear in the target, such as binary cross-entropy, the two are equal. Where lambda differs
    within a batch, `losses` goes item by item with weights 1 / B, which suits losses that are a mean over items.

    Args:
        loss_function: called with `(logits, target)`.
        mode: see the table.
        activation: what the loss applies to the logits, `sigmoid` or `softmax`; for `auto`.

    Attributes:
        check: what `auto` found, None before the first mixed batch.

    Raises:
        RequestError: if mode or activation is unknown.

    Example:
        >>> loss = MixedLoss(nn.BCEWithLogitsLoss())
        >>> half = MixedTarget(torch.zeros(1, 1, 2, 2, 2), torch.ones(1, 1, 2, 2, 2), torch.full((1, 1, 1, 1, 1), 0.5))
        >>> round(float(loss(torch.zeros(1, 1, 2, 2, 2), half)), 4)
        0.6931
    """

    def __init__(self, loss_function: Loss, mode: Mode = "auto", activation: str = "sigmoid") -> None:
        super().__init__()
        if mode not in get_args(Mode):
            raise unknown_name("MixedLoss mode", mode, get_args(Mode))
        if activation not in ("sigmoid", "softmax"):
            raise unknown_name("activation", activation, ("sigmoid", "softmax"))
        self.loss_function = loss_function
        self.mode: Mode = mode
        self.activation = activation
        self.check: SoftTargetCheck | None = None

    def forward(self, logits: torch.Tensor, target: torch.Tensor | MixedTarget) -> torch.Tensor:
        """Return the loss of `B C H W D` logits.

        Raises:
            InputError: if targets that do not have the logits' shape are to be mixed, or the losses of items differ
                in lambda and are not scalar.
        """
        if not isinstance(target, MixedTarget):
            return self.loss_function(logits, target)
        if not self._mixes_targets(logits, target):
            return self._mixed_losses(logits, target)
        if target.instance.shape != logits.shape:
            msg = f"MixedLoss: target {tuple(target.instance.shape)}, logits {tuple(logits.shape)}, expected one shape"
            raise InputError(msg, "class indices cannot be mixed: use mode='losses', or one-hot targets")
        return self.loss_function(logits, target.soft)

    def _mixes_targets(self, logits: torch.Tensor, target: MixedTarget) -> bool:
        if self.mode != "auto":
            return self.mode == "targets"
        if self.check is None:
            if target.instance.shape != logits.shape:
                self.check = SoftTargetCheck(False, "takes targets of another shape than the logits, class indices")
            else:
                self.check = check_soft_targets(self.loss_function, logits.shape[1], self.activation, logits.device)
            name = str(getattr(self.loss_function, "name", type(self.loss_function).__name__))
            mixed = "targets" if self.check.handled else "losses"
            logger.info("Balanced-MixUp mixes %s: %s %s", mixed, name, self.check.reason)
        return self.check.handled

    def _mixed_losses(self, logits: torch.Tensor, target: MixedTarget) -> torch.Tensor:
        lam = target.lam.flatten().to(logits.device)
        if bool((lam == lam[0]).all()):
            return self._both(logits, target.instance, target.balanced, lam[0])
        items = [
            self._both(logits[i : i + 1], target.instance[i : i + 1], target.balanced[i : i + 1], lam[i])
            for i in range(len(lam))
        ]
        if items[0].ndim:
            msg = f"MixedLoss: the loss of an item has shape {tuple(items[0].shape)}, expected a scalar"
            raise InputError(msg, "use reduction='mean', or one lambda per batch")
        return torch.stack(items).mean()

    def _both(
        self, logits: torch.Tensor, instance: torch.Tensor, balanced: torch.Tensor, lam: torch.Tensor
    ) -> torch.Tensor:
        return (1 - lam) * self.loss_function(logits, instance) + lam * self.loss_function(logits, balanced)


def _mix(instance: torch.Tensor, balanced: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
    return torch.lerp(instance, balanced, lam.to(instance.dtype))


def _floating(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.is_floating_point() else tensor.float()
