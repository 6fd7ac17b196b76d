"""The core-set, by hand and against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from small_pools import pool_of, rank, score

from rarevoxel.learning.pool import Pool
from rarevoxel.learning.strategies import diversity


def on_a_line(labelled: dict[str, float], **waiting: float) -> Pool:
    scores = (score(case, features=(x, 0.0)) for case, x in waiting.items())
    return pool_of(*scores, labelled_features={case: (x, 0.0) for case, x in labelled.items()})


def test_farthest_first_then_farthest_from_both() -> None:
    pool = on_a_line({"l": 0.0}, a=1.0, b=9.0, c=10.0)
    choices = rank("diversity", pool)
    # c is 10 away; then b is 1 from c and a is 1 from l, equals by name.
    assert [(choice.case, choice.value) for choice in choices] == [("c", 10.0), ("a", 1.0), ("b", 1.0)]
    assert [choice.reasons[0].rsplit(" ", 1)[-1] for choice in choices] == ["(l)", "(l)", "(c)"]


def test_without_labels_the_most_typical_case_begins() -> None:
    choices = rank("diversity", on_a_line({}, a=0.0, b=4.0, c=10.0))
    assert [(choice.case, choice.value) for choice in choices] == [("b", 6.0), ("c", 6.0), ("a", 4.0)]
    assert "most typical" in choices[0].reasons[0]


def test_cosine_compares_directions_only() -> None:
    pool = pool_of(
        score("long", features=(100.0, 0.0)),
        score("turned", features=(0.0, 1.0)),
        labelled_features={"l": (1.0, 0.0)},
    )
    assert [choice.case for choice in rank("diversity", pool)] == ["long", "turned"]
    choices = rank("diversity", pool, metric="cosine")
    assert [(choice.case, choice.value) for choice in choices] == [("turned", pytest.approx(2**0.5)), ("long", 0.0)]


def test_features_of_another_length_or_none_come_last() -> None:
    pool = pool_of(
        score("a"),
        score("b", features=(1.0, 2.0, 3.0)),
        score("c", features=(1.0, 1.0)),
        score("d", features=(0.0, 1.0)),
    )
    choices = rank("diversity", pool)
    assert [choice.case for choice in choices[2:]] == ["a", "b"]
    assert all("without features" in choice.reasons[0] for choice in choices[2:])


@pytest.mark.parametrize("greedy", [100, 5])
def test_the_same_as_a_plain_loop(greedy: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diversity, "GREEDY", greedy)
    rng = np.random.default_rng(0)
    points, centres = rng.normal(size=(30, 4)), rng.normal(size=(5, 4))
    pool = pool_of(
        *(score(f"c{i:02d}", features=tuple(x)) for i, x in enumerate(points)),
        labelled_features={f"l{i}": tuple(x) for i, x in enumerate(centres)},
    )
    expected: list[int] = []
    for _ in range(min(greedy, 30)):
        far = cdist(points, [*centres, *points[expected]]).min(axis=1)
        far[expected] = -1
        expected.append(int(far.argmax()))
    last = cdist(points, [*centres, *points[expected]]).min(axis=1)
    expected += sorted(set(range(30)) - set(expected), key=lambda i: -last[i])
    assert [choice.case for choice in rank("diversity", pool)] == [f"c{i:02d}" for i in expected]
