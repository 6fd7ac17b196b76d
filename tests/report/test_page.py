from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from rarevoxel.errors import InputError
from rarevoxel.report import PHANTOM_NOTICE, Page, Picture, Section, Table, render_page, versions, write_page
from rarevoxel.report.png import wrap

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
VOID = {"meta", "img", "link", "br"}


class Reader(HTMLParser):
    """Collects tags and text, and checks that every tag is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.text.append(data.strip())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def a_page() -> Page:
    table = Table(["case", "Dice"], [["a", "0.5 → 0.6"], ["b", "0.7 → 0.7"]], "Dice before and after")
    return Page(
        "Run <1> & more",
        "Published: 0.6 > 0.5.",
        [
            Section("Loss", ["because n < 20"], {"S": "0.7"}, pictures=[Picture(PNG, 'a "plot"', "caption", True)]),
            Section("Cases", tables=[table]),
        ],
        notice=PHANTOM_NOTICE,
        verdict="good",
        made={"rarevoxel": "1.2.3"},
    )


def test_the_page_is_whole_and_every_text_is_escaped() -> None:
    html = render_page(a_page())
    reader = Reader(html)
    assert reader.open == []
    assert html.startswith("<!DOCTYPE html>")
    assert "<1>" not in html
    for text in ("Run <1> & more", "Published: 0.6 > 0.5.", "because n < 20", PHANTOM_NOTICE, "0.5 → 0.6", "caption"):
        assert text in reader.text
    assert "rarevoxel 1.2.3" in " ".join(reader.text)


def test_nothing_is_loaded_from_elsewhere_and_pictures_come_back() -> None:
    html = render_page(a_page())
    reader = Reader(html)
    assert reader.of("link") == reader.of("script") == []
    assert re.search(r"https?://|url\(|@import", html) is None
    (image,) = reader.of("img")
    assert image["alt"] == 'a "plot"'
    head, data = str(image["src"]).split(",", 1)
    assert head == "data:image/png;base64"
    assert base64.b64decode(data) == PNG


def test_it_reads_on_a_phone_and_in_the_dark() -> None:
    html = render_page(a_page())
    assert 'name="viewport" content="width=device-width' in html
    assert "prefers-color-scheme: dark" in html
    assert [div["class"] for div in Reader(html).of("div")] == ["scroll wide", "scroll"]


def test_what_is_empty_is_left_out() -> None:
    html = render_page(Page("t", "l", [Section("s")], made={}))
    reader = Reader(html)
    for tag in ("dl", "table", "figure", "img"):
        assert reader.of(tag) == []
    assert 'role="note"' not in html


def test_a_row_of_the_wrong_length_is_named() -> None:
    with pytest.raises(InputError, match="table row 2 has 1 cells, expected 2"):
        Table(["a", "b"], [["1", "2"], ["1"]])


def test_writing_replaces_the_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "new" / "report.html"
    assert write_page(target, a_page()) == target
    before = target.read_text(encoding="utf-8")
    assert before == render_page(a_page())

    def full(self: Path, other: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_page(target, Page("other", "other", []))
    assert target.read_text(encoding="utf-8") == before
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]


def test_versions_name_what_is_installed() -> None:
    found = versions()
    assert found["numpy"] == np.__version__
    assert set(found) <= {"python", "rarevoxel", "torch", "monai", "monailabel", "numpy"}
    assert "numpy" in Page("t", "l", []).made


def test_wrap_keeps_lines_inside_a_width() -> None:
    lines = wrap("word " * 60, inches=4, points=12).splitlines()
    assert len(lines) > 5
    assert max(map(len, lines)) <= 48
