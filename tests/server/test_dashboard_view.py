"""The dashboard over a studies folder, without a server: what it reads, measures, draws and remembers."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("monailabel")

from rarevoxel.config import AppConfig
from rarevoxel.datastore.proposals import Proposals
from rarevoxel.datastore.studies import StudiesDatastore
from rarevoxel.errors import LabelError, NotFoundError
from rarevoxel.learning import strategies
from rarevoxel.learning.leases import Leases
from rarevoxel.learning.pool import CaseScore, ScoreStore
from rarevoxel.learning.pool.gather import PoolSource, Scorer
from rarevoxel.learning.strategies import Choice, Ranking
from rarevoxel.lineage import CaseRecord, Lineage
from rarevoxel.report.dashboard import Turn
from rarevoxel.report.dashboard.drawing import label_sizes
from rarevoxel.report.dashboard.words import when
from rarevoxel.report.dashboard.worker import do
from rarevoxel.server.dashboard.helper import SOON, Helper, HelperError
from rarevoxel.server.dashboard.runs import Runs, holdout_dice
from rarevoxel.server.dashboard.view import DashboardView
from rarevoxel.statistics import case_statistics
from rarevoxel.training.json_file import write_json
from rarevoxel.volumes import read_header, read_labels, write_labels

WAITING, LABELLED = "phantom-003", "phantom-001"
PNG = b"\x89PNG\r\n\x1a\n"


class Inline:
    """Does the jobs at once, or when it is told to."""

    def __init__(self) -> None:
        self.held: list[tuple[Mapping[str, Any], Future[Any]]] = []
        self.hold = False
        self.kinds: list[str] = []

    def submit(self, key: str, job: Mapping[str, Any], priority: int = 1) -> Future[Any]:
        future: Future[Any] = Future()
        self.kinds.append(job["kind"])
        self.held.append((job, future))
        if not self.hold:
            self.release()
        return future

    def release(self) -> None:
        for job, future in self.held:
            answer = do(job)
            if answer["error"]:
                future.set_exception(HelperError(answer["error"]))
            else:
                future.set_result(answer["result"])
        self.held.clear()


@pytest.fixture
def app(studies: Path, tmp_path: Path, config: AppConfig, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.setenv("RAREVOXEL_CACHE", str(tmp_path / "cache"))
    store = StudiesDatastore(str(studies))
    folder = tmp_path / "app"
    folder.mkdir()

    def check_model(name: str) -> None:
        if name not in config.models:
            raise NotFoundError(f"no model {name!r}")

    models = {name: Scorer(ScoreStore(studies / "scores" / name)) for name in config.models}
    return SimpleNamespace(
        pools=PoolSource(models),
        leases=Leases(studies / "leases.json"),
        scorer=SimpleNamespace(status=lambda: {"state": "off", "note": "scoring is switched off", "models": {}}),
        auto_training=SimpleNamespace(words=lambda: "calf after 3 corrections; 2 so far"),
        datastore=lambda: store,
        app_folder=folder,
        app_config=config,
        chosen=list(config.models),
        check_model=check_model,
        studies=studies,
    )


def view_of(app: Any, helper: Any = None) -> DashboardView:
    return DashboardView(app, lambda text: text.replace(str(app.studies), "<studies>"), helper or Inline())


def submit(app: Any, tmp_path: Path, value: int = 3, case: str = WAITING) -> None:
    grid = read_header(app.studies / f"{case}.nii.gz")
    labels = np.zeros(grid.shape, np.uint8)
    labels[20:24, 20:24, 20:24] = value
    write_labels(tmp_path / "up.nii.gz", labels, grid.affine)
    app.datastore().save_label(case, str(tmp_path / "up.nii.gz"), "final", {})


def a_run(app: Any, name: str, *, publish: bool, sha256: str) -> Path:
    gate = {
        "publish": publish,
        "reason": f"kept: see {app.studies}/x.nii.gz",
        "candidate": 0.5,
        "cases": {"phantom-001": {"WT": [0.4, 0.6], "TC": [None, 0.4]}},
    }
    cases = tuple(CaseRecord(f"c{n}", f"p{n}", side, {}, "") for n, side in enumerate(("train", "train", "holdout")))
    lineage = Lineage("calf", name, "2026-01-01T00:00:00+00:00", sha256, cases=cases, gate=gate, loss={"name": "calf"})
    folder = app.app_folder / "model" / "calf" / "runs" / name
    folder.mkdir(parents=True)
    write_json(folder / "lineage.json", lineage.to_dict())
    return folder


def test_sizes_are_measured_beside_the_page_and_remembered(app: SimpleNamespace) -> None:
    helper = Inline()
    helper.hold = True
    view = view_of(app, helper)
    assert "The sizes of 4 labels are being measured" in view.page(Turn())
    assert len(helper.held) == 4
    view.page(Turn())
    assert len(helper.held) == 4, "nothing is asked for twice"
    helper.release()
    html = view.page(Turn())
    assert "being measured" not in html
    assert "median" in html
    labels = read_labels(app.studies / "labels" / "final" / f"{LABELLED}.nii.gz")
    spacing = read_header(app.studies / f"{LABELLED}.nii.gz").spacing
    expected = case_statistics(labels, spacing, LABELLED).regions["ET"]
    found = label_sizes(app.studies / "labels" / "final" / f"{LABELLED}.nii.gz")["ET"]
    assert found["volume"] == pytest.approx(expected.volume)
    assert found["lesions"] == pytest.approx(list(expected.components))


def test_a_label_counts_with_all_its_versions_and_its_effort(app: SimpleNamespace, tmp_path: Path) -> None:
    grid = read_header(app.studies / f"{WAITING}.nii.gz")
    Proposals(app.studies).save(WAITING, np.zeros(grid.shape, np.uint8), grid.affine, {"version": "run-7"})
    view = view_of(app)
    assert f">{WAITING}</a>" in view.page(Turn())
    submit(app, tmp_path)
    submit(app, tmp_path, value=2)
    write_labels(tmp_path / "bad.nii.gz", np.full(grid.shape, 9, np.uint8), grid.affine)
    with pytest.raises(LabelError, match="9"):
        app.datastore().save_label(WAITING, str(tmp_path / "bad.nii.gz"), "final", {})
    html = view.page(Turn())
    assert "1 of 5 labels" in html, "the others were in the folder"
    assert "64 voxels" in html
    assert "1 label refused" in html
    page = view.case_page(WAITING)
    assert "version 2" in page
    assert "version 1" in page
    assert "by run-7" in page
    assert str(app.studies) not in html + page


def test_scores_leases_and_failures_are_in_the_queue(app: SimpleNamespace) -> None:
    scores = ScoreStore(app.studies / "scores" / "calf")
    scores.write(CaseScore(WAITING, entropy={"WT": 0.4}, missed_ml={"ET": 0.25}))
    scores.write(CaseScore("phantom-006", error=f"{app.studies}/phantom-006.nii.gz is torn"))
    lease = app.leases.take("anna", [WAITING])
    app.scorer = SimpleNamespace(
        status=lambda: {"state": "running", "note": "", "models": {"calf": {"scored": 1, "waiting": 3, "failed": 1}}}
    )
    html = view_of(app).page(Turn())
    assert "0.25" in html
    assert f"until {when(lease.ends)}" in html
    assert "anna" not in html, "who has it is not shown to everybody who may look"
    assert "&lt;studies&gt;/phantom-006.nii.gz is torn" in html
    assert str(app.studies) not in html
    assert "<dd>1 of 2</dd>" in html
    assert "<dd>running, 3 scores to go</dd>" in html


def test_expected_dice_is_compared_with_the_labels_the_same_weights_were_scored_on(
    app: SimpleNamespace, tmp_path: Path
) -> None:
    store, view = app.datastore(), view_of(app)
    ScoreStore(app.studies / "scores" / "calf").write(CaseScore("phantom-006", weights="b", confidence={"WT": 0.9}))
    assert "is the word of calf alone" in view.page(Turn())

    def scored(case: str, weights: str, dice: float) -> None:
        scores = {
            "model": {"sha256": weights}, "confidence": {"WT": 0.9, "TC": 0.1}, "regions": {"WT": {"dice": dice}},
        }  # fmt: skip
        store.keep_scores(case, "final", store.label_version(case, "final"), "calf", scores)

    scored(LABELLED, "a", 0.1)
    assert "is the word of calf alone" in view.page(Turn())
    scored(LABELLED, "b", 0.5)
    assert "Expected Dice against 1 label: WT off by 0.40, shown as it is." in view.page(Turn())
    assert "Expected Dice against 1 label" in view.case_page("phantom-006")
    submit(app, tmp_path, case=LABELLED)
    assert "is the word of calf alone" in view.page(Turn()), "those scores are of a version before"


def test_trainings_that_start_by_themselves_are_announced(app: SimpleNamespace) -> None:
    assert "<dt>training starts by itself</dt><dd>calf after 3 corrections; 2 so far</dd>" in view_of(app).page(Turn())


def test_the_strategy_orders_the_queue_and_its_failure_does_not_break_the_page(
    app: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ScoreStore(app.studies / "scores" / "calf").write(CaseScore("phantom-006", entropy={"WT": 0.9}))
    html = view_of(app).page(Turn())
    assert "In the order of the strategy combined" in html
    assert html.index("phantom-006/thumbnail") < html.index("phantom-003/thumbnail"), "a scored case comes first"
    asked = []

    def rank(pool: Any, options: Any, rng: Any) -> list[Choice]:
        asked.append(pool)
        return [Choice(case, 1.0, (f"because of {case}",)) for case in pool.waiting]

    monkeypatch.setitem(strategies.STRATEGIES, "combined", Ranking("combined", "", rank))
    view = view_of(app)
    view.page(Turn())
    known = len(asked)
    html = view.page(Turn())
    assert html.index("because of phantom-003") < html.index("because of phantom-006")
    view.page(Turn())
    assert len(asked) <= known + 1, "nothing has changed but sizes that were measured meanwhile"

    def fail(pool: Any, options: Any, rng: Any) -> list[Choice]:
        raise ValueError("no")

    monkeypatch.setitem(strategies.STRATEGIES, "combined", Ranking("combined", "", fail))
    html = view_of(app).page(Turn())
    assert "The most uncertain first" in html
    assert html.index("phantom-006/thumbnail") < html.index("phantom-003/thumbnail")


def test_pictures_are_drawn_once_and_again_when_the_label_changes(app: SimpleNamespace, tmp_path: Path) -> None:
    helper = Inline()
    view = view_of(app, helper)
    made = view.picture(WAITING, small=True)
    assert isinstance(made, Future)
    first = made.result(1)
    assert first.read_bytes().startswith(PNG)
    assert first.parent == app.studies / "pictures" / "thumbnail"
    assert view.picture(WAITING, small=True) == first
    assert helper.kinds.count("thumbnail") == 1
    submit(app, tmp_path)
    again = view.picture(WAITING, small=True)
    assert isinstance(again, Future)
    assert again.result(1) != first
    assert not first.exists(), "a picture that its files have outlived goes"
    large = view.picture(LABELLED, small=False)
    assert isinstance(large, Future)
    assert large.result(1).read_bytes().startswith(PNG)


def test_an_image_that_cannot_be_read_fails_in_words(app: SimpleNamespace) -> None:
    view = view_of(app)
    (app.studies / f"{WAITING}.nii.gz").unlink()
    (app.studies / f"{WAITING}.nii.gz").write_bytes(b"torn")
    made = view.picture(WAITING, small=True)
    assert isinstance(made, Future)
    with pytest.raises(HelperError, match="not gzip") as caught:
        made.result(1)
    assert str(app.studies) not in str(caught.value)


def test_an_unknown_case_and_an_unknown_run_are_not_found(app: SimpleNamespace) -> None:
    view = view_of(app)
    for ask in (lambda: view.case_page("nobody"), lambda: view.picture("nobody", small=True)):
        with pytest.raises(NotFoundError, match="no case 'nobody'"):
            ask()
    with pytest.raises(NotFoundError, match="no report of a run 'r1' of 'calf'"):
        view.report("calf", "r1")
    with pytest.raises(NotFoundError, match="no model 'x'"):
        view.report("x", "r1")


def test_runs_and_their_verdicts(app: SimpleNamespace) -> None:
    folder = a_run(app, "r1", publish=False, sha256="a" * 64)
    (folder / "report.html").write_text("<p>run</p>")
    view = view_of(app)
    html = view.page(Turn())
    assert "kept back" in html
    assert 'href="/dashboard/runs/calf/r1"' in html
    assert view.report("calf", "r1") == folder / "report.html"
    assert str(app.studies) not in html
    (run,) = Runs(app.app_folder, str).model("calf", "").runs
    assert (run.labels, run.trained, run.published) == (3, 2, False)
    assert run.dice == {"WT": 0.6, "TC": 0.4, "mean": 0.5}
    (folder / "lineage.json").write_text("torn")
    assert list(Runs(app.app_folder, str).model("calf", "").runs) == []
    assert Runs(app.app_folder, str).model("calf", "").version == ""
    assert holdout_dice({}) == {}


def test_a_folder_nobody_may_write_keeps_its_pictures_in_the_home(app: SimpleNamespace) -> None:
    app.datastore().state.read_only = True
    made = view_of(app).picture(WAITING, small=True)
    assert isinstance(made, Future)
    assert made.result(1).parent == app.app_folder / "pictures" / "thumbnail"


ECHO = (
    "import sys,json,os\n"
    "for line in sys.stdin:\n"
    "    job = json.loads(line)\n"
    "    if job['kind'] == 'die': os._exit(3)\n"
    "    print(json.dumps({'result': [job['kind'], os.getpid()], 'error': job.get('error', '')}), flush=True)\n"
)


def test_the_helper_does_one_job_after_the_other_in_one_process_and_starts_again() -> None:
    helper = Helper((sys.executable, "-S", "-c", ECHO), idle_s=60.0)
    try:
        first = helper.submit("a", {"kind": "x"}).result(60)
        second = helper.submit("b", {"kind": "y"}, SOON).result(60)
        assert (first[0], second[0]) == ("x", "y")
        assert first[1] == second[1], "the process stays"
        with pytest.raises(HelperError, match="no such thing"):
            helper.submit("c", {"kind": "z", "error": "no such thing"}).result(60)
        with pytest.raises(HelperError, match="ended"):
            helper.submit("d", {"kind": "die"}).result(60)
        assert helper.submit("e", {"kind": "x"}).result(60)[1] != first[1]
        assert helper.waiting == 0
    finally:
        helper.close()


def test_an_idle_helper_gives_its_memory_back() -> None:
    helper = Helper((sys.executable, "-S", "-c", ECHO), idle_s=0.05)
    helper.submit("a", {"kind": "x"}).result(60)
    deadline = time.monotonic() + 60
    while helper._process is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert helper._process is None
    assert helper.submit("b", {"kind": "x"}).result(60)[0] == "x"
    helper.close()


def test_a_job_asked_for_twice_is_done_once() -> None:
    slow = ECHO.replace("    job =", "    import time; time.sleep(0.2)\n    job =")
    helper = Helper((sys.executable, "-S", "-c", slow))
    try:
        futures = [helper.submit(key, {"kind": key}) for key in ("a", "b", "b")]
        assert futures[1] is futures[2]
        assert futures[2].result(60)[0] == "b"
    finally:
        helper.close()


def test_the_worker_answers_line_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rarevoxel.report.dashboard.worker import serve

    serve(iter([json.dumps({"kind": "sizes", "label": str(tmp_path / "none.nii.gz")})]), sys.stdout)
    answer = json.loads(capsys.readouterr().out)
    assert answer["result"] is None
    assert "the file" in answer["error"]
    assert str(tmp_path) not in answer["error"]
