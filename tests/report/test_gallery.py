"""The gallery of synthetic heads, drawn small."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rarevoxel.errors import ConfigError, InputError
from rarevoxel.phantom.contrast import tables
from rarevoxel.phantom.scene import PATIENTS, Material
from rarevoxel.report import PHANTOM_NOTICE, Page
from rarevoxel.report.gallery import gallery_page, grid, write_gallery, write_montage
from rarevoxel.report.gallery import page as page_module
from rarevoxel.report.gallery.grid import Cell, Row, cells, draw_grid
from rarevoxel.report.gallery.images import FAULTS, STYLES, _faulty
from rarevoxel.report.gallery.scenes import KINDS
from rarevoxel.report.gallery.studio import Studio
from rarevoxel.report.gallery.tumours import CORES, _example

COARSE_MM = 8.0


@pytest.fixture(scope="module")
def page() -> Page:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "to_png", lambda figure: b"a picture")
        patch.setattr(grid, "_few_colours", lambda png: png)
        return gallery_page(1, spacing_mm=COARSE_MM)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_the_page_shows_every_ingredient_with_a_picture_and_a_sentence(page: Page) -> None:
    titles = [section.title for section in page.sections]
    assert titles == [
        "Patients", "Anatomy", "Mass effect", "Infiltration and density", "Cores", "White matter", "Contrasts",
        "Acquisition", "Training crops",
    ]  # fmt: skip
    assert all(len(section.pictures) == 1 and section.text for section in page.sections)
    facts = {section.title: set(section.facts) for section in page.sections}
    assert facts["Patients"] == set(KINDS) == set(PATIENTS)
    assert facts["Cores"] == set(CORES)
    assert facts["Contrasts"] == set(STYLES)
    assert facts["Acquisition"] == set(FAULTS)
    assert page.notice == PHANTOM_NOTICE
    assert page.made["seed"] == "1"


def test_a_seed_or_spacing_that_cannot_be_is_refused(tmp_path: Path) -> None:
    for options in ({"seed": -1}, {"spacing_mm": 0.0}, {"spacing_mm": 9.0}):
        with pytest.raises(ConfigError, match=r"expected a seed >= 0 and more than 0 up to 8 mm"):
            write_gallery(tmp_path / "g.html", **options)  # type: ignore[arg-type]
    assert not any(tmp_path.iterdir())


def test_the_page_is_written_as_one_file(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("rarevoxel.report.gallery.page.gallery_page", lambda *a, **o: asked.append((a, o)) or page)
    written = write_gallery(tmp_path / "new" / "g.html", 1, spacing_mm=COARSE_MM)
    assert asked == [((1,), {"spacing_mm": COARSE_MM, "progress": False})]
    html = written.read_text()
    assert html.count("data:image/png;base64,") == len(page.sections)
    assert html.count("<img") == html.count('src="') == len(page.sections)
    assert "href" not in html


def test_the_montage_is_a_row_per_patient_and_the_same_for_a_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(page_module.MONTAGE) == {"glioma", "metastases", "white_matter", "operated"}
    monkeypatch.setattr(page_module, "MONTAGE", ("meningioma",))
    first = write_montage(tmp_path / "a" / "m.png", 2, spacing_mm=COARSE_MM)
    shown = pixels(first.read_bytes())
    assert 0.2 < shown.shape[0] / shown.shape[1] < 0.4
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) <= 256
    again = write_montage(tmp_path / "b.png", 2, spacing_mm=COARSE_MM)
    assert again.read_bytes() == first.read_bytes()


def test_cells_are_the_slice_with_most_disease_and_the_labels_over_one_image() -> None:
    image = np.random.default_rng(0).random((6, 7, 8))
    labels = np.zeros((6, 7, 8), dtype=np.uint8)
    labels[1:3, 2:4, 5] = 2
    t1n, t2f, marked = cells({"t1n": image, "t2f": 2 * image}, labels)
    np.testing.assert_array_equal(t1n.image, image[::-1, ::-1, 5].T)
    np.testing.assert_array_equal(marked.image, t2f.image)
    assert marked.labels is not None
    np.testing.assert_array_equal(marked.labels, labels[::-1, ::-1, 5].T)
    (only,) = cells({"t1n": image}, labels, view="coronal", at=3)
    np.testing.assert_array_equal(only.image, image[::-1, 3, ::-1].T)


def test_labels_keep_their_colours_in_the_small_picture() -> None:
    image = np.random.default_rng(0).random((60, 60))
    labels = np.zeros((60, 60), dtype=np.uint8)
    for value in range(1, 5):
        labels[4:12, 13 * value - 9 : 13 * value - 1] = value
    shown = pixels(draw_grid([Row([Cell(image, "", labels, (0.0, 1.0))])], width=3.0)).astype(int)[:320]
    red, green, blue = shown[..., 0], shown[..., 1], shown[..., 2]
    for name, mask in {
        "edema": (blue > red + 60) & (blue > green),
        "enhancing tumor": (red > blue + 60) & (green > blue + 60),
        "necrosis": (red > green + 60) & (red > blue + 60),
        "resection cavity": (red > green + 30) & (blue > green + 20),
    }.items():
        assert np.mean(mask) == pytest.approx(64 / 3600, rel=0.25), name
    assert np.mean((red == green) & (green == blue)) > 0.9


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(InputError, match="no slice to draw"):
        draw_grid([Row([])])


@pytest.mark.parametrize("name", CORES)
def test_a_core_holds_what_its_name_says(name: str) -> None:
    tumour, wanted, _ = CORES[name]
    scene = _example(Studio(0, 5.0), tumour, wanted, list(CORES).index(name))
    if wanted is None:
        assert not np.isin(scene.disease, (Material.CYST, Material.HAEMORRHAGE)).any()
    else:
        assert np.any(scene.disease == wanted)
    assert np.any(scene.labels == 3) == (name != "plain")


def test_every_fault_changes_the_image() -> None:
    studio = Studio(0, 4.0)
    scene = studio.scene("glioma")
    clean = studio.clean(scene)["t2f"]
    cuts = (18, 23, 18)
    perfect = {
        view: _faulty(studio, scene, clean, type(FAULTS["none"])("", view=view), "none", cuts).image
        for view in ("axial", "coronal")
    }
    for name, fault in FAULTS.items():
        image = _faulty(studio, scene, clean, fault, name, cuts).image
        assert np.any(image != perfect[fault.view]) == (name != "none"), name
    assert not _faulty(studio, scene, clean, FAULTS["missing"], "", cuts).image.any()


def test_the_styles_are_those_of_the_tables() -> None:
    assert set(STYLES) == set(tables.Style.__args__)  # type: ignore[attr-defined]
