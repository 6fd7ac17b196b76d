"""How undecided a probability is, in bits."""

from __future__ import annotations

import math

import torch


def binary_entropy(probability: torch.Tensor) -> torch.Tensor:
    """Return the entropy of a yes or no: `-p log2(p) - (1 - p) log2(1 - p)`.

    Args:
        probability: p in [0, 1], any shape.

    Returns:
        Bits, 0 (certain) to 1 (p = 0.5), of the shape of `probability`.

    Example:
        >>> binary_entropy(torch.tensor([0.0, 0.5, 1.0]))
        tensor([0., 1., 0.])
    """
    bits: torch.Tensor = (torch.special.entr(probability) + torch.special.entr(1.0 - probability)) / math.log(2.0)
    return bits
