"""The gate's rule, by hand and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rarevoxel.config import GateConfig
from rarevoxel.errors import ConfigError
from rarevoxel.training.decision import Compared, Paired, decide, describe_test, pair

ALL = frozenset({"WT", "TC", "ET"})
GATE = GateConfig()


def compared(patient: str, old: tuple[float, ...], new: tuple[float, ...], counted: frozenset[str] = ALL) -> Compared:
    return Compared(patient, dict(zip(("WT", "TC", "ET"), zip(old, new, strict=True), strict=True)), counted)


def of_differences(differences: list[float]) -> Paired:
    return pair({str(i): compared(str(i), (0.5,) * 3, (0.5 + d,) * 3) for i, d in enumerate(differences)}, 0.95)


def test_by_hand() -> None:
    paired = pair(
        {
            "a": compared("a", (0.6, 0.5, 0.4), (0.7, 0.5, 0.6)),  # Means 0.5 and 0.6.
            "b": compared("b", (0.8, 0.8, 0.8), (0.9, 0.9, 0.6)),  # Means 0.8 and 0.8.
            "c": compared("c", (0.2, 0.3, 0.4), (0.4, 0.5, 0.6)),  # Means 0.3 and 0.5.
        },
        0.95,
    )
    assert paired.n == 3
    assert paired.incumbent == pytest.approx((0.5 + 0.8 + 0.3) / 3)
    assert paired.candidate == pytest.approx((0.6 + 0.8 + 0.5) / 3)
    assert paired.difference == pytest.approx(0.1)
    # s = 0.1, standard error 0.1 / sqrt 3 = 0.05774, t(0.95, 2) = 2.91999.
    assert paired.lower_bound == pytest.approx(0.1 - 2.91999 * 0.057735, abs=1e-5)
    assert paired.regions == {
        "WT": pytest.approx((0.1 + 0.1 + 0.2) / 3),
        "TC": pytest.approx((0.0 + 0.1 + 0.2) / 3),
        "ET": pytest.approx((0.2 - 0.2 + 0.2) / 3),
    }


@pytest.mark.parametrize("confidence", [0.6, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 3, 7, 30])
def test_the_bound_is_scipy_s(n: int, confidence: float) -> None:
    differences = np.random.default_rng(n).normal(0.01, 0.05, n)
    paired = pair({str(i): compared(str(i), (0.5,) * 3, (0.5 + d,) * 3) for i, d in enumerate(differences)}, confidence)
    theirs = stats.ttest_1samp(differences, 0.0, alternative="greater").confidence_interval(confidence)
    assert paired.lower_bound == pytest.approx(theirs.low, abs=1e-12)


def test_cases_of_a_patient_count_as_one() -> None:
    once = {"a": compared("a", (0.5,) * 3, (0.6,) * 3), "b": compared("b", (0.5,) * 3, (0.4,) * 3)}
    often = {**once, "a2": compared("a", (0.3,) * 3, (0.6,) * 3), "a3": compared("a", (0.3,) * 3, (0.5,) * 3)}
    paired = pair(often, 0.95)
    assert paired.n == 2
    assert paired.difference == pytest.approx((0.2 - 0.1) / 2)  # Patient a: mean of 0.1, 0.3 and 0.2.
    assert paired.regions["ET"] == pytest.approx((0.2 - 0.1) / 2)


def test_a_region_counts_where_it_is_in_the_truth_or_claimed() -> None:
    cases = {
        "a": compared("a", (0.5, 0.5, 1.0), (0.6, 0.6, 1.0), frozenset({"WT", "TC"})),
        "b": compared("b", (0.5, 0.5, 0.8), (0.6, 0.6, 0.4)),
    }
    paired = pair(cases, 0.95)
    assert paired.regions["ET"] == pytest.approx(-0.4), "not diluted by the case that has none"
    assert pair({"a": cases["a"]}, 0.95).regions.keys() == {"WT", "TC"}
    assert pair({"a": cases["a"]}, 0.95).lower_bound is None


@pytest.mark.parametrize(
    ("differences", "published", "words"),
    [
        ([0.02, 0.03, 0.04], True, "published: mean region Dice 0.530 against 0.500 of the weights in service, +0.030"),
        ([0.0, 0.0, 0.0], False, "it is not better"),
        ([-0.01, -0.02, 0.0], False, "it is not better"),
        ([-0.06, -0.06, -0.06], False, "it is not better, and WT falls by 0.060, at most 0.050 is allowed"),
        # Mean 0.01, s 0.0872, bound 0.01 - 0.147.
        ([0.1, -0.07, 0.0], False, "it may be worse by more than 0.020"),
        # The same spread with 30 patients: the bound is 0.01 - 0.025.
        ([0.1, -0.07, 0.0] * 10, True, "+0.010 on 30 hold-out patients (one-sided 95% lower bound -0.012"),
        ([0.2, 0.3], False, "not published: too few cases to judge (2 hold-out patients, at least 3 needed)"),
    ],
)
def test_decisions(differences: list[float], published: bool, words: str) -> None:
    publish, reason = decide(of_differences(differences), GATE)
    assert publish is published
    assert words in reason
    assert reason.startswith("published: " if published else "not published: ")


def test_a_region_that_falls_too_far_holds_everything_back() -> None:
    cases = {str(i): compared(str(i), (0.5, 0.5, 0.5), (0.7, 0.7, 0.44)) for i in range(5)}
    publish, reason = decide(pair(cases, 0.95), GATE)
    assert not publish
    assert reason.endswith("WT +0.200, TC +0.200, ET -0.060): ET falls by 0.060, at most 0.050 is allowed")
    assert decide(pair(cases, 0.95), GateConfig(region_margin=0.07))[0]


@pytest.mark.parametrize(
    ("new", "published"), [((0.6, 0.6, 0.6), True), ((0.5, 0.5, 0.5), False), ((0.9, 0.9, 0.4), False)]
)
def test_few_cases_by_the_means_alone(new: tuple[float, ...], published: bool) -> None:
    paired = pair({"a": compared("a", (0.5,) * 3, new)}, 0.95)
    publish, reason = decide(paired, GateConfig(too_few="publish_if_better"))
    assert publish is published
    assert reason.endswith("; too few cases to judge (1 hold-out patient, at least 3 needed)")
    assert "on 1 hold-out patient (by the means alone; WT" in reason
    assert not decide(paired, GATE)[0]


@given(st.lists(st.floats(-0.5, 0.5), min_size=3, max_size=12))
def test_what_is_published_is_better_and_never_clearly_worse(differences: list[float]) -> None:
    paired = of_differences(differences)
    publish, reason = decide(paired, GATE)
    if publish:
        assert paired.difference > 0
        assert paired.lower_bound is not None
        assert paired.lower_bound > -GATE.margin
        assert min(paired.regions.values()) >= -GATE.region_margin
    else:
        assert ": it " in reason or " falls by " in reason


def test_worse_weights_are_seldom_published() -> None:
    """The table in the docstring, one line of it: s 0.05, n 5."""
    rng = np.random.default_rng(0)
    published = dict.fromkeys((-0.05, 0.05), 0)
    for shift in published:
        for differences in rng.normal(shift, 0.05, (500, 5)):
            published[shift] += decide(of_differences(list(np.clip(differences, -0.5, 0.5))), GATE)[0]
    assert published[-0.05] <= 5
    assert published[0.05] == pytest.approx(410, abs=30)


def test_the_test_has_a_name() -> None:
    assert describe_test(GATE) == "one-sided paired t, lower 95% bound of the mean difference by patient"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"minimum_n": 1}, r"minimum_n \(1\) must be >= 2"),
        ({"margin": -0.1}, r"margin \(-0.1\) must lie between 0 and 1"),
        ({"region_margin": 1.0}, r"region_margin \(1.0\) must lie between 0 and 1"),
        ({"confidence": 0.5}, r"confidence \(0.5\) must lie between 0.5 and 1"),
        ({"too_few": "publish"}, r"too_few \('publish'\) must be one of"),
        ({"keep": 0}, r"keep \(0\) must be >= 1"),
    ],
)
def test_impossible_margins_are_refused(wrong: dict[str, float | str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GateConfig(**wrong)  # type: ignore[arg-type]
