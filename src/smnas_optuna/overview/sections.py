"""The sections of the page that have numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from smnas_optuna.overview.look import Overview
from smnas_optuna.overview.objects import Objects
from smnas_optuna.overview.sizes import FIT, SMALL, Anchor, Bin, SizesAt
from smnas_optuna.overview.statistics import (
    Share,
    low_middle_high,
    shares_of_coco_sizes,
    shares_of_image_sizes,
    shares_of_objects_per_image,
    shares_of_shapes,
)
from smnas_optuna.page import Bar, Html, bars, element, isolated, joined, section, table, tiles
from smnas_optuna.page.pieces import bar

MOST_CLASSES = 1000
"""Classes in the table; of more, those with fewest training objects are left out."""
MANY_SMALL = 0.2
"""Share of objects below :data:`~smnas_optuna.overview.sizes.SMALL` from which on an input size is marked."""


def numbers(overview: Overview) -> Html:
    """Return the numbers of the whole data set, and of each split."""
    every = overview.all_objects
    shown = tiles(
        [
            ("images", f"{len(every.sizes):,}"),
            ("objects", f"{len(every.boxes):,}"),
            ("classes", f"{every.num_classes:,}"),
            ("objects per image, median", f"{low_middle_high(every.per_image)[1]:g}"),
            ("edge of an object, median", f"{low_middle_high(every.lengths)[1]:.0f} px"),
        ]
    )
    head = ["split", "images", "objects", "per image", "empty"]
    rows = [[name, *_of_split(objects)] for name, objects in overview.objects.items()]
    if every.num_crowds:
        head.append("crowds")
        for row, objects in zip(rows, overview.objects.values(), strict=True):
            row.append(f"{objects.num_crowds:,}")
    caption = (
        "The splits. Per image: median and range of the objects. Empty: images without objects. "
        "Crowds are regions that count as no objects."
    )
    return joined((shown, table(caption if every.num_crowds else caption.rpartition(" Crowds")[0], head, rows)))


def classes(overview: Overview) -> Html:
    """Return the objects and images of each class in each split."""
    train, names = overview.objects["training"], overview.class_names
    ids = overview.datasets["training"].category_ids
    columns = [(split, objects.per_class, objects.images_per_class) for split, objects in overview.objects.items()]
    per_class = train.per_class.tolist()
    order = sorted(range(len(names)), key=lambda place: (-per_class[place], place))[:MOST_CLASSES]
    most = max(per_class, default=0) or 1
    rows = []
    for place in order:
        name = element("div", isolated(names[place]), element("small", f" id {ids[place]}", class_="soft"))
        cells = [
            _of_class(int(objects[place]), int(images[place]), int(objects.sum())) for _, objects, images in columns
        ]
        rows.append((joined((name, bar(per_class[place] / most))), *cells))
    caption = "Objects of each class, their share of the split, and the images that have them"
    left_out = len(names) - len(order)
    more = (element("p", f"{left_out:,} classes with fewer training objects are not shown.", class_="note"),)
    content = table(caption, ("class", *overview.objects), rows), *(more if left_out else ())
    return section("Classes", *content, name="classes")


def sizes(overview: Overview) -> Html:
    """Return the sizes of images and objects, in pixels of the images and of the inputs."""
    every, space = overview.all_objects, overview.settings.space.structural
    low, middle, high = low_middle_high(every.lengths)
    levels = ", ".join(f"p{anchor.level} {anchor.edge:g} px" for anchor in overview.anchors)
    in_image = (
        _card(_chart("Sizes of images, width x height", shares_of_image_sizes(every), ("size", "share of images"))),
        _card(
            _chart("Objects by COCO's limits, in pixels of the image", shares_of_coco_sizes(every), _OBJECTS),
            element("p", f"Edges from {low:.0f} to {high:,.0f} px, median {middle:.0f} px.", class_="note"),
        ),
        _card(_chart("Shapes of objects, width : height", shares_of_shapes(every), _OBJECTS)),
    )
    retina = " RetinaNet has three sizes on each level, from half of that size on." if "retina" in space.heads else ""
    return section(
        "Sizes",
        element("p", "The edge of an object is the square root of the area of its box."),
        element("div", *in_image, class_="cards"),
        element("h3", "At the input sizes of the study"),
        element(
            "p",
            "What a detector sees of the objects of all splits. Beside each size stands the level whose anchor is "
            f"nearest to it. The RPN's anchors are {levels}, with ratios of 1:2, 1:1 and 2:1 ([detector] anchor_scale "
            f"is {overview.settings.detector.anchor_scale:g}).{retina}",
        ),
        element("div", *(_at(each, overview.anchors) for each in overview.sizes), class_="cards"),
        name="sizes",
    )


def per_image(overview: Overview) -> Html:
    """Return the number of objects per image, beside what a detector can find."""
    detector, space = overview.settings.detector, overview.settings.space.structural
    limits = [("max_detections", detector.max_detections), ("test_proposals", detector.test_proposals)]
    if "ga" in space.rpns:
        limits.append(("guided_proposals", detector.guided_proposals))
    counts = overview.all_objects.per_image
    rows = [(name, f"{limit:,}", f"{int((counts > limit).sum()):,}") for name, limit in limits]
    shares = shares_of_objects_per_image(overview.all_objects)
    content = (
        _card(_chart("Objects per image, all splits", shares, ("objects", "share of images"))),
        table("What a detector keeps of an image ([detector])", ("limit", "value", "images with more"), rows),
    )
    return section("Objects per image", element("div", *content, class_="cards"), name="per-image")


_OBJECTS = ("size", "share of objects")


def percent(share: float) -> str:
    """Return a share, in [0, 1], as text; only nothing is 0 %, and only all is 100 %."""
    if 0 < share < 0.001:
        return "<0.1 %"
    if 0 < share < 0.1:
        return f"{100 * share:.1f} %"
    return "99 %" if 0.99 < share < 1 else f"{100 * share:.0f} %"


def _of_split(objects: Objects) -> Sequence[str]:
    low, middle, high = low_middle_high(objects.per_image)
    return (
        f"{len(objects.sizes):,}",
        f"{len(objects.boxes):,}",
        joined((f"{middle:g}", element("small", f"{low:,.0f} to {high:,.0f}"))),
        f"{int((objects.per_image == 0).sum()):,}",
    )


def _of_class(objects: int, images: int, of: int) -> Html:
    if not objects:
        return element("span", "none", class_="warned")
    return joined((f"{objects:,}", element("small", f"{percent(objects / of)} · {images:,} image{'s' * (images > 1)}")))


def _card(*content: Html) -> Html:
    return element("div", *content, class_="card")


def _chart(caption: str, shares: Sequence[Share], heads: tuple[str, str]) -> Html:
    return bars(
        caption, [Bar(label=each.what, value=each.share, text=percent(each.share)) for each in shares], heads=heads
    )


def _at(sizes: SizesAt, anchors: Sequence[Anchor]) -> Html:
    facts = (
        f"Images are resized by {sizes.scale:.2g}. Objects have a median edge of {sizes.median:.0f} px; "
        f"{percent(sizes.small)} are below {SMALL:g} px, and {percent(sizes.unfit)} have an IoU below {FIT:g} with "
        "every anchor."
    )
    rows = [
        Bar(label=_range(each), tag=_levels(each, anchors), value=each.share, text=percent(each.share))
        for each in sizes.bins
    ]
    look = "card warned" if sizes.small >= MANY_SMALL else "card"
    chart = bars("Edges of objects in pixels of the input", rows, heads=("pixels and level", "share of objects"))
    return element("div", element("h3", sizes.name), element("p", facts, class_="note"), chart, class_=look)


def _levels(each: Bin, anchors: Sequence[Anchor]) -> str:
    level = f"p{each.anchor.level}"
    if math.isinf(each.high) and each.anchor.level < anchors[-1].level:
        return f"{level} and up"
    return f"up to {level}" if each.low == 0 and each.anchor.level > anchors[0].level else level


def _range(each: Bin) -> str:
    if math.isinf(each.high):
        return f"{_pixels(each.low)} and more"
    return f"up to {_pixels(each.high)}" if each.low == 0 else f"{_pixels(each.low)} - {_pixels(each.high)}"


def _pixels(edge: float) -> str:
    return f"{edge:.2g}" if edge < 10 else f"{edge:,.0f}"
