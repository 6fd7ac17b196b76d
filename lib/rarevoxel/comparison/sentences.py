"""What a comparison says in words: the data, the result, what was left out, and how to read the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from rarevoxel.comparison.rows import ALPHA, JUDGED, MARK, Record, columns, number, verdicts

_SHOWN = 8
"""Dropped cases named at most."""

_BY_NAME = " was asked for by name."


def data_sentence(regime: Record) -> str:
    """Return on how many cases, folds and seeds a regime was run."""
    folds = regime["folds"]
    kind = "Synthetic phantoms" if regime["phantoms"] else "Cases of a studies folder"
    sides = ", ".join(f"{len(fold['train'])} / {len(fold['tune'])} / {len(fold['test'])}" for fold in folds)
    split = "cases" if len(folds) == 1 else f"cases in {len(folds)} folds of patients"
    seeds = f"{regime['seeds']} seed" + ("" if regime["seeds"] == 1 else "s")
    return f"{kind}; {split} to train / tune / test: {sides}; {seeds}."


def result_lines(regime: Record, baseline: str, quote: Callable[[str], str] = str) -> list[str]:
    """Return which methods of a regime are better or worse than the baseline after adjustment, from the p alone.

    Args:
        regime: one of `summary["regimes"]`.
        baseline: its name.
        quote: how names of methods are written.
    """
    found = verdicts(regime, baseline)

    def named(group: Mapping[str, Sequence[str]]) -> str:
        return ", ".join(f"{quote(name)} ({', '.join(measures)})" for name, measures in group.items()) or "none"

    lines = [
        f"Better than {quote(baseline)} after adjustment: {named(found.better)}.",
        f"Worse than {quote(baseline)} after adjustment: {named(found.worse)}.",
        f"No difference shown: {', '.join(map(quote, found.same)) or 'none'}.",
    ]
    if found.unknown:
        lines.append(f"Not judged, for lack of scores or of a p-value: {', '.join(map(quote, found.unknown))}.")
    return lines


def lead(summary: Record) -> str:
    """Return the result of all regimes in a few sentences."""
    baseline, regimes = summary["baseline"], summary["regimes"]
    found = {regime["regime"]: verdicts(regime, baseline) for regime in regimes}
    better = {name for one in found.values() for name in one.better}
    worse = {name for one in found.values() for name in one.worse}
    known = better | worse | {name for one in found.values() for name in one.same}
    order = [method["name"] for method in summary["methods"] if method["name"] in known]
    where = "on 1 set of data" if len(regimes) == 1 else f"on {len(regimes)} sets of data"
    text = f"{_count(len(order), 'method')} compared with {baseline} {where}, in {_listed(list(JUDGED.values()))}."
    groups = (
        ("Better somewhere and worse nowhere, after adjustment", better - worse),
        ("Better in some and worse in others", better & worse),
        ("Worse somewhere and better nowhere", worse - better),
        ("No difference shown", known - better - worse),
    )
    for words, names in groups:
        if names:
            text += f" {words}: {', '.join(name for name in order if name in names)}."
    unknown = [method["name"] for method in summary["methods"] if method["name"] not in {*known, baseline}]
    return text + (f" Not judged: {', '.join(unknown)}." if unknown else "")


def reasons(summary: Record, regime: Record) -> list[tuple[str, str]]:
    """Return (method, what was chosen and why) of every method whose loss was chosen from the data."""
    asked = {method["name"]: method for method in summary["methods"]}
    found = []
    for entry in regime["methods"]:
        method = asked.get(entry["method"], {})
        plain = {f"{loss!r}{_BY_NAME}" for loss in (*entry["loss"], method.get("loss"))}
        for fold, reason in entry["reasons"].items():
            if reason in plain:
                continue
            several = len(regime["folds"]) > 1 or len(entry["reasons"]) > 1
            where = f" ({fold})" if several else ""
            used = f"loss {', '.join(entry['loss'])}, sampler {', '.join(entry['sampler'])}"
            found.append((entry["method"] + where, f"{used}: {reason}"))
    return found


def left_out(regime: Record) -> list[tuple[str, str]]:
    """Return (method, what went wrong or was left out): failed runs, cases dropped, thresholds of a second stage."""
    return [(entry["method"], line) for entry in regime["methods"] for line in _notes_of(entry)]


def _notes_of(entry: Record) -> Iterator[str]:
    for run in entry["failed"]:
        hint = f" ({run['hint']})" if run.get("hint") else ""
        yield f"run failed, {run['fold']}, seed {run['seed']}: {run['message']}{hint}"
    if "scores" not in entry and not entry["failed"]:
        yield "not compared: not every seed and fold has been run"
    for fold, dropped in entry["dropped"].items():
        named = "; ".join(f"{case}: {reason}" for case, reason in list(dropped.items())[:_SHOWN])
        more = f"; and {len(dropped) - _SHOWN} more" if len(dropped) > _SHOWN else ""
        yield f"filter left out {_count(len(dropped), 'training case')} of {fold}: {named}{more}"
    if entry["thresholds"]:
        yield "second-stage thresholds, one per run: " + ", ".join(number(value, 2) for value in entry["thresholds"])


def budget_sentence(summary: Record) -> str:
    """Return what every method got alike."""
    budget = summary["budget"]
    network = "-".join(str(width) for width in budget["network"])
    trained = budget.get("pretraining", 0)
    start = f"trained {trained} epochs with dice_ce on 48 other phantoms" if trained else "random, by seed"
    return (
        f"The same for all methods: initial weights ({start}), cases, a network of {network} channels, patches of "
        f"{budget['patch']} voxels a side at {budget['spacing']:g} mm, {budget['epochs']} epochs of "
        f"{budget['patches_per_case']} patches per case in batches of {budget['batch_size']}, peak learning rate "
        f"{budget['learning_rate']:g}; seeds {', '.join(str(seed) for seed in summary['seeds'])}."
    )


def notes(summary: Record) -> list[str]:
    """Return how to read the numbers, each note once."""
    level = f"{summary['confidence']:.0%}"
    lines = [
        budget_sentence(summary),
        "Dice, HD95 and ECE are means over WT, TC and ET, cases and seeds. Lesion recall, precision and F1 pool the "
        "lesions of all regions and cases, at probability 0.5, and are averaged over seeds. Recall at equal precision "
        f"moves the threshold of each method until its lesion precision is the one {summary['baseline']} has at 0.5. "
        "Lower is better for HD95 and ECE. Seconds are the median of a training.",
        f"[low, high]: {level} percentile bootstrap of {summary['resamples']} resamples of cases and seeds. "
        "Differences are paired by case and seed; their intervals and p hold for all methods of one set of data and "
        f"one measure together (single-step max-t), not for several measures or sets at once.{_by_chance(summary)} "
        f"{MARK} differs from {summary['baseline']} in either direction, adjusted p < {ALPHA:g}.",
        "No difference shown does not mean that there is none: it may be smaller than these cases and seeds can show.",
    ]
    if len(summary["seeds"]) == 1:
        lines.append("With one seed the intervals do not contain the spread between trainings.")
    if any(method["two_stage"] for method in summary["methods"]):
        lines.append("two_stage methods train two networks, each with the whole budget: twice the training.")
    return [*lines, summary["empty_policy"]]


def _by_chance(summary: Record) -> str:
    """How many families of comparisons would show a difference that is none."""
    families = sum(metric in columns(regime) for regime in summary["regimes"] for metric in JUDGED)
    if families < 2:
        return ""
    return (
        f" There are {families} such families in the differences; if no method differed, about "
        f"{ALPHA * families:.2g} of them would still show one."
    )


def _count(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
