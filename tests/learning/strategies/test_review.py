"""Labels that go back."""

from __future__ import annotations

from small_pools import rank

from rarevoxel.learning.pool import Pool


def test_most_doubtful_first_and_what_was_sent_back_before_last() -> None:
    pool = Pool(
        ("a", "b", "c", "d"),
        doubts={"a": (0.9, "Dice 0.1"), "b": (0.3, "3 islands"), "c": (0.6, "holes")},
        ages={"a": 600.0},
    )
    choices = rank("review", pool)
    assert [(choice.case, choice.value) for choice in choices] == [("c", 0.6), ("b", 0.3), ("d", 0.0), ("a", 0.9)]
    assert choices[0].reasons == ("holes",)
    assert choices[-1].reasons == ("Dice 0.1", "sent back before, 10 min ago")
    assert choices[2].reasons == ("nothing doubtful is known about the label",)
