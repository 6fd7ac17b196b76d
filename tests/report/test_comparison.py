from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from comparison.example import a_baseline, a_failure, a_method, a_regime, a_summary, many, three
from rarevoxel.report import PHANTOM_NOTICE, comparison_figures
from rarevoxel.report import comparison as pages
from rarevoxel.report.comparison import write_comparison, write_figures
from rarevoxel.report.comparison_figures import (
    curve_methods,
    draw_curves,
    draw_differences,
    draw_seeds,
    draw_size_bands,
)

PNG = b"\x89PNG\r\n\x1a\n"
KINDS = ("differences", "curves", "sizes", "seeds")


@pytest.fixture
def figure_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Figure]:
    monkeypatch.setattr(comparison_figures, "to_png", lambda figure: figure)
    return lambda draw, *args: draw(*args)


@pytest.fixture
def without_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("draw_differences", "draw_curves", "draw_size_bands", "draw_seeds"):
        monkeypatch.setattr(pages, name, lambda *_: PNG)


def rows_of(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def points(axes: Axes) -> dict[float, tuple[float, str]]:
    """Row -> (difference, colour inside the marker)."""
    return {
        float(line.get_ydata()[0]): (float(line.get_xdata()[0]), to_hex(line.get_markerfacecolor()))
        for line in axes.lines
        if line.get_marker() == "o"
    }


def test_the_forest_shows_differences_and_fills_what_holds(figure_of: Callable[..., Figure]) -> None:
    regime = three()["regimes"][0]
    regime["methods"][1]["against"]["lesion_f1"]["p_adjusted"] = 0.05
    figure = figure_of(draw_differences, regime, "dice_ce")
    dice, f1, recall = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Dice", "lesion F1", "recall at equal precision"]
    assert rows_of(dice) == ["auto", "top_k", "dice_focal", "bce"]
    assert {at: value for at, (value, _) in points(dice).items()} == {0: 0.1, 1: -0.1, 2: 0.02}
    filled = {at: face != "#ffffff" for at, (_, face) in points(dice).items()}
    assert filled == {0: True, 1: True, 2: False}
    assert points(f1)[0][1] == "#ffffff"
    assert points(recall)[0][1] != "#ffffff"
    assert texts(dice) == ["no score"]
    ends = [line.get_xdata() for line in dice.lines if len(line.get_xdata()) == 2 and line.get_xdata()[0] != 0]
    assert np.allclose(ends, [[0.07, 0.13], [-0.13, -0.07], [-0.01, 0.05]])
    assert any(np.array_equal(line.get_xdata(), [0, 0]) for line in dice.lines)


def test_the_forest_has_a_panel_only_for_what_was_measured(figure_of: Callable[..., Figure]) -> None:
    regime = three()["regimes"][0]
    for entry in regime["methods"]:
        entry.get("scores", {}).pop("recall_at_precision", None)
    assert len(figure_of(draw_differences, regime, "dice_ce").axes) == 2


def test_curves_are_recall_and_precision_with_the_half_marked(figure_of: Callable[..., Figure]) -> None:
    regime = three()["regimes"][0]
    axes = figure_of(draw_curves, regime, "dice_ce", ["dice_ce", "auto", "bce"]).axes[0]
    base, auto, precision = axes.lines
    curve = np.array(regime["methods"][1]["curve"], dtype=float)
    assert np.array_equal(auto.get_xydata(), curve[:, 1:], equal_nan=True)
    assert curve[auto.get_markevery()[0]].tolist() == pytest.approx([0.5, 0.65, 0.6])
    assert precision.get_ydata()[0] == 0.6
    assert base.get_marker() == "*"
    assert auto.get_linestyle() != base.get_linestyle()
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["dice_ce (baseline)", "auto", "precision of dice_ce at 0.5: 0.60"]


def test_six_curves_differ_in_more_than_colour(figure_of: Callable[..., Figure]) -> None:
    summary = many()
    regime = summary["regimes"][0]
    names = curve_methods(summary, regime)
    lines = figure_of(draw_curves, regime, "dice_ce", names).axes[0].lines[:-1]
    assert len(lines) == len(names) == 6
    assert len({line.get_marker() for line in lines}) == 6


def test_curves_of_the_baseline_auto_and_the_best_are_drawn() -> None:
    summary = many()
    regime = summary["regimes"][1]
    f1 = {entry["method"]: entry["scores"]["lesion_f1"]["value"] for entry in regime["methods"] if "scores" in entry}
    names = curve_methods(summary, regime)
    assert names[:2] == ["dice_ce", "auto"]
    rest = sorted(set(f1) - {"dice_ce", "auto"}, key=lambda name: -f1[name])
    assert {f1[name] for name in names[2:]} == {f1[name] for name in rest[:4]}
    assert curve_methods(summary, regime, limit=2) == ["dice_ce", "auto"]
    regime["methods"][0]["scores"]["lesion_f1"]["value"] = None
    assert curve_methods(summary, regime) == names


def test_recall_by_size_is_written_into_the_fields(figure_of: Callable[..., Figure]) -> None:
    axes = figure_of(draw_size_bands, three()["regimes"][0], "dice_ce").axes[0]
    assert rows_of(axes) == ["dice_ce (baseline)", "auto", "top_k", "dice_focal"]
    assert texts(axes)[:8] == ["0.20", "0.40", "0.60", "-", "0.30", "0.50", "0.70", "-"]
    assert next(label.get_text() for label in axes.get_xticklabels()) == "<0.1 ml\nn = 40"


def test_every_seed_is_a_dot_and_their_mean_a_bar(figure_of: Callable[..., Figure]) -> None:
    regime = three()["regimes"][0]
    regime["methods"][1]["dice_by_seed"] = [0.5, None, 0.7]
    axes = figure_of(draw_seeds, regime, "dice_ce").axes[0]
    dots = {float(line.get_ydata()[0]): line.get_xdata().tolist() for line in axes.lines if line.get_marker() == "o"}
    means = {float(line.get_ydata()[0]): float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "|"}
    assert dots[1] == [0.5, 0.7]
    assert means[1] == pytest.approx(0.6)
    assert dots[0] == pytest.approx([0.59, 0.6, 0.61])
    assert texts(axes) == ["no score"]


def test_no_name_of_a_row_overlaps_another_or_leaves_the_picture(figure_of: Callable[..., Figure]) -> None:
    regime = many()["regimes"][0]
    for draw in (draw_differences, draw_size_bands, draw_seeds):
        figure = figure_of(draw, regime, "dice_ce")
        figure.draw_without_rendering()
        boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
        assert min(box.x0 for box in boxes) >= 0
        heights = sorted((box.y0, box.y1) for box in boxes)
        assert all(low[1] <= high[0] for low, high in itertools.pairwise(heights)), draw.__name__


def test_a_regime_of_nothing_but_failures_can_be_drawn() -> None:
    regime = a_regime(a_failure("bce"), a_failure("dice_ce")) | {"precision": None}
    for png in (
        draw_differences(regime, "dice_ce"),
        draw_curves(regime, "dice_ce", []),
        draw_size_bands(regime, "dice_ce"),
        draw_seeds(regime, "dice_ce"),
    ):
        assert png.startswith(PNG)


def test_the_pictures_are_written_and_named_after_the_regime(tmp_path: Path) -> None:
    summary = three()
    summary["regimes"][0]["regime"] = "my site/2"
    paths = write_figures(tmp_path / "new", json.loads(json.dumps(summary)))
    assert [path.name for path in paths] == [f"comparison-my-site-2-{kind}.png" for kind in KINDS]
    for path in paths:
        content = path.read_bytes()
        assert content.startswith(PNG)
        assert len(content) > 5000


@pytest.mark.usefixtures("without_drawing")
def test_the_page_tells_the_result_and_loads_nothing(tmp_path: Path) -> None:
    path = write_comparison(tmp_path / "new" / "report.html", many())
    html = path.read_text(encoding="utf-8")
    assert path == tmp_path / "new" / "report.html"
    assert "13 methods" not in html
    assert "12 methods compared with dice_ce on 4 sets of data" in html
    assert "Not judged: wbce." in html
    assert PHANTOM_NOTICE in html
    assert html.count("<img ") == 4 * 4
    assert html.count("Where truth and prediction are both empty") == 1
    assert html.count("12 epochs of 2 patches per case") == 1
    assert set(re.findall(r'src="([^"]{10})', html)) == {"data:image"}
    assert not re.search(r"https?://|<script|<link|@import|url\(", html)
    for regime in ("moderate", "tiny", "multifocal", "left_skewed"):
        assert f"<h2>{regime}</h2>" in html


@pytest.mark.usefixtures("without_drawing")
def test_the_page_escapes_what_it_is_told(tmp_path: Path) -> None:
    summary = three()
    summary["regimes"][0]["regime"] = "<b>site</b>"
    html = write_comparison(tmp_path / "report.html", summary).read_text(encoding="utf-8")
    assert "&lt;b&gt;site&lt;/b&gt;" in html
    assert "<b>" not in html
    assert "loss is &lt;nan&gt; | epoch 3" in html
    assert "CALF by lesion size: WT log10 (n=24)" in html


@pytest.mark.usefixtures("without_drawing")
@pytest.mark.parametrize("phantoms", [True, False])
def test_the_notice_is_for_phantoms_alone(tmp_path: Path, phantoms: bool) -> None:
    methods: list[dict[str, Any]] = [a_baseline(), a_method("auto", thresholds=[0.3], dropped={"tiny": {"a": "b"}})]
    summary = a_summary(a_regime(*methods), a_regime(*methods, name="site", phantoms=phantoms))
    html = write_comparison(tmp_path / "report.html", summary).read_text(encoding="utf-8")
    assert (PHANTOM_NOTICE in html) is phantoms
    assert "of tiny: a: b. second-stage thresholds, one per run: 0.30" in html
