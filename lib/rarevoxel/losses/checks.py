"""What every loss does with its arguments before any arithmetic: names, shapes, one-hot, precision."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable

import torch
from monai.networks import one_hot

from rarevoxel.errors import InputError, RequestError


def unknown_name(kind: str, name: object, names: Iterable[str]) -> RequestError:
    """Return (not raise) the error for a name that is not one of `names`; its hint is the nearest known name."""
    known = list(names)
    near = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=0.0)
    msg = f"unknown {kind} {str(name)!r}, expected one of {', '.join(known)}"
    return RequestError(msg, f"did you mean {near[0]!r}?" if near else "")


def as_float(tensor: torch.Tensor) -> torch.Tensor:
    """Return `tensor` in float32, or unchanged in float64; sums over a volume overflow or stall in half precision."""
    return tensor if tensor.dtype == torch.float64 else tensor.to(torch.float32)


def check_activation(owner: str, sigmoid: bool, softmax: bool) -> None:
    """Raise if both activations are asked for.

    Raises:
        RequestError: naming the loss.
    """
    if sigmoid and softmax:
        msg = f"{owner}: sigmoid=True and softmax=True, expected at most one of them"
        raise RequestError(msg, "sigmoid for nested regions, softmax for exclusive classes")


def check_classes(owner: str, logits: torch.Tensor) -> None:
    """Raise if a softmax over the channels of `logits` (`B C H [W D]`) means nothing.

    Raises:
        InputError: with one channel.
    """
    if logits.shape[1] == 1:
        msg = f"{owner}: softmax=True with one channel, expected one channel per class, background included"
        raise InputError(msg, "use sigmoid=True for a single mask")


def check_pair(owner: str, logits: torch.Tensor, target: torch.Tensor, to_onehot_y: bool = False) -> bool:
    """Return whether the target is one of class indices, after a check that it fits the logits.

    Args:
        owner: the loss's name, for errors.
        logits: `B C H [W D]`, any floating type.
        target: `B C H [W D]`, or class indices `B 1 H [W D]` with `to_onehot_y`.
        to_onehot_y: whether class indices are expected; ignored, with a warning, if C is 1 (as MONAI does).

    Raises:
        InputError: if the logits are not floating, have no spatial dimension, or the shapes do not fit.
    """
    found = f"{owner}: target shape {tuple(target.shape)}, logits shape {tuple(logits.shape)}"
    if not logits.is_floating_point() or not 3 <= logits.ndim <= 5:
        msg = f"{found} ({logits.dtype}): logits must be floating and B C H [W D], with 1 to 3 spatial dimensions"
        raise InputError(msg, "pass the network's raw output, before sigmoid or softmax")
    channels = logits.shape[1]
    expected = logits.shape
    if to_onehot_y and channels == 1:
        warnings.warn(f"{owner}: one channel only, to_onehot_y=True ignored", stacklevel=3)
        to_onehot_y = False
    if to_onehot_y:
        if target.ndim != logits.ndim or target.shape[1] != 1:
            msg = f"{found}: to_onehot_y=True expects class indices in one channel, B 1 H [W D]"
            raise InputError(msg, "set to_onehot_y=False for a target that has the logits' channels")
        expected = torch.Size((logits.shape[0], 1, *logits.shape[2:]))
    if target.shape != expected:
        msg = f"{found}: the shapes must be equal"
        raise InputError(msg, "a target of class indices B 1 H [W D] needs to_onehot_y=True")
    return to_onehot_y


def prepare(
    owner: str, logits: torch.Tensor, target: torch.Tensor, to_onehot_y: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and target as floats of one shape, at least float32.

    Args:
        owner: the loss's name, for errors.
        logits: `B C H [W D]`, any floating type.
        target: `B C H [W D]`, or class indices `B 1 H [W D]` with `to_onehot_y`; bool, integer or floating.
        to_onehot_y: turn class indices into C channels; ignored, with a warning, if C is 1 (as MONAI does).

    Returns:
        Logits and target, both `B C H [W D]`, float32 (float64 if the logits are).

    Raises:
        InputError: see `check_pair`.
    """
    if check_pair(owner, logits, target, to_onehot_y):
        target = one_hot(target, num_classes=logits.shape[1])
    logits = as_float(logits)
    return logits, target.to(logits.dtype)


def drop_background(owner: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return `tensor` (`B C H [W D]`) without channel 0; unchanged, with a warning, if C is 1 (as MONAI)."""
    if tensor.shape[1] == 1:
        warnings.warn(f"{owner}: one channel only, include_background=False ignored", stacklevel=2)
        return tensor
    return tensor[:, 1:]
