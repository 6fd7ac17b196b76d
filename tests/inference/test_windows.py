"""Logits of a whole image, in one pass or in windows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rarevoxel.config import NetworkConfig
from rarevoxel.inference import predict_logits, predict_probabilities
from rarevoxel.networks import build_network


class Pointwise(nn.Module):
    """Each voxel's logits follow from that voxel alone; remembers the sizes it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(tuple(x.shape[2:]))
        return torch.stack([x[:, 0] - x[:, 1], 2 * x[:, 2], x[:, 3] + 1], dim=1)


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn((1, 4, *shape), generator=torch.Generator().manual_seed(seed))


def expected(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([x[:, 0] - x[:, 1], 2 * x[:, 2], x[:, 3] + 1], dim=1)


@pytest.mark.parametrize("shape", [(40, 33, 21), (16, 16, 16), (5, 60, 60), (1, 1, 1), (70, 5, 5)])
def test_windows_equal_one_pass_for_a_pointwise_network(shape: tuple[int, ...]) -> None:
    x = image(*shape)
    whole, tiled = Pointwise(), Pointwise()
    one = predict_logits(whole, x, window=(80, 80, 80), overlap=0.25, multiple=4)
    many = predict_logits(tiled, x, window=(16, 16, 16), overlap=0.5, multiple=4)
    assert len(whole.sizes) == 1
    assert len(tiled.sizes) > 1 or max(shape) <= 16
    assert one.shape == many.shape == (1, 3, *shape)
    torch.testing.assert_close(one, expected(x))
    torch.testing.assert_close(many, expected(x), rtol=1e-4, atol=1e-4)


def test_the_network_only_sees_sizes_it_can_halve() -> None:
    for window in ((80, 80, 80), (21, 22, 23)):
        network = Pointwise()
        predict_logits(network, image(37, 30, 51), window=window, overlap=0.25, multiple=8)
        assert all(n % 8 == 0 for size in network.sizes for n in size)
        assert all(n <= w for size in network.sizes for n, w in zip(size, window, strict=True))


def test_it_leaves_no_graph_and_float32() -> None:
    logits = predict_logits(Pointwise(), image(8, 8, 8).bfloat16(), window=(16, 16, 16), overlap=0.25, multiple=2)
    assert logits.dtype == torch.float32
    assert not logits.requires_grad


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 3, 3), (16, 16, 16), (2, 40, 3)])
def test_images_smaller_than_the_network_s_deepest_level_are_predicted(shape: tuple[int, ...]) -> None:
    network = build_network(NetworkConfig(filters=(2, 2, 2, 2, 2))).eval()
    logits = predict_logits(network, image(*shape), window=(96, 96, 96), overlap=0.25, multiple=16)
    assert logits.shape == (1, 3, *shape)
    assert torch.isfinite(logits).all()


def test_a_window_as_small_as_the_deepest_level_is_predicted() -> None:
    network = build_network(NetworkConfig(filters=(2, 2, 2, 2, 2))).eval()
    logits = predict_logits(network, image(20, 20, 20), window=(16, 16, 16), overlap=0.25, multiple=16)
    assert torch.isfinite(logits).all()


class Uneven(nn.Module):
    """A network that sees where a voxel lies, so mirroring matters."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        ramp = torch.arange(image.shape[2], dtype=torch.float32).view(1, 1, -1, 1, 1)
        return image[:, :1] + ramp


@pytest.mark.parametrize(("mirror", "count"), [((), 1), ((0,), 2), ((0, 2), 4)])
def test_mirror_images_are_predicted_turned_back_and_averaged(mirror: tuple[int, ...], count: int) -> None:
    image = torch.randn(1, 1, 4, 4, 8)
    settings = {"window": (16, 16, 16), "overlap": 0.25, "multiple": 4}
    seen = []
    network = Uneven()
    network.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    found = predict_probabilities(network, image, mirror=mirror, **settings)
    ramp = torch.arange(4.0).view(1, 1, -1, 1, 1)
    plain, turned = torch.sigmoid(image + ramp), torch.sigmoid(image + ramp.flip(2))
    expected = (plain + turned) / 2 if 0 in mirror else plain
    assert torch.allclose(found, expected, atol=1e-2)
    assert len(seen) == count
