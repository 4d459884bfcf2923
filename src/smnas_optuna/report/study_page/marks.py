"""Marks of points in a chart: each kind has a shape of its own, so that colour is not needed to tell them apart."""

from __future__ import annotations

from smnas_optuna.page import Html, element

_SHAPES = {
    "circle": "M{r} 0A{r} {r} 0 1 1 -{r} 0A{r} {r} 0 1 1 {r} 0Z",
    "triangle": "M0 -{u}L{u} {r}L-{u} {r}Z",
    "square": "M-{r} -{r}H{r}V{r}H-{r}Z",
    "diamond": "M0 -{u}L{u} 0L0 {u}L-{u} 0Z",
    "cross": "M-{r} -{r}L{r} {r}M-{r} {r}L{r} -{r}",
}
_UPRIGHT = 1.25
"""Reach of a shape that stands on a corner, as a multiple of that of a square, so that they look equally large."""
RADIUS, SMALL = 7.0, 4.5


def mark(kind: str, stage: str, *, baseline: bool = False, scale: float = 1.0) -> Html:
    """Return the mark of a point around the origin.

    Stage 1 is a circle and stage 2 a triangle, filled on the front and small and hollow off it. A baseline has a
    diamond around it, and what is beyond a limit is a cross.
    """
    shape = "cross" if kind == "beyond" else {"1": "circle", "2": "triangle"}.get(stage, "circle")
    if kind == "baseline":
        return outline("diamond", scale * RADIUS, "mark baseline")
    size = scale * (RADIUS if kind == "front" else SMALL)
    inner = outline(shape, size, f"mark {kind} stage{stage}")
    if not baseline:
        return inner
    return element("g", inner, outline("diamond", 1.5 * scale * RADIUS, "mark baseline"))


def outline(shape: str, radius: float, class_: str) -> Html:
    """Return a shape around the origin."""
    path = _SHAPES[shape].format(r=f"{radius:.3g}", u=f"{_UPRIGHT * radius:.3g}")
    return element("path", d=path, class_=class_)


def legend_mark(kind: str, stage: str) -> Html:
    """Return a mark in a line of text."""
    return element("svg", mark(kind, stage), viewBox="-12 -12 24 24", class_="legend-mark", aria_hidden="true")
