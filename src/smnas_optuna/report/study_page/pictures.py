"""The same validation images for all detectors, with truth and detections drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.data import ImageRecord
from smnas_optuna.evaluation.matching import IOU, overlaps
from smnas_optuna.page import Html, data_uri, element, isolated
from smnas_optuna.session.samples import Detections, Found, jpeg_of, strongest

MOST_BOXES = 150
"""Boxes of a picture that are drawn: more hide the image."""


def stored_images(images: Sequence[ImageRecord]) -> Html:
    """Return the images once, hidden, for all pictures that show them.

    Raises:
        DataError: If one cannot be decoded any more.
    """
    stored = [_stored(image, place) for place, image in enumerate(images)]
    return element("svg", element("defs", *stored), width=0, height=0, class_="unseen", aria_hidden="true")


def _stored(image: ImageRecord, place: int) -> Html:
    return element(
        "image",
        id=f"image-{place}",
        href=data_uri(jpeg_of(image), "image/jpeg"),
        width=image.width,
        height=image.height,
        preserveAspectRatio="none",
    )


def judged(image: ImageRecord, found: Found) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which detections are right and which are false, bool [D] each, and which objects are found, bool [N].

    The highest score takes the box of its class that it overlaps most, from an IoU of 0.5 on, and no other may. What is
    left counts as false, but for those of which half lies in a crowd region of their class: these do not count.
    """
    right, taken = np.zeros(len(found.boxes), np.bool_), np.zeros(len(image.boxes), np.bool_)
    boxes, truth = _with_sizes(found.boxes), _with_sizes(image.boxes.astype(np.float64))
    shares = overlaps(boxes, truth)
    for place in np.argsort(-found.scores, kind="stable").tolist():
        free = ~taken & ~image.crowd & (image.labels == found.labels[place])
        candidates = np.where(free, shares[place], 0.0)
        if len(candidates) and candidates.max() >= IOU:
            taken[candidates.argmax()] = right[place] = True
    crowds = image.labels[None, :] == found.labels[:, None]
    crowds &= image.crowd & (overlaps(boxes, truth, crowd=True) >= IOU)
    return right, ~right & ~crowds.any(axis=1), taken


def _with_sizes(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return boxes (x1, y1, x2, y2) as (x, y, width, height)."""
    return np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1)


def pictures(images: Sequence[ImageRecord], found: Detections, names: Sequence[str]) -> Html:
    """Return the images with truth and detections.

    Args:
        images: As in :func:`stored_images`.
        found: Detections of one detector in them.
        names: Names of the classes; any text.
    """
    shown = strongest(images, found)
    nothing = Found(boxes=np.zeros((0, 4)), labels=np.zeros(0, np.int64), scores=np.zeros(0))
    figures = (_picture(image, place, shown.get(image.image_id, nothing), names) for place, image in enumerate(images))
    return element("div", *figures, class_="small pictures")


def _picture(image: ImageRecord, place: int, found: Found, names: Sequence[str]) -> Html:
    right, false, taken = judged(image, found)
    objects = int((~image.crowd).sum())
    said = f"{int(taken.sum())} of {objects} found, {int(false.sum())} false"
    size = max(image.width, image.height) / 26
    drawn = [_box(box, "truth-below") + _box(box, "truth") for box in image.boxes[~image.crowd][:MOST_BOXES]]
    counts = np.flatnonzero(right | false)[:MOST_BOXES]
    for box, label, score, is_right in zip(
        found.boxes[counts], found.labels[counts], found.scores[counts], right[counts], strict=True
    ):
        look = "right" if is_right else "false"
        name = names[int(label) - 1] if 0 < label <= len(names) else str(label)
        text = element("text", f"{name[:24]} {score:.2f}", x=f"{box[0]:.1f}", y=f"{max(box[1] - 0.2 * size, size):.1f}")
        drawn.append(
            element("g", element("title", f"{name} {score:.2f}, {look}"), _box(box, "below"), _box(box, look), text)
        )
    return element(
        "figure",
        element(
            "svg",
            element("use", href=f"#image-{place}"),
            *map(Html, drawn),
            viewBox=f"0 0 {image.width} {image.height}",
            font_size=f"{size:.3g}",
            role="img",
            aria_label=f"{image.path.name}: {said}",
        ),
        element("figcaption", element("div", isolated(image.path.name)), said),
    )


def _box(box: NDArray[np.floating], class_: str) -> Html:
    x1, y1, x2, y2 = np.round(box, 1).tolist()
    return element("path", d=f"M{x1:.6g} {y1:.6g}H{x2:.6g}V{y2:.6g}H{x1:.6g}z", class_=f"box {class_}")
