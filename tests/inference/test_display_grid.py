"""Probabilities on the display grid, and no resampling where the network works at the image's voxel size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from rarevoxel.config import AppConfig, Preprocessing
from rarevoxel.inference import Engine
from rarevoxel.labels import CLIENT_LABELS, labels_to_regions, regions_to_labels
from rarevoxel.networks import build_network, save_weights
from rarevoxel.phantom import Phantom

Writer = Callable[..., Path]


@pytest.fixture
def at(config: AppConfig, tmp_path: Path) -> Callable[[float], Engine]:
    """Return a function that makes an engine of random weights for a voxel size in mm."""

    def make(spacing: float) -> Engine:
        torch.manual_seed(1)
        path = tmp_path / f"{spacing}.pt"
        save_weights(path, build_network(config.network), config.network, Preprocessing(spacing=(spacing,) * 3), {})
        return Engine(config, [path], device="cpu")

    return make


def turned(images: np.ndarray, affine: np.ndarray, codes: str) -> tuple[list[np.ndarray], np.ndarray]:
    ornt = nib.orientations.axcodes2ornt(tuple(codes))
    back = nib.orientations.inv_ornt_aff(ornt, images.shape[1:])
    return [nib.orientations.apply_orientation(image, ornt) for image in images], affine @ back


@pytest.mark.parametrize("codes", ["RAS", "PIR"])
@pytest.mark.parametrize("spacing", [4.0, 6.0])
def test_probabilities_lie_where_the_labels_do(
    at: Callable[[float], Engine], phantom: Phantom, tmp_path: Path, write_case: Writer, codes: str, spacing: float
) -> None:
    images, affine = turned(phantom.images, phantom.affine, codes)
    prediction = at(spacing).predict(write_case(tmp_path / "case", images, affine), with_probabilities=True)
    p = prediction.probabilities
    assert p is not None
    assert p.dtype == np.float32
    assert p.shape == (3, *prediction.labels.shape)
    assert prediction.labels.any()
    np.testing.assert_array_equal(regions_to_labels(p >= 0.5), prediction.labels)
    brain = np.any(images, axis=0)
    assert (p[:, brain] > 0).all(), "all of the brain is predicted"
    assert not p[:, 0, 0, 0].any(), "the corner is outside the box"


def test_probabilities_are_kept_only_when_asked(at: Callable[[float], Engine], case_folder: Path) -> None:
    assert at(4.0).predict(case_folder).probabilities is None


def test_volumes_are_those_of_the_whole_mask(at: Callable[[float], Engine], case_folder: Path) -> None:
    prediction = at(6.0).predict(case_folder)
    masks = labels_to_regions(prediction.labels)
    assert list(prediction.regions_ml.values()) == pytest.approx([mask.sum() * 0.064 for mask in masks], abs=1e-4)
    for name, ml in prediction.labels_ml.items():
        assert ml == pytest.approx(np.count_nonzero(prediction.labels == CLIENT_LABELS[name]) * 0.064, abs=1e-4)


@pytest.mark.parametrize("shift", [0.0, 3e-4])
def test_nothing_is_resampled_where_the_grids_agree(
    at: Callable[[float], Engine], phantom: Phantom, tmp_path: Path, write_case: Writer, shift: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    calls: list[int] = []
    real = torch.nn.functional.grid_sample

    def counted(*args: object, **kwargs: object) -> torch.Tensor:
        calls.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "grid_sample", counted)
    images, affine = turned(phantom.images, phantom.affine, "LPS")
    affine = affine @ np.diag([1 + shift, 1, 1 - shift, 1])  # As headers of float32 are.
    folder = write_case(tmp_path / "case", images, affine)
    assert at(4.0).predict(folder).labels.any()
    assert calls == []
    at(5.0).predict(folder)
    assert calls, "a test that counts nothing would hold nothing"
