"""The dashboard's sections as functions of data: what they say, what they count, and what they say to do next."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from rarevoxel.errors import InputError
from rarevoxel.learning.confidence import calibrate
from rarevoxel.learning.effort import measure_effort
from rarevoxel.learning.pool import Candidate, CaseScore
from rarevoxel.report.dashboard import (
    CaseView,
    Cell,
    Dashboard,
    Grid,
    LabelVersion,
    Model,
    Queue,
    Refused,
    Run,
    Turn,
    Waiting,
    case_html,
    content_policy,
    current,
    dashboard_page,
)
from rarevoxel.report.dashboard.charts import Series, histogram, line_chart, ticks
from rarevoxel.report.dashboard.effort import effort_block, read_effort, running_median
from rarevoxel.report.dashboard.findings import findings_block
from rarevoxel.report.dashboard.models import learning_block, models_block
from rarevoxel.report.dashboard.paging import PER_PAGE, page_of
from rarevoxel.report.dashboard.queue import own_reasons, queue_block
from rarevoxel.report.dashboard.sizes import shapes, sizes_block
from rarevoxel.report.dashboard.trust import expected_dice, trust_words
from rarevoxel.report.dashboard.words import duration, ml, when
from rarevoxel.statistics import SizeStatistics, select_branch

SCORE = CaseScore(
    "case-2",
    entropy={"WT": 0.25, "TC": 0.5, "ET": 0.75},
    missed_ml={"WT": 0.0, "TC": 0.1, "ET": 0.3},
    confidence={"WT": 0.9, "TC": 0.7, "ET": 0.5},
    regions_ml={"WT": 40.0, "TC": 12.0, "ET": 2.0},
    candidates=(Candidate("ET", 400.0, 300.0, 0.62, 0.8, marked=False),),
)


def version(case: str, number: int, hour: int, *sizes: float, **more: Any) -> LabelVersion:
    """A version whose WT has lesions of these sizes in mm^3, whose TC and ET have the first only."""
    parts = {"WT": sizes, "TC": sizes[:1], "ET": sizes[:1]} if sizes else {}
    volumes = {region: sum(values) for region, values in parts.items()}
    ts = f"2026-01-{1 + hour // 24:02d}T{hour % 24:02d}:00:00+00:00"
    return LabelVersion(case, number, ts, volumes=volumes, lesions=parts, **more)


def effort_record(added: int = 8) -> dict[str, Any]:
    labels = np.zeros((10, 10, 10), np.uint8)
    labels.reshape(-1)[111 : 111 + added] = 3
    return {"status": "measured", "note": "", "proposal": {}, **measure_effort(labels * 0, labels, (1, 1, 1)).to_dict()}


def plain(text: str) -> str:
    """The text with ordinary spaces."""
    return text.replace("\u00a0", " ")


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)))


def test_an_empty_server_says_what_to_do_next_in_every_section() -> None:
    html = dashboard_page(Dashboard(Queue()), Turn())
    sections = re.findall(r'<section id="([a-z]+)">(.*?)</section>', html, re.DOTALL)
    assert [name for name, _ in sections] == ["queue", "models", "learning", "sizes", "effort", "findings"]
    for name, body in sections:
        assert '<p class="hint">' in body, name
    assert "rarevoxel prepare" in html
    assert "POST /train/MODEL" in html


def test_the_page_runs_nothing_and_loads_nothing_from_elsewhere() -> None:
    html = dashboard_page(Dashboard(Queue([Waiting("case-2", SCORE)], 3), labels=[version("a", 1, 1, 50.0)]), Turn())
    assert "<script" not in html
    assert " style=" not in html, "the policy allows only the sheet"
    assert " on" not in " ".join(re.findall(r"<[^>]+>", html)).replace(" one", "")
    addresses = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert addresses
    assert all(address.startswith(("/dashboard", "#", "data:,")) for address in addresses)
    sheet = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert sheet is not None
    digest = base64.b64encode(hashlib.sha256(sheet[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in content_policy()
    assert "script" not in content_policy()


def test_what_comes_from_elsewhere_is_escaped() -> None:
    evil = "<script>alert(1)</script>"
    row = Waiting("case-2", SCORE, (evil,), evil)
    run = Run("calf", evil, evil, 3, 2, {"WT": 0.5, "mean": 0.5}, True, evil, evil, "/dashboard/x")
    label = version("a", 1, 1, 50.0, findings=[{"code": evil, "message": evil}], effort={"note": evil})
    data = Dashboard(
        Queue([row], 1, evil, evil, {"x": evil}, evil),
        [Model(evil, evil, evil, evil, 1, evil, [run])],
        [label],
        [Refused("a", evil, evil, evil, (evil,))],
        warnings=[evil],
    )
    for html in (dashboard_page(data, Turn(), title=evil), case_html(CaseView("a", None, evil, [label], data.refused))):
        assert evil not in html
        assert "&lt;script&gt;" in html


def test_pages_are_well_formed() -> None:
    class Balance(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            if tag not in ("meta", "link", "img"):
                self.open.append(tag)

        def handle_startendtag(self, tag: str, attrs: Any) -> None:
            assert tag in ("line", "path", "rect", "circle", "polygon"), tag

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    labels = [version(f"c{n}", 1, n, 20.0 * n, 5.0, effort=effort_record(n)) for n in range(1, 30)]
    page = dashboard_page(Dashboard(Queue([Waiting("x", SCORE)], 30), labels=labels), Turn())
    for html in (page, case_html(CaseView("case-2", SCORE, labels=labels[:2], proposal="2026-01-01T00:00:00+00:00"))):
        parser = Balance()
        parser.feed(html)
        assert parser.open == []


def test_the_queue_counts_and_names_reasons() -> None:
    rows = [Waiting("case-2", SCORE, ("small ET likely",), "2026-01-02T10:30:00+00:00"), Waiting("case-3")]
    block = queue_block(Queue(rows, 5, "calf", "combined", {"case-9": "torn image"}), Turn())
    assert block.facts == {
        "waiting": "2", "labelled": "3", "scored": "1 of 2", "leased": "1", "scores of": "calf",
    }  # fmt: skip
    first, second = block.grids[0].rows
    assert first[0].picture == "/dashboard/cases/case-2/thumbnail"
    assert first[1].text == "small ET likely"
    assert first[2].text == "0.50 bit"
    assert plain(first[3].text) == "TC 0.1 ml, ET 0.3 ml"
    assert first[5].text == "until 2026-01-02 10:30 UTC"
    assert second[1].text == "not scored yet"
    assert "combined" in block.grids[0].caption
    assert "1 case could not be scored" in block.grids[1].caption


def test_a_score_names_its_own_reasons() -> None:
    assert tuple(map(plain, own_reasons(SCORE))) == (
        "0.3 ml of ET expected outside the proposal",
        "ET place of 0.3 ml not marked, probability 62%",
        "edge of ET unsure (0.75 bit)",
    )
    assert own_reasons(CaseScore("x")) == ()
    assert own_reasons(CaseScore("x", error="torn")) == ("torn",)


@pytest.mark.parametrize(
    ("rows", "page", "expected"),
    [
        (0, 1, (0, 1, 1)),
        (11, 1, (10, 1, 2)),
        (11, 2, (1, 2, 2)),
        (11, 9, (1, 2, 2)),
        (10, 2, (10, 1, 1)),
        (3, -4, (3, 1, 1)),
    ],
)
def test_pages_of_a_table(rows: int, page: int, expected: tuple[int, int, int]) -> None:
    found, number, pages = page_of(range(rows), page)
    assert (len(found), number, pages) == expected
    assert PER_PAGE == 10


def test_a_long_queue_is_turned_by_links_and_stays_small() -> None:
    data = Dashboard(Queue([Waiting(f"case-{n:03d}", SCORE) for n in range(500)], 500))
    first, last = dashboard_page(data, Turn()), dashboard_page(data, Turn(queue=50))
    assert first.count("/thumbnail") == last.count("/thumbnail") == 10
    assert "/dashboard?queue=2&amp;labels=1#queue" in first
    assert "case-009" in first
    assert "case-010" not in first
    assert "next →" not in last
    assert "queue=1&amp;labels=1#queue" in last
    assert "case-499" in last


def test_the_shape_of_sizes_follows_every_label() -> None:
    labels = [
        version("a", 1, 1, 10.0),
        version("b", 1, 2, 20.0, 5.0),
        version("c", 1, 3, 90.0),
        version("a", 2, 4, 40.0),
        LabelVersion("b", 2, "2026-01-01T05:00:00+00:00", removed=True),
    ]
    found = shapes(labels, "WT", lesions=False)
    assert [one.labels for one in found] == [1, 2, 3, 3, 2]
    assert math.isnan(found[0].skewness)
    expected = SizeStatistics.from_sizes([10.0, 25.0, 90.0], bootstrap=0)
    assert found[2].skewness == pytest.approx(expected.skewness)
    assert found[2].kurtosis == pytest.approx(expected.kurtosis)
    assert found[3].skewness == pytest.approx(SizeStatistics.from_sizes([40.0, 25.0, 90.0], bootstrap=0).skewness)
    lesions = shapes(labels, "WT", lesions=True)
    assert lesions[2].skewness == pytest.approx(SizeStatistics.from_sizes([10, 20, 5, 90], bootstrap=0).skewness)
    assert shapes(labels, "WT", lesions=False, points=2)[-1] == found[-1]


def test_many_labels_give_few_points_and_the_last() -> None:
    labels = [version(f"c{n}", 1, n, 1.0 + n * n) for n in range(200)]
    found = shapes(labels, "ET", lesions=False)
    assert len(found) == 40
    assert found[-1].labels == 200


def test_sizes_say_branch_and_that_few_labels_are_noise() -> None:
    labels = [version(f"c{n}", 1, n, size) for n, size in enumerate((1000.0, 2000.0, 9000.0))]
    block = sizes_block(labels, unmeasured=2, minimum_n=20)
    assert "sizes of 2 labels are being measured" in block.hint
    region, volume, s, _, branch, *_ = block.grids[0].rows[0]
    assert (region.text, plain(volume.text)) == ("WT", "median 2.0 ml")
    assert s.text == f"{SizeStatistics.from_sizes([1.0, 2.0, 9.0], bootstrap=0).skewness:.2f}"
    assert branch.text == "bce_dice"
    assert "the rule alone gives" in branch.lines[0]
    assert [len(group) for group in block.charts] == [3, 4]
    after = [one.skewness for one in shapes(labels, "WT", lesions=False)]
    expected = select_branch(after[2], SizeStatistics.from_sizes([1.0, 2.0, 9.0], bootstrap=0).kurtosis).value
    assert math.isnan(after[0])
    assert block.grids[1].rows[0][1].text == f"bce_dice after 1 to 2, {expected} after 3"
    enough = sizes_block(labels, minimum_n=3)
    assert enough.grids[0].rows[0][4].text == SizeStatistics.from_sizes([1.0, 2.0, 9.0], minimum_n=3).branch.value


def test_labels_whose_sizes_are_unknown_do_not_count() -> None:
    labels = [version("a", 1, 1, 10.0), version("b", 1, 2)]
    assert [one.labels for one in shapes(labels, "WT", lesions=False)] == [1]
    assert "being measured" in sizes_block([version("b", 1, 2)], unmeasured=1).hint


def test_the_newest_version_of_each_label_counts() -> None:
    labels = [version("a", 1, 1), version("b", 1, 2), version("a", 2, 3), version("b", 2, 4, removed=True)]
    assert [(case, one.version) for case, one in current(labels).items()] == [("a", 2)]


def run(name: str, labels: int, published: bool, **dice: float) -> Run:
    found = {**dice, "mean": sum(dice.values()) / len(dice)} if dice else {}
    return Run("calf", name, f"2026-01-{labels:02d}T00:00:00Z", labels, labels - 2, found, published, "because", "calf")


def test_the_learning_curve_is_over_the_labels_and_marks_what_was_kept_back() -> None:
    runs = [run("r1", 5, False, WT=0.5, ET=0.2), run("r2", 9, True, WT=0.7, ET=0.4), run("r3", 12, True, WT=0.8)]
    models = [Model("calf", "", "r3", runs=runs)]
    ((chart,),) = learning_block(models).charts
    assert chart.count("mark") == 5
    assert chart.count("open mark") == 2
    assert "c-ET" in chart
    assert "c-TC" not in chart
    assert learning_block([Model("calf", "", "starter", runs=[run("r", 3, False)])]).charts == ()


def test_verdicts_newest_first_in_words() -> None:
    runs = [run("r1", 5, False, WT=0.5), run("r2", 9, True, WT=0.7)]
    models = [Model("calf", "one", "r2", "2026-01-09T00:00:00Z", 1, "failed: no room", runs)]
    state, verdicts = models_block(models).grids
    assert state.rows[0][2] == Cell("failed: no room", mark="warn")
    assert [row[0].text for row in verdicts.rows] == ["r2", "r1"]
    assert [row[1].text for row in verdicts.rows] == ["published", "kept back"]
    assert verdicts.rows[0][3] == Cell("9", lines=("7 to train on",))


def test_effort_is_of_the_newest_versions_and_adds_up() -> None:
    labels = [
        version("a", 1, 1, 9.0, effort=effort_record(4)),
        version("b", 1, 2, 9.0, effort={"status": "outdated proposal", "note": "another grid"}),
        version("a", 2, 3, 9.0, effort=effort_record(8)),
        version("c", 0, 4, 9.0, reason="found in the folder"),
    ]
    block = effort_block(labels, Turn())
    expected = read_effort(effort_record(8))
    assert expected is not None
    assert block.facts["measured"] == "1 of 3 labels"
    assert block.facts["estimated time"] == duration(expected.seconds)
    assert block.facts["lesions added"] == "1"
    assert [row[0].text for row in block.grids[0].rows] == ["c", "a", "b"]
    assert block.grids[0].rows[1][1].text == "8 voxels"
    assert block.grids[0].rows[1][2].text == "1 added"
    assert block.grids[0].rows[2][1].text == "another grid"
    assert [len(group) for group in block.charts] == [2]
    assert effort_block(labels[1:2], Turn()).charts == []


def test_a_record_without_numbers_is_no_effort() -> None:
    assert read_effort({}) is None
    assert read_effort({"status": "failed", "note": "x", "proposal": {}}) is None
    assert running_median([9, 1, 5, 7], 3) == [9, 5, 5, 5]


def test_findings_of_the_newest_versions_and_refusals() -> None:
    finding = {"code": "island", "message": "12 voxels apart", "voxel": [1, 2, 3], "mm": [-4.4, 0.0, 9.6]}
    labels = [
        version("a", 1, 1, 9.0, findings=[finding, finding]),
        version("a", 2, 2, 9.0, findings=[finding]),
        version("b", 1, 3, 9.0),
    ]
    block = findings_block(
        labels, [Refused("b", "2026-01-01T05:00:00+00:00", "wrong grid", "save it again", ("grid",))]
    )
    assert "1 finding in the valid labels (island 1)" in block.grids[0].caption
    assert block.grids[0].rows[0][2].text == "RAS -4, 0, 10 mm; voxel 1, 2, 3"
    assert block.grids[1].rows[0][2] == Cell("wrong grid", mark="warn", lines=("grid", "save it again"))
    assert "Nothing was noticed in 1 label" in findings_block(labels[2:], []).hint


def test_expected_dice_is_what_the_labels_found_it_to_be_where_that_is_nearer() -> None:
    said, true = [0.8] * 10 + [0.9] * 10, [0.4] * 10 + [0.6] * 10
    calibrations = {"WT": calibrate(said, true), "ET": calibrate([0.5] * 3, [0.9] * 3)}
    assert calibrations["WT"].pays
    assert not calibrations["ET"].pays
    score = replace(SCORE, confidence={"WT": 0.8, "TC": 0.7, "ET": 0.5})
    assert expected_dice(score, calibrations) == pytest.approx({"WT": 0.4, "TC": 0.7, "ET": 0.5})
    assert expected_dice(score, {}) == score.confidence
    block = queue_block(Queue([Waiting("a", score)], 5, "calf", calibrations=calibrations), Turn())
    assert plain(block.grids[0].rows[0][4].text) == "WT 0.40, TC 0.70, ET 0.50"
    told = "Expected Dice against 20 labels: WT off by 0.35, corrected here to 0.00; ET off by 0.40, shown as it is."
    assert block.text == (told,)
    text = text_of(case_html(CaseView("a", score, model="calf", calibrations=calibrations)))
    assert told in text
    assert "0.40" in text
    few = trust_words("calf", {"ET": calibrate([0.5] * 3, [0.9] * 3)})
    assert few == "Expected Dice against 3 labels: ET off by 0.40, shown as it is. Below 10 nothing is corrected."
    assert "POST /scoring/calf" in queue_block(Queue([Waiting("a", score)], 5, "calf"), Turn()).text[0]


def test_the_page_of_a_case() -> None:
    labels = [version("case-2", 1, 1, 500.0, effort=effort_record(8), findings=[{"code": "hole", "message": "one"}])]
    html = case_html(CaseView("case-2", SCORE, labels=labels, proposal="2026-01-01T00:00:00+00:00", weights="r2"))
    text = plain(text_of(html))
    assert 'src="/dashboard/cases/case-2/picture"' in html
    assert "outlines of proposal and label" in text
    assert "2026-01-01 00:00 UTC, by r2" in text
    assert "WT 0.50 ml" in text
    assert "8 voxels" in text
    assert "hole: one" in text
    assert "Possible lesions, the largest 1 of 1" in text
    assert "mutual information" not in text
    sampled = replace(SCORE, method="dropout", mutual_information={"WT": 0.25})
    assert "0.25 bit" in plain(text_of(case_html(CaseView("case-2", sampled))))
    assert "mutual information" in text_of(case_html(CaseView("case-2", sampled)))
    bare = text_of(case_html(CaseView("case-3")))
    assert "nothing was marked yet" in bare
    assert "Submit Label" in bare
    assert "Not scored yet" in bare


def test_charts_put_points_where_they_belong() -> None:
    chart = line_chart([Series("WT", [(0, 0.0), (10, 1.0), (5, math.nan)])], title="T", x="n", y="D", y_range=(0, 1))
    (x0, y0), (x1, y1) = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', chart)
    assert float(y0) > float(y1)
    assert float(x0) < float(x1)
    assert float(y1) == pytest.approx(12.0)
    assert 'aria-label="T"' in chart
    assert "nan" not in line_chart([Series("WT", [(1, math.nan)])], title="T", x="n", y="D").lower()
    assert "a &lt; b" in line_chart([], title="a < b", x="n", y="D")


def test_a_histogram_counts_every_positive_size_once() -> None:
    chart = histogram([0.0, 0.02, 0.021, 5.0], name="ET", title="sizes", x="ml")
    heights = [float(h) for h in re.findall(r'bar"[^>]* height="([\d.]+)"', chart)]
    assert len(heights) == 2
    assert max(heights) == pytest.approx(2 * min(heights), rel=0.01)
    assert "bar" not in histogram([0.0], name="ET", title="none", x="ml").replace("Embar", "")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-0.9, 2.2, [0, 1, 2]),
        (3, 3, []),
        (math.nan, 1, []),
        (0, 37, [0, 10, 20, 30]),
    ],
)
def test_ticks_are_round_numbers_inside(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_words() -> None:
    assert [plain(ml(value)) for value in (0.0, 45.0, 1500.0, 250_000.0)] == ["0 ml", "0.045 ml", "1.5 ml", "250 ml"]
    assert when("2026-01-01T10:00:00Z") == "2026-01-01 10:00 UTC"
    assert when("2026-01-01T12:00:00+02:00") == "2026-01-01 10:00 UTC"
    assert when("soon") == "soon"


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(InputError, match="table row 1 has 1 cells, expected 2"):
        Grid(("a", "b"), [[Cell("x")]])
