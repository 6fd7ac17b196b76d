"""Label schemes: what the integers of a label map mean, and the nested tumour regions made of them.

A **label** is an integer in a file. Its meaning differs from data set to data set (enhancing tumour is 4 in
BraTS 2018-2022 and 3 in BraTS 2023), so every label map is read through a declared `LabelScheme` and checked against
the values that are really there. Towards clients, and inside the studies folder, values are the contiguous
`CLIENT_LABELS`; a **region** (WT, TC, ET) is a union of labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rarevoxel.errors import LabelError

NECROSIS = "necrosis"
EDEMA = "edema"
ENHANCING = "enhancing tumor"
CAVITY = "resection cavity"

CLIENT_LABELS: dict[str, int] = {NECROSIS: 1, EDEMA: 2, ENHANCING: 3, CAVITY: 4}
"""Label name -> value in every file a client sends or receives: contiguous, whatever the scheme on disk."""

REGIONS: dict[str, tuple[str, ...]] = {
    "WT": (NECROSIS, EDEMA, ENHANCING),
    "TC": (NECROSIS, ENHANCING),
    "ET": (ENHANCING,),
}
"""Region -> the labels it is the union of. WT contains TC contains ET; a resection cavity is no tumour."""

_ALIASES: dict[str, str] = {
    "necrotic core": NECROSIS,
    "necrotic": NECROSIS,
    "non-enhancing tumor": NECROSIS,
    "non-enhancing tumour": NECROSIS,
    "non-enhancing": NECROSIS,
    "ncr": NECROSIS,
    "net": NECROSIS,
    "netc": NECROSIS,
    "oedema": EDEMA,
    "ed": EDEMA,
    "snfh": EDEMA,
    "peritumoral edema": EDEMA,
    "lesion": EDEMA,
    "enhancing": ENHANCING,
    "enhancing tumour": ENHANCING,
    "enhancing_tumor": ENHANCING,
    "et": ENHANCING,
    "cavity": CAVITY,
    "rc": CAVITY,
}

_NOT_LABELS = ("background", "background_scribbles", "foreground_scribbles")


def canonical_name(name: str) -> str | None:
    """Return the canonical label name for `name` (case and common synonyms ignored), or None if it is unknown."""
    key = name.strip().lower()
    return key if key in CLIENT_LABELS else _ALIASES.get(key)


@dataclass(frozen=True)
class LabelScheme:
    """What the values of a label map mean.

    Args:
        name: the scheme's own name, as `--scheme` takes it.
        values: canonical label name -> value on disk; 0 is background and never listed.

    Raises:
        LabelError: if a name is not canonical, or a value is not a positive integer or is used twice.
    """

    name: str
    values: Mapping[str, int]

    def __post_init__(self) -> None:
        for label, value in self.values.items():
            if label not in CLIENT_LABELS:
                msg = f"label scheme {self.name!r}: unknown label name {label!r}, expected one of {list(CLIENT_LABELS)}"
                raise LabelError(msg, "use the canonical names; rarevoxel.labels.canonical_name maps common synonyms")
            if value < 1:
                raise LabelError(f"label scheme {self.name!r}: value of {label!r} ({value}) must be >= 1")
        if len(set(self.values.values())) != len(self.values):
            raise LabelError(f"label scheme {self.name!r}: values {dict(self.values)} must differ from each other")

    @property
    def labels(self) -> tuple[str, ...]:
        """The label names of this scheme in client order."""
        return tuple(name for name in CLIENT_LABELS if name in self.values)

    def check(self, values: npt.ArrayLike, source: str = "label map") -> None:
        """Raise unless every value (an array of voxels or of their unique values) is 0 or belongs to the scheme.

        Raises:
            LabelError: naming `source`, the foreign values and their voxel counts, and the values expected.
        """
        allowed = {0, *self.values.values()}
        if _holds_only(np.asarray(values), allowed):
            return
        found = value_counts(values)
        foreign = {v: n for v, n in found.items() if v not in allowed}
        if foreign:
            listed = ", ".join(f"{v:g} ({n} voxels)" for v, n in list(foreign.items())[:6])
            expected = ", ".join(f"{v} {k}" for k, v in self.values.items())
            msg = f"{source}: label value {listed} is not in scheme {self.name!r}, expected 0 background, {expected}"
            fits = [s.name for s in SCHEMES.values() if set(found) <= {0, *s.values.values()}]
            raise LabelError(msg, f"scheme that fits: {', '.join(fits)}" if fits else "correct the file's values")

    def to_client(self, labels: npt.NDArray[Any], source: str = "label map") -> npt.NDArray[np.uint8]:
        """Map values on disk to `CLIENT_LABELS` (any shape, any dtype of whole numbers), checking them first.

        Raises:
            LabelError: see `check`.
        """
        self.check(labels, source)
        return _map_values(labels, {v: CLIENT_LABELS[k] for k, v in self.values.items()})

    def from_client(self, labels: npt.NDArray[Any], source: str = "label map") -> npt.NDArray[np.uint8]:
        """Map `CLIENT_LABELS` values back to this scheme's values on disk; the inverse of `to_client`.

        Raises:
            LabelError: if a value names a label this scheme has no value for.
        """
        CLIENT_SCHEME.check(labels, source)
        missing = sorted({int(v) for v in np.unique(labels)} - {0} - {CLIENT_LABELS[k] for k in self.values})
        if missing:
            names = [name for name, value in CLIENT_LABELS.items() if value in missing]
            raise LabelError(
                f"{source}: label {names} cannot be written in scheme {self.name!r}, which has {self.labels}"
            )
        return _map_values(labels, {CLIENT_LABELS[k]: v for k, v in self.values.items()})


SCHEMES: dict[str, LabelScheme] = {
    s.name: s
    for s in (
        LabelScheme("brats2020", {NECROSIS: 1, EDEMA: 2, ENHANCING: 4}),
        LabelScheme("brats2023", {NECROSIS: 1, EDEMA: 2, ENHANCING: 3}),
        LabelScheme("brats2024", {NECROSIS: 1, EDEMA: 2, ENHANCING: 3, CAVITY: 4}),
        LabelScheme("msd", {EDEMA: 1, NECROSIS: 2, ENHANCING: 3}),
        LabelScheme("lesion", {EDEMA: 1}),
    )
}
"""Schemes by name. `brats2020` serves 2018-2022; `lesion` is a single-class mask, carried as `edema` (WT only)."""

CLIENT_SCHEME = LabelScheme("client", CLIENT_LABELS)
"""The scheme of every label map in a studies folder."""


def _holds_only(values: npt.NDArray[Any], allowed: Set[int]) -> bool:
    """Whether bytes are all among these values; False where it would have to be counted to be known."""
    most = max(allowed)
    gaps = set(range(most)) - allowed
    if values.dtype != np.uint8 or not values.size or len(gaps) > 2:
        return False
    return int(values.max()) <= most and not any(bool((values == gap).any()) for gap in gaps)


def value_counts(values: npt.ArrayLike) -> dict[float, int]:
    """Return value -> how often it occurs, for the values that do, in rising order."""
    array = np.asarray(values)
    if array.dtype == np.uint8:
        counts = np.bincount(array.ravel(order="K"), minlength=256)  # Ten times as fast as sorting.
        return {float(value): int(counts[value]) for value in np.flatnonzero(counts)}
    found, numbers = np.unique(array, return_counts=True)
    return {float(value): int(number) for value, number in zip(found, numbers, strict=True)}


def get_scheme(name: str) -> LabelScheme:
    """Return the scheme called `name`.

    Raises:
        LabelError: listing the known names.
    """
    if name == CLIENT_SCHEME.name:
        return CLIENT_SCHEME
    if name not in SCHEMES:
        raise LabelError(f"unknown label scheme {name!r}, expected one of {sorted(SCHEMES)}")
    return SCHEMES[name]


def segment_names(present: Set[int], label_info: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Return voxel value -> segment name of a client's segments; see `remap_by_label_info` for the rule.

    Args:
        present: the values that have voxels, without 0.
        label_info: `[{"name": "edema", "idx": 2}, ...]` in the client's order.
    """
    listed = [dict(info) for info in label_info if str(info.get("name", "")).lower() not in _NOT_LABELS]
    by_rank = {rank: str(info.get("name", "")) for rank, info in enumerate(listed, start=1)}
    by_idx = {int(info.get("idx", rank)): str(info.get("name", "")) for rank, info in enumerate(listed, start=1)}
    return by_rank if present <= set(by_rank) else by_idx


def remap_by_label_info(
    labels: npt.NDArray[Any], label_info: Sequence[Mapping[str, Any]], source: str = "label map"
) -> npt.NDArray[np.uint8]:
    """Map a label map sent by a client to `CLIENT_LABELS` **by segment name**, never by raw value.

    3D Slicer numbers voxels by the rank of their segment in `label_info`, and `idx` also counts segments that are
    not listed (background, scribbles). So a voxel value is the rank (1-based) when every value present is a rank,
    and `idx` otherwise. A segment with no voxels may have any name.

    Args:
        labels: whole numbers, any shape.
        label_info: `[{"name": "edema", "idx": 2}, ...]` in the client's order.
        source: named in errors.

    Raises:
        LabelError: if a value has no segment, or a segment that has voxels has an unknown name.
    """
    present = {int(v) for v in value_counts(labels)} - {0}
    names = segment_names(present, label_info)
    missing = sorted(present - set(names))
    if missing:
        msg = f"{source}: label value {missing} has no segment in label_info, which lists {names}"
        raise LabelError(msg, "send label_info with one entry per segment, in the order of their values")
    mapping: dict[int, int] = {}
    for value in sorted(present):
        canonical = canonical_name(names[value])
        if canonical is None:
            msg = (
                f"{source}: segment {names[value]!r} (value {value}) is unknown, expected one of {list(CLIENT_LABELS)}"
            )
            raise LabelError(msg, "rename the segment or delete it before submitting")
        mapping[value] = CLIENT_LABELS[canonical]
    return _map_values(labels, mapping)


def labels_to_regions(labels: npt.NDArray[Any], regions: Iterable[str] = tuple(REGIONS)) -> npt.NDArray[np.bool_]:
    """Return region masks `(R, *spatial)` of a client label map `(*spatial)`, in the order of `regions`."""
    # In the layout of the labels, as NIfTI files have the first axis running fastest: across layouts all takes longer.
    turned = labels.strides == tuple(sorted(labels.strides))
    source = labels.T if turned else labels
    names = [REGIONS[region] for region in regions]
    masks = np.zeros((len(names), *source.shape), dtype=np.bool_)
    for mask, wanted in zip(masks, names, strict=True):
        for label in wanted:  # Many times as fast as numpy's isin, or as looking every voxel up.
            np.logical_or(mask, source == CLIENT_LABELS[label], out=mask)
    return masks.transpose(0, *range(labels.ndim, 0, -1)) if turned else masks


def regions_to_labels(regions: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Return the client label map `(*spatial)` of WT, TC, ET masks `(3, *spatial)`; the innermost region wins.

    A voxel of ET is enhancing tumour, else one of TC is necrosis, else one of WT is edema, so predictions that are
    not perfectly nested still give every voxel one label.
    """
    wt, tc, et = regions
    labels = np.zeros(wt.shape, dtype=np.uint8)
    labels[wt] = CLIENT_LABELS[EDEMA]
    labels[tc] = CLIENT_LABELS[NECROSIS]
    labels[et] = CLIENT_LABELS[ENHANCING]
    return labels


def _map_values(labels: npt.NDArray[Any], mapping: Mapping[int, int]) -> npt.NDArray[np.uint8]:
    """Map values of which every one but 0 is in the mapping."""
    if all(old == new for old, new in mapping.items()):
        return labels.astype(np.uint8)
    if labels.dtype == np.uint8:
        table = np.zeros(256, dtype=np.uint8)
        for old, new in mapping.items():
            if old < len(table):
                table[old] = new
        found: npt.NDArray[np.uint8] = table[labels]
        return found
    mapped = np.zeros(labels.shape, dtype=np.uint8)
    for old, new in mapping.items():
        mapped[labels == old] = new
    return mapped
