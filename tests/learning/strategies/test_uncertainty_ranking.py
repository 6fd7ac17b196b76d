"""Uncertainty, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_pools import candidate, pool_of, rank, score

SURE = score("sure", entropy={"WT": 0.1, "TC": 0.2, "ET": 0.3}, mutual_information={"WT": 0.0, "TC": 0.0, "ET": 0.2})
TORN = score("torn", entropy={"WT": 0.3, "TC": 0.3, "ET": 0.15}, mutual_information={"WT": 0.1, "TC": 0.1, "ET": 0.1})


def test_mean_over_regions() -> None:
    choices = rank("uncertainty", pool_of(SURE, TORN))
    assert [choice.case for choice in choices] == ["torn", "sure"]
    assert [choice.value for choice in choices] == pytest.approx([0.25, 0.2])
    assert choices[0].terms == {"WT": 0.3, "TC": 0.3, "ET": 0.15}


def test_one_region_turns_the_order() -> None:
    choices = rank("uncertainty", pool_of(SURE, TORN), region="ET")
    assert [(choice.case, choice.value) for choice in choices] == [("sure", 0.3), ("torn", 0.15)]


def test_without_samples_there_is_no_mutual_information_and_the_reason_says_so() -> None:
    nothing = {"WT": 0.0, "TC": 0.0, "ET": 0.0}
    once = score("once", entropy={"WT": 0.3, "TC": 0.3, "ET": 0.3}, mutual_information=nothing)
    sampled = replace(once, case="sampled", method="dropout")
    first, second = rank("uncertainty", pool_of(once, sampled), measure="mutual_information")
    assert (first.case, first.value) == ("once", pytest.approx(0.3))
    assert first.reasons[-1] == "no mutual information: it takes samples, set [active] method to dropout"
    assert (second.case, second.value) == ("sampled", 0.0)


def test_mutual_information_is_another_measure() -> None:
    choices = rank("uncertainty", pool_of(SURE, TORN), measure="mutual_information")
    assert [choice.value for choice in choices] == pytest.approx([0.1, 0.2 / 3])
    assert choices[0].reasons[0].startswith("mutual information 0.10 bit in the whole tumour")


def test_reasons_name_the_region_and_what_is_not_in_the_proposal() -> None:
    lesions = (candidate(ml=0.2), candidate(ml=0.1), candidate(ml=5, marked=True), candidate("WT", ml=7))
    (choice,) = rank("uncertainty", pool_of(score("a", entropy={"ET": 0.42}, candidates=lesions)))
    assert choice.reasons == (
        "entropy 0.42 bit in the enhancing tumour, at its border and in possible lesions",
        "2 possible lesions of the enhancing tumour not in the proposal (0.3 ml expected)",
    )


def test_a_model_without_a_doubt_says_so() -> None:
    (choice,) = rank("uncertainty", pool_of(score("a")))
    assert choice.value == 0
    assert choice.reasons == ("entropy is 0: no border and no possible lesion that the model doubts",)
