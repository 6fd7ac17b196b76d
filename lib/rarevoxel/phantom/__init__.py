"""Synthetic four-sequence brain tumours, made from a seed: for tests, demos, comparisons and starter models."""

from rarevoxel.phantom.anatomy import Tissue, anatomy
from rarevoxel.phantom.appearance import contrast_table, render
from rarevoxel.phantom.generate import (
    SEVERITIES,
    Phantom,
    PhantomSpec,
    Severity,
    make_phantom,
    tissue_to_labels,
    tumour_map,
)
from rarevoxel.phantom.tumour import Focus, grow
from rarevoxel.phantom.write import WrittenPhantom, write_phantoms

__all__ = [
    "SEVERITIES",
    "Focus",
    "Phantom",
    "PhantomSpec",
    "Severity",
    "Tissue",
    "WrittenPhantom",
    "anatomy",
    "contrast_table",
    "grow",
    "make_phantom",
    "render",
    "tissue_to_labels",
    "tumour_map",
    "write_phantoms",
]
