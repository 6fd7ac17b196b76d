"""Sequences that were not acquired."""

from __future__ import annotations

import numpy as np

from rarevoxel.errors import InputError
from rarevoxel.phantom.fields import Array


def drop(images: Array, dropped: tuple[int, ...]) -> Array:
    """Return the images with the channels of sequences that were not acquired all 0.

    Args:
        images: `(C, H, W, D)`.
        dropped: channels to empty; none leaves the images as they are.

    Returns:
        float32 `(C, H, W, D)`.

    Raises:
        InputError: a channel that is not there.
    """
    acquired = kept(len(images), dropped)
    if not dropped:
        return images
    out = np.zeros_like(images)
    out[acquired] = images[acquired]
    return out


def kept(count: int, dropped: tuple[int, ...]) -> list[int]:
    """Return which of `count` sequences were acquired.

    Raises:
        InputError: a sequence that is not there.
    """
    if not set(dropped) <= set(range(count)):
        raise InputError(f"sequences {dropped} were to be dropped from {count}, expected numbers from 0 to {count - 1}")
    return [index for index in range(count) if index not in dropped]
