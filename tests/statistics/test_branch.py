from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rarevoxel.statistics import Branch, select_branch

BELOW = -math.inf
ABOVE = math.inf


def test_values_are_the_published_names():
    assert [b.value for b in Branch] == ["fisher", "logit", "arcsine", "log10", "ln", "bce_dice"]
    assert Branch("log10") is Branch.LOG10
    assert f"{Branch.BCE_DICE}" == str(Branch.BCE_DICE) == "bce_dice"


@pytest.mark.parametrize("kurtosis", [-1.0, 0.0, 2.0])
@pytest.mark.parametrize(
    ("skewness", "expected"),
    [
        (-math.inf, "fisher"),
        (-1.0, "fisher"),
        (math.nextafter(-1.0, ABOVE), "logit"),
        (-0.5, "logit"),
        (math.nextafter(-0.5, ABOVE), "arcsine"),
        (math.nextafter(0.0, BELOW), "arcsine"),
        (0.0, "bce_dice"),
        (-0.0, "bce_dice"),
        (0.5, "ln"),
        (math.nextafter(1.0, BELOW), "ln"),
        (1.0, "log10"),
        (math.inf, "log10"),
    ],
)
def test_boundaries_that_do_not_depend_on_kurtosis(skewness, expected, kurtosis):
    assert select_branch(skewness, kurtosis) == expected


@pytest.mark.parametrize("skewness", [math.nextafter(0.0, ABOVE), 0.25, math.nextafter(0.5, BELOW)])
@pytest.mark.parametrize(
    ("kurtosis", "expected"),
    [(-1.2, "log10"), (math.nextafter(0.0, BELOW), "log10"), (0.0, "bce_dice"), (3.0, "bce_dice")],
)
def test_slight_right_skew_is_decided_by_kurtosis(skewness, kurtosis, expected):
    assert select_branch(skewness, kurtosis) == expected


@pytest.mark.parametrize(("skewness", "kurtosis"), [(math.nan, 0.0), (2.0, math.nan), (math.nan, math.nan)])
def test_nan_gives_bce_dice(skewness, kurtosis):
    assert select_branch(skewness, kurtosis) is Branch.BCE_DICE


def _rule(s: float, k: float) -> set[str]:
    """The published table written as independent conditions."""
    rows = {
        "fisher": s <= -1,
        "logit": -1 < s <= -0.5,
        "arcsine": -0.5 < s < 0,
        "log10": s >= 1 or (0 < s < 0.5 and k < 0),
        "ln": 0.5 <= s < 1,
    }
    return {name for name, holds in rows.items() if holds} or {"bce_dice"}


@settings(deadline=None)
@given(st.floats(-3, 3), st.floats(-3, 3))
def test_agrees_with_the_table_everywhere(skewness, kurtosis):
    assert {select_branch(skewness, kurtosis).value} == _rule(skewness, kurtosis)
