"""The gallery's page, and the compact picture made by the same code."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from tqdm import tqdm

from rarevoxel.errors import ConfigError
from rarevoxel.phantom.scene import PATIENTS
from rarevoxel.report.gallery import images, scenes, tumours
from rarevoxel.report.gallery.grid import draw_grid
from rarevoxel.report.gallery.studio import Studio
from rarevoxel.report.page import PHANTOM_NOTICE, Page, Section, versions, write_page
from rarevoxel.volumes import replace_file

MONTAGE = ("glioma", "metastases", "white_matter", "operated")
"""Kinds of patients in the compact picture."""

_COARSEST_MM = 8.0


def gallery_page(seed: int = 0, *, spacing_mm: float = 1.5, progress: bool = False) -> Page:
    """Draw every ingredient of the generator.

    Args:
        seed: of everything; the same seed gives the same page.
        spacing_mm: voxel size in mm; smaller is slower and looks finer.
        progress: show a bar on stderr when that is a terminal.

    Raises:
        ConfigError: if the seed is negative or the spacing not between 0 and 8 mm.
    """
    studio = _studio(seed, spacing_mm)
    drawn = {kind: studio.scene(kind) for kind in _bar(PATIENTS, progress, "patients")}
    makers: dict[str, Callable[[], Section]] = {
        "patients": lambda: scenes.patients(studio, drawn),
        "anatomy": lambda: scenes.anatomy(studio),
        "mass effect": lambda: tumours.mass_effect(studio),
        "infiltration": lambda: tumours.infiltration(studio),
        "cores": lambda: tumours.cores(studio),
        "white matter": lambda: scenes.white_matter(studio),
        "contrasts": lambda: images.contrasts(studio, drawn["glioma"]),
        "acquisition": lambda: images.acquisition(studio, drawn["glioma"]),
        "crops": lambda: images.crops(studio, drawn),
    }
    sections = [makers[name]() for name in _bar(makers, progress, "pictures")]
    lead = (
        "What the starter model is trained on: synthetic heads, drawn from seeds, with the diseases it is to find and "
        "with the faults of the scans it is to bear. Every voxel's label is known because it was drawn."
    )
    made = {**versions(), "seed": str(seed), "voxel size": f"{spacing_mm:g} mm"}
    return Page("Gallery of synthetic heads", lead, sections, PHANTOM_NOTICE, made=made)


def write_gallery(path: str | Path, seed: int = 0, *, spacing_mm: float = 1.5, progress: bool = False) -> Path:
    """Write the gallery as one self-contained HTML page, see `gallery_page`.

    Returns:
        The path.

    Raises:
        ConfigError: as `gallery_page`.
        OSError: if the file cannot be written.
    """
    return write_page(path, gallery_page(seed, spacing_mm=spacing_mm, progress=progress))


def write_montage(path: str | Path, seed: int = 0, *, spacing_mm: float = 1.0, progress: bool = False) -> Path:
    """Write a picture of four patients: a row each of t1n, t1c, t2w, t2f and labels.

    Args:
        path: PNG to write; its folder is made when absent.
        seed: of everything.
        spacing_mm: voxel size in mm.
        progress: show a bar on stderr when that is a terminal.

    Returns:
        The path.

    Raises:
        ConfigError: as `gallery_page`.
        OSError: if the file cannot be written.
    """
    studio = _studio(seed, spacing_mm)
    rows = [scenes.patient_row(studio, kind, studio.scene(kind)) for kind in _bar(MONTAGE, progress, "patients")]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, draw_grid(rows))
    return path


def _studio(seed: int, spacing_mm: float) -> Studio:
    if seed < 0 or not 0 < spacing_mm <= _COARSEST_MM:
        msg = f"a gallery of seed {seed} at {spacing_mm:g} mm was asked for"
        raise ConfigError(f"{msg}, expected a seed >= 0 and more than 0 up to {_COARSEST_MM:g} mm")
    return Studio(seed, spacing_mm)


def _bar(items: Iterable[str], progress: bool, what: str) -> Iterable[str]:
    bar: Iterable[str] = tqdm(list(items), desc=what, unit="step", disable=None if progress else True)
    return bar
