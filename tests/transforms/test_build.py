"""The one road: every stage makes the same image, whatever way round it lies on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import SpatialPadd

from rarevoxel.config import AppConfig, Preprocessing
from rarevoxel.errors import InputError
from rarevoxel.labels import labels_to_regions
from rarevoxel.phantom import Phantom
from rarevoxel.sampling import RandPatchesd
from rarevoxel.transforms import CropBraind, LoadSequencesd, Stage, ToSpacingd, build_transforms

Writer = Callable[..., Path]


def entry(folder: Path) -> dict[str, str]:
    return {"id": "case", "image": str(folder / "t1c.nii.gz"), "label": str(folder / "seg.nii.gz")}


def reoriented(folder: Path, target: Path, codes: str) -> Path:
    """A copy of a case whose voxels are stored along other axes; the patient stays where they are."""
    target.mkdir()
    for path in folder.glob("*.nii.gz"):
        image = nib.load(path)
        ornt = nib.orientations.ornt_transform(
            nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
        )
        nib.save(image.as_reoriented(ornt), target / path.name)
    return target


def test_all_stages_make_the_same_image(config: AppConfig, case_folder: Path) -> None:
    infer = build_transforms(config, Stage.INFER)({"image": entry(case_folder)["image"]})["image"]
    validate = build_transforms(config, "validate")(entry(case_folder))["image"]
    chain = build_transforms(config, "train")
    first = next(i for i, step in enumerate(chain.transforms) if isinstance(step, SpatialPadd))
    train = chain(entry(case_folder), end=first)["image"]
    assert torch.equal(infer.as_tensor(), validate.as_tensor())
    assert torch.equal(infer.as_tensor(), train.as_tensor())
    assert torch.equal(infer.affine, train.affine)


def test_training_patches_are_pieces_of_that_image(config: AppConfig, case_folder: Path) -> None:
    whole = build_transforms(config, "validate")(entry(case_folder))
    chain = build_transforms(config, "train")
    chain.set_random_state(0)
    after = 1 + next(i for i, step in enumerate(chain.transforms) if isinstance(step, RandPatchesd))
    patches = chain(entry(case_folder), end=after)
    assert len(patches) == config.training.patches_per_case
    size = config.training.patch_size
    image, label = whole["image"].as_tensor(), whole["label"].as_tensor().numpy().astype(bool)
    for patch in patches:
        assert patch["image"].shape == (4, *size)
        piece = labels_to_regions(patch["label"][0].numpy())
        (window,) = places_of(patch["image"], image)
        assert np.array_equal(piece, label[window])


def places_of(piece: torch.Tensor, image: torch.Tensor) -> list[tuple[slice, ...]]:
    """Every window of `image` `(C, H, W, D)` that is exactly `piece`, found by a voxel in its midst."""
    size = piece.shape[1:]
    middle = tuple(n // 2 for n in size)
    voxel = piece[(slice(None), *middle)].reshape(-1, 1, 1, 1)
    starts = ((image == voxel).all(dim=0).nonzero() - torch.tensor(middle)).tolist()
    windows = [(slice(None), *(slice(a, a + n) for a, n in zip(start, size, strict=True))) for start in starts]
    return [w for start, w in zip(starts, windows, strict=True) if min(start) >= 0 and image[w].equal(piece)]


def test_training_gives_patches_of_regions(config: AppConfig, case_folder: Path) -> None:
    chain = build_transforms(config, "train")
    chain.set_random_state(0)
    for patch in chain(entry(case_folder)):
        assert patch["label"].shape == (3, *config.training.patch_size)
        wt, tc, et = patch["label"].as_tensor().bool()
        assert not (tc & ~wt).any()
        assert not (et & ~tc).any()


def test_rare_labels_are_met_as_often_as_background(config: AppConfig, case_folder: Path, phantom: Phantom) -> None:
    labels = np.zeros_like(phantom.labels)
    labels[20, 24, 20:22] = 3
    nib.save(nib.Nifti1Image(labels, phantom.affine), case_folder / "seg.nii.gz")
    many = replace(config, training=replace(config.training, patches_per_case=60, patch_size=(16, 16, 16)))
    chain = build_transforms(many, "train")
    chain.set_random_state(0)
    met = np.mean([bool(patch["label"][2].any()) for patch in chain(entry(case_folder))])
    assert 0.35 < met < 0.75  # Half the centres are on one of the two voxels; by chance it would be one patch in ten.


@pytest.mark.parametrize("codes", ["LPS", "LAS", "PIR", "SAL", "ILP"])
def test_the_network_sees_the_same_whatever_the_orientation(
    config: AppConfig, case_folder: Path, tmp_path: Path, codes: str
) -> None:
    chain = build_transforms(config, "validate")
    straight = chain(entry(case_folder))
    turned = chain(entry(reoriented(case_folder, tmp_path / codes, codes)))
    torch.testing.assert_close(turned["image"].as_tensor(), straight["image"].as_tensor(), rtol=1e-4, atol=1e-4)
    assert torch.equal(turned["label"].as_tensor(), straight["label"].as_tensor())
    np.testing.assert_allclose(np.asarray(turned["image"].affine), np.asarray(straight["image"].affine), atol=1e-4)


@pytest.mark.parametrize("stage", Stage)
def test_an_unusable_case_is_an_input_error_at_every_stage(config: AppConfig, case_folder: Path, stage: Stage) -> None:
    (case_folder / "t2w.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"t2w\.nii\.gz: file is empty"):
        build_transforms(config, stage)(entry(case_folder))


def test_an_unknown_stage_is_refused(config: AppConfig) -> None:
    with pytest.raises(ValueError, match="'test' is not a valid Stage"):
        build_transforms(config, "test")


AFFINES = {
    "isotropic": np.diag([4.0, 4.0, 4.0, 1.0]),
    "anisotropic": np.diag([3.0, 2.0, 6.5, 1.0]),
    "coarse": np.diag([5.5, 5.5, 5.5, 1.0]),
    "fine": np.diag([0.7, 0.7, 0.7, 1.0]),
    "oblique": np.block(
        [
            [
                3.0 * np.array([[np.cos(0.3), -np.sin(0.3), 0], [np.sin(0.3), np.cos(0.3), 0], [0, 0, 1]]),
                np.array([[-50.0], [31.7], [12.25]]),
            ],
            [np.zeros((1, 3)), np.ones((1, 1))],
        ]
    ),
}


@pytest.mark.parametrize("name", AFFINES)
def test_the_way_back_ends_on_the_grid_it_began(
    tmp_path: Path, write_case: Writer, phantom: Phantom, name: str
) -> None:
    affine = AFFINES[name]
    folder = write_case(tmp_path / "case", phantom.images, affine)
    data = LoadSequencesd("image")({"image": str(folder)})
    original = data["image"].clone()
    crop, space = CropBraind("image", margin_mm=4.0), ToSpacingd("image", (2.5, 2.5, 2.5), ("bilinear",))
    forward = space(crop(data))
    assert forward["image"].shape != original.shape
    np.testing.assert_allclose(forward["image"].pixdim, (2.5, 2.5, 2.5), rtol=1e-3)
    back = crop.inverse(space.inverse(forward))["image"]
    assert back.shape == original.shape
    np.testing.assert_allclose(np.asarray(back.affine), affine, atol=1e-4)


def test_a_crop_is_undone_voxel_by_voxel(case_folder: Path) -> None:
    data = LoadSequencesd("image")({"image": str(case_folder)})
    original = data["image"].as_tensor().clone()
    crop = CropBraind("image", margin_mm=4.0)
    cropped = crop(data)
    assert cropped["image"].shape[1:] < original.shape[1:]
    back = crop.inverse(cropped)["image"].as_tensor()
    assert torch.equal(back, original), "outside the box there is nothing but 0"


def test_the_crop_is_the_box_plus_the_margin_in_mm(tmp_path: Path, write_case: Writer) -> None:
    images = np.zeros((4, 20, 20, 20), np.float32)
    images[0, 8:12, 5, 5] = 1.0
    images[1:, 9, 7:10, 6:9] = -1.0  # Negative voxels are brain too.
    images[1:, 9, 8, 8] = -2.0
    images[0, 9, 5, 5] = 3.0
    folder = write_case(tmp_path / "case", images, np.diag([1.0, 2.0, 4.0, 1.0]))
    cropped = CropBraind("image", margin_mm=5.0)(LoadSequencesd("image")({"image": str(folder)}))["image"]
    # Boxes 8..11, 5..9, 5..8; margins ceil(5 / 1) = 5, ceil(5 / 2) = 3, ceil(5 / 4) = 2 voxels on either side.
    assert cropped.shape == (4, 4 + 10, 5 + 6, 4 + 4)
    np.testing.assert_allclose(np.asarray(cropped.affine)[:3, 3], [3.0, 2 * 2.0, 3 * 4.0])


def test_preprocessing_is_honoured(config: AppConfig, case_folder: Path) -> None:
    other = replace(config, preprocessing=Preprocessing(orientation="LPS", spacing=(3.0, 4.0, 5.0), margin_mm=0.0))
    image = build_transforms(other, "infer")({"image": str(case_folder)})["image"]
    np.testing.assert_allclose(image.pixdim, (3.0, 4.0, 5.0), rtol=1e-3)
    assert "".join(nib.aff2axcodes(np.asarray(image.affine))) == "LPS"
