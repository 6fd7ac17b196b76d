from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from rarevoxel.errors import InputError
from rarevoxel.labels import CLIENT_LABELS, EDEMA, NECROSIS
from rarevoxel.report import draw_gate, draw_sizes, draw_training, figures
from rarevoxel.statistics import DatasetStatistics, case_statistics


@pytest.fixture
def figure_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Figure]:
    monkeypatch.setattr(figures, "to_png", lambda figure: figure)
    return lambda draw, *args, **options: draw(*args, **options)


def statistics(*edema_voxels: int, core: int = 0) -> DatasetStatistics:
    cases = []
    for number, voxels in enumerate(edema_voxels):
        labels = np.zeros(8000, np.uint8)
        labels[:voxels] = CLIENT_LABELS[EDEMA]
        labels[4000 : 4000 + core] = CLIENT_LABELS[NECROSIS]
        cases.append(case_statistics(labels.reshape(20, 20, 20), (10.0, 10.0, 10.0), f"case-{number}"))
    return DatasetStatistics.from_cases(cases, minimum_n=3)


def texts(figure: Figure) -> str:
    titles = (axes.get_title(loc=side) for axes in figure.axes for side in ("left", "right"))
    inside = (text.get_text() for axes in figure.axes for text in axes.texts)
    return "\n".join([*titles, *inside])


def test_sizes_are_counted_in_ml_and_their_shape_is_written_in(figure_of: Callable[..., Figure]) -> None:
    found = statistics(10, 20, 20, 3000)
    figure = figure_of(draw_sizes, found)
    whole = figure.axes[0]
    assert sum(patch.get_height() for patch in whole.patches) == 4
    assert sorted(whole.lines[0].get_xdata()) == [10, 20, 20, 3000]
    shape = found.by_region["WT"]
    low, high = shape.interval["skewness"]
    assert f"n = 4\nS = {shape.skewness:.2f} [{low:.2f}, {high:.2f}]" in texts(figure)
    assert f"K = {shape.kurtosis:.2f} [" in texts(figure)
    assert f"branch {shape.branch.value}" in texts(figure)
    assert whole.get_xscale() == "log"


def test_a_narrow_range_has_a_plain_axis_and_few_cases_are_said(figure_of: Callable[..., Figure]) -> None:
    figure = figure_of(draw_sizes, statistics(10, 20))
    assert figure.axes[0].get_xscale() == "linear"
    assert "branch bce_dice (fewer than 3 cases)" in texts(figure)


def test_empty_regions_are_counted_in_words(figure_of: Callable[..., Figure]) -> None:
    figure = figure_of(draw_sizes, statistics(10, 10, 10))
    whole, _, enhancing = figure.axes
    assert sum(patch.get_height() for patch in whole.patches) == 3
    assert "n = 3, 3 empty" in enhancing.get_title(loc="left")
    assert "S = undefined" in enhancing.get_title(loc="left")
    assert "no lesion" in texts(figure)


def test_training_curves_are_the_numbers(figure_of: Callable[..., Figure]) -> None:
    dice = {10: {"WT": 0.9, "ET": 0.6}, 5: {"WT": 0.8, "ET": 0.5}}
    figure = figure_of(draw_training, [3.0, 2.0, 1.0], dice, best_epoch=10, loss_name="bce_dice")
    left, right = figure.axes
    assert np.array_equal(left.lines[0].get_xydata(), [[1, 3], [2, 2], [3, 1]])
    assert left.get_ylabel() == "bce_dice"
    curves = {line.get_label(): line.get_xydata().tolist() for line in right.lines}
    assert curves["WT"] == [[5, 0.8], [10, 0.9]]
    assert curves["ET"] == [[5, 0.5], [10, 0.6]]
    assert right.get_title(loc="right") == "best: epoch 10"
    assert right.get_ylim()[0] <= 0.5


def test_training_without_scores_says_so(figure_of: Callable[..., Figure]) -> None:
    assert "no score yet" in texts(figure_of(draw_training, [], {}))


def test_gate_shows_both_weights_of_every_region(figure_of: Callable[..., Figure]) -> None:
    cases = {"a": {"WT": (0.5, 0.7), "ET": (None, 0.6)}}
    figure = figure_of(draw_gate, cases)
    (axes,) = figure.axes
    points = [tuple(offset) for dots in axes.collections for offset in dots.get_offsets().tolist()]
    assert points == [(0.5, 0.0), (0.7, 0.0), (0.6, 1.0)]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a  WT", "a  ET"]


def test_many_hold_out_cases_have_a_row_each_with_the_mean(figure_of: Callable[..., Figure]) -> None:
    cases = {f"c{i:02d}": {"WT": (0.5, 0.5 + i / 200), "ET": (0.7, 0.7)} for i in range(70)}
    (axes,) = figure_of(draw_gate, cases).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [f"c{i:02d}" for i in range(69, 9, -1)]
    assert axes.collections[1].get_offsets().tolist() == [[pytest.approx((0.5 + 69 / 200 + 0.7) / 2), 0.0]]
    assert "60 of 70 cases" in axes.get_title(loc="left")


def test_gate_without_cases_is_an_error() -> None:
    with pytest.raises(InputError, match="no hold-out case to draw"):
        draw_gate({})


def test_pictures_are_png_and_repeat() -> None:
    found = statistics(10, 20, 300, core=5)
    assert draw_sizes(found)[:8] == b"\x89PNG\r\n\x1a\n"
    assert draw_sizes(found) == draw_sizes(found)
