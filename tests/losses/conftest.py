"""What tests of the fused losses share."""

from __future__ import annotations

import pytest

from rarevoxel.losses import fused_passes
from rarevoxel.losses.fused import use_fused


@pytest.fixture
def small_chunks(monkeypatch):
    """Several chunks even of the few voxels of a test, the last one shorter; no compiler unless a test asks for it."""
    monkeypatch.setattr(fused_passes, "CHUNK", 150)
    monkeypatch.setattr(fused_passes, "COMPILED_CHUNK", 150)
    with use_fused(True, compiled=False, least=1):
        yield
