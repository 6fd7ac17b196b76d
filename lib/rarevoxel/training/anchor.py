"""An anchor to the weights a training starts from, so that learning from a few cases does not undo what was known."""

from __future__ import annotations

import torch
from torch import nn


class Anchor:
    """Pulls weights back to where they were, apart from the gradient.

    After an optimisation step of learning rate `lr`, every weight `w` that was `s` at the start becomes
    `w - min(1, lr strength) (w - s)`. The bound keeps a strong anchor from overshooting: at best it undoes the step.

    Args:
        network: its parameters as they are now are what is held on to.
        strength: of the pull, >= 0; 0 leaves the weights alone and keeps no copy of them.

    References:
        Li, Grandvalet, Davoine, Explicit inductive bias for transfer learning with convolutional networks (L2-SP),
        ICML 2018, arXiv:1802.01483. There a penalty in the loss; here decoupled from the gradient, as weight decay in
        AdamW (Loshchilov, Hutter, ICLR 2019, arXiv:1711.05101), and for all weights, as the output layer is no new one.
    """

    def __init__(self, network: nn.Module, strength: float) -> None:
        self.network = network
        self.strength = strength
        self.start = [weight.detach().clone() for weight in network.parameters()] if strength else []

    @torch.no_grad()
    def pull(self, learning_rate: float) -> None:
        """Pull once; to be called after an optimisation step that was taken with `learning_rate`."""
        share = min(1.0, learning_rate * self.strength)
        if not share:
            return
        for weight, start in zip(self.network.parameters(), self.start, strict=True):
            weight.lerp_(start, share)
