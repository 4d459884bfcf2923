"""What all charts on the page have: a size, two axes with their numbers, and text."""

from __future__ import annotations

from dataclasses import dataclass

from smnas_optuna.page import Html, element
from smnas_optuna.report.study_page.axes import Axis, tick_text


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """Size of a chart, pixels, and the room around its axes."""

    name: str
    width: int
    height: int
    left: int = 62
    right: int = 22
    top: int = 20
    bottom: int = 56
    ticks: int = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """The axes of a chart in its size."""

    size: Size
    x: Axis
    y: Axis


def grid(frame: Frame, x_title: str, y_title: str) -> list[Html]:
    """Return lines and numbers of both axes, and their titles."""
    size, x, y = frame.size, frame.x, frame.y
    right, bottom = size.width - size.right, size.height - size.bottom
    parts = []
    for tick in y.ticks(6):
        at = f"{y.place(tick):.1f}"
        parts.append(element("path", d=f"M{size.left} {at}H{right}", class_="grid"))
        parts.append(text_at(tick_text(tick), size.left - 8, float(at) + 5, "end"))
    for tick in x.ticks(size.ticks):
        at = f"{x.place(tick):.1f}"
        parts.append(element("path", d=f"M{at} {size.top}V{bottom}", class_="grid"))
        parts.append(text_at(tick_text(tick), float(at), bottom + 20, "middle"))
    parts.append(element("path", d=f"M{size.left} {size.top}V{bottom}H{right}", class_="axis"))
    suffix = ", log scale" if x.log else ""
    parts.append(text_at(f"{x_title}{suffix}", (size.left + right) / 2, bottom + 44, "middle", "title"))
    middle = (size.top + bottom) / 2
    turned = element("text", y_title, x=0, y=0, transform=f"translate(13 {middle:.1f}) rotate(-90)", class_="title mid")
    return [*parts, turned]


def text_at(text: str, x: float, y: float, anchor: str, class_: str = "tick") -> Html:
    """Return a text; ``anchor`` says which of its ends lies at ``x``."""
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=class_)
