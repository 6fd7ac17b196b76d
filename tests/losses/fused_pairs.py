"""Logits and targets of every kind, and the comparison of a fused loss with the plain one."""

from __future__ import annotations

import torch

from rarevoxel.losses.fused import use_fused


def one_hot(index, channels):
    return torch.eye(channels)[index[:, 0]].movedim(-1, 1)


def pair(channels, kind, shape=(5, 7, 3), samples=2, dtype=torch.float32):
    torch.manual_seed(channels)
    z = (3 * torch.randn(samples, channels, *shape)).to(dtype)
    if kind == "classes":
        return z, torch.randint(0, channels, (samples, 1, *shape))
    if kind == "soft":
        return z, torch.rand(samples, channels, *shape)
    if kind == "empty":
        return z, torch.zeros(samples, channels, *shape)
    if kind == "full":
        return z, torch.ones(samples, channels, *shape)
    if kind == "one-hot":
        return z, one_hot(torch.randint(0, channels, (samples, 1, *shape)), channels)
    return z, torch.rand(samples, channels, *shape) < 0.2


def both(loss, z, t):
    """Return value and gradient of the plain and of the fused loss."""
    found = []
    for enabled in (False, True):
        leaf = z.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        with use_fused(enabled):
            value = loss(leaf, t)
        value.backward()
        found.append((value.detach(), leaf.grad))
    return found


def check(loss, z, t, rtol=1e-6):
    (plain, plain_grad), (value, grad) = both(loss, z, t)
    assert value.dtype == plain.dtype
    assert value.shape == ()
    assert grad.dtype == z.dtype
    assert grad.stride() == z.stride()
    torch.testing.assert_close(value, plain, rtol=rtol, atol=1e-7)
    # Where the Dice term alone is near its minimum the plain gradient is the difference of larger numbers.
    scale = max(float(plain_grad.abs().max()), 1 / z.numel())
    torch.testing.assert_close(grad, plain_grad, rtol=0, atol=rtol * scale)
