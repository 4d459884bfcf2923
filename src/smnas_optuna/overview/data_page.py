"""The page on a data set: numbers, what is suspicious, and images with their boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smnas_optuna.data.images import Progress, decoding_bytes
from smnas_optuna.data.parallel import map_in_threads
from smnas_optuna.overview import sections
from smnas_optuna.overview.look import Overview
from smnas_optuna.overview.pictures import Order, around, draw, whole
from smnas_optuna.overview.suspicious import RARE, Example, Finding
from smnas_optuna.page import Html, disclosure, element, isolated, page, section
from smnas_optuna.quote import quote_path
from smnas_optuna.runtime.image_files import quiet_pillow

EDGE, EXAMPLE_EDGE = 416, 216
"""Longest edges of the stored pictures, pixels: of the sample, and of examples."""
LONGEST_NOTE = 900
MOST_RARE = 12
"""Rare classes that are named."""


def data_page(overview: Overview, on_progress: Progress = lambda *_: None) -> Html:
    """Return the page; the images on it are decoded here.

    Args:
        overview: What it says.
        on_progress: Called after each picture; may raise to stop.

    Raises:
        DataError: If an image cannot be decoded any more.
    """
    examples = [example for finding in overview.findings for example in finding.examples]
    orders = [*(_order(overview, each) for each in examples), *_sample_orders(overview)]
    pictures = []
    with quiet_pillow():
        drawn = map_in_threads(
            lambda order: draw(order, overview.class_names),
            orders,
            bytes_each=decoding_bytes([order.image for order in orders]),
        )
        for done, picture in enumerate(drawn, start=1):
            pictures.append(picture)
            on_progress(done, len(orders))
    return page(
        f"Data of {overview.study}",
        _head(overview),
        sections.numbers(overview),
        _to_check(overview, pictures[: len(examples)]),
        sections.classes(overview),
        sections.sizes(overview),
        sections.per_image(overview),
        _sample(pictures[len(examples) :]),
    )


_PARTS = {
    "check": "To check",
    "classes": "Classes",
    "sizes": "Sizes",
    "per-image": "Objects per image",
    "pictures": "Pictures",
}


def _head(overview: Overview) -> Html:
    links = (element("a", title, href=f"#{name}") for name, title in _PARTS.items())
    folder = element("code", isolated(quote_path(overview.root.absolute()), longest=400))
    return element(
        "header",
        element("h1", "Data of ", isolated(overview.study)),
        element("p", folder, class_="soft"),
        element("p", "Read as ", isolated(overview.read_as, longest=LONGEST_NOTE), "."),
        element("nav", *links, aria_label="Parts of this page"),
    )


def _to_check(overview: Overview, pictures: Sequence[Html]) -> Html:
    said = [element("li", isolated(note, longest=LONGEST_NOTE)) for note in overview.notes]
    if overview.rare:
        said.append(element("li", *_rare(overview)))
    parts = [element("ul", *said)] if said else []
    start = 0
    for finding in overview.findings:
        parts.append(_finding(finding, pictures[start : start + len(finding.examples)]))
        start += len(finding.examples)
    nothing = element("p", "Nothing is suspicious.")
    return section(_PARTS["check"], *(parts or [nothing]), name="check")


def _rare(overview: Overview) -> list[str]:
    """Return the line on classes with few training objects."""
    counts = overview.objects["training"].per_class
    named: list[str] = []
    for label in overview.rare[:MOST_RARE]:
        named += [", " if named else "", isolated(overview.class_names[label - 1]), f" ({int(counts[label - 1])})"]
    more = len(overview.rare) - MOST_RARE
    total = f"{len(overview.rare)} of {len(overview.class_names)} classes have fewer than {RARE} training objects: "
    return [total, *named, f" and {more} more" if more > 0 else "", "; they are hardly learnt"]


def _finding(finding: Finding, pictures: Sequence[Html]) -> Html:
    total = f"{finding.count:,}" if finding.of is None else f"{finding.count:,} of {finding.of:,}"
    where = ", ".join(f"{number:,} in {split}" for split, number in finding.by_split.items())
    return disclosure(
        f"{finding.what}: {total}",
        element("p", f"{finding.why} ({where})", class_="note"),
        element("div", *pictures, class_="small pictures"),
    )


def _sample(pictures: Sequence[Html]) -> Html:
    said = element(
        "p",
        "Training and validation images; the same ones each time. Some are drawn at random, others have the most "
        "objects, the smallest and the largest ones, or objects of the rarest classes.",
    )
    return section(_PARTS["pictures"], said, element("div", *pictures, class_="pictures"), name="pictures")


def _order(overview: Overview, example: Example) -> Order:
    """Return the picture of something suspicious: the boxes that are meant and what is around them, or the image."""
    dataset, objects = overview.datasets[example.split], overview.objects[example.split]
    image, which = dataset.images[example.image], np.array(example.objects, np.int64)
    line = f"{example.split}, {image.width}x{image.height}"
    if not len(which):
        return Order(image=image, shown=_not_crowds(image.crowd), area=whole(image), edge=EXAMPLE_EDGE, line=line)
    inside = which - int(np.searchsorted(objects.image, example.image))  # crowd regions are the last boxes of an image
    width, height = objects.edges[which[0]].tolist()
    line = f"{line}, box {width:.3g}x{height:.3g}"
    return Order(image=image, shown=inside, area=around(image, objects.boxes[which]), edge=EXAMPLE_EDGE, line=line)


def _sample_orders(overview: Overview) -> list[Order]:
    orders = []
    for each in overview.chosen:
        image = overview.datasets[each.split].images[each.image]
        line = f"{each.split}, {image.width}x{image.height}, {each.why}"
        orders.append(Order(image=image, shown=_not_crowds(image.crowd), area=whole(image), edge=EDGE, line=line))
    return orders


def _not_crowds(crowd: np.typing.NDArray[np.bool_]) -> np.typing.NDArray[np.int64]:
    return np.flatnonzero(~crowd)
