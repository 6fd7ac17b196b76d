"""Options of a strategy as clients send them: checked against what is offered, gaps filled with the defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rarevoxel.errors import RequestError
from rarevoxel.learning.strategies.ranking import Option

BOUNDS = (0.0, 1000.0)
"""What a number may be where a strategy says nothing else, both ends included."""

_SHOWN = 40


def read_options(
    offered: Mapping[str, Option], given: Mapping[str, Any], bounds: Mapping[str, tuple[float, float]] | None = None
) -> dict[str, Any]:
    """Return a value for every option of a strategy.

    Args:
        offered: name -> default, see `Option`.
        given: name -> value from a client. None and an empty text mean the default, a list its first entry (a combo box
            that nobody has touched), and a number or switch may come as text. Other names are ignored.
        bounds: name -> lowest and highest number, `BOUNDS` where it names none.

    Returns:
        A text for a list, a bool for a bool, an int or float for a number, in the order of `offered`.

    Raises:
        RequestError: naming the option, what was found and what is allowed.

    Example:
        >>> read_options({"region": ["mean", "ET"], "weight": 1.0}, {"region": "ET", "weight": "2"})
        {'region': 'ET', 'weight': 2.0}
    """
    limits = bounds or {}
    return {name: _value(name, default, given.get(name), limits.get(name, BOUNDS)) for name, default in offered.items()}


def _value(name: str, default: Option, value: Any, bounds: tuple[float, float]) -> Any:
    if isinstance(value, (list, tuple)) and value:
        value = value[0]
    if value is None or value == "" or value == []:
        return default[0] if isinstance(default, list) else default
    if isinstance(default, list):
        return _choice(name, default, value)
    return _switch(name, value) if isinstance(default, bool) else _number(name, default, value, bounds)


def _choice(name: str, allowed: list[str], value: Any) -> str:
    if not isinstance(value, str) or value not in allowed:
        msg = f"option {name}: found {_short(value)}, expected one of {', '.join(allowed)}"
        raise RequestError(msg, f"without it {allowed[0]} is taken")
    return value


def _switch(name: str, value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in ("true", "false"):
        raise RequestError(f"option {name}: found {_short(value)}, expected true or false")
    return text == "true"


def _number(name: str, default: float, value: Any, bounds: tuple[float, float]) -> float:
    low, high = bounds
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    whole = isinstance(default, int)
    if not low <= number <= high or (whole and number != int(number)):
        kind = "a whole number" if whole else "a number"
        msg = f"option {name}: found {_short(value)}, expected {kind} from {low:g} to {high:g}"
        raise RequestError(msg, f"without it {default:g} is taken")
    return int(number) if whole else number


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
