from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from rarevoxel.cases import SEQUENCES, discover, find_sequences, scan
from rarevoxel.errors import ConflictError, GeometryError, InputError, LabelError
from rarevoxel.labels import CLIENT_SCHEME, SCHEMES
from rarevoxel.studies import load_table, patients, write_studies
from rarevoxel.volumes import read_header, read_label_volume, read_labels, read_volume

SHAPE = (8, 9, 10)
NAMES = {"t1n": "t1", "t1c": "t1c", "t2w": "t2", "t2f": "flair"}
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])


def make_case(folder: Path, values: tuple[int, ...] | None = (1, 2, 4), suffix: str = ".nii.gz", seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for name in NAMES.values():
        array = rng.integers(0, 100, SHAPE).astype(np.int16)
        nib.save(nib.Nifti1Image(array, AFFINE), folder / f"{name}{suffix}")
    if values is not None:
        array = np.zeros(SHAPE, np.uint8)
        array[2, 2, : len(values)] = values
        nib.save(nib.Nifti1Image(array, AFFINE), folder / f"seg{suffix}")
    return folder


def spoil(folder: Path, name: str, value: float) -> None:
    array = nib.load(folder / f"{name}.nii.gz").get_fdata().astype(np.float32)
    array[0, 0, 0] = value
    nib.save(nib.Nifti1Image(array, AFFINE), folder / f"{name}.nii.gz")


def decathlon(root: Path) -> Path:
    (root / "imagesTr").mkdir(parents=True)
    (root / "labelsTr").mkdir()
    array = np.random.default_rng(5).integers(0, 100, (*SHAPE, 4)).astype(np.int16)
    nib.save(nib.Nifti1Image(array, AFFINE), root / "imagesTr" / "BRATS_001.nii.gz")
    labels = np.zeros(SHAPE, np.uint8)
    labels[1, 1, :3] = [1, 2, 3]
    nib.save(nib.Nifti1Image(labels, AFFINE), root / "labelsTr" / "BRATS_001.nii.gz")
    (root / "dataset.json").write_text(json.dumps({"modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}}))
    return root


def snapshot(folder: Path) -> dict[str, str]:
    """Every file's content and every link's target."""
    result = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            result[name] = f"-> {path.readlink()}"
        elif path.is_file():
            result[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return result


@pytest.fixture
def source(tmp_path: Path) -> Path:
    make_case(tmp_path / "data" / "p1_visit1")
    make_case(tmp_path / "data" / "p1_visit2", seed=1)
    return tmp_path / "data"


def test_layout_of_the_studies_folder(tmp_path: Path, source: Path) -> None:
    studies = tmp_path / "studies"
    report = write_studies(discover(source), studies, labels=True)
    assert report.prepared == report.labelled == ("p1_visit1", "p1_visit2")
    assert report.refused == report.warnings == report.kept == ()
    expected = {"studies.json"}
    for case in report.prepared:
        expected |= {f"{case}.nii.gz", f"labels/final/{case}.nii.gz"}
        expected |= {f"sequences/{case}/{name}.nii.gz" for name in SEQUENCES}
    assert set(snapshot(studies)) == expected
    assert (studies / "p1_visit1.nii.gz").readlink() == Path("sequences/p1_visit1/t1c.nii.gz")
    target = (studies / "sequences/p1_visit1/t2f.nii.gz").readlink()
    assert target.is_absolute()
    assert target == (source / "p1_visit1" / "flair.nii.gz").resolve()


def test_labels_become_client_labels_on_the_display_grid(tmp_path: Path, source: Path) -> None:
    write_studies(discover(source), tmp_path / "studies", labels=True)
    volume = read_label_volume(tmp_path / "studies/labels/final/p1_visit1.nii.gz")
    assert volume.array.dtype == np.uint8
    assert volume.array[2, 2, :4].tolist() == [1, 2, 3, 0]
    assert np.count_nonzero(volume.array) == 3
    assert volume.grid.matches(read_header(tmp_path / "studies/p1_visit1.nii.gz"))


def test_no_labels_unless_asked(tmp_path: Path, source: Path) -> None:
    report = write_studies(discover(source), tmp_path / "studies")
    assert not (tmp_path / "studies" / "labels").exists()
    assert report.labelled == ()


def test_the_table(tmp_path: Path, source: Path) -> None:
    studies = tmp_path / "studies"
    write_studies(discover(source), studies)
    content = json.loads((studies / "studies.json").read_text())
    assert content["version"] == 1
    entry = content["cases"]["p1_visit1"]
    assert entry["display"] == "p1_visit1.nii.gz"
    assert entry["sequences"]["t1n"] == "sequences/p1_visit1/t1n.nii.gz"
    assert entry["scheme"] == "brats2020"
    assert entry["source"] == str((source / "p1_visit1" / "t1c.nii.gz").resolve())
    assert patients(studies) == {"p1_visit1": "p1", "p1_visit2": "p1"}
    assert load_table(tmp_path / "data") == {}


@pytest.mark.parametrize("copy", [False, True])
def test_preparing_twice_changes_nothing(tmp_path: Path, source: Path, copy: bool) -> None:
    studies = tmp_path / "studies"
    write_studies(discover(source), studies, labels=True, copy=copy)
    before = snapshot(studies)
    times = {name: (studies / name).lstat().st_mtime_ns for name in before}
    again = write_studies(discover(source), studies, labels=True, copy=copy)
    assert snapshot(studies) == before
    assert {name: (studies / name).lstat().st_mtime_ns for name in before} == times
    assert again.kept == again.prepared == ("p1_visit1", "p1_visit2")
    assert again.labelled == ()


def test_adding_cases_keeps_the_others(tmp_path: Path, source: Path) -> None:
    studies = tmp_path / "studies"
    write_studies(discover(source / "p1_visit1"), studies)
    write_studies(discover(source / "p1_visit2"), studies)
    assert list(load_table(studies)) == ["p1_visit1", "p1_visit2"]


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_from_the_display_back_to_the_sequences(tmp_path: Path, copy: bool, suffix: str) -> None:
    folder = make_case(tmp_path / "data" / "p1", suffix=suffix)
    studies = tmp_path / "studies"
    write_studies(discover(folder), studies, copy=copy)
    display = studies / f"p1{suffix}"
    for path in (display, display.resolve(), studies / "sequences" / "p1" / f"t1c{suffix}", studies / "sequences/p1"):
        found = find_sequences(path)
        for name, file in NAMES.items():
            assert found[name].read_bytes() == (folder / f"{file}{suffix}").read_bytes()
    assert (studies / "sequences" / "p1" / f"t1n{suffix}").is_symlink() is not copy


def test_copies_belong_to_the_studies_folder(tmp_path: Path) -> None:
    folder = make_case(tmp_path / "data" / "p1")
    for path in folder.iterdir():
        path.chmod(0o444)
    write_studies(discover(folder), tmp_path / "studies", copy=True)
    assert (tmp_path / "studies/sequences/p1/t1n.nii.gz").stat().st_mode & 0o200


def test_where_links_are_impossible_files_are_copied(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", no_links)
    studies = tmp_path / "studies"
    report = write_studies(discover(source), studies, labels=True)
    assert len(report.prepared) == 2
    assert not any(path.is_symlink() for path in studies.rglob("*"))
    assert (studies / "p1_visit1.nii.gz").read_bytes() == (source / "p1_visit1" / "t1c.nii.gz").read_bytes()
    assert find_sequences(studies / "p1_visit1.nii.gz")["t2w"] == studies / "sequences/p1_visit1/t2w.nii.gz"
    assert not list(studies.rglob("*.tmp"))


def test_sources_that_are_links_into_a_store_are_copied(tmp_path: Path) -> None:
    folder = make_case(tmp_path / "data" / "p1", values=None)
    store = tmp_path / "store"
    store.mkdir()
    for i, path in enumerate(sorted(folder.iterdir())):
        path.rename(store / f"object{i}.nii.gz")
        path.symlink_to(store / f"object{i}.nii.gz")
    write_studies(discover(folder), tmp_path / "studies")
    display = tmp_path / "studies" / "p1.nii.gz"
    assert not (tmp_path / "studies/sequences/p1/t1c.nii.gz").is_symlink()
    assert set(find_sequences(display.resolve())) == set(SEQUENCES)


def test_four_d_volumes_are_split_by_channel_name(tmp_path: Path) -> None:
    root = decathlon(tmp_path / "msd")
    studies = tmp_path / "studies"
    report = write_studies(discover(root), studies, labels=True)
    assert report.labelled == ("BRATS_001",)
    stored = nib.load(root / "imagesTr" / "BRATS_001.nii.gz").get_fdata()
    for channel, name in enumerate(("t2f", "t1n", "t1c", "t2w")):
        volume = read_volume(studies / f"sequences/BRATS_001/{name}.nii.gz")
        assert np.array_equal(volume.array, stored[..., channel])
        assert np.allclose(volume.grid.affine, AFFINE)
    assert np.array_equal(read_volume(studies / "BRATS_001.nii.gz").array, stored[..., 2])
    # Decathlon order is edema, necrosis, enhancing; client order necrosis, edema, enhancing.
    assert read_labels(studies / "labels/final/BRATS_001.nii.gz")[1, 1, :3].tolist() == [2, 1, 3]
    before = snapshot(studies)
    write_studies(discover(root), studies, labels=True)
    assert snapshot(studies) == before


def test_a_studies_folder_is_a_data_set_too(tmp_path: Path, source: Path) -> None:
    write_studies(discover(source), tmp_path / "studies", labels=True)
    cases = discover(tmp_path / "studies")
    assert [(case.id, case.patient, case.scheme) for case in cases] == [
        ("p1_visit1", "p1", CLIENT_SCHEME),
        ("p1_visit2", "p1", CLIENT_SCHEME),
    ]
    report = write_studies(cases, tmp_path / "second", labels=True)
    assert len(report.labelled) == 2
    assert read_labels(tmp_path / "second/labels/final/p1_visit1.nii.gz")[2, 2, :3].tolist() == [1, 2, 3]


# -------------------------------------------------------------------------------------------------------------- refused


def test_one_bad_case_of_many(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("good1", "good2", "nan", "flat", "grid", "value"):
        make_case(data / name)
    spoil(data / "nan", "t2", np.nan)
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.int16), AFFINE), data / "flat" / "flair.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((8, 9, 11), np.int16), AFFINE), data / "grid" / "t1.nii.gz")
    spoil(data / "value", "seg", 9)
    studies = tmp_path / "studies"
    report = write_studies(discover(data, detect=False), studies, labels=True, scheme=SCHEMES["brats2020"])
    assert report.prepared == ("good1", "good2")
    reasons = {refusal.id: refusal.error for refusal in report.refused}
    assert list(reasons) == ["flat", "grid", "nan", "value"]
    assert "flair.nii.gz: image is constant" in reasons["flat"].message
    assert isinstance(reasons["grid"], GeometryError)
    assert "t2.nii.gz: 1 of 720 voxels are NaN" in reasons["nan"].message
    assert isinstance(reasons["value"], LabelError)
    assert f"{data / 'value' / 'seg.nii.gz'}: label value 9 (1 voxels)" in reasons["value"].message
    assert sorted(p.name for p in (studies / "sequences").iterdir()) == ["good1", "good2"]
    assert sorted(load_table(studies)) == ["good1", "good2"]
    assert report.to_dict()["refused"][0]["code"] == "invalid_input"


def test_a_scheme_that_does_not_fit_names_file_value_and_the_fitting_one(tmp_path: Path, source: Path) -> None:
    report = write_studies(discover(source), tmp_path / "studies", labels=True, scheme=SCHEMES["brats2023"])
    assert report.prepared == ()
    text = str(report.refused[0].error)
    assert "seg.nii.gz: label value 4 (1 voxels) is not in scheme 'brats2023'" in text
    assert "brats2020" in text


def test_undecided_schemes_are_decided_when_labels_are_written(tmp_path: Path) -> None:
    make_case(tmp_path / "data" / "p1", values=(1, 1))
    report = write_studies(discover(tmp_path / "data", detect=False), tmp_path / "studies", labels=True)
    assert report.labelled == ("p1",)
    assert "only the value 1" in report.warnings[0]
    assert read_labels(tmp_path / "studies/labels/final/p1.nii.gz")[2, 2, :3].tolist() == [2, 2, 0]
    assert load_table(tmp_path / "studies")["p1"].scheme == "lesion"


def test_another_source_of_the_same_name_needs_force(tmp_path: Path) -> None:
    first, second = make_case(tmp_path / "a" / "p1"), make_case(tmp_path / "b" / "p1", seed=1, suffix=".nii")
    studies = tmp_path / "studies"
    write_studies(discover(first), studies, labels=True)
    before = snapshot(studies)
    (refusal,) = write_studies(discover(second), studies, labels=True).refused
    assert isinstance(refusal.error, ConflictError)
    assert "prepared from" in refusal.error.message
    assert snapshot(studies) == before
    report = write_studies(discover(second), studies, labels=True, force=True)
    assert report.prepared == ("p1",)
    assert sorted(p.name for p in studies.iterdir()) == ["labels", "p1.nii", "sequences", "studies.json"]
    assert {p.name for p in (studies / "sequences/p1").iterdir()} == {f"{name}.nii" for name in SEQUENCES}


@pytest.mark.parametrize("suffix", [".nii.gz", ".seg.nrrd"])
def test_a_final_label_is_never_overwritten_without_force(tmp_path: Path, source: Path, suffix: str) -> None:
    final = tmp_path / "studies" / "labels" / "final"
    final.mkdir(parents=True)
    (final / f"p1_visit1{suffix}").write_bytes(b"a clinician's work")
    report = write_studies(discover(source), tmp_path / "studies", labels=True)
    assert (report.kept, report.labelled) == (("p1_visit1",), ("p1_visit2",))
    assert (final / f"p1_visit1{suffix}").read_bytes() == b"a clinician's work"
    assert len(list(final.iterdir())) == 2
    report = write_studies(discover(source), tmp_path / "studies", labels=True, force=True)
    assert report.labelled == ("p1_visit1", "p1_visit2")
    assert read_labels(final / "p1_visit1.nii.gz").any()


def test_an_image_that_was_not_prepared_is_not_replaced(tmp_path: Path, source: Path) -> None:
    studies = tmp_path / "studies"
    studies.mkdir()
    (studies / "p1_visit1.nii.gz").write_bytes(b"uploaded")
    report = write_studies(discover(source), studies)
    assert report.prepared == ("p1_visit2",)
    assert "was not prepared from this data" in report.refused[0].error.message
    assert (studies / "p1_visit1.nii.gz").read_bytes() == b"uploaded"


def test_a_source_is_never_replaced_by_a_link_to_itself(tmp_path: Path, source: Path) -> None:
    before = snapshot(source)
    report = write_studies(discover(source), source)
    assert report.prepared == ()
    assert "lie in the studies folder" in report.refused[0].error.message
    assert {name: value for name, value in snapshot(source).items() if name in before} == before
    studies = tmp_path / "studies"
    write_studies(discover(source), studies)
    before = snapshot(studies)
    assert write_studies(discover(studies), studies, force=True).prepared == ()
    assert snapshot(studies) == before


def test_a_full_disk_refuses_the_case_and_leaves_no_temporary(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    cases = discover(source)
    monkeypatch.setattr("os.fsync", full)
    report = write_studies(cases, tmp_path / "studies", labels=True)
    assert report.prepared == ()
    assert "cannot be written to" in report.refused[0].error.message
    assert "No space left" in report.refused[0].error.message
    assert not list((tmp_path / "studies").rglob("*.tmp"))


def test_destination_that_is_a_file(tmp_path: Path, source: Path) -> None:
    (tmp_path / "studies").write_text("x")
    with pytest.raises(InputError, match="studies: cannot be made a folder"):
        write_studies(discover(source), tmp_path / "studies")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ('{"version": 1, "cases"', "cannot be read as JSON"),
        ("", "cannot be read as JSON"),
        ('{"version": 7, "cases": {}}', "table version is 7, expected 1"),
        ("[]", "table version is None, expected 1"),
        ('{"version": 1, "cases": {"a": {"patient": "a"}}}', "an entry is incomplete"),
        (
            '{"version": 1, "cases": {"a": {"patient": "a", "sequences": {"t1c": "../../etc/x"}, "display": "a.nii", '
            '"scheme": null, "source": ""}}}',
            r"names '\.\./\.\./etc/x', outside the studies folder",
        ),
    ],
)
def test_a_torn_table_is_named(tmp_path: Path, source: Path, content: str, match: str) -> None:
    (tmp_path / "studies.json").write_text(content)
    with pytest.raises(InputError, match=match):
        load_table(tmp_path)
    with pytest.raises(InputError, match=match):
        write_studies(discover(source), tmp_path)


# ------------------------------------------------------------------------------------------------------------ real data


def test_real_cases(tmp_path: Path) -> None:
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    data = Path(os.environ.get("RAREVOXEL_DATA", default))
    if not data.is_dir():
        pytest.skip(f"real cases are absent: {data} (set RAREVOXEL_DATA)")
    found = scan(data)
    report = write_studies(found.cases, tmp_path, labels=True)
    assert report.prepared == ("glioma_tcga_fg_6692", "ms_lit_p07", "ms_lit_p26")
    (refusal,) = report.refused
    assert refusal.id == "native_tcga_fg_6692"
    assert "256x224x26" in refusal.error.message
    assert "224x256x26" in refusal.error.message
    counts = {}
    for case in report.prepared:
        values, voxels = np.unique(read_labels(tmp_path / f"labels/final/{case}.nii.gz"), return_counts=True)
        counts[case] = dict(zip(values.tolist()[1:], voxels.tolist()[1:], strict=True))
    assert counts == {
        "glioma_tcga_fg_6692": {1: 2477, 2: 20862, 3: 6840},
        "ms_lit_p07": {2: 1300},
        "ms_lit_p26": {2: 8227},
    }
    assert [entry.scheme for entry in load_table(tmp_path).values()] == ["brats2020", "lesion", "lesion"]
