"""The lineage record: written, read again, refused when torn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rarevoxel.errors import ModelError
from rarevoxel.lineage import CaseRecord, Lineage, WeightFile

FULL = Lineage(
    model="calf",
    version="20260101T000000",
    created="2026-01-01T00:00:00.000+00:00",
    sha256="a" * 64,
    start=WeightFile("starter.pt", "b" * 64),
    cases=(CaseRecord("case-1", "patient-1", "train", {"t1c": "c" * 64}, "d" * 64, 3, False),),
    skipped={"case-2": "label is empty"},
    options={"seed": 0},
    gate={"publish": True, "reason": "published"},
    seconds=1.5,
)


def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "lineage.json"
    path.write_text(json.dumps(FULL.to_dict()))
    assert Lineage.load(path) == FULL


def test_what_a_later_release_adds_is_left_out() -> None:
    assert Lineage.from_dict({**FULL.to_dict(), "weather": "fine"}, "x") == FULL


@pytest.mark.fault(37)
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "FileNotFoundError"),
        ("", "JSONDecodeError"),
        ('{"format": 1, "model"', "JSONDecodeError"),
        ("[1]", "no lineage of format 1"),
        ('{"format": 2}', "no lineage of format 1"),
        ('{"format": 1, "model": "calf"}', "missing 3 required positional arguments"),
        (json.dumps({**FULL.to_dict(), "cases": [{"id": "a"}]}), "missing 4 required positional arguments"),
        (json.dumps({**FULL.to_dict(), "start": {"path": "x"}}), "unexpected keyword argument"),
    ],
)
def test_a_record_that_is_none(tmp_path: Path, content: str | None, why: str) -> None:
    path = tmp_path / "lineage.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ModelError, match=rf"lineage\.json: lineage cannot be read \(.*{why}") as caught:
        Lineage.load(path)
    assert str(tmp_path) not in str(caught.value)
