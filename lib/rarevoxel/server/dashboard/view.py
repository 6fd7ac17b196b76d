"""What the dashboard's pages show of one running app."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rarevoxel import __version__
from rarevoxel.datastore.proposals import Proposals
from rarevoxel.datastore.studies import StudiesDatastore
from rarevoxel.errors import NotFoundError
from rarevoxel.report.dashboard import CaseView, Dashboard, Turn, case_html, dashboard_page
from rarevoxel.server.dashboard.helper import Helper
from rarevoxel.server.dashboard.labels import FINAL, Labels
from rarevoxel.server.dashboard.made import FOLDER, LabelSizes, Pictures
from rarevoxel.server.dashboard.runs import Runs
from rarevoxel.server.dashboard.waiting import WaitingCases, scoring_of


class DashboardView:
    """Gathers the pages of an app; one for the app's life, as it remembers what it has read.

    Args:
        app: a `RareVoxelApp` over a studies folder.
        clean: takes paths and names out of sentences.
        helper: draws and measures; one of its own when None.

    Raises:
        NotFoundError: if the studies are no folder (a remote archive).
    """

    def __init__(self, app: Any, clean: Callable[[str], str], helper: Helper | None = None) -> None:
        store = app.datastore()
        if not isinstance(store, StudiesDatastore):
            raise NotFoundError("there is no dashboard of a remote archive", "serve a studies folder")
        self._app, self._store, self._clean = app, store, clean
        self.helper = helper or Helper()
        studies = store.store.studies
        # What shows a patient stays with the patients, unless nobody may write there.
        writable = not store.state.read_only and os.access(studies, os.W_OK)
        self._pictures = Pictures((studies if writable else app.app_folder) / FOLDER, self.helper)
        self._labels = Labels(store.store, LabelSizes(self.helper), clean)
        self._runs = Runs(app.app_folder, clean)
        self._waiting = WaitingCases(store, app.pools, app.leases, clean)
        self._proposals = Proposals(studies)
        self._lock = threading.Lock()

    def page(self, turn: Turn) -> str:
        """Return the first page as HTML."""
        with self._lock:
            return dashboard_page(self._data(), turn, title=str(self._app.app_config.name), made=_made())

    def case_page(self, case: str) -> str:
        """Return the page of a case as HTML.

        Raises:
            NotFoundError: for an unknown case.
        """
        self._image(case)
        record = self._proposals.record(case) if self._proposals.find(case) else {}
        made_by = record.get("model")
        with self._lock:
            model = self._waiting.model()
            score = self._waiting.score(model, case)
            view = CaseView(
                case,
                score=score,
                lease=self._waiting.leased(case),
                labels=self._labels.of_case(case),
                refused=self._labels.refused(case),
                proposal=str(record.get("ts", "")) or ("yes" if self._proposals.find(case) else ""),
                weights=str(made_by.get("version") or made_by.get("weights") or "")
                if isinstance(made_by, dict)
                else "",
                model=model,
                calibrations=self._waiting.calibrations(model, score),
            )
        return case_html(view, made=_made())

    def picture(self, case: str, *, small: bool) -> Path | Future[Any]:
        """Return the picture of a case, or what becomes of it.

        Raises:
            NotFoundError: for an unknown case.
        """
        return self._pictures.find(
            case, self._image(case), self._proposals.find(case), self._store.store.find(case, FINAL), small=small
        )

    def report(self, model: str, run: str) -> Path:
        """Return the page of a run.

        Raises:
            NotFoundError: when there is none.
        """
        self._app.check_model(model)
        found = self._runs.report(model, run)
        if found is None:
            raise NotFoundError(f"no report of a run {run!r} of {model!r}", "GET /dashboard lists the runs")
        return found

    def _data(self) -> Dashboard:
        tags = self._store.tags()
        labelled = {case for case, found in tags.items() if FINAL in found}
        versions, unmeasured = self._labels.versions(sorted(labelled))
        config = self._app.app_config
        return Dashboard(
            queue=self._waiting.queue(len(tags), self._clean(scoring_of(self._app.scorer.status()))),
            models=[self._runs.model(name, config.models[name].description) for name in self._app.chosen],
            labels=versions,
            refused=self._labels.refused(),
            unmeasured=unmeasured,
            minimum_n=config.training.minimum_n,
            auto_training=self._clean(self._app.auto_training.words()),
            warnings=[self._clean(text) for text in self._store.state.warnings],
        )

    def _image(self, case: str) -> Path:
        path = self._store.get_image_uri(case)
        if not path:
            raise NotFoundError(f"no case {case!r}", "GET /dashboard lists the cases")
        return Path(path)


def _made() -> str:
    return f"rarevoxel {__version__} · {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC · reload for what is new"
