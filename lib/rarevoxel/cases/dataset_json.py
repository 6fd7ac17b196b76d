"""Data sets described by a `dataset.json`: Medical Segmentation Decathlon (4-D files) and nnU-Net (one per channel)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rarevoxel.cases.folders import NIFTI, no_sequences, visible
from rarevoxel.cases.model import SEQUENCES, Case, Refusal
from rarevoxel.cases.names import case_id, patient_of, sequence_of
from rarevoxel.errors import InputError
from rarevoxel.labels import EDEMA, ENHANCING, NECROSIS, SCHEMES, LabelScheme, canonical_name
from rarevoxel.volumes import volume_stem

DATASET_NAME = "dataset.json"
CHANNEL_FILE = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")
"""nnU-Net's `case_0000`: the case and the number of the channel."""

_IMAGE_FOLDERS = (("imagesTr", "labelsTr"), ("imagesTs", "labelsTs"))


def read_dataset(root: Path) -> list[Case | Refusal]:
    """Return the cases a `dataset.json` describes, training and test, and those it names that are not there.

    Raises:
        InputError: if the file is no JSON object, or names no channels for the four sequences.
    """
    description = load_description(root)
    channels = channel_names(description, root)
    scheme = scheme_from_names(description.get("labels"))
    per_channel = [item for folders in _IMAGE_FOLDERS for item in _per_channel(root, *folders, channels, scheme)]
    return per_channel or _four_d(root, description, channels, scheme)


def load_description(root: Path) -> dict[str, Any]:
    """Read `dataset.json`.

    Raises:
        InputError: if it is not a JSON object.
    """
    path = root / DATASET_NAME
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})", "repair the file or download it again") from error
    if not isinstance(description, dict):
        raise InputError(f"{path}: holds a {type(description).__name__}, expected a JSON object")
    return description


def channel_names(description: Mapping[str, Any], root: Path) -> tuple[str, ...]:
    """Return the sequence of each channel, in channel order (`""` for one we do not use).

    A set may go without a sequence, but not where a channel has a name that says nothing: that may be the one.

    Raises:
        InputError: if no channel is a sequence, or one is missing while another channel's name is not understood.
    """
    listed = description.get("channel_names") or description.get("modality") or {}
    names = dict(listed) if isinstance(listed, Mapping) else dict(enumerate(listed))
    ordered = tuple(sequence_of(str(names[key])) for key in sorted(names, key=lambda key: int(key)))
    missing = [name for name in SEQUENCES if name not in ordered]
    if missing and (len(missing) == len(SEQUENCES) or "" in ordered):
        msg = f"{root / DATASET_NAME}: no channel for {', '.join(missing)} among {list(names.values())}"
        raise InputError(msg, 'name the four channels, for example {"0": "FLAIR", "1": "T1w", "2": "T1gd", "3": "T2w"}')
    return ordered


def scheme_from_names(labels: Any) -> LabelScheme:
    """Return the scheme that the `labels` of a `dataset.json` spell out, else the Decathlon's.

    Understands `{"1": "edema"}` (Decathlon), `{"edema": 1}` (nnU-Net) and nested regions
    `{"whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}`.
    """
    values: dict[str, int] = {}
    for key, value in labels.items() if isinstance(labels, Mapping) else ():
        name, number = (key, value) if not isinstance(value, str) else (value, key)
        label = canonical_name(str(name))
        if label is not None and not isinstance(number, list) and str(number).isdigit() and int(number) > 0:
            values[label] = int(number)
    if isinstance(labels, Mapping) and any(isinstance(value, list) for value in labels.values()):
        values = _values_from_regions({str(k).lower(): v for k, v in labels.items()})
    if not values or len(set(values.values())) < len(values):
        return SCHEMES["msd"]
    known = [scheme for scheme in SCHEMES.values() if dict(scheme.values) == values]
    return known[0] if known else LabelScheme(DATASET_NAME, values)


def _values_from_regions(regions: Mapping[str, Any]) -> dict[str, int]:
    def members(*names: str) -> set[int]:
        found: Any = next((regions[name] for name in names if name in regions), [])
        return set(found) if isinstance(found, list) else {found}

    whole = members("whole tumor", "whole_tumor", "whole tumour")
    core = members("tumor core", "tumor_core", "tumour core")
    enhancing = members("enhancing tumor", "enhancing_tumor", "enhancing tumour")
    parts = {EDEMA: whole - core, NECROSIS: core - enhancing, ENHANCING: enhancing}
    return {name: int(next(iter(part))) for name, part in parts.items() if len(part) == 1}


def _per_channel(
    root: Path, images: str, labels: str, channels: tuple[str, ...], scheme: LabelScheme
) -> list[Case | Refusal]:
    folder = root / images
    found: dict[str, dict[str, Path]] = {}
    for path in visible(folder) if folder.is_dir() else ():
        match = CHANNEL_FILE.match(volume_stem(path)) if path.name.lower().endswith(NIFTI) else None
        if match is not None:
            channel = int(match["channel"])
            sequence = channels[channel] if channel < len(channels) else ""
            found.setdefault(match["case"], {})[sequence] = path
    return [_channel_case(name, files, root / labels, scheme) for name, files in found.items()]


def _channel_case(name: str, files: Mapping[str, Path], labels: Path, scheme: LabelScheme) -> Case | Refusal:
    case = case_id(name)
    sequences = {kind: files[kind] for kind in SEQUENCES if kind in files}
    if not sequences:
        return Refusal(case, no_sequences(f"case {case}", next(iter(files.values())).parent))
    label = next((labels / f"{name}{suffix}" for suffix in NIFTI if (labels / f"{name}{suffix}").exists()), None)
    return Case(case, patient_of(case), sequences, label=label, scheme=scheme if label else None, layout="dataset")


def _four_d(
    root: Path, description: Mapping[str, Any], channels: tuple[str, ...], scheme: LabelScheme
) -> list[Case | Refusal]:
    listed = [*description.get("training", []), *description.get("test", [])]
    entries = [entry if isinstance(entry, Mapping) else {"image": entry} for entry in listed]
    if not entries:
        entries = [
            {"image": f"{images}/{path.name}", "label": f"{labels}/{path.name}"}
            for images, labels in _IMAGE_FOLDERS
            if (root / images).is_dir()
            for path in visible(root / images)
            if path.name.lower().endswith(NIFTI)
        ]
        entries = [e if (root / e["label"]).exists() else {"image": e["image"]} for e in entries]
    return [_four_d_case(root, entry, channels, scheme) for entry in entries]


def _four_d_case(
    root: Path, entry: Mapping[str, Any], channels: tuple[str, ...], scheme: LabelScheme
) -> Case | Refusal:
    image = root / str(entry.get("image", ""))
    label = root / str(entry["label"]) if entry.get("label") else None
    name = case_id(volume_stem(image)) if image.name.lower().endswith(NIFTI) else case_id(image.name)
    for path in (image, label):
        if path is not None and not path.is_file():
            msg = f"case {name}: {path} is listed in {root / DATASET_NAME} but does not exist"
            return Refusal(name, InputError(msg, "download the data set again, or remove the entry"))
    sequences = dict.fromkeys([kind for kind in SEQUENCES if kind in channels], image)
    return Case(
        name,
        patient_of(name),
        sequences,
        label=label,
        scheme=scheme if label else None,
        volume_4d=image,
        channels=channels,
        layout="dataset",
    )
