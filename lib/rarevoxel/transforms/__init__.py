"""MONAI transforms of the one road from files to network input and back."""

from rarevoxel.transforms.build import Stage, build_transforms
from rarevoxel.transforms.load import LoadLabeld, LoadSequencesd, load_sequences
from rarevoxel.transforms.normalize import NormalizeBrain, NormalizeBraind
from rarevoxel.transforms.regions import LabelToRegions, LabelToRegionsd
from rarevoxel.transforms.spatial import CropBraind, ToSpacingd

__all__ = [
    "CropBraind",
    "LabelToRegions",
    "LabelToRegionsd",
    "LoadLabeld",
    "LoadSequencesd",
    "NormalizeBrain",
    "NormalizeBraind",
    "Stage",
    "ToSpacingd",
    "build_transforms",
    "load_sequences",
]
