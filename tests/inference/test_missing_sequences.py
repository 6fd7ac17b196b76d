"""A case with one to three sequences: the rest is zeros, the answer says so, and offsets change nothing."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from rarevoxel.cases import SEQUENCES
from rarevoxel.config import AppConfig
from rarevoxel.errors import InputError
from rarevoxel.inference import Engine
from rarevoxel.inference.task import SegmentationTask
from rarevoxel.phantom import Phantom
from rarevoxel.transforms import build_transforms

Writer = Callable[..., Path]
SUBSETS = [subset for count in (1, 2, 3) for subset in itertools.combinations(SEQUENCES, count)]


@pytest.fixture
def engine(config: AppConfig, tiny_weights: Path) -> Engine:
    return Engine(config, [tiny_weights], device="cpu")


@pytest.mark.parametrize("there", SUBSETS, ids="-".join)
def test_every_set_of_sequences_gives_a_mask(
    engine: Engine, case_folder: Path, phantom: Phantom, there: tuple[str, ...]
) -> None:
    missing = tuple(name for name in SEQUENCES if name not in there)
    for name in missing:
        (case_folder / f"{name}.nii.gz").unlink()
    prediction = engine.predict(case_folder / f"{there[0]}.nii.gz")
    assert prediction.missing == missing
    assert [warning.split(" is missing: ")[0] for warning in prediction.warnings] == list(missing)
    assert prediction.labels.shape == phantom.labels.shape
    assert all(0 <= value <= 1 for value in prediction.confidence.values())


def test_the_network_sees_the_others_as_ever_and_zeros_for_the_missing(config: AppConfig, case_folder: Path) -> None:
    chain = build_transforms(config, "infer")
    whole = chain({"image": str(case_folder)})["image"].as_tensor()
    (case_folder / "t1c.nii.gz").unlink()
    part = chain({"image": str(case_folder)})["image"].as_tensor()
    assert not part[1].any()
    for index in (0, 2, 3):
        assert torch.equal(part[index], whole[index])


def test_a_complete_case_has_no_warning(engine: Engine, case_folder: Path) -> None:
    prediction = engine.predict(case_folder)
    assert (prediction.missing, prediction.warnings) == ((), ())


def test_the_reply_and_the_log_say_so(
    engine: Engine, config: AppConfig, case_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (case_folder / "t1c.nii.gz").unlink()
    with caplog.at_level(logging.WARNING):
        name, reply = SegmentationTask("calf", engine, config, "")({"image": str(case_folder / "t2f.nii.gz")})
    Path(name).unlink()
    assert reply["missing"] == ["t1c"]
    assert reply["warnings"] == ["t1c is missing: enhancing tumour cannot be seen reliably"]
    assert set(reply["confidence"]) == set(reply["regions_ml"]) == {"WT", "TC", "ET"}
    assert reply["tumour_found"] is (reply["regions_ml"]["WT"] > 0)
    assert isinstance(reply["findings"], list)
    assert "segmented without t1c" in caplog.text
    assert str(case_folder) not in caplog.text


def test_a_constant_file_is_a_fault_where_an_absent_one_is_not(
    engine: Engine, case_folder: Path, phantom: Phantom
) -> None:
    nib.save(nib.Nifti1Image(np.zeros_like(phantom.images[1]), phantom.affine), case_folder / "t1c.nii.gz")
    with pytest.raises(InputError, match=r"t1c\.nii\.gz: image is constant, all 76800 voxels are 0"):
        engine.predict(case_folder)


CHANGES = {
    "offset": lambda x: x + np.float32(1000),
    "negative offset": lambda x: x - np.float32(37.5),
    "scale": lambda x: x * np.float32(0.37),
    "both, float64": lambda x: x.astype(np.float64) * 12.5 + 3,
}


@pytest.mark.parametrize("name", CHANGES)
def test_offset_and_scale_change_nothing(
    config: AppConfig,
    tiny_weights: Path,
    phantom: Phantom,
    tmp_path: Path,
    write_case: Writer,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # With 8 bits of mantissa a network of random weights blows the smallest difference up.
    monkeypatch.setenv("RAREVOXEL_PRECISION", "float32")
    engine = Engine(config, [tiny_weights], device="cpu")
    plain = engine.predict(write_case(tmp_path / "plain", phantom.images, phantom.affine), with_probabilities=True)
    changed = [CHANGES[name](image) if index % 2 else image for index, image in enumerate(phantom.images)]
    other = engine.predict(write_case(tmp_path / "other", changed, phantom.affine), with_probabilities=True)
    assert plain.probabilities is not None
    assert other.probabilities is not None
    assert np.ptp(plain.probabilities[plain.probabilities > 0]) > 0.1, "a flat answer would make this test empty"
    np.testing.assert_allclose(other.probabilities, plain.probabilities, atol=1e-3)
    assert np.mean(other.labels != plain.labels) < 1e-4
