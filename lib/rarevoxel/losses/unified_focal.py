"""The unified focal loss for any number of classes or regions: a focal cross-entropy beside a focal Tversky loss."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import nn
from torch.nn import functional

from rarevoxel.errors import RequestError
from rarevoxel.losses.checks import (
    check_activation,
    check_classes,
    check_pair,
    drop_background,
    prepare,
    unknown_name,
)
from rarevoxel.losses.fused import fused_loss, fused_way
from rarevoxel.losses.fused_region import TVERSKY_FLOOR
from rarevoxel.losses.fused_spec import Focal, FusedSpec, Tversky
from rarevoxel.losses.voxel import one_vs_rest_logits

Reduction = Literal["mean", "sum", "none"]


class UnifiedFocalLoss(nn.Module):
    """Unified focal loss: the background is suppressed in the cross-entropy, rare classes are enhanced in the Tversky.

    `loss = weight * F + (1 - weight) * T`, over the classes c of one sample, with d_0 = 1 - delta for the background
    and d_c = delta for every other class, N voxels and C classes:

    - `F = 1/N sum_voxels sum_c d_c (1 - p_c)^g_c t_c (-ln p_c)`
    - `T = 1/C sum_c (1 - TI_c)^(1 - h_c)`, `TI = (TP + smooth) / (TP + delta FN + (1 - delta) FP + smooth)`
    - asymmetric: g is gamma for the background and 0 for the others; h is 0 for the background and gamma for the others
    - symmetric: g and h are gamma for all.

    With softmax the channels are the classes and channel 0 is the background. With sigmoid every channel is a problem
    of two classes of its own, background 1 - p and lesion p, and the loss is the mean over the channels; a single
    channel with logit z equals softmax over the two channels (0, z). With gamma 0 and delta 0.5, F is half the
    (categorical or binary) cross-entropy and T the mean of the soft Dice losses of the classes.

    Soft targets: F is linear in t, so its minimum is at p = t (a proper score) only for gamma 0 and delta 0.5. T takes
    TP, FN and FP as the sums of min(p, t), max(t - p, 0) and max(p - t, 0), which are the usual ones for t in {0, 1}
    and make p = t its minimum, 0, for every target. Mixing losses instead of targets is always valid.

    Args:
        weight: of F, in [0, 1]; T has the rest.
        delta: weight of false negatives against false positives, in (0, 1); above 0.5 misses cost more.
        gamma: focal parameter in [0, 1). At 1 the enhanced Tversky term would be constant.
        asymmetric: whether F spares the rare classes and T the background (see above).
        smooth: smoothing of TI, > 0.
        include_background: if False, channel 0 is left out (ignored, with a warning, for a single channel). With
            softmax it leaves T only: without background voxels F would never see a false positive.
        sigmoid: independent channels; also what is done when neither `sigmoid` nor `softmax` is set.
        softmax: exclusive classes, background in channel 0.
        to_onehot_y: the target holds class indices `B 1 H [W D]`; ignored, with a warning, for a single channel.
        reduction: `none` is one value per sample and problem, `B C` with sigmoid and `B 1` with softmax; `mean` and
            `sum` are taken over these.

    Raises:
        RequestError: if an option is unknown or out of range, or both `sigmoid` and `softmax` are set.

    References:
        Yeung et al., 2022, doi:10.1016/j.compmedimag.2021.102026 (two classes). As in the authors' code F sums over
        the classes and T averages over them; every foreground class counts as rare. The sums are taken from
        log-probabilities without clamping, so no gradient is cut off. `monai.losses.AsymmetricUnifiedFocalLoss` knows
        two classes and probabilities only (its docstring speaks of logits, but it applies no sigmoid), averages F
        over the two classes, which halves it, and always averages, whatever its `reduction`; T is the same.

    Example:
        >>> loss = UnifiedFocalLoss(softmax=True, to_onehot_y=True)
        >>> bool(loss(torch.zeros(2, 4, 8, 8, 8), torch.zeros(2, 1, 8, 8, 8)) > 0)
        True
    """

    def __init__(
        self,
        weight: float = 0.5,
        delta: float = 0.6,
        gamma: float = 0.5,
        asymmetric: bool = True,
        *,
        smooth: float = 1e-5,
        include_background: bool = True,
        sigmoid: bool = False,
        softmax: bool = False,
        to_onehot_y: bool = False,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        check_activation("UnifiedFocalLoss", sigmoid, softmax)
        if not 0 <= weight <= 1:
            raise RequestError(f"UnifiedFocalLoss: weight ({weight}) must be in [0, 1]")
        if not 0 < delta < 1:
            raise RequestError(f"UnifiedFocalLoss: delta ({delta}) must be in (0, 1)")
        if not 0 <= gamma < 1:
            msg = f"UnifiedFocalLoss: gamma ({gamma}) must be in [0, 1)"
            raise RequestError(msg, "one gamma serves both terms; the paper's default is 0.5")
        if not smooth > 0:
            msg = f"UnifiedFocalLoss: smooth ({smooth}) must be > 0"
            raise RequestError(msg, "without smoothing a class that is absent has no finite Tversky index")
        if reduction not in get_args(Reduction):
            raise unknown_name("reduction", reduction, get_args(Reduction))
        self.weight = float(weight)
        self.delta = float(delta)
        self.gamma = float(gamma)
        self.asymmetric = asymmetric
        self.smooth = float(smooth)
        self.include_background = include_background
        self.softmax = softmax
        self.to_onehot_y = to_onehot_y
        self.reduction: Reduction = reduction

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss.

        Args:
            logits: `B C H [W D]`, any floating type, before any activation.
            target: the same shape (or `B 1 H [W D]` with `to_onehot_y`), in [0, 1]; any type.

        Returns:
            A scalar, or `B C` (sigmoid), `B 1` (softmax) with reduction `none`; float32, or float64 for float64 logits.

        Raises:
            InputError: if the shapes do not fit each other or the softmax.
        """
        spec = self._fused(logits, target)
        if spec is not None:
            way = fused_way(logits, target)
            if way is not None:
                return fused_loss(spec, logits, target, way)
        z, t = prepare("UnifiedFocalLoss", logits, target, self.to_onehot_y)
        loss = self._classes(z, t) if self.softmax else self._regions(z, t)
        if self.reduction == "none":
            return loss
        return loss.mean() if self.reduction == "mean" else loss.sum()

    def extra_repr(self) -> str:
        """Return the options that `print` shows."""
        kind = "asymmetric" if self.asymmetric else "symmetric"
        activation = "softmax" if self.softmax else "sigmoid"
        return f"{kind}, weight={self.weight}, delta={self.delta}, gamma={self.gamma}, {activation}"

    def _fused(self, logits: torch.Tensor, target: torch.Tensor) -> FusedSpec | None:
        """Return what to fuse, None where the plain loss has to do it, or has something to say."""
        if self.reduction != "mean" or logits.ndim < 3:
            return None
        channels, dropped = logits.shape[1], 0 if self.include_background else 1
        if channels == 1 and (self.softmax or self.to_onehot_y or dropped):
            return None
        common = self.gamma if not self.asymmetric else 0.0
        if self.softmax:
            kinds = [Focal(1 - self.delta, self.gamma), *(Focal(self.delta, common),) * (channels - 1)]
            powers = ((common, 0.0), *((self.gamma, 0.0),) * (channels - 1))
        else:
            kinds = [Focal(self.delta, common, 1 - self.delta, self.gamma)] * channels
            powers = ((self.gamma, common),) * channels
        terms = tuple(((kind, self.weight),) if self.weight > 0 else () for kind in kinds)
        return FusedSpec(
            "softmax" if self.softmax else "sigmoid",
            terms if self.softmax else ((),) * dropped + terms[dropped:],
            (0.0,) * dropped + (1 - self.weight,) * (channels - dropped),
            counted=channels - dropped,
            per_channel=not self.softmax,
            classes=check_pair("UnifiedFocalLoss", logits, target, self.to_onehot_y),
            tversky=Tversky(self.delta, powers, not self.softmax, self.smooth),
        )

    def _classes(self, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        check_classes("UnifiedFocalLoss", z)
        z = one_vs_rest_logits(z).flatten(2)
        t = t.flatten(2)
        entropy = self._entropy(z[:, :1], t[:, :1], rare=False) + self._entropy(z[:, 1:], t[:, 1:], rare=True).sum(
            1, keepdim=True
        )
        p = torch.sigmoid(z)
        tversky = self._tversky(p[:, 1:], t[:, 1:], rare=True)
        if self.include_background:
            tversky = torch.cat([self._tversky(p[:, :1], t[:, :1], rare=False), tversky], dim=1)
        return self._mix(entropy, tversky.mean(1, keepdim=True))

    def _regions(self, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if not self.include_background:
            z, t = drop_background("UnifiedFocalLoss", z), drop_background("UnifiedFocalLoss", t)
        z, t = z.flatten(2), t.flatten(2)
        entropy = self._entropy(-z, 1 - t, rare=False) + self._entropy(z, t, rare=True)
        background = self._tversky(torch.sigmoid(-z), 1 - t, rare=False)
        return self._mix(entropy, (background + self._tversky(torch.sigmoid(z), t, rare=True)) / 2)

    def _mix(self, entropy: torch.Tensor, tversky: torch.Tensor) -> torch.Tensor:
        return self.weight * entropy + (1 - self.weight) * tversky

    def _entropy(self, z: torch.Tensor, t: torch.Tensor, rare: bool) -> torch.Tensor:
        """Return F of each channel, `B C`, from logits against the rest and targets `B C N`."""
        loss = -functional.logsigmoid(z) * t
        if self.gamma > 0 and not (rare and self.asymmetric):
            # (1 - p)^gamma by way of its logarithm: for gamma < 1 the power itself has no finite slope at p = 1.
            loss = loss * torch.exp(self.gamma * functional.logsigmoid(-z))
        return (self.delta if rare else 1 - self.delta) * loss.mean(2)

    def _tversky(self, p: torch.Tensor, t: torch.Tensor, rare: bool) -> torch.Tensor:
        """Return T of each channel, `B C`, from probabilities and targets `B C N`."""
        wrong = self.delta * functional.relu(t - p).sum(2) + (1 - self.delta) * functional.relu(p - t).sum(2)
        # 1 - TI as one fraction: the difference would round to 0, or below, long before the prediction is perfect.
        loss = wrong / (torch.minimum(p, t).sum(2) + wrong + self.smooth)
        if self.gamma > 0 and (rare or not self.asymmetric):
            loss = loss * loss.clamp_min(TVERSKY_FLOOR).pow(-self.gamma)
        return loss
