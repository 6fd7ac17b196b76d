"""The MONAI Label app: models, trainers, strategies and scores from `app.toml`."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.batch_infer import BatchInferTask

from rarevoxel import __version__
from rarevoxel.config import load_config
from rarevoxel.datastore.proposals import Proposals
from rarevoxel.datastore.server_lock import take_server_lock
from rarevoxel.datastore.studies import StudiesDatastore
from rarevoxel.errors import ForbiddenError, NotFoundError
from rarevoxel.inference.cache import VolumeCache
from rarevoxel.inference.engine import Engine
from rarevoxel.inference.prediction import Prediction
from rarevoxel.inference.task import SegmentationTask
from rarevoxel.labels import LabelScheme
from rarevoxel.learning.leases import Leases
from rarevoxel.learning.pool.gather import PoolSource
from rarevoxel.learning.scoring import RegionScoring
from rarevoxel.learning.strategy import NextSample
from rarevoxel.report.gate import write_run_report
from rarevoxel.server.auto_training import auto_trainer
from rarevoxel.server.background import do_before_stopping, follow_server, stop_with_server
from rarevoxel.server.conf import chosen_models, with_conf
from rarevoxel.server.guard.config import VARIABLE, GuardConfig
from rarevoxel.server.guard.redact import Redactor, redact_logs
from rarevoxel.server.http import HttpError, answering, answering_class
from rarevoxel.server.readable import check_image
from rarevoxel.server.sampling import make_strategies
from rarevoxel.server.score_process import Order
from rarevoxel.server.scorer import Scorer
from rarevoxel.server.starting import note_interrupted, recover_models, warm_up
from rarevoxel.training.run import Places
from rarevoxel.training.task import TumorTrainTask, check_patients

logger = logging.getLogger(__name__)

_ServedDatastore = answering_class(
    StudiesDatastore,
    "save_label",
    "add_image",
    "remove_image",
    "remove_label",
    "update_image_info",
    "update_label_info",
)


class RareVoxelApp(MONAILabelApp):
    """Serves what `app.toml` in the app folder describes.

    Args:
        app_dir: app folder; `model/` in it receives trained weights, `starter/` holds the first ones.
        studies: studies folder, see `rarevoxel.studies`.
        conf: `--conf` pairs; `models` picks models by name, comma-separated, `too_few` is that of `GateConfig`,
            `precision` that of `InferenceConfig`, `train_after` and `train_idle` are those of `AutoTrainingConfig`,
            `scoring` (`on` or `off`) that of `ActiveConfig`.

    Attributes:
        scorer: keeps the scores of the cases up to date, and knows how far it is.

    Raises:
        ConfigError: for an `app.toml` that cannot be used, an unknown model or an unknown `--conf` key.
    """

    leases: Leases | None = None
    """Who has which case."""
    pools: PoolSource | None = None
    """What strategies choose from."""

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        follow_server()
        self.app_folder = Path(app_dir)
        if VARIABLE in os.environ:
            # Also in the processes that train and score for a server, whose lines end up in its log and its replies.
            redact_logs(Redactor.of(GuardConfig.from_environment(), app=app_dir))
        self.app_config = with_conf(load_config(self.app_folder / "app.toml"), conf)
        self.chosen = chosen_models(self.app_config, conf)
        cache = VolumeCache(self.app_config.inference.cache_mib)
        self.engines = {
            name: Engine(self.app_config, Places.of(self.app_folder, name).in_service, cache=cache)
            for name in self.chosen
        }
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=dict(conf),
            name=self.app_config.name,
            description=self.app_config.description,
            version=__version__,
            labels=list(self.app_config.labels),
        )
        order = Order(app_dir, studies, tuple(self.chosen), dict(conf))
        local = isinstance(self._datastore, StudiesDatastore)
        self.scorer = Scorer.of(self.app_config, order, self.engines, self._trainers, enabled=local)
        self.auto_training = auto_trainer(self)
        # The host starts one scoring process per click; scores are asked for instead (POST /scoring/<model>).
        self._auto_update_scoring = False

    def init_datastore(self) -> Datastore:
        """Return the studies folder; a remote archive falls back to the host's own datastores."""
        if self.studies.startswith(("http://", "https://")):
            return super().init_datastore()
        datastore = _ServedDatastore(
            self.studies,
            extensions=settings.MONAI_LABEL_DATASTORE_FILE_EXT,
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )
        datastore.scheme = LabelScheme("app", self.app_config.label_values)
        return datastore

    def init_infers(self) -> dict[str, SegmentationTask]:
        """Return one segmentation task per model."""
        proposals = Proposals(self.studies)

        def keep(case: str, prediction: Prediction) -> None:
            proposals.save(case, prediction.labels, prediction.affine, prediction.model)

        return {
            name: SegmentationTask(name, engine, self.app_config, self.app_config.models[name].description, keep)
            for name, engine in self.engines.items()
        }

    def init_trainers(self) -> dict[str, TumorTrainTask]:
        """Return one trainer per model."""
        return {name: TumorTrainTask(name, self.app_config, self.app_folder) for name in self.chosen}

    def init_strategies(self) -> dict[str, NextSample]:
        """Return the ways to pick the next sample."""
        self.leases, self.pools, strategies = make_strategies(
            self.studies, self.app_folder, self.engines, self._datastore
        )
        return strategies

    def init_scoring_methods(self) -> dict[str, RegionScoring]:
        """Return one method per model: Dice, HD95, lesion F1 and label quality on the submitted labels."""
        return {name: RegionScoring(name, engine) for name, engine in self.engines.items()}

    def init_batch_infer(self) -> Any:
        """Return batch inference that does not look for GPUs where there are none."""
        task = BatchInferTask()

        def run(request: dict[str, Any], datastore: Datastore, infer: Any) -> Any:
            if not torch.cuda.is_available():
                request = {**request, "device": "cpu", "multi_gpu": False}
            return task(request, datastore, infer)

        return run

    def on_init_complete(self) -> None:
        """Take the folder for this server, then warm the models up, so that the first click is answered like any other.

        Only servers come here, not the processes that train for them.

        Raises:
            ConflictError: when another server uses the studies folder.
        """
        if isinstance(self._datastore, StudiesDatastore):
            take_server_lock(self.studies, settings.MONAI_LABEL_SERVER_PORT)
        stop_with_server()
        note_interrupted(self._trainers)
        recover_models(self.app_folder, self.chosen, self.app_config.gate.keep)
        super().on_init_complete()
        threading.Thread(target=warm_up, args=(self._infers, self._read_pools), name="warm-up", daemon=True).start()
        do_before_stopping(self.scorer.stop)
        self.scorer.start()
        self.auto_training.run()

    def on_save_label(self, image_id: str, label_id: str) -> dict[str, Any]:
        """Return the receipt of the label that was saved, which becomes part of the reply."""
        logger.info("label of case %s saved", image_id)
        store = self._datastore
        receipt = store.receipt(image_id) if isinstance(store, StudiesDatastore) else {}
        if receipt.get("tag", DefaultLabelTag.FINAL.value) == DefaultLabelTag.FINAL.value:
            if self.leases:
                self.leases.release(image_id)
            if not receipt.get("unchanged"):
                self.auto_training.corrected()
        return receipt

    def _read_pools(self) -> None:
        if self.pools:
            self.pools.read(self.datastore())

    @answering
    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> Any:
        """Segment a case; see `SegmentationTask`.

        Raises:
            HttpError: 404 for an unknown model or case, 422 for a case that cannot be used.
        """
        model = str(request.get("model") or "")
        self.auto_training.used()
        self.check_model(model)
        self.scorer.touch()
        store = datastore or self.datastore()
        check_image(request, store, self.sessions())
        case = str(request["image"])
        path = store.get_image_uri(case)
        if not path:
            return super().infer({**request, "case": ""}, store)
        # The host takes an id for a path when a file of that name lies in the working directory, so it gets the path
        # itself; but then it saves nothing, which is made up for here.
        result = super().infer({**request, "image": path, "case": case}, store)
        if request.get("save_label"):
            tag = request.get("label_tag") or DefaultLabelTag.ORIGINAL
            tag = str(getattr(tag, "value", tag))
            result["label"] = store.save_label(case, result["file"], tag, {"model": model, "params": result["params"]})
        return result

    @answering
    def train(self, request: Mapping[str, Any]) -> Any:
        """Train a model; see `TumorTrainTask`.

        Raises:
            HttpError: 404 for an unknown model, 409 with too few labels, 422 for an impossible option.
        """
        self.check_training(request)
        stats = super().train(dict(request))
        if stats.get("run"):
            write_run_report(Places.of(self.app_folder, str(request["model"]), stats["run"]).run)
        return stats

    @answering
    def scoring(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> Any:
        """Score a model on the submitted labels; see `RegionScoring`.

        Raises:
            HttpError: 404 for an unknown method.
        """
        _check_known("scoring method", str(request.get("method") or ""), self._scoring_methods)
        return super().scoring(dict(request), datastore)

    @answering
    def next_sample(self, request: Mapping[str, Any]) -> Any:
        """Pick the next case to label; an empty object when none is left. See `choose_sample`.

        Raises:
            HttpError: 404 for an unknown strategy, 409 when others have all the cases, 422 for an impossible option.
        """
        chosen = self.choose_sample(request)
        return chosen if chosen.get("id") else {}

    def bundle_path(self, model: str | None) -> None:
        """Refuse unknown models before a background task is made of them (the host asks here first).

        Raises:
            HttpError: 404 for an unknown model.
        """
        if model is not None:
            answering(self.check_model)(model)

    def model_file(self, model: str, validate: bool = True) -> str | None:
        """Return the published weight file of a model, None while there is none.

        Args:
            model: model name.
            validate: the host passes False when it is about to replace the file by one that a client sent.

        Raises:
            HttpError: 403 then; 404 for an unknown model.
        """
        answering(self.check_model)(model)
        if not validate:
            msg = f"weights sent by a client are never taken for model {model!r}"
            raise HttpError(ForbiddenError(msg, "train the model, or put an earlier version back: rarevoxel rollback"))
        path: str | None = self._infers[model].get_path()
        return path

    def choose_sample(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Pick the next case to label and lease it to the client; see `NextSample`.

        Returns:
            What is told about the case, with its path; without an `id` when none is left.

        Raises:
            NotFoundError: for an unknown strategy.
            RequestError: for an impossible option.
            ConflictError: when other clients have all the cases.
        """
        self.auto_training.used()
        strategy = str(request.get("strategy") or "random")
        _check_known("strategy", strategy, self._strategies)
        chosen: dict[str, Any] = self._strategies[strategy](request, self.datastore())
        return {**chosen, "path": self.datastore().get_image_uri(chosen["id"])} if chosen.get("id") else chosen

    def check_model(self, model: str) -> None:
        """Raise unless a model of this name is offered.

        Raises:
            NotFoundError: listing the models there are.
        """
        _check_known("model", model, self._infers)

    def check_training(self, request: Mapping[str, Any]) -> None:
        """Raise unless a training request names a model and possible options, and there is enough to train on.

        Raises:
            NotFoundError: for an unknown model.
            RequestError: for an impossible option.
            ConflictError: with too few labelled patients.
        """
        model = str(request.get("model") or "")
        self.check_model(model)
        self._trainers[model].options(request)
        check_patients(self.datastore())


def _check_known(what: str, name: str, table: Mapping[str, Any]) -> None:
    if name not in table:
        raise NotFoundError(f"no {what} {name!r}, expected one of {sorted(table)}", "GET /info/ lists them")
