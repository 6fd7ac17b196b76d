"""What a pass takes, and what fits."""

from __future__ import annotations

import psutil
import pytest
import torch
from torch import nn

from rarevoxel.config import NetworkConfig
from rarevoxel.inference.memory import HELD, SHARE, bytes_per_voxel, voxels_in_memory
from rarevoxel.networks import build_network


def test_the_largest_layer_counts_by_hand() -> None:
    network = nn.Sequential(nn.Conv3d(4, 8, 1), nn.Conv3d(8, 8, 1), nn.Conv3d(8, 3, 1)).eval()
    each = bytes_per_voxel(network, multiple=4, channels=4, dtype=torch.float32)
    assert each == HELD * 4 * (8 + 8)


def test_a_unet_is_largest_where_it_joins_its_skip_connection() -> None:
    network = build_network(NetworkConfig(filters=(16, 32, 64))).eval()
    each = {t: bytes_per_voxel(network, multiple=4, channels=4, dtype=t) for t in (torch.float32, torch.bfloat16)}
    assert each[torch.float32] == HELD * 4 * (2 * 16 + 16)
    assert each[torch.bfloat16] == each[torch.float32] / 2
    assert not any(module._forward_hooks for module in network.modules())


def test_a_bound_leaves_what_the_image_itself_does_not_take() -> None:
    image = torch.zeros(4, 10, 10, 10)
    assert voxels_in_memory(image, 1000.0, memory_mib=1) == pytest.approx((2**20 - 4 * 4 * 4000) / 1000)
    assert voxels_in_memory(torch.zeros(4, 64, 64, 64), 1000.0, memory_mib=1) == 0


def test_without_a_bound_half_of_what_is_free_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    free = psutil.virtual_memory()._replace(available=10**9)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    image = torch.zeros(4, 10, 10, 10)
    assert voxels_in_memory(image, 100.0) == pytest.approx((SHARE * 1e9 - 64000) / 100)
