"""The images that a prediction is the mean of."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional

from rarevoxel.inference import predict_probabilities
from rarevoxel.inference.views import View, views
from rarevoxel.networks import ShuffledUNet, block_edge


@pytest.mark.parametrize("axes", [(), (0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("front", [(0, 0, 0), (1, 0, 2)])
def test_the_way_back_is_that_of_the_way_there(axes: tuple[int, ...], front: tuple[int, ...]) -> None:
    image = torch.randn(4, 5, 6, 7)
    view = View(axes, front)
    seen = view.show(image)
    assert seen.shape == (4, *(n + f for n, f in zip((5, 6, 7), front, strict=True)))
    assert torch.equal(view.back(seen), image)


def test_without_blocks_mirror_images_are_not_moved() -> None:
    assert views((5, 6, 7), (0, 2), edge=1, multiple=4) == [View(), View((0,)), View((2,)), View((0, 2))]
    assert views((5, 6, 7), ()) == [View()]


def blocks(view: View, shape: tuple[int, ...], edge: int) -> list[list[int]]:
    """Where blocks begin among the voxels of the image, per axis."""
    index = torch.stack(torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij")) + 1
    seen = view.show(index)
    starts = []
    for axis in range(3):
        line = seen[axis].amax(dim=tuple(other for other in range(3) if other != axis))
        first = [int(block[block > 0].min()) - 1 for block in line.split(edge) if (block > 0).sum() == edge]
        starts.append(sorted({n % edge for n in first}))
    return starts


@pytest.mark.parametrize("edge", [2, 4])
@pytest.mark.parametrize("shape", [(11, 12, 13), (9, 10, 21), (14, 11, 11)])
@pytest.mark.parametrize("mirror", [(0,), (1,), (0, 2)])
def test_blocks_of_mirror_images_begin_in_the_middle_of_those_of_the_image(
    edge: int, shape: tuple[int, ...], mirror: tuple[int, ...]
) -> None:
    plain, *mirrored = views(shape, mirror, edge=edge, multiple=64)
    assert plain == View()
    for view in mirrored:
        assert blocks(view, shape, edge) == [[edge // 2]] * 3


def test_an_image_is_not_moved_where_that_would_make_it_larger() -> None:
    assert [view.front for view in views((16, 15, 16), (0,), edge=2, multiple=8)] == [(0, 0, 0), (0, 1, 0)]
    for shape in itertools.product((14, 15, 16), repeat=3):
        for view in views(shape, (0, 1), edge=2, multiple=16):
            assert all(n + f <= 16 for n, f in zip(shape, view.front, strict=True))


class Blocky(ShuffledUNet):
    """Every block of two voxels a side says its mean, so what is said depends on where blocks begin."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.factor = 2

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(functional.avg_pool3d(image, 2), scale_factor=2)


def test_a_voxel_s_answer_is_the_mean_of_two_blocks_that_hold_it() -> None:
    network = Blocky()
    assert block_edge(torch.nn.Sequential(network)) == 2
    assert block_edge(torch.nn.Conv3d(1, 1, 1)) == 1
    image = torch.zeros(1, 1, 13, 13, 13)
    image[0, 0, 6, 6, 6] = 8.0
    found = predict_probabilities(network, image, mirror=(0,), window=(16, 16, 16), overlap=0.25, multiple=8)
    said = (found[0, 0] > 0.51).nonzero()
    assert said.min(dim=0).values.tolist() == [5, 5, 5]
    assert said.max(dim=0).values.tolist() == [7, 7, 7], "blocks of 6, 7 and of 5, 6: the same on both sides"
    both = (torch.sigmoid(torch.tensor(1.0)) * 2) / 2
    assert float(found[0, 0, 6, 6, 6]) == pytest.approx(float(both), abs=1e-2)
