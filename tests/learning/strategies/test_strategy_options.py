"""Options as clients send them."""

from __future__ import annotations

from typing import Any

import pytest

from rarevoxel.errors import RequestError
from rarevoxel.learning.strategies import read_options
from rarevoxel.learning.strategies.ranking import Option

OFFERED: dict[str, Option] = {"region": ["mean", "ET"], "again": True, "weight": 1.5, "number": 3}
DEFAULTS = {"region": "mean", "again": True, "weight": 1.5, "number": 3}


@pytest.mark.parametrize("empty", [None, "", []])
def test_gaps_are_filled_with_the_defaults(empty: Any) -> None:
    assert read_options(OFFERED, {}) == DEFAULTS
    assert read_options(OFFERED, dict.fromkeys(OFFERED, empty)) == DEFAULTS
    assert read_options(OFFERED, {"strategy": "rare"}) == DEFAULTS


def test_values_may_come_as_text_and_a_combo_box_as_its_list() -> None:
    given = {"region": ["mean", "ET"], "again": "False", "weight": "0.5", "number": "4"}
    assert read_options(OFFERED, given) == {"region": "mean", "again": False, "weight": 0.5, "number": 4}
    assert isinstance(read_options(OFFERED, {"number": 4.0})["number"], int)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"region": "brain"}, "option region: found 'brain', expected one of mean, ET"),
        ({"region": 1}, "option region: found 1, expected one of mean, ET"),
        ({"region": {"ET": 1}}, "option region: found {'ET': 1}, expected one of"),
        ({"again": "maybe"}, "option again: found 'maybe', expected true or false"),
        ({"again": 2}, "option again: found 2, expected true or false"),
        ({"weight": "much"}, "option weight: found 'much', expected a number from 0 to 1000"),
        ({"weight": -1}, "option weight: found -1, expected a number from 0 to 1000"),
        ({"weight": True}, "option weight: found True, expected a number"),
        ({"weight": float("nan")}, "option weight: found nan, expected a number"),
        ({"weight": [[1]]}, "option weight: found .*, expected a number"),
        ({"weight": 10**400}, "option weight: found 1000.*, expected a number"),
        ({"number": 2.5}, "option number: found 2.5, expected a whole number from 1 to 9"),
        ({"number": "x" * 99}, r"option number: found 'x{36}\.\.\., expected a whole number from 1 to 9"),
    ],
)
def test_what_cannot_be_is_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        read_options(OFFERED, given, {"number": (1, 9)})
