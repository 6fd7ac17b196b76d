"""The page of an evaluation: what its charts hold, and the worst cases with their pictures."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from evaluation.scene import AFFINE, SHAPE, label, write_scene
from rarevoxel.errors import InputError
from rarevoxel.evaluation.case_evaluation import CaseEvaluation, evaluate_case
from rarevoxel.evaluation.model_report import Evaluation, summarize
from rarevoxel.evaluation.worst import Kept
from rarevoxel.labels import labels_to_regions
from rarevoxel.report import evaluation_figures, mistakes
from rarevoxel.report.evaluation import write_evaluation
from rarevoxel.report.mistakes import PREDICTION, TRUTH, draw_mistake

PNG = b"\x89PNG\r\n\x1a\n"
SHIFTED = label(14)


def case(name: str, prediction: np.ndarray, truth: np.ndarray, regions=("WT", "TC", "ET"), soft=True) -> CaseEvaluation:
    p = np.where(labels_to_regions(prediction), 0.9, 0.1) if soft else None
    return evaluate_case(name, name, prediction, truth, AFFINE, probabilities=p, regions=regions)


def of(*cases: CaseEvaluation, **options) -> Evaluation:
    return Evaluation(tuple(cases[0].regions) if cases else ("WT",), cases, **options)


@pytest.fixture(scope="module")
def some() -> Evaluation:
    return of(case("good", label(), label()), case("off", SHIFTED, label()), case("none", 0 * label(), label()))


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn, which no test here needs as PNG."""
    kept: list[Figure] = []
    for module in (evaluation_figures, mistakes):
        monkeypatch.setattr(module, "to_png", lambda figure: kept.append(figure) or PNG)
    return kept


def test_the_strips_hold_every_case(some: Evaluation, figures: list[Figure]) -> None:
    evaluation_figures.draw_dice(some)
    (axes,) = figures[0].axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["WT", "TC", "ET", "mean"]
    drawn = [sorted(points.get_offsets()[:, 1].tolist()) for points in axes.collections]
    assert drawn[0] == sorted(case.regions["WT"].dice for case in some.cases)
    assert drawn[3] == sorted(case.dice for case in some.cases)


def test_volumes_are_predicted_over_true(some: Evaluation, figures: list[Figure]) -> None:
    evaluation_figures.draw_volumes(some)
    wt, _, et = figures[0].axes
    np.testing.assert_allclose(wt.collections[0].get_offsets(), [[4.096, 4.096], [4.096, 4.096], [4.096, 0.0]])
    np.testing.assert_allclose(et.collections[0].get_offsets()[2], [0.512, 0.0])


def test_lesions_are_drawn_in_the_band_of_their_size(some: Evaluation, figures: list[Figure]) -> None:
    evaluation_figures.draw_lesions(summarize(some))
    recall, precision, _ = figures[0].axes
    markers = {(round(float(line.get_xdata()[0])), round(float(line.get_ydata()[0]), 3))
               for line in recall.lines if line.get_marker() not in ("None", None)}  # fmt: skip
    assert markers == {(3, 0.667), (2, 0.333)}
    assert recall.get_xticklabels()[3].get_text() == ">=2 ml\n3/0/0"
    assert precision.get_xticklabels()[2].get_text() == "0.5-2 ml\n0/2/2"


def test_reliability_is_the_curve_of_the_pooled_bins(some: Evaluation, figures: list[Figure]) -> None:
    summary = summarize(some)
    assert evaluation_figures.draw_reliability(summary) == PNG
    bins = summary.regions["WT"].calibration
    assert bins is not None
    np.testing.assert_allclose(figures[0].axes[0].lines[1].get_xydata(), bins.curve)
    assert evaluation_figures.draw_reliability(summarize(of(case("a", label(), label(), soft=False)))) is None


def test_a_mistake_is_ringed_on_flair_and_t1c(figures: list[Figure]) -> None:
    prediction = label()
    prediction[2:6, 20:24, 2:6] = 2
    made = case("a", prediction, label())
    assert made.mistake is not None
    image = np.random.default_rng(0).uniform(1, 2, SHAPE)
    images = {"t1c": image, "t2f": image, "t1n": image}
    assert draw_mistake(images, prediction, label(), AFFINE, made.mistake, ["WT", "TC", "ET"]) == PNG
    (figure,) = figures
    assert [text.get_text() for text in figure.texts] == ["t2f: WT", "t1c: TC, ET dashed"]
    assert len(figure.axes) == 6
    axial = figure.axes[0]
    (ring,) = (patch for patch in axial.patches if isinstance(patch, Circle))
    i, j, _ = made.mistake.voxel
    assert ring.center == ((SHAPE[0] - i - 0.5) * 2, (SHAPE[1] - j - 0.5) * 2)
    assert made.mistake.voxel[0] in (3, 4)
    assert _colours(axial) == {PREDICTION}


def test_what_is_missed_has_the_colour_of_the_label(figures: list[Figure]) -> None:
    made = case("a", 0 * label(), label(), regions=["WT"])
    assert made.mistake is not None
    draw_mistake({"t2f": np.ones(SHAPE), "t1c": np.ones(SHAPE)}, 0 * label(), label(), AFFINE, made.mistake, ["WT"])
    draw_mistake({"t2w": np.ones(SHAPE)}, 0 * label(), label(), AFFINE, made.mistake, ["WT"])
    both, other = figures
    assert [text.get_text() for text in both.texts] == ["t2f: WT", "t1c: WT"]
    assert [text.get_text() for text in other.texts] == ["t2w: WT"]
    assert _colours(both.axes[0]) == {TRUTH}


def test_a_large_volume_is_cut_to_what_lies_around(figures: list[Figure]) -> None:
    truth = np.zeros((120, 100, 90), np.uint8)
    truth[5:9, 90:94, 40:44] = 2
    made = evaluate_case("a", "a", 0 * truth, truth, AFFINE)
    assert made.mistake is not None
    flipped = np.diag([-2.0, 2.0, 2.0, 1.0])
    for affine in (AFFINE, flipped):
        draw_mistake({"t2f": np.ones(truth.shape)}, 0 * truth, truth, affine, made.mistake, ["WT"])
    plain, turned = (figure.axes[0] for figure in figures)
    assert plain.get_xlim() == (0, 120)
    centres = [axes.patches[0].center for axes in (plain, turned)]
    assert centres[0][1] == centres[1][1]
    assert centres[0][0] + centres[1][0] == pytest.approx(120)


def _colours(axes) -> set[str]:
    from matplotlib.colors import to_hex

    parts = [colours for part in axes.collections for colours in (part.get_edgecolor(), part.get_facecolor())]
    return {to_hex(colour).upper() for colours in parts for colour in colours[:1]}


def test_pictures_need_images_on_one_grid() -> None:
    made = case("a", SHIFTED, label())
    assert made.mistake is not None
    with pytest.raises(InputError, match="no image to draw"):
        draw_mistake({}, SHIFTED, label(), AFFINE, made.mistake, ["WT"])
    with pytest.raises(InputError, match=r"t2f of shape \(3, 3, 3\) found, expected that of the truth"):
        draw_mistake({"t2f": np.ones((3, 3, 3))}, SHIFTED, label(), AFFINE, made.mistake, ["WT"])


@pytest.mark.usefixtures("figures")
def test_the_page_tells_of_every_case(tmp_path: Path, some: Evaluation) -> None:
    studies = write_scene(tmp_path / "S", {"off": label()})
    files = {name: studies / "sequences" / "off" / f"{name}.nii.gz" for name in ("t1c", "t2f")}
    none, off = replace(some.cases[2], missing=("t1n",)), some.cases[1]
    lost = {"t2f": tmp_path / "lost.nii.gz"}
    worst = [Kept(none, 0 * label(), label(), AFFINE, lost), Kept(off, SHIFTED, label(), AFFINE, files)]
    evaluation = replace(some, refused={"torn<": "is torn"}, unlabelled=2, model={"weights": "w.pt", "version": "v7"})
    path = write_evaluation(tmp_path / "new" / "page.html", evaluation, summarize(evaluation), worst)
    html = path.read_text(encoding="utf-8")
    assert re.findall(r"<h2>(.*?)</h2>", html) == [
        "Scores", "Lesions by size", "Calibration", "Worst case 1: none, mean Dice 0.000",
        f"Worst case 2: off, mean Dice {off.dice:.3f}", "Every case, the worst first", "Refused cases",
        "How to read the numbers",
    ]  # fmt: skip
    assert "over 3 cases of 3 patients scored, 1 refused. Lesions found: 2 of 3 in WT" in html
    assert "WT: nothing predicted of 4.1 ml." in html
    assert "No picture: " in html
    assert "lost.nii.gz" in html
    assert "Predicted without t1n." in html
    assert "<td>torn&lt;</td><td>is torn</td>" in html
    assert "3 scored, 1 refused, 2 without a label" in html
    assert "<dt>version</dt><dd>v7</dd>" in html
    assert html.count("data:image/png;base64,") == 4 + 1
    table = html[html.index("Every case") :]
    assert table.index("<td>none</td>") < table.index("<td>off</td>") < table.index("<td>good</td>")


@pytest.mark.usefixtures("figures")
def test_a_perfect_case_needs_no_picture(tmp_path: Path) -> None:
    good = case("good", label(), label(), soft=False)
    evaluation = of(good)
    kept = Kept(good, label(), label(), AFFINE, {})
    html = write_evaluation(tmp_path / "p.html", evaluation, summarize(evaluation), [kept]).read_text(encoding="utf-8")
    assert "Prediction and label are equal." in html
    assert "The model gave no probabilities" in html
    assert "With one patient there is none." in html
    assert html.count("data:image/png;base64,") == 3
