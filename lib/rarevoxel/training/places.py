"""What a run is given and where it writes: labelled cases in, weights, stats and lineage out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rarevoxel.training.registry import Registry


@dataclass(frozen=True)
class LabelledCase:
    """A case with an accepted label.

    Args:
        id: case id.
        patient: patient id; decides the side of the split.
        image: display volume (the transforms find its siblings).
        label: label map of `CLIENT_LABELS` on the display volume's grid.
        empty: somebody declared that there is no tumour; without it an empty label is left out.
        label_version: version of the label in the history, where it is known.
    """

    id: str
    patient: str
    image: Path
    label: Path
    empty: bool = False
    label_version: int | None = None

    def entry(self) -> dict[str, str]:
        """Return the case as the transforms take it."""
        return {"id": self.id, "image": str(self.image), "label": str(self.label)}


@dataclass(frozen=True)
class Places:
    """Where a run reads and writes.

    Args:
        run: folder of this run: candidate weights, checkpoints and lineage; its name is that of the version.
        published: the weight file in service once a site has trained.
        starter: the weight file in service before that.
        stats: the JSON file clients see progress in; rewritten whole after every epoch.
    """

    run: Path
    published: Path
    starter: Path
    stats: Path

    @classmethod
    def of(cls, app: Path, model: str, run: str = "") -> Places:
        """Return the places of a model in the app folder that is served.

        Args:
            app: app folder: `model/` receives weights and runs, `starter/` holds the first weights.
            model: model name.
            run: name of the run.
        """
        folder = app / "model"
        return cls(
            run=folder / model / "runs" / run,
            published=folder / f"{model}.pt",
            starter=app / "starter" / "starter.pt",
            stats=folder / model / "train_stats.json",
        )

    @property
    def cache(self) -> Path:
        """Folder of prepared cases, shared by all models."""
        return self.published.parent / "prepared"

    @property
    def model(self) -> str:
        """The model's name."""
        return self.published.stem

    @property
    def in_service(self) -> tuple[Path, Path]:
        """Weight files in order of preference."""
        return (self.published, self.starter)

    def registry(self, keep: int) -> Registry:
        """Return the registry of the model's weights.

        Args:
            keep: versions kept for a rollback.
        """
        return Registry(self.published.parent.parent, self.model, keep)
