"""Faults 1 to 17: images that cannot be used are refused, and odd ones that can be used are segmented right."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import requests

from faults.conftest import PLAIN
from faults.served import Served, check_refusal, refusing
from faults.spoiled import GAPS, ORIENTATIONS, SMALL, SPACINGS, SPOILED, STORED
from rarevoxel.volumes import read_header

pytestmark = pytest.mark.server

HOST_KEYS = {
    "model": "dice_focal",
    "model_filename": "other.pt",
    "bundle_path": "/tmp",
    "device": "quantum",
    "image": PLAIN,
    "label": "x",
    "session": "x",
    "roi_size": [1, 1, 1],
    "skip_writer": True,
}


def mask_of(server: Served, case: str, tmp_path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    response = server.infer(case, output="image")
    assert response.status_code == 200, response.text
    (tmp_path / f"{case}.nii.gz").write_bytes(response.content)
    image = nib.load(tmp_path / f"{case}.nii.gz")
    return np.asarray(image.dataobj).astype(np.uint8), image.affine


@pytest.mark.fault(1)
def test_unknown_case(spoiled_server: Served) -> None:
    with refusing(spoiled_server):
        check_refusal(spoiled_server.infer("nobody"), 404, "nobody", server=spoiled_server)


@pytest.mark.fault(2)
def test_unknown_model(spoiled_server: Served) -> None:
    with refusing(spoiled_server):
        response = spoiled_server.infer(PLAIN, model="nnunet")
        check_refusal(response, 404, "nnunet", "dice_focal", server=spoiled_server)


@pytest.mark.fault(3)
@pytest.mark.parametrize("params", ["{nonsense", "[1]", '"text"', "null1", "[" * 1_000_000, '{"a":' * 200_000 + "1"])
def test_params_that_are_no_object(spoiled_server: Served, params: str) -> None:
    with refusing(spoiled_server):
        response = spoiled_server.infer(PLAIN, data={"params": params})
        assert response.status_code in (400, 413), response.text
        check_refusal(response, response.status_code, server=spoiled_server)


@pytest.mark.fault(4)
def test_only_cases_are_read_never_paths(spoiled_server: Served) -> None:
    server = spoiled_server
    own = server.studies / f"{PLAIN}.nii.gz"
    with refusing(server):
        for image in (str(own), "/etc/passwd", "../studies/x", "..", f"../{server.studies.name}/{PLAIN}", "~/x"):
            check_refusal(server.infer(image), 400, server=server)
        response = server.infer(PLAIN, data={"params": f'{{"image": "{own}"}}'})
        check_refusal(response, 400, "image", server=server)


@pytest.mark.fault(5)
@pytest.mark.parametrize("key", HOST_KEYS)
def test_host_keys_are_not_obeyed(spoiled_server: Served, key: str) -> None:
    with refusing(spoiled_server):
        params = requests.models.complexjson.dumps({key: HOST_KEYS[key]})
        response = spoiled_server.infer(PLAIN, data={"params": params})
        allowed = "cuda" if key == "device" else "result_extension"
        check_refusal(response, 400, key, allowed, server=spoiled_server)


@pytest.mark.fault(5)
def test_an_impossible_result_format(spoiled_server: Served) -> None:
    for suffix in (".exe", "/../x.nii.gz", ".nii.gz\u0000"):
        with refusing(spoiled_server):
            params = requests.models.complexjson.dumps({"result_extension": suffix})
            response = spoiled_server.infer(PLAIN, data={"params": params})
            assert response.status_code in (400, 422)
            check_refusal(response, response.status_code, "result_extension", server=spoiled_server)


@pytest.mark.parametrize(
    ("case", "word"),
    [
        pytest.param(case, word, marks=pytest.mark.fault(number), id=case)
        for number, cases in SPOILED.items()
        for case, (_, word) in cases.items()
    ],
)
def test_a_spoiled_case_is_refused_by_name(spoiled_server: Served, case: str, word: str) -> None:
    with refusing(spoiled_server):
        error = check_refusal(spoiled_server.infer(case), 422, word, server=spoiled_server)
    assert case in error["message"], error


@pytest.mark.fault(9)
@pytest.mark.parametrize("case", GAPS)
def test_a_case_without_some_sequences_gets_a_mask_that_says_so(
    spoiled_server: Served, tmp_path: Path, case: str
) -> None:
    response = spoiled_server.infer(case)
    assert response.status_code == 200, response.text
    reply = response.json()
    assert tuple(reply["missing"]) == GAPS[case]
    assert [warning.split(" is missing: ")[0] for warning in reply["warnings"]] == list(GAPS[case])
    assert f"segmented without {', '.join(GAPS[case])}" in spoiled_server.logs()
    assert mask_of(spoiled_server, case, tmp_path)[0].shape == (40, 48, 40)


@pytest.mark.fault(9)
def test_one_volume_of_unknown_sequence_is_refused(spoiled_server: Served) -> None:
    with refusing(spoiled_server):
        response = spoiled_server.infer("nameless")
        check_refusal(response, 422, "t1n, t1c, t2w, t2f is missing", "name the files", server=spoiled_server)


@pytest.mark.fault(10)
def test_different_grids_are_both_described(spoiled_server: Served) -> None:
    check_refusal(spoiled_server.infer("grids"), 422, "40x48x40 at 4x4x4 mm", "40x48x20 at 4x4x8 mm", "register")


@pytest.mark.fault(8)
def test_a_trailing_axis_of_one_is_fine(spoiled_server: Served) -> None:
    assert (
        spoiled_server.infer("singleton").json()["regions_ml"]
        == spoiled_server.infer("turned-RAS").json()["regions_ml"]
    )


@pytest.mark.fault(14)
@pytest.mark.parametrize("case", [*SMALL, "one-voxel"])
def test_a_case_smaller_than_a_patch(spoiled_server: Served, tmp_path: Path, case: str) -> None:
    mask, _ = mask_of(spoiled_server, case, tmp_path)
    assert mask.shape == SMALL.get(case, (1, 1, 1))


@pytest.mark.fault(15)
@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_orientation_does_not_matter(spoiled_server: Served, tmp_path: Path, codes: str) -> None:
    reference, _ = mask_of(spoiled_server, PLAIN, tmp_path)
    case = f"turned-{codes}"
    _, affine = mask_of(spoiled_server, case, tmp_path)
    assert "".join(nib.aff2axcodes(affine)) == codes
    back = nib.as_closest_canonical(nib.load(tmp_path / f"{case}.nii.gz"))
    turned = np.asarray(back.dataobj)
    expected = np.asarray(nib.as_closest_canonical(nib.load(tmp_path / f"{PLAIN}.nii.gz")).dataobj)
    assert reference.any()
    for label in (1, 2, 3):
        a, b = turned == label, expected == label
        assert 2 * np.count_nonzero(a & b) >= 0.99 * (np.count_nonzero(a) + np.count_nonzero(b))


@pytest.mark.fault(16)
@pytest.mark.parametrize("case", SPACINGS)
def test_the_mask_is_on_the_image_s_own_grid(spoiled_server: Served, tmp_path: Path, case: str) -> None:
    mask, affine = mask_of(spoiled_server, case, tmp_path)
    grid = read_header(spoiled_server.studies / f"{case}.nii.gz")
    assert mask.shape == grid.shape
    np.testing.assert_allclose(affine, grid.affine, atol=1e-4)


@pytest.mark.fault(17)
def test_how_numbers_are_stored_does_not_matter(spoiled_server: Served, tmp_path: Path) -> None:
    masks = {case: mask_of(spoiled_server, case, tmp_path)[0] for case in STORED}
    assert masks["as-uint8"].any()
    for mask in masks.values():
        np.testing.assert_array_equal(mask, masks["as-uint8"])
