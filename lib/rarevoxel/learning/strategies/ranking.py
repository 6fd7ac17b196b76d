"""What a way to choose is: a name, its options, and a function that ranks a pool and says why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from rarevoxel.learning.pool import Pool

Options = Mapping[str, Any]

Option = list[str] | bool | int | float
"""A default as Slicer shows it: a list becomes a combo box whose first entry is the default, a bool a check box."""

Kind = Literal["order", "scores", "labels"]
"""What a ranking looks at: names and ages alone, a model's scores, or labels that may have to be looked at again."""


@dataclass(frozen=True)
class Choice:
    """One case in a ranking.

    Args:
        case: its id.
        value: what it was ranked by; comparable within one ranking only.
        reasons: why it is where it is, a short phrase each, in the words of a radiologist, with numbers and units.
        terms: the parts of `value`, by name.
    """

    case: str
    value: float
    reasons: tuple[str, ...]
    terms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Ranking:
    """A way to choose.

    Args:
        name: what a client asks for.
        description: one line for clients.
        rank: `(pool, options, rng) -> choices`, best first, every waiting case in it once; cases without a score come
            after those with one, with a reason that says so.
        options: name -> default, see `Option`.
        kind: see `Kind`.
    """

    name: str
    description: str
    rank: Callable[[Pool, Options, np.random.Generator], list[Choice]]
    options: Mapping[str, Option] = field(default_factory=dict)
    kind: Kind = "scores"
