"""What a client may call things, and what the values of a query may look like."""

from __future__ import annotations

import re
from collections.abc import Callable

from rarevoxel.errors import MalformedError

Check = Callable[[str, str], None]
"""Called with what a value is and the value; raises `MalformedError`."""

_NAME = re.compile(r"[A-Za-z0-9][\w.\-]{0,127}", re.ASCII)
_FLAGS = ("true", "false", "1", "0", "on", "off", "yes", "no")
_NAME_HINT = "names start with a letter or digit and hold letters, digits, '_', '-', '.'; at most 128, no '..'"


def check_name(what: str, value: str) -> None:
    """Raise unless `value` can name a case, tag, model, strategy or session.

    The value itself is not repeated: what is no name may be a patient's.

    Raises:
        MalformedError: saying what is wrong with it.
    """
    if _NAME.fullmatch(value) and ".." not in value:
        return
    if not value:
        problem = "is empty"
    elif len(value) > 128:
        problem = f"has {len(value)} characters"
    elif ".." in value:
        problem = "holds '..'"
    else:
        bad = next((c for c in value if not re.fullmatch(r"[\w.\-]", c, re.ASCII)), value[0])
        problem = f"has the character {bad!a} where it is not allowed"
    raise MalformedError(f"{what} {problem}, expected a name", _NAME_HINT)


def check_flag(what: str, value: str) -> None:
    """Raise unless `value` is a yes or no.

    Raises:
        MalformedError: listing what is.
    """
    if value.lower() not in _FLAGS:
        raise MalformedError(f"{what} is no yes or no, expected true or false")


def check_free(what: str, value: str) -> None:
    """Take any value: for parameters that are ignored."""


def number(low: int, high: int) -> Check:
    """Return a check for a whole number from `low` to `high`."""

    def check(what: str, value: str) -> None:
        if not re.fullmatch(r"-?\d{1,12}", value, re.ASCII) or not low <= int(value) <= high:
            raise MalformedError(f"{what} is not a whole number from {low} to {high}")

    return check


def one_of(*allowed: str) -> Check:
    """Return a check for one of a few words."""

    def check(what: str, value: str) -> None:
        if value not in allowed:
            raise MalformedError(f"{what} is none of {', '.join(allowed)}")

    return check


def matching(pattern: str, expected: str) -> Check:
    """Return a check for a pattern, with the words that describe it."""
    compiled = re.compile(pattern, re.ASCII)

    def check(what: str, value: str) -> None:
        if not compiled.fullmatch(value):
            raise MalformedError(f"{what} is not {expected}")

    return check
