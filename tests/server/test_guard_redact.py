"""Neither logs nor replies name folders or people."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rarevoxel.server.guard.redact import Redactor, redact_logs, request_id

STUDIES, HOME = "/data/hospital ward/studies", "/home/anna/rarevoxel"


@pytest.fixture
def redactor() -> Redactor:
    return Redactor({"studies": STUDIES, "home": HOME, "tmp": f"{HOME}/tmp/8000"})


@pytest.mark.fault(43)
@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"reading {STUDIES}/sequences/case-1/t1c.nii.gz: torn", "reading <studies>/sequences/case-1/t1c.nii.gz: torn"),
        (f"'{HOME}/app/model/calf.pt' is torn", "'<home>/app/model/calf.pt' is torn"),
        (f"{HOME}/tmp/8000/upload-ab12.nii.gz", "<tmp>/upload-ab12.nii.gz"),
        ("a Doe^John_19600101.nii.gz b", "a <file #>.nii.gz b"),
        ("filename='John Doe 1960.nii.gz'", "filename='<file #>.nii.gz'"),
        ("file john_doe.seg.nrrd", "file <file #>.seg.nrrd"),
        ("patient Doe^John^^Dr", "patient <name #>"),
        ("an island of 8 mm^3, 2.5cm^2", "an island of 8 mm^3, 2.5cm^2"),
        ("patient Cmm^Doe, patient mm^3rd", "patient <name #>, patient <name #>"),
        ("no /mnt/pacs/doe/scan.dcm here", "no <path #> here"),
        ("C:\\Users\\doe\\x.nii", "<path #>"),
        ("POST /infer/calf -> 200, see GET /docs", "POST /infer/calf -> 200, see GET /docs"),
        ("t2w.nii.gz: 3 of 76800 voxels, 30000^3, 96x96", "t2w.nii.gz: 3 of 76800 voxels, 30000^3, 96x96"),
        ("history 000001.nii.gz of case-1", "history 000001.nii.gz of case-1"),
        ("http://127.0.0.1:8000/info/", "http://127.0.0.1:8000/info/"),
        ("Dice 0.8/0.9 and/or 1e-3", "Dice 0.8/0.9 and/or 1e-3"),
    ],
)
def test_words(redactor: Redactor, text: str, clean: str) -> None:
    found = redactor.clean(text)
    parts = clean.split("#")
    assert found.startswith(parts[0])
    assert found.endswith(parts[-1])
    assert len(found) == len(clean) + 7 * (len(parts) - 1), found


def test_a_folder_whose_name_starts_the_same_is_another(redactor: Redactor) -> None:
    assert "<home>" not in redactor.clean(f"{HOME}-2/x")


def test_equal_names_stay_equal(redactor: Redactor) -> None:
    one, other = redactor.clean("Doe^John.nii.gz"), redactor.clean("Doe^Jane.nii.gz")
    assert one == redactor.clean("Doe^John.nii.gz") != other


def test_cases_of_the_studies_keep_their_names(tmp_path: Path) -> None:
    (tmp_path / "sub-17.nii.gz").write_text("")
    (tmp_path / "linked.nii.gz").symlink_to("nowhere")
    clean = Redactor({"studies": str(tmp_path)}).clean
    assert clean("label sub-17.nii.gz, sub-17.nrrd, linked.nii.gz") == "label sub-17.nii.gz, sub-17.nrrd, linked.nii.gz"
    assert "sub-18" not in clean("label sub-18.nii.gz")


def test_json_is_cleaned_through_and_through(redactor: Redactor) -> None:
    found = redactor.clean_deep({"a": [f"{HOME}/x", {"b": (f"{STUDIES}/y", 3, None, True)}], "n": 1.5})
    assert found == {"a": ["<home>/x", {"b": ["<studies>/y", 3, None, True]}], "n": 1.5}


@pytest.fixture
def cleaned_logs(redactor: Redactor) -> Iterator[None]:
    before = logging.getLogRecordFactory()
    redact_logs(redactor)
    yield
    logging.setLogRecordFactory(before)


@pytest.mark.fault(43)
@pytest.mark.usefixtures("cleaned_logs")
def test_every_logger_is_cleaned_whoever_made_it(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("somebody.else")
    reset = request_id.set("abc12345")
    log.warning("File: %s; at %s", "UploadFile(filename='Doe^John_19600101.nii.gz')", Path(HOME, "x"))
    request_id.reset(reset)
    log.warning("100%% of %s", "it", extra={"more": 1})
    log.warning("too many %s", "a", "b")
    log.warning({"a": f"{HOME}/x"})
    try:
        raise OSError(2, "No such file", f"{STUDIES}/Doe^John.nii.gz")
    except OSError:
        log.exception("failed")
    text = caplog.text
    assert "[abc12345] File: UploadFile(filename='<file " in text
    assert "100% of it" in text
    assert "Traceback" in text
    assert "<rarevoxel>" in text or "test_guard_redact" in text
    for word in ("Doe", "John", HOME, STUDIES, os.fspath(Path(__file__).parent)):
        assert word not in text.replace("caplog", ""), word
