"""The operating point of starter weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rarevoxel.cli import main
from rarevoxel.config import AppConfig
from rarevoxel.errors import ModelError
from rarevoxel.evaluation import dice
from rarevoxel.networks import build_network
from rarevoxel.training import operating_point
from rarevoxel.training.operating_point import CANDIDATES, settle
from rarevoxel.training.phantom_stream import StreamSpec
from rarevoxel.training.scores import choose, f_score

SPEC = StreamSpec(head_mm=(96.0, 120.0, 96.0), block=2, reuse=2, apart=2, edges=((8, 16),) * 3, large=(16, 16, 16))


@pytest.fixture(autouse=True)
def nothing_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operating_point, "thresholds_by_sequence", lambda *_: {})


@pytest.fixture
def network(config: AppConfig) -> nn.Module:
    torch.manual_seed(0)
    return build_network(config.network)


def heads_that_want(**thresholds: float) -> Callable[..., operating_point._Heads]:
    """Heads whose best candidate is the one that is named; none for a region that is not."""

    def found(*_: Any) -> operating_point._Heads:
        heads = operating_point._Heads()
        for name, best in thresholds.items():
            heads.scores[name] += [[float(t == best) for t in CANDIDATES]] * 2
        return heads

    return found


def a_lesion_and_a_false_piece(lesion: float, false: float) -> operating_point._Heads:
    """One head with the probabilities of the two; 0.2 is the best threshold."""
    heads = heads_that_want(WT=0.2)()
    whole, truth = np.zeros((2, 8, 4, 4), np.float32)
    whole[:2, :2, :2], whole[5:, :2, :2] = lesion, false
    truth[:2, :2, :2] = 1
    heads.judged.append((whole, truth > 0))
    return heads


def test_what_was_above_the_best_threshold_is_above_a_half(
    config: AppConfig, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = torch.randn(1, 4, 16, 16, 16)
    with torch.no_grad():
        before = torch.sigmoid(network.eval()(image))[0]
    monkeypatch.setattr(operating_point, "_ask", heads_that_want(WT=0.3, ET=0.6))
    found = settle(network, config, seed=0, heads=2, spec=SPEC)
    assert found == {"operating_point": pytest.approx({"WT": 0.3, "TC": 0.5, "ET": 0.6}), "peak": 0.0, "missing": {}}
    with torch.no_grad():
        after = torch.sigmoid(network(image))[0]
    for index, threshold in enumerate((0.3, 0.5, 0.6)):
        assert torch.equal(after[index] >= 0.5 + 1e-6, before[index] >= threshold + 1e-6) or (
            float((after[index] - 0.5).abs().min()) < 1e-5
        )
    shifted = torch.logit(before[0]) - math.log(0.3 / 0.7)
    torch.testing.assert_close(torch.logit(after[0]), shifted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after[1], before[1])


def test_the_nearest_threshold_that_brings_the_gain_or_most_of_it_is_taken() -> None:
    assert choose([[1.0] * len(CANDIDATES)], CANDIDATES, 0.5, "t") == 0.5
    row = [0.0] * 12 + [1.0] * (len(CANDIDATES) - 12)
    assert choose([row], CANDIDATES, 0.5, "t") == CANDIDATES[12]
    assert choose([], CANDIDATES, 0.5, "t") == 0.5
    rows = [[0.9, 0.85, 0.75, 0.5, 0.1], [0.9, 0.85, 0.85, 0.5, 0.1]]
    assert choose(rows, (0.1, 0.2, 0.3, 0.5, 0.9), 0.5, "t", most=0.75) == 0.3, "0.3 of 0.4"
    assert choose(rows, (0.1, 0.2, 0.3, 0.5, 0.9), 0.5, "t") == 0.1
    assert choose([rows[0]] * 2, (0.1, 0.2, 0.3, 0.5, 0.9), 0.5, "t", most=0.75) == 0.2, "0.25 of 0.4 is not"


def test_a_gain_within_the_standard_error_changes_nothing() -> None:
    unsure = [[0.5, 0.4], [0.5, 0.7], [0.5, 0.5], [0.5, 0.6]]
    assert choose(unsure, (0.5, 0.3), 0.5, "t") == 0.5
    assert choose([[a, b + 0.1] for a, b in unsure], (0.5, 0.3), 0.5, "t") == 0.3


def test_a_missed_voxel_weighs_four_times_a_false_one() -> None:
    truth = np.zeros((2, 5, 1), dtype=bool)
    truth[0] = True
    missed, false = truth.copy(), truth.copy()
    missed[0, 0], false[1, 0] = False, True
    assert f_score(missed, truth) == pytest.approx(5 * 4 / (5 * 4 + 4))
    assert f_score(false, truth) == pytest.approx(5 * 5 / (5 * 5 + 1))
    assert f_score(missed, truth, 1.0) == pytest.approx(dice(missed, truth))
    assert f_score(truth, truth) == 1.0
    assert f_score(~truth, truth) == 0.0


def test_fresh_heads_judge_and_a_seed_gives_the_same(config: AppConfig, network: nn.Module) -> None:
    heads = operating_point._ask(network.eval(), config, 3, 3, SPEC)
    assert len(heads.scores["WT"]) >= 1
    assert all(
        len(row) == len(CANDIDATES) and 0 <= min(row) <= max(row) <= 1 for rows in heads.scores.values() for row in rows
    )
    assert len(heads.judged) == 3
    assert operating_point._ask(network, config, 3, 3, SPEC).scores == heads.scores
    assert operating_point._ask(network, config, 4, 3, SPEC).scores != heads.scores


def test_the_peak_is_chosen_where_the_logits_are_then(
    config: AppConfig, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operating_point, "_ask", lambda *_: a_lesion_and_a_false_piece(0.6, 0.4))
    # Odds of 0.4 and 0.6 against those of 0.2: 2.7 and 6, so 0.73 and 0.857.
    assert settle(network, config, seed=0, spec=SPEC)["peak"] == 0.8


def test_thresholds_that_are_known_stay_and_a_peak_is_chosen(
    config: AppConfig, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operating_point, "_ask", lambda *_: a_lesion_and_a_false_piece(0.8, 0.65))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    known = {"WT": 0.3, "TC": 0.4, "ET": 0.5}
    assert settle(network, config, seed=0, spec=SPEC, known=known) == {
        "operating_point": known,
        "peak": 0.7,
        "missing": {},
    }
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_cases_without_a_sequence_are_judged_with_that_peak(
    config: AppConfig, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, float]] = []

    def find(network: nn.Module, config: AppConfig, heads: Any, peak: float) -> dict[str, dict[str, float]]:
        asked.append((len(list(heads)), peak))
        return {"t2f": {"WT": 0.2}}

    monkeypatch.setattr(operating_point, "thresholds_by_sequence", find)
    monkeypatch.setattr(operating_point, "choose_peak", lambda *_: 0.8)
    monkeypatch.setattr(operating_point, "WITHOUT_HEADS", 2)
    assert settle(network, config, seed=0, heads=3, spec=SPEC)["missing"] == {"t2f": {"WT": 0.2}}
    assert asked == [(2, 0.8)]


def test_a_network_of_another_kind_is_refused(config: AppConfig) -> None:
    with pytest.raises(ModelError, match="Conv3d has no output_block"):
        settle(nn.Conv3d(4, 3, 1), config, seed=0)


def test_no_steps_settle_what_is_given_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["starter", "--out", str(tmp_path / "a.pt"), "--steps", "0"])
    assert "found 0 without --start" in capsys.readouterr().err


def test_recall_weighs_more_for_whole_tumour_and_not_for_its_parts(
    config: AppConfig, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    regions = torch.zeros(3, 4, 4, 4)
    regions[:, :2] = 1
    monkeypatch.setattr(operating_point, "_fresh", lambda *_: [(torch.zeros(4, 4, 4, 4), regions)])
    monkeypatch.setattr(operating_point, "predict_image", lambda *_: torch.full((3, 4, 4, 4), 0.6))
    scores = operating_point._ask(network, config, 0, 1, SPEC).scores
    at = CANDIDATES.index(0.5)
    assert scores["WT"][0][at] == pytest.approx(5 * 32 / (5 * 32 + 32)), "all is marked, half of it falsely: F2"
    assert scores["TC"][0][at] == scores["ET"][0][at] == pytest.approx(2 * 32 / (2 * 32 + 32))
