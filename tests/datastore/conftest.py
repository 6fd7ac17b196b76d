"""What the tests of the datastore share: a folder of one tiny case, and labels on its grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from small_studies import AFFINE, SHAPE, label_data

from rarevoxel.datastore.studies import StudiesDatastore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A studies folder of three cases `a`, `b`, `c` without labels."""
    studies = tmp_path / "folder"
    studies.mkdir()
    for seed, case in enumerate("abc"):
        image = np.random.default_rng(seed).normal(100, 10, SHAPE).astype(np.float32)
        nib.save(nib.Nifti1Image(image, AFFINE), studies / f"{case}.nii.gz")
    return studies


@pytest.fixture
def store(folder: Path) -> Iterator[StudiesDatastore]:
    datastore = StudiesDatastore(str(folder))
    yield datastore
    datastore.close()


@pytest.fixture
def upload(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a label file to send and returns its path."""

    def write(seed: int, name: str = "up.nii.gz", data: bytes | None = None) -> str:
        path = tmp_path / "uploads" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(label_data(seed) if data is None else data)
        return str(path)

    return write
