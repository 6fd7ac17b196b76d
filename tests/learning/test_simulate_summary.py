"""From records to numbers and sentences, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from learning.simulated import BASE, OTHER, a_summary
from rarevoxel.errors import ConflictError, InputError
from rarevoxel.learning.simulate import sentences, summary, tables


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "RESAMPLES", 60)


def arms(found: dict[str, Any]) -> tuple[Any, Any]:
    base, other = found["sets"][0]["arms"]
    return base, other


def test_curves_areas_and_hours() -> None:
    base, other = arms(a_summary())
    # found of 10 and true of 10: recall, precision and F1 are all found / 10.
    assert [point["value"] for point in base["curves"]["lesion_f1"]] == pytest.approx([0.2, 0.4, 0.6])
    assert base["area"]["lesion_f1"]["value"] == pytest.approx((0.3 * 4 + 0.5 * 4) / 8)
    assert other["area"]["lesion_f1"]["value"] == pytest.approx((0.4 * 4 + 0.7 * 4) / 8)
    # Dice: one / 20 and 0.01 per case over 8 cases.
    assert base["curves"]["dice"][-1]["value"] == pytest.approx(0.3 + 0.035)
    assert base["curves"]["dice_ET"][0]["value"] == pytest.approx(0.1 + 0.035)
    # 6 and twice 4 cases of 900 s, of the other arm 450 s.
    assert base["curves"]["hours"] == pytest.approx([1.5, 2.5, 3.5])
    assert other["curves"]["hours"] == pytest.approx([0.75, 1.25, 1.75])
    # By hours both are measured until 1.75: of the baseline from 1.5, where it is 0.2, to 0.25 there.
    assert base["area"]["lesion_f1_by_hours"]["value"] == pytest.approx(0.225)


def test_cases_needed() -> None:
    base, other = arms(a_summary())
    # 0.6 is reached at the second training of the other arm: 10 of 14 cases, 1.25 of 3.5 hours.
    assert other["needed"]["goal"] == pytest.approx(0.6)
    assert (other["needed"]["cases"], other["needed"]["cases_share"]) == (10, pytest.approx(10 / 14))
    assert other["needed"]["hours_share"] == pytest.approx(1.25 / 3.5)
    # Every resample of equal cases is equal.
    assert other["needed"]["cases_share_low"] == other["needed"]["cases_share_high"] == pytest.approx(10 / 14)
    assert (base["needed"]["cases"], base["needed"]["cases_share"]) == (14, 1.0)
    assert other["needed"]["cases_reached"] == 1.0


def test_differences_are_paired() -> None:
    base, other = arms(a_summary())
    assert base["against"] == {}
    assert other["against"]["lesion_f1"]["difference"] == pytest.approx(0.15)
    assert other["against"]["dice"]["difference"] == pytest.approx(0.075)


def test_an_arm_that_never_gets_there() -> None:
    found = a_summary(base=(2, 6, 8), other=(2, 3, 4))
    _, other = arms(found)
    assert other["needed"]["cases"] is None
    assert other["needed"]["cases_share_high"] is None
    assert sentences.share(other["needed"]) == "not reached [not reached, not reached]"
    assert "no other arm reaches the final lesion F1 of random + dice_ce (0.800 with 14 cases)" in sentences.lead(found)
    assert "the aim of 60 % of the cases is not met" in sentences.lead(found)
    (line,) = sentences.arm_lines(found, found["sets"][0])
    assert line.startswith("combined + auto does not help against random + dice_ce")


def test_the_lead_says_whether_the_aim_was_met() -> None:
    found = a_summary()
    assert "10.0, 71 % [71 %, 71 %] of them; the aim of 60 % is not met." in sentences.lead(found)
    assert "the aim of 60 % is met." in sentences.lead(a_summary(other=(7, 8, 8)))
    half = a_summary(other=(7, 8, 8))
    half["sets"][0]["arms"][1]["needed"]["cases_share_high"] = None
    assert "is met by the mean, not by its interval." in sentences.lead(half)
    (line,) = sentences.arm_lines(found, found["sets"][0])
    assert line.startswith(
        "combined + auto helps against random + dice_ce, by the mean height of its curves: lesion F1"
    )
    same = a_summary(other=(2, 4, 6))
    (line,) = sentences.arm_lines(same, same["sets"][0])
    assert line.startswith("combined + auto is not shown to help")


def fail(runs: dict[Any, Any]) -> None:
    runs["severe", OTHER.name, 1] = [*runs["severe", OTHER.name, 1][:1], {"round": 1, "error": {"message": "nan"}}]


def test_an_arm_that_failed_is_told_and_left_out() -> None:
    found = a_summary(change=fail)
    _, other = arms(found)
    assert "curves" not in other
    assert list(sentences.failures(found["sets"][0])) == [(OTHER.name, "seed 1, round 1: nan")]
    assert "failed: combined + auto: seed 1, round 1: nan" in tables.to_text(found)
    assert "combined + auto: not judged, a round failed or is missing." in tables.to_markdown(found)


def test_without_the_baseline_there_is_nothing_to_compare() -> None:
    def gone(runs: dict[Any, Any]) -> None:
        del runs["severe", BASE.name, 0][-1]

    with pytest.raises(ConflictError, match=r"severe: the baseline 'random \+ dice_ce' has rounds that failed"):
        a_summary(change=gone)


def test_one_seed_is_enough_to_be_told() -> None:
    found = a_summary(seeds=1)
    assert "1 seed." in sentences.data_sentence(found, found["sets"][0])
    assert "random + dice_ce (baseline)" in tables.to_markdown(found)


def test_the_summary_survives_json() -> None:
    found = a_summary(names=("severe", "tiny"))
    again = json.loads(json.dumps(found, allow_nan=False))
    assert tables.to_markdown(again) == tables.to_markdown(found)
    assert "### tiny" in tables.to_markdown(found)


def test_markdown_goes_between_its_lines(tmp_path: Path) -> None:
    found = a_summary()
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{tables.BEGIN}\nOUTDATED\n{tables.END}\n\nend\n")
    tables.write_markdown(page, found)
    first = page.read_text()
    assert first.startswith("# Title\n")
    assert first.endswith("\n\nend\n")
    assert "OUTDATED" not in first
    assert tables.to_markdown(found) in first
    tables.write_markdown(page, found)
    assert page.read_text() == first
    tables.write_markdown(tmp_path / "new.md", found)
    assert (tmp_path / "new.md").read_text() == tables.to_markdown(found)


@pytest.mark.parametrize("text", ["# Title\n", f"{tables.END}\n{tables.BEGIN}\n", f"{tables.BEGIN}\n"])
def test_a_page_without_the_lines_is_not_overwritten(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(InputError, match="a page without one line"):
        tables.write_markdown(page, a_summary())
    assert page.read_text() == text
