"""Pictures of tumours: mass effect, infiltration, cores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from rarevoxel.phantom.scene import Material, Scene, Tumour, empty_scene, grow_tumour
from rarevoxel.phantom.scene.canvas import box_around
from rarevoxel.phantom.scene.growth import Infiltration, density_of, first_reached, growth_times, without_crumbs
from rarevoxel.phantom.scene.healthy import draw_healthy
from rarevoxel.phantom.scene.mass_effect import push_aside
from rarevoxel.phantom.scene.tumours import ball_mm3
from rarevoxel.report.gallery.grid import Cell, Row, cells, draw_grid
from rarevoxel.report.gallery.studio import WINDOW, Studio, white_voxel
from rarevoxel.report.page import Picture, Section
from rarevoxel.report.slices import plane

_BLOCK_MM = 84.0


def mass_effect(studio: Studio) -> Section:
    """The same head before and after a tumour has pushed it aside."""
    healthy = draw_healthy(studio.rng(4), studio.shape, studio.spacing)
    centre = white_voxel(healthy, (0.32, 0.52, 0.56))
    tumour = Tumour("ring", ball_mm3(46.0), 0.4, mass_effect=0.38)
    grown = grow_tumour(empty_scene(healthy, studio.spacing), tumour, centre, studio.rng(5))
    names = {"before": 0.0, "pushed, strength 0.2": 0.2, "pushed, strength 0.38": 0.38}
    images = {
        name: studio.clean(empty_scene(push_aside(healthy, centre, 23.0, strength, studio.spacing), studio.spacing))
        for name, strength in names.items()
    }
    row = [Cell(plane(found["t1n"], "axial", centre[2]), name, None, WINDOW) for name, found in images.items()]
    row.append(Cell(plane(studio.clean(grown)["t1c"], "axial", centre[2]), "with the tumour: t1c", None, WINDOW))
    text = "A tumour makes room for itself: what lies near its centre moves outwards, what is far away does not."
    alt = "A healthy brain, the same pushed aside weakly and strongly, and with the tumour that does it"
    return Section("Mass effect", [text], pictures=[Picture(draw_grid([Row(row)]), alt)])


INFILTRATION = {
    "compact, sharp edge": Infiltration(roughness=0.1, grey=1.2, fluid=4.0, width_mm=0.0),
    "rough": Infiltration(roughness=0.4, wavelength_mm=18.0, grey=1.5, width_mm=0.0),
    "along white matter": Infiltration(roughness=0.15, grey=4.5, fluid=10.0, width_mm=3.0),
    "fading, faint beyond the label": Infiltration(roughness=0.2, grey=2.5, edge=0.3, width_mm=12.0),
    "palely where it is reached last": Infiltration(roughness=0.25, grey=2.5, width_mm=3.0, pale_share=0.5, pale=0.4),
}


def infiltration(studio: Studio) -> Section:
    """How disease spreads and fades."""
    healthy = draw_healthy(studio.rng(6), studio.shape, studio.spacing)
    centre = white_voxel(healthy, (0.34, 0.45, 0.6))
    rows: dict[str, list[Cell]] = {"t2f": [], "density": [], "label": []}
    for title, how in INFILTRATION.items():
        scene = _spread(studio, healthy, centre, how)
        shown, marked = cells(
            {title: studio.clean(scene)["t2f"]}, scene.labels, marked=title, at=centre[2], window=WINDOW
        )
        rows["t2f"].append(shown)
        rows["density"].append(Cell(plane(scene.density, "axial", centre[2]), window=(0.0, 255.0)))
        rows["label"].append(replace(marked, title=""))
    text = (
        "A tumour reaches white matter before grey matter and fluid, in a random field of speeds. Its density says how "
        "much of a voxel's signal is disease: it fades towards the edge, and faintly goes on where no label is; what "
        "is reached last may be pale throughout, and is labelled."
    )
    drawn = draw_grid([Row(row, name) for name, row in rows.items()])
    alt = "Ways to infiltrate in columns, with signal, density and label below each other"
    return Section("Infiltration and density", [text], pictures=[Picture(drawn, alt)])


def _spread(studio: Studio, healthy: npt.NDArray[np.uint8], centre: tuple[int, ...], how: Infiltration) -> Scene:
    scene = empty_scene(healthy, studio.spacing)
    box = box_around(centre, 80.0, healthy.shape, studio.spacing)
    times = growth_times(healthy, centre, box, how, studio.rng(7), studio.spacing)
    end = first_reached(times, round(ball_mm3(46.0) / studio.spacing_mm**3))
    whole = without_crumbs(times <= end)
    scene.density[box] = density_of(whole, times, how, studio.spacing)
    scene.disease[scene.density > 0] = Material.EDEMA
    scene.labels[box][whole] = 2
    return scene


CORES: dict[str, tuple[Tumour, Material | None, str]] = {
    "ring": (Tumour("ring", ball_mm3(52), 0.35), None, "An enhancing rim around necrosis, often with gaps."),
    "solid": (Tumour("solid", ball_mm3(52), 0.35), None, "Enhancing throughout or nearly."),
    "patchy": (Tumour("patchy", ball_mm3(52), 0.45), None, "Without enhancement but for spots."),
    "plain": (Tumour("plain", ball_mm3(52), 0.45), None, "Without any enhancement."),
    "cyst": (Tumour("ring", ball_mm3(52), 0.35), Material.CYST, "Fluid deep inside; labelled as core."),
    "haemorrhage": (Tumour("ring", ball_mm3(52), 0.35), Material.HAEMORRHAGE, "Blood; labelled as core."),
    "cavity": (Tumour("ring", ball_mm3(52), 0.4, cavity_share=0.65), Material.CAVITY, "What surgery removed."),
}
"""Name -> tumour, what must be found in it, and a sentence."""


def cores(studio: Studio) -> Section:
    """What a tumour's core can be made of, each kind in a block of white matter."""
    rows: dict[str, list[Cell]] = {"t1c": [], "t2f": [], "labels": []}
    for number, (name, (tumour, wanted, _)) in enumerate(CORES.items()):
        scene = _example(studio, tumour, wanted, number)
        images = studio.clean(scene)
        found = cells({name: images["t1c"], "t2f": images["t2f"]}, scene.labels, window=WINDOW)
        for row, cell in zip(rows.values(), found, strict=True):
            row.append(replace(cell, title=cell.title if cell is found[0] else ""))
    drawn = draw_grid([Row(row, name) for name, row in rows.items()])
    text = "Each in a block of white matter of 84 mm, without noise."
    facts = {name: sentence for name, (_, _, sentence) in CORES.items()}
    alt = "Seven kinds of cores in columns, each as t1c, t2f and labels"
    return Section("Cores", [text], facts, pictures=[Picture(drawn, alt, wide=True)])


def _example(studio: Studio, tumour: Tumour, wanted: Material | None, number: int) -> Scene:
    """Draw until the core holds a fair part of what is wanted, or nothing out of the ordinary."""
    n = round(_BLOCK_MM / studio.spacing_mm)
    scene = empty_scene(np.zeros((n, n, n), dtype=np.uint8), studio.spacing)
    for attempt in range(60):
        scene = empty_scene(np.full((n, n, n), Material.WHITE, dtype=np.uint8), studio.spacing)
        scene = grow_tumour(scene, tumour, (n // 2,) * 3, studio.rng(8, number, attempt))
        found = np.bincount(scene.disease.ravel(), minlength=len(Material)) / np.count_nonzero(scene.disease)
        unusual = found[[Material.CYST, Material.HAEMORRHAGE]]
        if (unusual.max() == 0) if wanted is None else found[wanted] > 0.04:
            break
    return scene
