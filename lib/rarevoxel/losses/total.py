"""A weighted sum of loss modules."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from rarevoxel.errors import RequestError


class SumLoss(nn.Module):
    """`sum_i w_i L_i(logits, target)` of losses that return scalars.

    Args:
        terms: (weight, loss) pairs, at least one.

    Raises:
        RequestError: if there is no term.

    Example:
        >>> loss = SumLoss([(1.0, nn.BCEWithLogitsLoss()), (0.5, nn.BCEWithLogitsLoss())])
        >>> round(float(loss(torch.zeros(1), torch.zeros(1))), 4)
        1.0397
    """

    def __init__(self, terms: Iterable[tuple[float, nn.Module]]) -> None:
        super().__init__()
        pairs = tuple(terms)
        if not pairs:
            raise RequestError("SumLoss: no terms, expected at least one (weight, loss) pair")
        self.weights = tuple(float(weight) for weight, _ in pairs)
        self.terms = nn.ModuleList(loss for _, loss in pairs)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the sum, a scalar."""
        return torch.stack([weight * term(logits, target) for weight, term in self.pairs()]).sum()

    def pairs(self) -> list[tuple[float, nn.Module]]:
        """Return the terms with their weights."""
        return list(zip(self.weights, self.terms, strict=True))

    def extra_repr(self) -> str:
        """Return the weights that `print` shows."""
        return f"weights={self.weights}"
