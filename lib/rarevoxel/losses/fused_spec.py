"""What a fused loss computes: voxel terms and a region term of every channel, as plain values that can be hashed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FusedActivation = Literal["sigmoid", "softmax", "one_vs_rest"]
VoxelKind = Literal["bce", "fisher", "logit", "arcsine", "sigmoid_focal", "ce", "softmax_focal"]


@dataclass(frozen=True)
class Focal:
    """The voxel term `a t (1 - p)^g ln(1 / p) + b (1 - t) p^h ln(1 / (1 - p))`; with softmax b is 0.

    Args:
        present: a.
        gamma: g, >= 0.
        absent: b.
        gamma_absent: h, >= 0.
    """

    present: float
    gamma: float
    absent: float = 0.0
    gamma_absent: float = 0.0


@dataclass(frozen=True)
class Margin:
    """The voxel term `a t CE(s z - m, true) + b (1 - t) CE(s z + n, false)` of LDAM; with softmax b is 0.

    Args:
        scale: s.
        present: a.
        margin: m, in units of `s z`.
        absent: b.
        margin_absent: n, in units of `s z`.
    """

    scale: float
    present: float
    margin: float
    absent: float = 0.0
    margin_absent: float = 0.0


Kind = VoxelKind | Focal | Margin


@dataclass(frozen=True)
class Tversky:
    """The region term of the unified focal loss, in place of Dice: `(1 - TI)^(1 - h)`, see `UnifiedFocalLoss`.

    Args:
        delta: weight of false negatives; false positives have 1 - delta.
        powers: h of every channel, and of its background where that is a class of its own.
        both: whether 1 - p with the target 1 - t is a class of its own; the term is then the mean of the two.
        smooth: of TI.
    """

    delta: float
    powers: tuple[tuple[float, float], ...]
    both: bool
    smooth: float


@dataclass(frozen=True)
class FusedSpec:
    """One loss of the kind `sum_bc scale_v V_bc + sum_bc scale_d w_c R_bc`, for a fixed number of channels.

    `V_bc` is the sum over voxels of the channel's voxel terms, and `R_bc` its region term, made of sums alone: Dice,
    `1 - (2 I + nr) / (P + T + dr)` with `P = sum p`, `T = sum t` and `I = sum p t`, or `sum min(p, t)` with `minimum`;
    or `Tversky`.

    Args:
        activation: what p is of the logits; `one_vs_rest` is CALF's softmax, the log-odds of each class.
        voxel: per channel its voxel terms as (kind, weight); empty where a channel is left out.
        dice: w, per channel; 0 where a channel has no region term.
        counted: channels that the means are taken over.
        per_channel: whether V is averaged over the counted channels as well as over samples and voxels.
        total: whether the loss is the sum over samples, counted channels and voxels, and not the mean.
        minimum: which I the Dice term has.
        classes: whether the target holds class indices `B 1 N` and not channels.
        hard: whether every target is known to be 0 or 1, for which some terms have a shorter form.
        smooth_nr: of the Dice numerator.
        smooth_dr: of the Dice denominator.
        logit_eps: of the voxel term `logit`, see `rarevoxel.losses.voxel`.
        tversky: the region term, if it is not Dice.
    """

    activation: FusedActivation
    voxel: tuple[tuple[tuple[Kind, float], ...], ...]
    dice: tuple[float, ...]
    counted: int
    per_channel: bool = True
    total: bool = False
    minimum: bool = False
    classes: bool = False
    hard: bool = False
    smooth_nr: float = 1e-5
    smooth_dr: float = 1e-5
    logit_eps: float = 0.01
    tversky: Tversky | None = None

    @property
    def channels(self) -> int:
        """How many channels there are."""
        return len(self.voxel)

    @property
    def heavy(self) -> bool:
        """Whether each channel needs sums over the others, so many that a compiler must not repeat them."""
        powers = any(isinstance(kind, Focal | Margin) for terms in self.voxel for kind, _ in terms)
        return self.activation == "one_vs_rest" or (self.activation == "softmax" and powers)

    @property
    def columns(self) -> int:
        """How many sums are taken of every channel, see `rarevoxel.losses.fused_region`."""
        return 5 if self.tversky is None else 7

    @property
    def uniform(self) -> bool:
        """Whether all channels go the same way, so that no loop over them is needed."""
        alike = len(set(zip(self.voxel, self.dice, strict=True))) == 1
        return self.activation == "sigmoid" and not self.classes and alike

    @property
    def gains_from_hard(self) -> bool:
        """Whether hard targets allow a shorter form."""
        kinds = [kind for terms in self.voxel for kind, _ in terms]
        return self.activation != "softmax" and any(k == "sigmoid_focal" or isinstance(k, Margin) for k in kinds)

    def used(self, channel: int) -> bool:
        """Return whether a channel has any term of its own."""
        return bool(self.voxel[channel]) or self.dice[channel] > 0

    def scales(self, samples: int, voxels: int) -> tuple[float, float]:
        """Return `scale_v` and `scale_d` for `samples` samples of `voxels` voxels."""
        if self.total:
            return 1.0, float(voxels)
        over = samples * (self.counted if self.per_channel else 1)
        return 1.0 / (over * voxels), 1.0 / (samples * self.counted)
