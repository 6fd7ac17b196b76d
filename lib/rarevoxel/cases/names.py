"""What file names say: which sequence, which case, which patient."""

from __future__ import annotations

import re
from pathlib import Path

from rarevoxel.volumes import volume_stem

LABEL = "label"
"""The kind `parse_name` returns for a label map."""

_KINDS: dict[str, tuple[str, ...]] = {
    "t1n": ("t1n", "t1", "t1w", "t1-native"),
    "t1c": ("t1c", "t1ce", "t1gd", "t1wce", "t1wgd", "t1post", "t1wc", "t1-gd", "t1-ce"),
    "t2w": ("t2w", "t2"),
    "t2f": ("t2f", "flair", "t2flair", "t2-flair", "t2_flair"),
    LABEL: ("seg", "segm", "segmentation", "tumor_segmentation", "label", "labels"),
}
_BY_TOKEN = {token: kind for kind, tokens in _KINDS.items() for token in tokens}
_NAME = re.compile(
    rf"^(?:(?P<prefix>.+?)[_.-])??(?P<token>{'|'.join(sorted(_BY_TOKEN, key=len, reverse=True))})$", re.IGNORECASE
)
# BIDS writes contrast-enhanced T1 as `ce-<agent>_T1w`.
_CONTRAST = re.compile(r"(?:^|_)ce-[A-Za-z0-9]+(?=_|$)")

_BRATS_2020 = re.compile(r"^brats(?:20)?(?:1[5-9]|2[0-2])[_-]", re.IGNORECASE)
_TIME_POINTS = (
    re.compile(r"^(?P<patient>BraTS-[A-Za-z]+-\d+)-\d{3}$", re.IGNORECASE),
    re.compile(r"^(?P<patient>Brats1[789]_.+)_\d+$", re.IGNORECASE),
    re.compile(r"^(?P<patient>.+?)_ses-[A-Za-z0-9]+.*$", re.IGNORECASE),
    re.compile(r"^(?P<patient>.+?)[_-](?:session|visit|timepoint|time|tp|scan)[_-]?\d+$", re.IGNORECASE),
)
_LONGEST_ID = 128


def parse_name(path: str | Path) -> tuple[str, str | None]:
    """Split a file name into the case it belongs to and what it holds.

    Returns:
        Prefix (`""` for a file called just `t1.nii.gz`) and kind: a sequence, `"label"`, or None if the name says
        nothing; then the prefix is the whole stem.

    Raises:
        InputError: if the file has no volume's suffix.

    Example:
        >>> parse_name("BraTS20_Training_001_t1ce.nii.gz")
        ('BraTS20_Training_001', 't1c')
    """
    stem = volume_stem(path)
    match = _NAME.match(stem)
    if match is None:
        return stem, None
    prefix, kind = match["prefix"] or "", _BY_TOKEN[match["token"].lower()]
    if kind == "t1n" and _CONTRAST.search(prefix):
        return _CONTRAST.sub("", prefix), "t1c"
    return prefix, kind


def sequence_of(name: str) -> str:
    """Return the sequence a channel name such as `T1Gd`, `FLAIR` or `T1w` means, or `""`."""
    kind = _BY_TOKEN.get(re.sub(r"[^a-z0-9]", "", name.lower()), "")
    return "" if kind == LABEL else kind


def case_id(name: str) -> str:
    """Return `name` as a case id: other characters than `A-Za-z0-9_.-` become `_`, at most 128 of them.

    Example:
        >>> case_id("Müller 3")
        'M_ller_3'
    """
    cleaned = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    return re.sub(r"^[^A-Za-z0-9]+", "", cleaned)[:_LONGEST_ID] or "case"


def patient_of(case: str) -> str:
    """Return the case id without its time point.

    Example:
        >>> patient_of("BraTS-GLI-00005-101"), patient_of("sub-01_ses-02"), patient_of("BraTS20_Training_001")
        ('BraTS-GLI-00005', 'sub-01', 'BraTS20_Training_001')
    """
    for pattern in _TIME_POINTS:
        match = pattern.match(case)
        if match is not None:
            return match["patient"]
    return case


def layout_of(case: str) -> str:
    """Return `brats2020` for names as BraTS used them until 2022, `brats` for its later names, else `plain`."""
    if _BRATS_2020.match(case):
        return "brats2020"
    return "brats" if case.lower().startswith("brats") else "plain"
