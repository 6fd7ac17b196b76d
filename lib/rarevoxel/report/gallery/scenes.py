"""Pictures of whole heads: patients, anatomy, white matter."""

from __future__ import annotations

from rarevoxel.phantom.examine import examine
from rarevoxel.phantom.scene import PATIENTS, Scene, empty_scene
from rarevoxel.phantom.scene.healthy import draw_healthy
from rarevoxel.phantom.scene.white_matter import add_caps, add_lesions
from rarevoxel.report.gallery.grid import Cell, Row, axial_cut, cells, draw_grid
from rarevoxel.report.gallery.studio import SEQUENCES, WINDOW, Studio
from rarevoxel.report.page import Picture, Section
from rarevoxel.report.slices import plane

STRENGTH = 0.6
"""How imperfect the acquisitions of the patients are: mildly, so that what they have is well seen."""

KINDS = {
    "glioma": "A high-grade glioma: an enhancing rim around necrosis, in oedema, now and then with a satellite.",
    "low_grade": "A lower-grade glioma: mostly tumour without enhancement, which may be patchy.",
    "metastases": "Two to fourteen metastases from 3 mm up, solid or rings, with little oedema or much.",
    "meningioma": "A meningioma: at the surface, evenly enhancing, pushing rather than infiltrating.",
    "operated": "A glioma after surgery: a cavity filled with fluid, with tumour left at its wall.",
    "white_matter": "White-matter lesions of inflammatory or vascular kind, from three spots to a hundred.",
    "both": "A tumour in a brain that has white-matter lesions as well.",
    "healthy": "No disease: a brain that must stay unmarked.",
}


def patient_row(studio: Studio, kind: str, scene: Scene) -> Row:
    """Return the four sequences and the labels of a patient, in the axial slice that shows most of the disease."""
    rng = studio.rng(2, list(PATIENTS).index(kind))
    images, shown = examine(scene, rng, strength=STRENGTH, missing=())
    at = None if shown.labels.any() else axial_cut(shown)
    return Row(cells(dict(zip(SEQUENCES, images, strict=True)), shown.labels, at=at), kind.replace("_", " "))


def patients(studio: Studio, drawn: dict[str, Scene]) -> Section:
    """Every kind of patient."""
    rows = [patient_row(studio, kind, scene) for kind, scene in drawn.items()]
    alt = "Eight rows of brain slices, one per kind of patient: t1n, t1c, t2w, t2f and the labels over t2f"
    text = "Each kind is drawn from the seed by a recipe of its own, and examined with contrasts and faults of its own."
    return Section("Patients", [text], KINDS, pictures=[Picture(draw_grid(rows), alt, wide=True)])


def anatomy(studio: Studio) -> Section:
    """Healthy heads that differ."""
    heads = [draw_healthy(studio.rng(3, number), studio.shape, studio.spacing) for number in range(6)]
    scenes = [empty_scene(head, studio.spacing) for head in heads]
    x, y, _ = studio.shape
    cuts = (("t1n", "axial", axial_cut(scenes[0])), ("t2w", "coronal", y // 2), ("t1c", "sagittal", 9 * x // 20))
    rows = []
    for name, view, at in cuts:
        row = [Cell(plane(studio.clean(scene)[name], view, at), window=WINDOW) for scene in scenes]
        rows.append(Row(row, f"{name}, {view}"))
    text = (
        "No two heads are alike: size, folding, cortical thickness, width of ventricles and sulci (atrophy), fluid "
        "around the brain. Plexus, vessels, dura and falx take up contrast agent and are no tumour."
    )
    alt = "Three rows of six healthy brains each: axial t1n, coronal t2w, sagittal t1c"
    return Section("Anatomy", [text], pictures=[Picture(draw_grid(rows), alt, wide=True)])


def white_matter(studio: Studio) -> Section:
    """Lesions and caps in one head."""
    healthy = draw_healthy(studio.rng(9), studio.shape, studio.spacing)
    row = []
    for count, median in ((8, 120.0), (80, 60.0)):
        scene, title = empty_scene(healthy, studio.spacing), f"{count} lesions"
        add_lesions(scene, studio.rng(10), count, median, 0.9)
        row += cells({title: studio.clean(scene)["t2f"]}, scene.labels, marked=title, window=WINDOW)
    scene = empty_scene(healthy, studio.spacing)
    add_caps(scene, studio.rng(10), 4.0, 0.4)
    row += cells({"caps": studio.clean(scene)["t2f"]}, scene.labels, at=axial_cut(scene), window=WINDOW)
    text = (
        "Small ovoid spots, more of them along the ventricles; their soft edges are labelled from half density on, and "
        "one in seven is too faint to be marked. Many healthy ventricles have a bright rim, which carries no label."
    )
    alt = "FLAIR slices with eight lesions, with eighty, both with their labels, and with caps around the ventricles"
    return Section("White matter", [text], pictures=[Picture(draw_grid([Row(row)]), alt)])
