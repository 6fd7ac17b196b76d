"""Real scans through the engine, where there are some."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rarevoxel.cases import SEQUENCES, scan
from rarevoxel.config import AppConfig
from rarevoxel.errors import GeometryError
from rarevoxel.inference import Engine
from rarevoxel.volumes import read_header


def test_a_mask_lies_on_the_scan_s_own_grid(config: AppConfig, tiny_weights: Path, data_dir: Path) -> None:
    engine = Engine(config, [tiny_weights], device="cpu")
    found = [case for case in scan(data_dir).cases if set(case.sequences) == set(SEQUENCES)]
    cases = [case for case in found if not case.id.startswith("native_")][:2]
    assert cases, f"no usable case in {data_dir}"
    for case in cases:
        display = case.volume_4d or case.sequences[case.display]
        grid = read_header(display, allow_4d=True)
        prediction = engine.predict(display)
        assert prediction.labels.shape == grid.shape
        np.testing.assert_allclose(prediction.affine, grid.affine, atol=1e-4)
        assert set(np.unique(prediction.labels)) <= {0, 1, 2, 3}


def test_scans_that_are_not_registered_are_refused(config: AppConfig, tiny_weights: Path, data_dir: Path) -> None:
    native = sorted(data_dir.glob("native_*"))
    if not native:
        pytest.skip(f"no case of differing grids (native_*) in {data_dir}")
    with pytest.raises(GeometryError, match=r"grid \S+ at .* differs from"):
        Engine(config, [tiny_weights], device="cpu").predict(native[0])
