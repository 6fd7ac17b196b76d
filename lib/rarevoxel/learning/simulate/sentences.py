"""What a study says in words: what it was run on, whether the aim was met, which arms help and which do not."""

from __future__ import annotations

from collections.abc import Iterator

from rarevoxel.comparison.rows import ALPHA, Record, number, p_value

SAME = "not shown to differ"


def of_arm(one: Record, name: str) -> Record:
    """Return the entry of an arm in a set."""
    found: Record = next(entry for entry in one["arms"] if entry["arm"] == name)
    return found


def finished_arms(one: Record) -> list[Record]:
    """Return the arms of a set that finished with every seed."""
    return [entry for entry in one["arms"] if "curves" in entry]


def best_arm(one: Record, baseline: str) -> Record | None:
    """Return the arm, the baseline left out, that needs the fewest cases; None if none reaches the goal."""
    others = [entry for entry in finished_arms(one) if entry["arm"] != baseline]
    reached = [entry for entry in others if entry["needed"]["cases"] is not None]
    return min(
        reached, key=lambda entry: (entry["needed"]["cases"], -entry["area"]["lesion_f1"]["value"]), default=None
    )


def share(needed: Record, unit: str = "cases") -> str:
    """Return a share with its interval, `not reached` where there is none.

    Example:
        >>> share({"cases_share": 0.5, "cases_share_low": 0.4, "cases_share_high": None})
        '50 % [40 %, not reached]'
    """
    value, low, high = (needed[f"{unit}_share{end}"] for end in ("", "_low", "_high"))
    return f"{_percent(value)} [{_percent(low)}, {_percent(high)}]"


def lead(summary: Record) -> str:
    """Return whether the aim was met, set by set."""
    return " ".join(_aim(summary, one) for one in summary["sets"])


def _aim(summary: Record, one: Record) -> str:
    baseline, aim = summary["baseline"], summary["aim"]
    goal, last = of_arm(one, baseline)["needed"]["goal"], one["labelled"][-1]
    what = f"the final lesion F1 of {baseline} ({number(goal)} with {last} cases)"
    best = best_arm(one, baseline)
    if best is None:
        return f"{one['set']}: no other arm reaches {what}; the aim of {_percent(aim)} of the cases is not met."
    needed = best["needed"]
    # A mean that gets there is no proof: the interval says how sure it is.
    met = needed["cases_share"] <= aim
    sure = met and needed["cases_share_high"] is not None and needed["cases_share_high"] <= aim
    verdict = "met" if sure else "met by the mean, not by its interval" if met else "not met"
    return (
        f"{one['set']}: {best['arm']} needs fewest cases for {what}: {number(needed['cases'], 1)}, {share(needed)} of "
        f"them; the aim of {_percent(aim)} is {verdict}."
    )


def arm_lines(summary: Record, one: Record) -> list[str]:
    """Return a sentence per arm of a set but the baseline: whether it helps, by the adjusted p of both areas."""
    return [_arm_line(summary["baseline"], entry) for entry in one["arms"] if entry["arm"] != summary["baseline"]]


def _arm_line(baseline: str, entry: Record) -> str:
    if "curves" not in entry:
        return f"{entry['arm']}: not judged, a round failed or is missing."
    found = {words: entry["against"][metric] for metric, words in (("lesion_f1", "lesion F1"), ("dice", "Dice"))}
    judged = {words: _direction(result) for words, result in found.items()}
    told = set(judged.values())
    helps = "does not help" if "lower" in told else "helps"
    verdict = "is not shown to help" if told == {SAME} else helps
    parts = [f"{words} {judged[words]} ({_difference(result)})" for words, result in found.items()]
    return f"{entry['arm']} {verdict} against {baseline}, by the mean height of its curves: {'; '.join(parts)}."


def _direction(result: Record) -> str:
    p, difference = result["p_adjusted"], result["difference"]
    if p is None or p >= ALPHA or difference is None:
        return SAME
    return "higher" if difference > 0 else "lower"


def _difference(result: Record) -> str:
    low, high = (number(result[f"simultaneous_{end}"], 3, "+") for end in ("low", "high"))
    return f"{number(result['difference'], 3, '+')} [{low}, {high}], p {p_value(result['p_adjusted'])}"


def failures(one: Record) -> Iterator[tuple[str, str]]:
    """Yield (arm, what failed)."""
    for entry in one["arms"]:
        for failed in entry["failed"]:
            yield entry["arm"], f"seed {failed['seed']}, round {failed['round']}: {failed['message']}"


def data_sentence(summary: Record, one: Record) -> str:
    """Return what a set was run on."""
    kind = "Synthetic phantoms" if one["phantoms"] else "Cases of a studies folder"
    seeds = len(summary["seeds"])
    return (
        f"{kind}; {', '.join(map(str, one['labelled']))} cases labelled; {one['test_cases']} test cases that are never "
        f"labelled; {seeds} seed{'' if seeds == 1 else 's'}."
    )


def notes(summary: Record) -> list[str]:
    """Return how to read the numbers."""
    schedule, budget = summary["schedule"], summary["budget"]
    network = "-".join(map(str, budget["network"]))
    trained = budget["pretraining"]
    start = f"weights trained {trained} epochs on 48 other phantoms" if trained else "random weights, by seed"
    onward = "the weights of the round before" if schedule["going_on"] else "these weights again"
    noise = schedule["noise"]
    annotator = (
        f"overlooks a lesion below 0.5 ml with a chance of {noise:g} and is right otherwise" if noise else "is right"
    )
    return [
        f"Every campaign begins with {start} and {schedule['start']} cases, the same for all arms of a seed. After "
        f"every training of {schedule['steps']} steps from {onward}, the waiting cases are scored with the new weights "
        f"(samples: {schedule['samples']}) and the {schedule['per_round']} that the strategy ranks first are labelled. "
        f"The annotator {annotator}. Network {network}, patches of {budget['patch']} voxels at "
        f"{budget['spacing']:g} mm, peak learning rate {budget['learning_rate']:g}.",
        "Dice is the mean over WT, TC and ET, test cases and seeds. Lesion F1 pools the lesions of the three regions "
        "and all test cases and is averaged over seeds. The mean height of a curve is the area under it divided by its "
        "width in cases.",
        "Hours are a model, not a measurement: what the annotator changed in the proposed mask, times seconds of which "
        "few are published (see rarevoxel.learning.effort). What lies within a voxel of the true border is left as it "
        "is, and a proposal that is more work to correct than to draw anew is cleared.",
        f"[low, high]: {summary['confidence']:.0%} percentile bootstrap of {summary['resamples']} resamples of test "
        "cases and seeds; differences are paired, their intervals and p hold for all arms of one set and one measure "
        "together (max-t). The first cases of a campaign are drawn by the seed, so with few seeds the luck of the draw "
        "is poorly sampled.",
        "Cases needed: where the mean curve, straight between trainings, first reaches the final lesion F1 of "
        f"{summary['baseline']}; the share is of the cases {summary['baseline']} was given. The interval redraws "
        "curves and goal together.",
        "No difference shown does not mean that there is none: it may be smaller than these cases and seeds can show.",
    ]


def _percent(value: float | None) -> str:
    return "not reached" if value is None else f"{100 * value:.0f} %"
