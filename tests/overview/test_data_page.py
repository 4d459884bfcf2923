from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from smnas_optuna.data import Splits
from smnas_optuna.overview.data_page import data_page
from smnas_optuna.overview.look import look

from .made import Box, dataset
from .test_look import SETTINGS

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></style></svg><b>",
    "\u202eشطرنج\n<!--",
)
FILES = ('<img src=x onerror="alert(1)">.png', "' onload=alert(1) '.png", "]]>&lt;.png", "שחמט (1).png")
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "main", "header", "nav", "section", "h1", "h2", "h3", "p", "a"),
    *("div", "span", "small", "bdi", "code", "ul", "li", "dl", "dt", "dd", "table", "caption", "thead", "tbody", "tr"),
    *("th", "td", "i", "details", "summary", "figure", "figcaption", "svg", "image", "path"),
}


class _Parsed(HTMLParser):
    """The tags and attributes of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.comments: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "each element ends where it should"

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


@pytest.fixture
def hostile_page(tmp_path: Path) -> str:
    boxes: list[list[Box]] = [
        [(0, 0, 60, 4), (5, 5, 30, 30), (5, 5, 30, 29.5)],
        [],
        [(1, 1, 3, 3), (20, 20, 40, 40)],
        [(0, 0, 64, 48)],
    ]
    labels = [[1, 2, 3], [], [4, 1], [2]]
    train = dataset(tmp_path, boxes, labels=labels, names=HOSTILE, files=FILES, notes=[f"a note on {HOSTILE[0]}"])
    val = dataset(tmp_path, boxes, labels=labels, names=HOSTILE)
    return data_page(look("<i>mine", tmp_path, Splits(train=train, val=val, content_hash=""), SETTINGS))


def test_hostile_names_are_text_and_nothing_else(hostile_page: str) -> None:
    parsed = _Parsed(hostile_page)

    assert parsed.tags <= TAGS
    assert parsed.comments == []
    assert parsed.open == []
    assert [name for name, _ in parsed.attributes if name.startswith("on") or name == "src"] == []
    links = [value for name, value in parsed.attributes if name == "href"]
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in links)
    for name in HOSTILE[:3]:
        assert name in parsed.text
    assert "\N{REPLACEMENT CHARACTER}شطرنج\N{REPLACEMENT CHARACTER}<!--" in parsed.text, "controls are replaced"
    assert "a note on <script>alert(1)</script>" in parsed.text
    for file in FILES:
        assert file in parsed.text


def test_each_name_is_isolated(hostile_page: str) -> None:
    for name in (FILES[3], "\N{REPLACEMENT CHARACTER}شطرنج\N{REPLACEMENT CHARACTER}&lt;!--"):
        shown = hostile_page.count(f">{name}<")
        assert shown > 0
        assert hostile_page.count(f"<bdi>{name}</bdi>") == shown


def test_links_lead_to_parts_and_ids_are_unique(hostile_page: str) -> None:
    attributes = _Parsed(hostile_page).attributes
    ids = [value for name, value in attributes if name == "id"]

    assert len(set(ids)) == len(ids)
    assert {value[1:] for name, value in attributes if name == "href" and value[0] == "#"} <= set(ids)


def test_the_page_says_what_is_suspicious(hostile_page: str) -> None:
    text = _Parsed(hostile_page).text

    for line in (
        "Boxes at least 10 times as long as wide: 2 of 12",
        "Boxes that cover 95 % of their image or more: 2 of 12",
        "Boxes of up to 4x4 pixels of their image: 2 of 12",
        "Pairs of boxes of different classes that are nearly the same: 2",
        "Images without objects: 2 of 8",
        "4 of 4 classes have fewer than 10 training objects: ",
    ):
        assert line in text


def test_each_picture_has_a_text(hostile_page: str) -> None:
    attributes = _Parsed(hostile_page).attributes
    pictures = [value for name, value in attributes if name == "href" and value.startswith("data:")]
    texts = [value for name, value in attributes if name == "aria-label" and ".png: " in value]

    assert len(texts) == len(pictures) == 8 + 10, "all images, and an example for each case"


def test_pictures_are_reported_as_they_are_done(tmp_path: Path) -> None:
    train = dataset(tmp_path, [[(0, 0, 30, 30)]])
    overview = look("mine", tmp_path, Splits(train=train, val=train, content_hash=""), SETTINGS)
    steps: list[tuple[int, int]] = []
    data_page(overview, lambda done, total: steps.append((done, total)))

    assert steps == [(1, 2), (2, 2)]


def test_usual_data_have_nothing_to_check(tmp_path: Path) -> None:
    boxes = [[(0, 0, 30, 30), (20, 10, 60, 45), (10, 5, 40, 40)]] * 10
    train = dataset(tmp_path, boxes, labels=[[1, 2, 2]] * 10)
    overview = look("mine", tmp_path, Splits(train=train, val=train, content_hash=""), SETTINGS)
    text = _Parsed(data_page(overview)).text

    assert overview.findings == []
    assert "the 10 validation images have 30 objects" in text
    assert "fewer than 10 training objects" not in text
