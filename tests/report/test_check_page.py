"""The page of the checks: a card a case, the worst first, the place ringed in the picture."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from rarevoxel.errors import InputError
from rarevoxel.learning.quality import CaseReport, Finding
from rarevoxel.report import places
from rarevoxel.report.checks import write_checks
from rarevoxel.report.places import draw_place
from rarevoxel.volumes import write_labels, write_volume

SHAPE = (20, 24, 16)
AFFINE = np.diag([2.0, 1.0, 3.0, 1.0])
PNG = b"\x89PNG\r\n\x1a\n"


def an_image() -> np.ndarray:
    image = np.zeros(SHAPE, np.float32)
    image[2:18, 2:22, 2:14] = np.random.default_rng(0).uniform(1, 2, (16, 20, 12))
    return image


def labels() -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[5:9, 6:12, 4:8] = 2
    return array


@pytest.fixture
def case(tmp_path: Path) -> tuple[Path, Path]:
    write_volume(tmp_path / "image.nii.gz", an_image(), AFFINE)
    write_labels(tmp_path / "label.nii.gz", labels(), AFFINE)
    return tmp_path / "image.nii.gz", tmp_path / "label.nii.gz"


def error(code: str = "value", voxel: tuple[int, int, int] | None = (5, 6, 4)) -> Finding:
    return Finding(
        code, "error", f"label of case a<b: {code}", 3.0, voxel, None if voxel is None else (10.0, 6.0, 12.0)
    )


def warning(code: str = "islands") -> Finding:
    return Finding(code, "warning", "case quiet: 2 islands", 2.0, (5, 6, 4), (10.0, 6.0, 12.0), "WT")


def cards(path: Path) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", path.read_text(encoding="utf-8"))


def test_the_worst_case_comes_first(tmp_path: Path, case: tuple[Path, Path]) -> None:
    image, label = case
    reports = [
        CaseReport("good", labelled=True, volumes_ml={"WT": 1.0}),
        CaseReport("one warning", (warning(),), True, image, label, {"WT": 1.0}),
        CaseReport("two warnings", (warning(), warning("holes")), True, image, label),
        CaseReport("a<b", (error(),), True, image, label),
    ]
    path = write_checks(tmp_path / "new" / "page.html", reports)
    assert cards(path) == ["a&lt;b", "two warnings", "one warning", "1 case with nothing to say"]
    html = path.read_text(encoding="utf-8")
    assert "4 cases, 4 of them labelled: 1 error and 3 warnings in 3 cases." in html
    assert "<p>Error: label: value.</p>" in html
    assert html.count("data:image/png;base64,") == 4
    assert "<dt>WT volume</dt><dd>1 ml</dd>" in html
    assert "<td>10, 6, 12</td>" in html
    assert 'alt="slices of case a&lt;b through voxel 5, 6, 4: value"' in html


def test_the_page_loads_nothing(tmp_path: Path, case: tuple[Path, Path]) -> None:
    path = write_checks(tmp_path / "page.html", [CaseReport("c", (error(),), True, *case)])
    html = path.read_text(encoding="utf-8")
    assert re.findall(r"""(?:src|href)=["'](?!data:)""", html) == []
    assert "http" not in html.replace("http-equiv", "")
    assert str(tmp_path) not in html


def test_nothing_found(tmp_path: Path) -> None:
    path = write_checks(tmp_path / "page.html", [CaseReport("c")])
    assert cards(path) == ["1 case with nothing to say"]
    assert 'class="lead good"' in path.read_text(encoding="utf-8")


def test_what_cannot_be_drawn_is_still_listed(tmp_path: Path, case: tuple[Path, Path]) -> None:
    image, label = case
    torn = tmp_path / "torn.nii.gz"
    torn.write_bytes(b"x")
    many = tuple(error(f"code-{n}") for n in range(6))
    reports = [
        CaseReport("no place", (error(voxel=None),), True, image, label),
        CaseReport("no image", (error(),), True, torn, label),
        CaseReport("no case", (error(),)),
        CaseReport("no label", (error(),), True, image, torn),
        CaseReport("many", many, True, image, label),
    ]
    html = write_checks(tmp_path / "page.html", reports).read_text(encoding="utf-8")
    assert html.count("data:image/png;base64,") == 1 + 4
    assert all(f"<td>code-{n}</td>" in html for n in range(6))


def test_an_uploaded_image_of_four_channels(tmp_path: Path) -> None:
    path = tmp_path / "four.nii.gz"
    nib.save(nib.Nifti1Image(np.stack([an_image()] * 4, axis=3), AFFINE), path)
    html = write_checks(tmp_path / "page.html", [CaseReport("c", (error(),), True, path)]).read_text(encoding="utf-8")
    assert html.count("data:image/png;base64,") == 1


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
def test_the_ring_is_at_the_voxel(monkeypatch: pytest.MonkeyPatch, codes: str) -> None:
    monkeypatch.setattr(places, "to_png", lambda figure: figure)
    change = nib.orientations.ornt_transform(nib.io_orientation(AFFINE), nib.orientations.axcodes2ornt(codes))
    affine = AFFINE @ nib.orientations.inv_ornt_aff(change, SHAPE)
    mark = np.zeros(SHAPE)
    mark[5, 6, 4] = 1
    voxel = tuple(int(n) for n in np.argwhere(nib.orientations.apply_orientation(mark, change))[0])
    image, mask = (nib.orientations.apply_orientation(array, change) for array in (an_image(), labels()))
    figure = draw_place(image, mask, affine, voxel)  # type: ignore[arg-type]
    assert isinstance(figure, Figure)
    centres = [patch.center for axes in figure.axes for patch in axes.patches if isinstance(patch, Circle)]
    # Right is left, anterior and superior are up: mm from the left and upper edge, at the voxel's middle.
    x, y, z = (20 - 5.5) * 2.0, (24 - 6.5) * 1.0, (16 - 4.5) * 3.0
    assert centres == [pytest.approx(pair) for pair in ((x, y), (x, z), (y, z))]


def test_the_same_place_gives_the_same_bytes() -> None:
    drawn = [draw_place(an_image(), labels(), AFFINE, (5, 6, 4)) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert drawn[0].startswith(PNG)


def test_a_place_outside_is_refused() -> None:
    with pytest.raises(InputError, match=r"voxel \(20, 0, 0\) lies outside a volume of shape \(20, 24, 16\)"):
        draw_place(an_image(), labels(), AFFINE, (20, 0, 0))
    with pytest.raises(InputError, match=r"label shape \(3, 3, 3\) found"):
        draw_place(an_image(), np.zeros((3, 3, 3), np.uint8), AFFINE, (0, 0, 0))
