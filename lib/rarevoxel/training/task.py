"""The training run as a MONAI Label task."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.train import TrainTask

from rarevoxel.config import AppConfig
from rarevoxel.errors import RareVoxelError
from rarevoxel.training.options import TrainOptions
from rarevoxel.training.run import LabelledCase, Places, train_model, write_json

logger = logging.getLogger(__name__)


class TumorTrainTask(TrainTask):
    """Trains one model on the submitted labels.

    Args:
        name: model name.
        config: application configuration.
        app: the app folder that is served; see `Places.of`.
    """

    def __init__(self, name: str, config: AppConfig, app: Path) -> None:
        super().__init__(config.models[name].description)
        self.name = name
        self.app_config = config
        self.app = app

    def config(self) -> dict[str, Any]:
        """Return the options clients may set, with their defaults."""
        return TrainOptions.choices(self.app_config, self.app_config.models[self.name].loss)

    def options(self, request: Mapping[str, Any]) -> TrainOptions:
        """Return the validated options of a request.

        Raises:
            RequestError: see `TrainOptions.from_request`.
        """
        return TrainOptions.from_request(request, self.app_config, self.app_config.models[self.name].loss)

    def stats(self) -> dict[str, Any]:
        """Return the stats of the last run; empty before the first, a warning when the file cannot be read."""
        path = Places.of(self.app, self.name).stats
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            return {"warning": f"{path.name} cannot be read ({type(error).__name__}); the next training rewrites it"}
        return content if isinstance(content, dict) else {"warning": f"{path.name} does not hold stats"}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train, judge, and publish or keep; returns the final stats.

        Raises:
            RequestError: for impossible options.
            ConflictError: with too few labelled patients.
            TrainingError: when the loss stops being a number.
        """
        options = self.options(request)
        places = Places.of(self.app, self.name, run=time.strftime("%Y%m%dT%H%M%S"))
        try:
            cases = labelled_cases(datastore)
            form = self.app_config.models[self.name].two_stage
            return train_model(self.app_config, options, cases, places, two_stage=form)
        except RareVoxelError as error:
            write_json(places.stats, {"options": options.to_dict(), "error": error.to_dict()})
            raise


def labelled_cases(datastore: Datastore) -> list[LabelledCase]:
    """Return the cases of a datastore that have a submitted label, sorted by id."""
    tag = DefaultLabelTag.FINAL.value
    patient_of = getattr(datastore, "patient_of", lambda case: case)
    return [
        LabelledCase(
            case, patient_of(case), Path(datastore.get_image_uri(case)), Path(datastore.get_label_uri(case, tag))
        )
        for case in sorted(datastore.get_labeled_images())
    ]
