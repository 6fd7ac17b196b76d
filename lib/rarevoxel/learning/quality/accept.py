"""The checks that decide: whether a label map can be read, lies on its image and means what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt

from rarevoxel.errors import GeometryError, InputError, RejectedLabelError
from rarevoxel.labels import LabelScheme
from rarevoxel.learning.quality.config import DEFAULTS, QualityConfig
from rarevoxel.learning.quality.finding import ERROR, Finding
from rarevoxel.learning.quality.refusal import rejected, with_findings
from rarevoxel.learning.quality.segments import Segment, file_segments, map_segments
from rarevoxel.learning.quality.values import Meaning, declared_empty, map_values
from rarevoxel.volumes import Grid, Volume, read_channels, read_header, read_label_volume, read_voxels, volume_suffix

_HOW_EMPTY = 'if there is no tumour, submit with params {"empty": true} or with a segment named "no tumor"'
_SAME_MM = 1e-6


@dataclass(frozen=True, eq=False)
class Accepted:
    """A label map that can be used.

    Args:
        labels: uint8 `CLIENT_LABELS` `(H, W, D)`.
        grid: the image's.
        empty: no voxel is labelled, and that was declared.
        verbatim: the received bytes can be kept: uint8 `.nii.gz` of these very values on the image's affine.
    """

    labels: npt.NDArray[np.uint8]
    grid: Grid
    empty: bool
    verbatim: bool


def accept_label(
    path: Path,
    image: Path,
    info: Mapping[str, Any],
    *,
    scheme: LabelScheme,
    case: str,
    config: QualityConfig = DEFAULTS,
) -> Accepted:
    """Read a label map and map its values to `CLIENT_LABELS`, or raise.

    Values mean what the segments of a `.seg.nrrd` say where it names all of them, else what the client's segments say
    (`info["label_info"]`), else what the scheme it declares says (`info["scheme"]`), else what `scheme` says. Voxels
    are read only once the header has shown that they are as many as the image's.

    Args:
        path: the label map.
        image: the case's display volume.
        info: the client's parameters.
        scheme: for values without segments and declaration.
        case: named in errors, instead of file names.
        config: see `QualityConfig`.

    Raises:
        RejectedLabelError: for values, names or emptiness; findings `value`, `not_whole`, `nan`, `segment`,
            `overlap`, `channels`, `scheme`, `empty`.
        GeometryError: for a grid that is not the image's; finding `grid`.
        InputError: for a file that cannot be read; finding `unreadable`.
        RequestError: for `label_info` that is no list of segments.
    """
    source = f"label of case {case}"
    meaning = Meaning.of(info, scheme, source)
    grid = _image_grid(image, case)
    try:
        found, layers, named = read_header(path, allow_4d=True), read_channels(path), file_segments(path)
    except InputError as error:
        raise _unreadable(error, path, source) from error
    _check_grid(found, grid, source, config)
    volume = None if layers > 1 else _read(path, grid, source)
    if volume is None:
        labels = _from_layers(path, layers, named, grid, source)
    else:
        labels = map_values(volume.array, meaning, named, grid, source)
    _check_empty(labels, info, grid, source)
    verbatim = volume is not None and _is_verbatim(path, volume, labels, grid)
    return Accepted(labels, grid, not labels.any(), verbatim)


def corner_distance(a: Grid, b: Grid) -> float:
    """Return the largest distance in mm between a corner voxel of `a` and the same corner voxel of `b`."""
    corners = np.array([*np.ndindex(2, 2, 2)])
    places = [corners * (np.array(g.shape) - 1) @ g.affine[:3, :3].T + g.affine[:3, 3] for g in (a, b)]
    return float(np.linalg.norm(places[0] - places[1], axis=1).max())


def _image_grid(image: Path, case: str) -> Grid:
    try:
        return read_header(image, allow_4d=True)
    except InputError as error:
        raise type(error)(error.message.replace(str(image), f"image of case {case}"), error.hint) from error


def _check_grid(found: Grid, expected: Grid, source: str, config: QualityConfig) -> None:
    away = corner_distance(found, expected)
    if found.shape == expected.shape and away <= config.grid_share * min(expected.spacing):
        return
    msg = f"{source}: grid {found.describe()}, expected the image's {expected.describe()}"
    if found.shape == expected.shape:
        msg += f"; corners lie up to {away:.4g} mm apart"
    error = GeometryError(msg, "save the segmentation with the display volume as reference geometry")
    raise with_findings(error, [Finding("grid", ERROR, msg, round(away, 6))])


def _unreadable(error: InputError, path: Path, source: str) -> InputError:
    # The client knows its case, not the name of the temporary file it was received in.
    message = error.message.replace(str(path), source)
    size = float(path.stat().st_size) if path.is_file() else 0.0
    return with_findings(type(error)(message, error.hint), [Finding("unreadable", ERROR, message, size)])


def _read(path: Path, grid: Grid, source: str) -> Volume:
    try:
        return read_label_volume(path)
    except InputError as error:
        try:
            array = read_voxels(path).array
        except InputError:
            raise _unreadable(error, path, source) from error
        infinite = ~np.isfinite(array)
        code, bad = ("nan", infinite) if infinite.any() else ("not_whole", array != np.rint(array))
        raise rejected(code, error.message.replace(str(path), source), error.hint, bad, grid) from error


def _from_layers(path: Path, layers: int, named: Sequence[Segment], grid: Grid, source: str) -> npt.NDArray[np.uint8]:
    """Merge the layers of a `.seg.nrrd`; any other 4-D file does not say what its channels are."""
    if layers > max((segment.layer for segment in named), default=-1) + 1:
        msg = f"{source}: volume is 4-D ({'x'.join(map(str, grid.shape))}x{layers}), expected 3-D"
        hint = "give one map of whole numbers, not one channel a class; in 3D Slicer export a labelmap"
        raise with_findings(RejectedLabelError(msg, hint), [Finding("channels", ERROR, msg, float(layers))])
    try:
        array = read_voxels(path, allow_4d=True).array
    except InputError as error:
        raise _unreadable(error, path, source) from error
    return map_segments(array, named, grid, source)


def _check_empty(labels: npt.NDArray[np.uint8], info: Mapping[str, Any], grid: Grid, source: str) -> None:
    count = int(np.count_nonzero(labels))
    if count and info.get("empty") is True:
        msg = f"{source}: declared empty, but {count} voxels are labelled"
        raise rejected("empty", msg, "erase them, or submit without the declaration", labels > 0, grid)
    if not count and not declared_empty(info):
        msg = f"{source}: no voxel of {labels.size} is labelled, expected tumour or a declaration that there is none"
        raise with_findings(RejectedLabelError(msg, _HOW_EMPTY), [Finding("empty", ERROR, msg, 0.0)])


def _is_verbatim(path: Path, volume: Volume, labels: npt.NDArray[np.uint8], grid: Grid) -> bool:
    if volume_suffix(path) != ".nii.gz":
        return False
    stored: Any = nibabel.load(path)
    slope, intercept = stored.header.get_slope_inter()
    # Extensions are free text, so what may be in them stays out of the folder.
    plain = slope in (None, 1.0) and intercept in (None, 0.0) and not stored.header.extensions
    same_type = stored.get_data_dtype() == np.uint8 and len(stored.shape) == 3
    same_place = np.allclose(volume.grid.affine, grid.affine, rtol=0, atol=_SAME_MM)
    return bool(plain and same_type and same_place and np.array_equal(volume.array, labels))
