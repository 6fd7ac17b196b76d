"""What becomes of a scene: contrasts, the faults of an acquisition one by one, training crops."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rarevoxel.bundled import bundled_app
from rarevoxel.config import load_config
from rarevoxel.labels import regions_to_labels
from rarevoxel.phantom.acquisition import (
    Acquisition,
    Lines,
    Misregistration,
    Moved,
    Noise,
    SequenceAcquisition,
    Shading,
    Sharpness,
    Slices,
    Storage,
    Stripping,
    acquire,
)
from rarevoxel.phantom.contrast import Style, draw_table
from rarevoxel.phantom.scene import Scene
from rarevoxel.phantom.signals import Texture, signals
from rarevoxel.report.gallery.grid import Cell, Row, cells, draw_grid
from rarevoxel.report.gallery.studio import SEQUENCES, WINDOW, Studio
from rarevoxel.report.page import Picture, Section
from rarevoxel.report.slices import VIEWS, best_slices, plane
from rarevoxel.training.phantom_stream import PhantomStream, StreamSpec

STYLES: dict[Style, str] = {
    "physics": "Relaxation times around published ones, and the signal equations of spin echo, prepared gradient echo "
    "and inversion recovery; half of all examinations.",
    "loose": "The same with 12 % of chance on every mean; three in ten.",
    "free": "Every material of t1n, t1c and t2w may be anything; only what makes a lesion one is kept. Two in ten.",
}


def contrasts(studio: Studio, scene: Scene) -> Section:
    """The same head in contrasts from physics and beyond."""
    rows = []
    for style in STYLES:
        for number in range(2):
            table = draw_table(studio.rng(20, number), style)
            images = signals(scene, table, Texture(), studio.rng(21))
            found = cells(dict(zip(SEQUENCES, images, strict=True)), scene.labels, marked="", window=WINDOW)
            rows.append(Row(found, style))
    alt = "Six rows of the same brain, two each in contrasts from physics, loose and free ones"
    text = "The same glioma without noise; what is the same in every row is what a network can rely on."
    return Section(
        "Contrasts",
        [text],
        {str(style): sentence for style, sentence in STYLES.items()},
        pictures=[Picture(draw_grid(rows, width=8.0), alt)],
    )


@dataclass(frozen=True)
class Fault:
    """One fault by itself.

    Args:
        sentence: what it is.
        sequence: what happens to the sequence.
        stripping: what happens to the mask.
        view: where it is seen best.
        marked: the labels are laid over it, to see that it moved.
        missing: the sequence was not acquired.
    """

    sentence: str
    sequence: SequenceAcquisition = SequenceAcquisition()  # noqa: RUF009
    stripping: Stripping = Stripping()  # noqa: RUF009
    view: str = "axial"
    marked: bool = False
    missing: bool = False


FAULTS = {
    "none": Fault("The perfect acquisition."),
    "bias": Fault("Coils that receive unevenly.", SequenceAcquisition(shading=Shading(0.35, 90.0))),
    "thick slices": Fault(
        "Slices of 6 mm, interpolated; coronal view.", SequenceAcquisition(slices=Slices(2, 6.0)), view="coronal"
    ),
    "blur": Fault("A wide point spread.", SequenceAcquisition(sharpness=Sharpness((1.6, 1.6, 1.6)))),
    "sharpening": Fault("An unsharp mask with halos.", SequenceAcquisition(sharpness=Sharpness(sharpen=1.2))),
    "ringing": Fault("Outer k-space never measured.", SequenceAcquisition(sharpness=Sharpness(keep=0.4, axis=1))),
    "motion": Fault(
        "A patient who moved during parts of the scan.",
        SequenceAcquisition(lines=Lines(0, (Moved(0.12, 0.4, (4.0, 2.0, 0.0)), Moved(0.6, 0.75, (-3.0, 3.0, 0.0))))),
    ),
    "ghosts": Fault(
        "Every third line is weaker.",
        SequenceAcquisition(lines=Lines(1, ghost_every=3, ghost_amount=0.5, ghost_centre=0)),
    ),
    "fold-over": Fault("A faint copy from outside.", SequenceAcquisition(lines=Lines(0, wrap_mm=60, wrap_amount=0.25))),
    "noise": Fault("Rician, more in the middle.", SequenceAcquisition(noise=Noise(0.07, 1.0, 0.2))),
    "misregistration": Fault(
        "Turned and moved against the labels.",
        SequenceAcquisition(misregistration=Misregistration((4.0, 4.0, 0.0), (0.0, 0.0, 6.0))),
        marked=True,
    ),
    "strip: too much": Fault("Brain missing at the rim.", stripping=Stripping(erode_mm=9.0, erode_share=0.35)),
    "strip: too little": Fault(
        "Dura, bone and scalp left on.", stripping=Stripping(grow_mm=9.0, grow_share=0.35, wavelength_mm=60.0)
    ),
    "intensity curve": Fault(
        "A rising curve, and few levels.", SequenceAcquisition(storage=Storage(1.4, ((0.3, 0.15), (0.6, 0.75)), 31))
    ),
    "missing": Fault("Not acquired: all zero.", missing=True),
}  # fmt: skip


def acquisition(studio: Studio, scene: Scene) -> Section:
    """Every fault of an acquisition by itself, on one head."""
    clean = studio.clean(scene)["t2f"]
    cuts = best_slices([scene.labels])
    found = [_faulty(studio, scene, clean, fault, name, cuts) for name, fault in FAULTS.items()]
    rows = [Row(found[start : start + 5]) for start in range(0, len(found), 5)]
    text = "All on the same t2f, each stronger than it usually is; a drawn acquisition mixes them mildly."
    facts = {name: fault.sentence for name, fault in FAULTS.items()}
    alt = "Fifteen slices of the same brain, each with one fault of the acquisition"
    return Section("Acquisition", [text], facts, pictures=[Picture(draw_grid(rows), alt, wide=True)])


def _faulty(
    studio: Studio,
    scene: Scene,
    clean: npt.NDArray[np.float32],
    fault: Fault,
    name: str,
    cuts: tuple[int, int, int],
) -> Cell:
    wrong = Acquisition((fault.sequence,), fault.stripping, (0,) if fault.missing else ())
    image = acquire(clean[None], scene.brain, wrong, scene.spacing, studio.rng(22))[0]
    index = cuts[VIEWS[fault.view][2]]
    shown = plane(image, fault.view, index)
    labels = plane(scene.labels, fault.view, index) if fault.marked else None
    return Cell(shown, name, labels, WINDOW)


def crops(studio: Studio, scenes: dict[str, Scene]) -> Section:
    """Training crops, two of each patient, as the network is given them."""
    config = load_config(bundled_app() / "app.toml")
    edges = (tuple(max(16, round(edge / studio.spacing_mm)) for edge in (64, 80, 96)),) * 3
    stream = PhantomStream(config, studio.seed, 1, 0, replace(StreamSpec(), edges=edges, large_share=0.0))
    rows: tuple[list[Cell], list[Cell]] = ([], [])
    for number, scene in enumerate(scenes.values()):
        image, labels = stream.examination(scene, studio.rng(23, number))
        image, regions = stream.view(image, labels, studio.rng(24, number))
        mask = regions_to_labels(regions.numpy() > 0)
        at = best_slices([mask])[2]
        for row, name, index in zip(rows, ("t1c", "t2f"), (1, 3), strict=True):
            volume = image[index].numpy()
            title = name if volume.any() else f"{name} missing"
            row.append(Cell(plane(volume, "axial", at), title, plane(mask, "axial", at)))
    text = (
        "Crops of random size from random examinations, normalised, mirrored or not, some without a sequence, with the "
        "regions the network learns (a cavity is no tumour). Contrast and faults are drawn at full strength."
    )
    alt = "Two rows of crops with their regions: t1c and t2f of eight patients"
    return Section("Training crops", [text], pictures=[Picture(draw_grid([Row(r) for r in rows]), alt, wide=True)])
