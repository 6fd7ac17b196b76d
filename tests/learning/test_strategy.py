"""Strategies as the host calls them, on a datastore."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rarevoxel.datastore.studies import StudiesDatastore
from rarevoxel.errors import ConflictError, RequestError
from rarevoxel.learning.leases import Leases
from rarevoxel.learning.pool import CaseScore, ScoreStore
from rarevoxel.learning.pool.gather import PoolSource, Scorer
from rarevoxel.learning.pool.labelled import LabelledSizes
from rarevoxel.learning.strategies import STRATEGIES
from rarevoxel.learning.strategy import NextSample
from rarevoxel.statistics.cache import ResultCache

UNLABELLED = ["phantom-003", "phantom-006"]
NOW = 1_000_000.0


class Desk:
    """All strategies over one studies folder, at a time that stands still."""

    def __init__(self, studies: Path, tmp_path: Path, weights: str = "w", available: bool = True) -> None:
        self.datastore = StudiesDatastore(str(studies))
        self.studies = studies
        self.now = NOW
        self.store = ScoreStore(studies / "scores" / "calf")
        self.leases = Leases(tmp_path / "leases.json", lambda: self.now)
        models = {
            "calf": Scorer(self.store, lambda: available, lambda: weights),
            "other": Scorer(ScoreStore(studies / "scores" / "other")),
        }
        self.source = PoolSource(models, LabelledSizes(ResultCache(tmp_path / "cache")), clock=lambda: self.now)
        self.rng = np.random.default_rng(0)

    def ask(self, name: str, client: str = "ada", **options: Any) -> dict[str, Any]:
        strategy = NextSample(STRATEGIES[name], self.source, self.leases, lambda: self.rng)
        return strategy({"strategy": name, "client_id": client, **options}, self.datastore)

    def label_all(self) -> None:
        label = self.studies / "labels" / "final" / "phantom-001.nii.gz"
        for case in self.datastore.get_unlabeled_images():
            self.datastore.save_label(case, str(label), "final", {})


@pytest.fixture
def desk(studies: Path, tmp_path: Path) -> Desk:
    return Desk(studies, tmp_path)


def test_options_are_those_of_the_strategy_the_models_and_the_lease(desk: Desk) -> None:
    for name, ranking in STRATEGIES.items():
        info = NextSample(ranking, desk.source, desk.leases).info()
        models = {} if name in ("random", "first") else {"model": ["calf", "other"]}
        assert info == {
            "description": ranking.description,
            "config": {**ranking.options, **models, "lease_minutes": 30.0},
        }


def test_first_is_first_by_name_then_the_next(desk: Desk) -> None:
    assert desk.ask("first") == {
        "id": "phantom-003",
        "weight": 0.0,
        "reasons": ["first by name"],
        "terms": {},
        "lease_until": "1970-01-12T14:16:40+00:00",
        "model": None,
        "scored": False,
    }
    assert [desk.ask("first")["id"] for _ in range(3) if _later(desk)] == ["phantom-006", "phantom-003", "phantom-006"]


def test_random_meets_every_unlabelled_case_and_no_other(desk: Desk) -> None:
    met = Counter(desk.ask("random", f"client-{i}", lease_minutes=1)["id"] for i in range(200) if _later(desk))
    assert set(met) == set(UNLABELLED)
    assert min(met.values()) > 60  # Never noted as handed out here, so both are as likely.


def _later(desk: Desk) -> bool:
    desk.now += 61
    return True


def test_random_prefers_what_was_not_handed_out_lately(desk: Desk) -> None:
    for case, age in zip(UNLABELLED, (1, 100_000), strict=True):
        desk.datastore.update_image_info(case, {"strategy": {"random": {"ts": NOW - age}}})
    assert sum(desk.ask("random", lease_minutes=1)["id"] == "phantom-006" for _ in range(50) if _later(desk)) > 40


def test_the_best_case_comes_with_its_reasons(desk: Desk) -> None:
    desk.store.write(CaseScore("phantom-003", weights="w", entropy={"ET": 0.1}))
    desk.store.write(CaseScore("phantom-006", weights="w", entropy={"ET": 0.7}))
    found = desk.ask("uncertainty", region="ET")
    assert (found["id"], found["weight"], found["terms"]) == ("phantom-006", 0.7, {"ET": 0.7})
    assert found["reasons"] == ["entropy 0.70 bit in the enhancing tumour, at its border and in possible lesions"]
    assert (found["model"], found["scored"]) == ("calf", True)
    assert desk.ask("uncertainty", "bob", region="ET")["id"] == "phantom-003"


def test_the_option_model_says_whose_scores_count(desk: Desk) -> None:
    desk.store.write(CaseScore("phantom-006", weights="w", entropy={"ET": 0.7}))
    found = desk.ask("uncertainty", model="other")
    assert (found["id"], found["model"], found["scored"]) == ("phantom-003", "other", False)
    with pytest.raises(RequestError, match="option model: found 'nnunet', expected one of calf, other"):
        desk.ask("uncertainty", model="nnunet")


@pytest.mark.parametrize("minutes", [0, -1, 1441, "soon"])
def test_an_impossible_lease_is_refused(desk: Desk, minutes: Any) -> None:
    with pytest.raises(RequestError, match=r"option lease_minutes: found .*, expected a number from 1 to 1440"):
        desk.ask("random", lease_minutes=minutes)
    assert desk.leases.active() == {}


def test_a_model_without_weights_falls_back_to_the_order_of_name(studies: Path, tmp_path: Path) -> None:
    desk = Desk(studies, tmp_path, available=False)
    for name in ("uncertainty", "rare", "diversity", "combined", "balanced"):
        desk.now += 3600
        found = desk.ask(name)
        assert (found["id"], found["scored"]) == ("phantom-003", False)
        assert found["reasons"] == ["model calf has no weights yet, so no case is scored: in order of name"]


def test_a_score_from_earlier_weights_counts_and_says_so(desk: Desk) -> None:
    desk.store.write(CaseScore("phantom-006", weights="earlier", entropy={"ET": 0.7}))
    found = desk.ask("uncertainty")
    assert found["id"] == "phantom-006"
    assert found["reasons"][-1] == "scored by earlier weights than those in service"


def test_what_cannot_be_read_is_never_offered_and_named(desk: Desk) -> None:
    desk.store.write(CaseScore("phantom-003", error="t2w is torn"))
    for name in ("random", "first", "rare"):
        found = desk.ask(name)
        assert (found["id"], found["left_out"]) == ("phantom-006", {"phantom-003": "t2w is torn"})
    desk.store.write(CaseScore("phantom-006", error="not a volume"))
    assert desk.ask("rare") == {"left_out": {"phantom-003": "t2w is torn", "phantom-006": "not a volume"}}


def test_when_others_have_all_it_says_until_when(desk: Desk) -> None:
    assert {desk.ask("random", client)["id"] for client in ("ada", "bob")} == set(UNLABELLED)
    with pytest.raises(ConflictError, match=r"other clients have all 2 cases that wait .* until 1970-01-12T14:16:40"):
        desk.ask("random", "eve")
    desk.now += 30 * 60
    assert desk.ask("random", "eve")["id"] in UNLABELLED


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_nothing_is_left_when_all_is_labelled(desk: Desk, name: str) -> None:
    desk.label_all()
    assert desk.ask(name) == {}


def test_cases_in_work_count_for_diversity(desk: Desk) -> None:
    # Another copy of what ada has is the last thing that bob should get.
    original = desk.studies / "phantom-006.nii.gz"
    for case in ("x-1", "x-2"):
        (desk.studies / f"{case}.nii.gz").write_bytes(original.read_bytes())
    desk.datastore.refresh()
    for case, place in {"phantom-003": 0.0, "phantom-006": 9.0, "x-1": 9.1, "x-2": 4.0}.items():
        desk.store.write(CaseScore(case, weights="w", features=(place, 0.0)))
    desk.store.write(CaseScore("phantom-001", weights="w", features=(1.0, 0.0)))
    assert [desk.ask("diversity", client)["id"] for client in ("ada", "bob")] == ["x-1", "x-2"]


def test_review_sends_back_the_label_that_the_model_contradicts_once(desk: Desk) -> None:
    for case, dice in (("phantom-001", 0.9), ("phantom-002", 0.2)):
        desk.datastore.update_label_info(case, "final", {"dice": {"calf": {"WT": dice}}})
    first = desk.ask("review")
    assert (first["id"], first["scored"], first["model"]) == ("phantom-002", False, "calf")
    assert first["reasons"] == ["the model agrees little: Dice 0.20"]
    assert desk.ask("review", model="other") == {}
