"""Lower thresholds for whole tumour where a sequence is missing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rarevoxel.config import AppConfig
from rarevoxel.training.without import thresholds_by_sequence


class SeesBest(nn.Module):
    """Whole tumour by the sum of what t2w and t2f show: a logit of 2 in full, of -1.5 with one of them alone."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (3.5 * image[:, 2:].sum(dim=1, keepdim=True) - 5.0).repeat(1, 3, 1, 1, 1)


@pytest.fixture
def heads() -> list[tuple[torch.Tensor, torch.Tensor]]:
    regions = torch.zeros(3, 16, 16, 16)
    regions[:, 4:8, 4:8, 4:8] = 1
    image = regions[:1].repeat(4, 1, 1, 1)
    image[:2] *= 0.5  # Two sequences the network does not look at.
    return [(image, regions), (torch.zeros(4, 16, 16, 16), torch.zeros(3, 16, 16, 16))]


def test_sequences_that_the_network_needs_get_a_lower_threshold(
    config: AppConfig, heads: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    lower = {"t2w": {"WT": 0.15}, "t2f": {"WT": 0.15}}  # A logit of -1.5 is a probability of 0.18.
    assert thresholds_by_sequence(SeesBest(), config, heads, 0.0) == lower
    assert thresholds_by_sequence(SeesBest(), config, heads, 0.18) == lower
    assert thresholds_by_sequence(SeesBest(), config, heads, 0.19) == {}, "no piece of them would be kept"
    assert thresholds_by_sequence(SeesBest(), config, heads[1:], 0.0) == {}, "no tumour, nothing to say"
