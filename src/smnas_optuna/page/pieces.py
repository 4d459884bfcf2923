"""Pieces of a page: sections, tables, bars, tiles of numbers."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from smnas_optuna.page.html import Html, element


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A row of a bar chart.

    Attributes:
        label: What is counted.
        value: Its length, relative to where the bars of its chart end; at least 0.
        text: The value as text.
        tag: A short mark beside the label; none if empty.
        start: Where it begins, in the unit of ``value``; a bar that begins where another one ends goes on from it.
    """

    label: str
    value: float
    text: str
    tag: str = ""
    start: float = 0.0


def section(title: str, *content: str, name: str) -> Html:
    """Return a section with a heading; ``name`` is its anchor."""
    heading = element("h2", title, id=f"{name}-title")
    return element("section", heading, *content, id=name, aria_labelledby=f"{name}-title")


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    """Return a table whose first column names the rows; the others are numbers, and scroll where they do not fit."""
    titles = element("tr", *(element("th", title, scope="col") for title in head))
    body = (
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])) for row in rows
    )
    whole = element(
        "table", element("caption", caption), element("thead", titles), element("tbody", *body), class_="numbers"
    )
    return element("div", whole, class_="scroll", tabindex=0, role="region", aria_label=caption)


def bars(caption: str, rows: Sequence[Bar], *, heads: tuple[str, str]) -> Html:
    """Return a chart of horizontal bars. It is a table, so that it can be read without seeing it.

    Args:
        caption: What is shown.
        rows: The bars.
        heads: Titles of labels and values, for readers that do not see the page.
    """
    end = max((row.start + row.value for row in rows), default=0.0) or 1.0
    titles = element(
        "tr",
        *(element("th", title, scope="col") for title in heads),
        element("td", aria_hidden="true"),
    )
    body = (
        element(
            "tr",
            element("th", row.label, *((element("i", row.tag),) if row.tag else ()), scope="row"),
            element("td", row.text),
            element("td", bar(row.value / end, row.start / end), aria_hidden="true"),
        )
        for row in rows
    )
    return element(
        "table",
        element("caption", caption),
        element("thead", titles, class_="unseen"),
        element("tbody", *body),
        class_="bars",
    )


def bar(share: float, start: float = 0.0) -> Html:
    """Return a bar of ``share``, in [0, 1], of its place, behind a gap of the share ``start``."""
    gap = f"margin-left:{100 * start:.4g}%;" if start else ""
    return element("span", class_="bar", style=f"{gap}width:{100 * share:.4g}%")


def tiles(facts: Sequence[tuple[str, str]]) -> Html:
    """Return (name, value) pairs as tiles in a row."""
    pairs = (element("div", element("dt", name), element("dd", value)) for name, value in facts)
    return element("dl", *pairs, class_="tiles")


def disclosure(summary: str, *content: str, opened: bool = True) -> Html:
    """Return content under its summary, which closes it and opens it again."""
    return element("details", element("summary", summary), *content, **({"open": ""} if opened else {}))


def data_uri(content: bytes, kind: str) -> str:
    """Return a URI that holds a file of the media type ``kind``."""
    return f"data:{kind};base64,{b64encode(content).decode()}"
