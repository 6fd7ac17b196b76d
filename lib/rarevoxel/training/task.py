"""The training run as a MONAI Label task."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.train import TrainTask

from rarevoxel.config import AppConfig
from rarevoxel.errors import ConflictError
from rarevoxel.training.json_file import write_json
from rarevoxel.training.launch import processes_for, train_in_processes
from rarevoxel.training.options import TrainOptions
from rarevoxel.training.places import LabelledCase, Places
from rarevoxel.training.run_stats import error_dict, read_stats
from rarevoxel.training.split import MINIMUM_PATIENTS

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
        """Return the stats of the last run; see `rarevoxel.training.run_stats.read_stats`."""
        return read_stats(Places.of(self.app, self.name).stats)

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
        except Exception as error:
            write_json(places.stats, {"options": options.to_dict(), "status": "failed", "error": error_dict(error)})
            raise
        form, user = self.app_config.models[self.name].two_stage, str(request.get("client_id") or "unknown")
        # The clients' switch; without several GPUs there is nothing to switch.
        count = processes_for(options) if request.get("multi_gpu", True) else 1
        return train_in_processes(count, self.app_config, options, cases, places, two_stage=form, user=user)


def check_patients(datastore: Datastore) -> None:
    """Raise unless enough patients have a submitted label to start a training; no file is read.

    Raises:
        ConflictError: with the number there are and the number expected.
    """
    patient_of = getattr(datastore, "patient_of", lambda case: case)
    cases = datastore.get_labeled_images()
    patients = {patient_of(case) for case in cases}
    if len(patients) < MINIMUM_PATIENTS:
        msg = f"{len(cases)} labelled cases of {len(patients)} patients, expected at least {MINIMUM_PATIENTS} patients"
        raise ConflictError(msg, "label more cases and submit them, then train again")


def labelled_cases(datastore: Datastore) -> list[LabelledCase]:
    """Return the cases of a datastore that have a submitted label, sorted by id."""
    tag = DefaultLabelTag.FINAL.value
    patient_of = getattr(datastore, "patient_of", lambda case: case)
    cases = []
    for case in sorted(datastore.get_labeled_images()):
        image, label = Path(datastore.get_image_uri(case)), Path(datastore.get_label_uri(case, tag))
        info = datastore.get_label_info(case, tag)
        empty, version = bool(info.get("empty")), info.get("version")
        cases.append(LabelledCase(case, patient_of(case), image, label, empty, version))
    return cases
