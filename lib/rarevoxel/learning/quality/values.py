"""What the numbers of a label map mean: by the file's own segments, by the client's, or by a scheme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import LabelError, RejectedLabelError, RequestError
from rarevoxel.labels import LabelScheme, canonical_name, get_scheme, remap_by_label_info, segment_names, value_counts
from rarevoxel.learning.quality.finding import ERROR, Finding
from rarevoxel.learning.quality.refusal import rejected, with_findings
from rarevoxel.learning.quality.segments import Segment, map_segments, names_known
from rarevoxel.volumes import Grid

_NO_TUMOUR = ("no tumor", "no tumour")


@dataclass(frozen=True)
class Meaning:
    """What a client says about the values it sends.

    Args:
        segments: its segments in order, or None if it sent none.
        scheme: what values mean otherwise.
        declared: the client named that scheme.
    """

    segments: Sequence[Mapping[str, Any]] | None
    scheme: LabelScheme
    declared: bool

    @classmethod
    def of(cls, info: Mapping[str, Any], scheme: LabelScheme, source: str) -> Meaning:
        """Read a client's parameters.

        Raises:
            RequestError: if `label_info` is no list of segments.
            RejectedLabelError: if there is no scheme of the name it gives; finding `scheme`.
        """
        segments = info.get("label_info")
        if segments is not None and not (isinstance(segments, list) and all(_is_segment(item) for item in segments)):
            msg = f"{source}: label_info is {str(segments)[:200]!r}, expected a list of {{'name': ..., 'idx': ...}}"
            raise RequestError(msg, "send the segments in the order of their values")
        if not info.get("scheme"):
            return cls(segments, scheme, declared=False)
        try:
            return cls(segments, get_scheme(str(info["scheme"])), declared=True)
        except LabelError as error:
            finding = Finding("scheme", ERROR, error.message, 0.0)
            raise with_findings(RejectedLabelError(error.message, error.hint), [finding]) from error


def declared_empty(info: Mapping[str, Any]) -> bool:
    """Say whether a client declares that there is no tumour: `{"empty": true}` or a segment named `no tumor`."""
    segments = info.get("label_info")
    listed = segments if isinstance(segments, list) else []
    names = [str(item.get("name", "")).strip().lower() for item in listed if isinstance(item, Mapping)]
    return info.get("empty") is True or any(name in _NO_TUMOUR for name in names)


def map_values(
    array: npt.NDArray[Any], meaning: Meaning, named: Sequence[Segment], grid: Grid, source: str
) -> npt.NDArray[np.uint8]:
    """Return a label map `(H, W, D)` in `CLIENT_LABELS`.

    Args:
        array: whole numbers.
        meaning: what the client says.
        named: the segments of the file itself; they come first where they name every value, last otherwise.
        grid: of the volume.
        source: named in errors.

    Raises:
        RejectedLabelError: findings `value` (a value without a meaning) or `segment` (a name without one).
    """
    if names_known(array, named) or (named and meaning.segments is None and not meaning.declared):
        return map_segments(array, named, grid, source)
    try:
        if meaning.segments is not None:
            return remap_by_label_info(array, meaning.segments, source)
        return meaning.scheme.to_client(array, source)
    except LabelError as error:
        code, bad = _foreign(array, meaning)
        raise rejected(code, error.message, error.hint, bad, grid) from error


def _foreign(array: npt.NDArray[Any], meaning: Meaning) -> tuple[str, npt.NDArray[np.bool_]]:
    """Return the code and the voxels of values that have no meaning."""
    if meaning.segments is None:
        return "value", ~np.isin(array, [0, *meaning.scheme.values.values()])
    present = {int(v) for v in value_counts(array)} - {0}
    names = segment_names(present, meaning.segments)
    unnamed = [value for value in present if value not in names]
    unknown = [value for value in present if value in names and canonical_name(names[value]) is None]
    return ("value", np.isin(array, unnamed)) if unnamed else ("segment", np.isin(array, unknown))


def _is_segment(item: Any) -> bool:
    return isinstance(item, Mapping) and str(item.get("idx", 0)).lstrip("-").isdecimal()
