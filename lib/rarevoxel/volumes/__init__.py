"""Volumes on disk: NIfTI, NRRD and MetaImage in, checked; NIfTI and NRRD out, atomically."""

from rarevoxel.volumes.files import (
    SUFFIXES,
    file_sha256,
    remove_temporaries,
    replace_file,
    volume_stem,
    volume_suffix,
)
from rarevoxel.volumes.grid import Grid, check_affine
from rarevoxel.volumes.read import (
    Volume,
    check_image,
    read_channels,
    read_header,
    read_label_volume,
    read_labels,
    read_volume,
    read_voxels,
)
from rarevoxel.volumes.write import label_bytes, write_labels, write_volume

__all__ = [
    "SUFFIXES",
    "Grid",
    "Volume",
    "check_affine",
    "check_image",
    "file_sha256",
    "label_bytes",
    "read_channels",
    "read_header",
    "read_label_volume",
    "read_labels",
    "read_volume",
    "read_voxels",
    "remove_temporaries",
    "replace_file",
    "volume_stem",
    "volume_suffix",
    "write_labels",
    "write_volume",
]
