"""The models in service, what the gate said of every run, and how hold-out Dice grew with the labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from rarevoxel.labels import REGIONS
from rarevoxel.report.dashboard.blocks import Block, Cell, Grid
from rarevoxel.report.dashboard.charts import Series, line_chart
from rarevoxel.report.dashboard.data import Model, Run
from rarevoxel.report.dashboard.words import by_region, number, when

_SHOWN_RUNS = 12


def models_block(models: Sequence[Model], *, auto_training: str = "") -> Block:
    """Return the block of the models and the verdicts on their runs.

    Args:
        models: that are served.
        auto_training: when trainings start by themselves; empty when unknown.
    """
    rows = [_model_row(model) for model in models]
    grids = [Grid(("model", "in service", "last training", "kept versions"), rows)] if rows else []
    runs = sorted((run for model in models for run in model.runs), key=lambda run: run.created, reverse=True)
    hint = ""
    if runs:
        caption = "Verdicts of the gate, newest first"
        caption += f"; the last {_SHOWN_RUNS} of {len(runs)}" if len(runs) > _SHOWN_RUNS else ""
        header = ("run", "verdict", "hold-out Dice", "labels", "loss")
        grids.append(Grid(header, [_run_row(run) for run in runs[:_SHOWN_RUNS]], caption))
    elif not any(model.version for model in models):
        hint = "No model has weights. Train one: Train in 3D Slicer, or POST /train/MODEL."
    else:
        hint = "Nothing has been trained here yet. Submit some labels, then Train in 3D Slicer or POST /train/MODEL."
    facts = {"training starts by itself": auto_training} if auto_training else {}
    return Block("models", "Models and verdicts", hint=hint, facts=facts, grids=grids)


def learning_block(models: Sequence[Model]) -> Block:
    """Return the block of the learning curve: hold-out Dice of every judged run over the labels it was given.

    Args:
        models: that are served.
    """
    title = "Learning curve"
    judged = {model.name: [run for run in model.runs if run.dice] for model in models}
    charts = [_curve(name, runs) for name, runs in judged.items() if runs]
    if not charts:
        hint = (
            "No run has been judged yet. The curve begins with the first training that has patients on the hold-out "
            "side; three of them are the fewest that can judge."
        )
        return Block("learning", title, hint=hint)
    text = (
        "Filled marks went into service, open ones did not. The hold-out grows with the labels, so points far apart "
        "were not judged on the same patients.",
    )
    return Block("learning", title, text=text, charts=[charts])


def _curve(name: str, runs: Sequence[Run]) -> Markup:
    ordered = sorted(runs, key=lambda run: (run.labels, run.created))
    hollow = frozenset(number for number, run in enumerate(ordered) if not run.published)
    series = [
        Series(region, [(run.labels, run.dice.get(region, math.nan)) for run in ordered], hollow=hollow)
        for region in REGIONS
        if any(region in run.dice for run in ordered)
    ]
    return line_chart(series, title=f"{name}: Dice on the hold-out", x="labelled cases", y="Dice", y_range=(0.0, 1.0))


def _model_row(model: Model) -> list[Cell]:
    served = Cell(
        model.version or "no weights",
        mark="" if model.version else "warn",
        lines=(when(model.created),) if model.created else (),
    )
    state = Cell(model.state or "none yet", mark="warn" if model.state.startswith(("failed", "interrupted")) else "")
    return [Cell(model.name, lines=(model.description,)), served, state, Cell(str(model.versions))]


def _run_row(run: Run) -> list[Cell]:
    verdict = Cell(
        "published" if run.published else "kept back",
        mark="good" if run.published else "warn",
        lines=(run.reason,) if run.reason else (),
    )
    regions = {region: value for region, value in run.dice.items() if region != "mean"}
    dice = Cell(number(run.dice.get("mean"), 3), lines=(by_region(regions),) if regions else ())
    labels = Cell(str(run.labels), lines=(f"{run.trained} to train on",))
    return [
        Cell(run.name, href=run.report, lines=(run.model, when(run.created))),
        verdict,
        dice,
        labels,
        Cell(run.loss),
    ]
