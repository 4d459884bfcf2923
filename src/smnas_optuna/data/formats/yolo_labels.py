"""A label file of YOLO -> numbers, and its boxes in pixels."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from smnas_optuna.data.formats.text_file import finite_number, read_data_text
from smnas_optuna.quote import quote

BOX_COLUMNS = 5
FEWEST_CORNERS = 3
OVER = 0.01
"""Share of the image by which a number may leave 0..1: tools round, and clip late."""
MOST_DECIMALS = 17
_SURE = 0.1  # pixels: numbers that tell so much may be meant as whole pixels

LINE_FIXES = {
    "columns": "write each object as: class, centre x, centre y, width, height; or as: class, x1, y1, x2, y2, x3, y3, "
    "... of its outline",
    "confidence": "these look like detections with a confidence: leave out the sixth column",
    "number": "write numbers, with blanks between them",
    "class": "the first column is the number of a class, from 0; name every class",
    "range": "write centre, width and height as parts of the width and height of the image, from 0 to 1",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """One line of a label file.

    Attributes:
        line: Its number, from 1.
        class_number: From 0.
        box: (x1, y1, x2, y2) as parts of the width and height of the image.
        decimals: Decimals of the number that has the most.
        outline: Whether the box is that of an outline.
    """

    line: int
    class_number: int
    box: tuple[float, float, float, float]
    decimals: int
    outline: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """A line that is no object.

    Attributes:
        line: Its number, from 1.
        what: Words on the mistake.
        kind: Key of ``LINE_FIXES``.
    """

    line: int
    what: str
    kind: str


def read_labels(path: Path, classes: Collection[int], num_keypoint_columns: int = 0) -> list[Label | Mistake]:
    """Return the objects of a label file, and its mistakes, in the order of its lines.

    A line is ``class cx cy width height``, the centre and the size as parts of the image's width and height; or
    ``class x1 y1 x2 y2 x3 y3 ...``, the corners of an outline, of which the box is taken.

    Args:
        path: The file.
        classes: Numbers of the classes.
        num_keypoint_columns: Columns after each box that are not looked at.

    Raises:
        DataError: If the file cannot be read.
    """
    content = read_data_text(path).replace("\r\n", "\n").replace("\r", "\n")
    lines = enumerate(content.split("\n"), start=1)
    return [_read_line(number, text, classes, num_keypoint_columns) for number, line in lines if (text := line.split())]


def _read_line(line: int, texts: list[str], classes: Collection[int], num_keypoint_columns: int) -> Label | Mistake:
    def mistake(kind: str, what: str) -> Mistake:
        return Mistake(line=line, what=what, kind=kind)

    if len(texts) == BOX_COLUMNS + num_keypoint_columns:
        texts = texts[:BOX_COLUMNS]
    elif len(texts) == BOX_COLUMNS + 1:
        return mistake("confidence", f"has {len(texts)} columns, not {BOX_COLUMNS}")
    elif len(texts) < 1 + 2 * FEWEST_CORNERS or len(texts) % 2 == 0:
        return mistake("columns", f"has {len(texts)} columns, not {BOX_COLUMNS + num_keypoint_columns}")
    numbers = [finite_number(text) for text in texts]
    wrong = next((text for text, number in zip(texts, numbers, strict=True) if number is None), None)
    if wrong is not None:
        return mistake("number", f"has {quote(wrong)}, which is no number")
    first, *rest = [number for number in numbers if number is not None]
    if not first.is_integer() or int(first) not in classes:
        return mistake("class", f"is of class {quote(texts[0])}, and the classes are {_range(classes)}")
    outside = next((place for place, number in enumerate(rest) if not -OVER <= number <= 1 + OVER), None)
    if outside is not None:
        return mistake("range", f"has {quote(texts[1 + outside])}, which is outside 0..1")
    if len(rest) == BOX_COLUMNS - 1:
        x, y, width, height = rest
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    else:
        box = (min(rest[::2]), min(rest[1::2]), max(rest[::2]), max(rest[1::2]))
    decimals, outline = max(map(_decimals, texts[1:])), len(rest) != BOX_COLUMNS - 1
    return Label(line=line, class_number=int(first), box=box, decimals=decimals, outline=outline)


def _decimals(text: str) -> int:
    if "e" in text or "E" in text:
        exponent = Decimal(text).as_tuple().exponent
        return min(max(0, -exponent), MOST_DECIMALS) if isinstance(exponent, int) else MOST_DECIMALS
    return min(len(text.partition(".")[2]), MOST_DECIMALS)


def _range(classes: Collection[int]) -> str:
    return f"{min(classes)}..{max(classes)}"


def box_in_pixels(label: Label, size: tuple[int, int], decimals: int) -> tuple[float, float, float, float]:
    """Return the box (x, y, width, height) in pixels: the roundest one that the written digits allow.

    Six decimals leave a box of an image of 640 pixels uncertain by 5e-4 pixels. Boxes are drawn at whole pixels, or
    kept in hundredths: if all four numbers are such numbers within that uncertainty, they are taken for these. So a
    data set that was written as YOLO is read with exactly the boxes that it had.

    Args:
        label: The object.
        size: (height, width) of its image, pixels.
        decimals: Decimals that the data set is written with; zeros at the end may have been left out.
    """
    height, width = size
    x1, y1, x2, y2 = label.box
    box = (x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height)
    # each number is known to half a unit of its last decimal, and a corner is the centre and half of the size
    slack = [0.75 * 10.0**-decimals * extent + 1e-9 * extent for extent in (width, height) * 2]
    for digits in (0, 2):
        rounded = [round(number, digits) + 0.0 for number in box]  # + 0.0 makes -0.0 a 0
        close = all(abs(a - b) <= each for a, b, each in zip(rounded, box, slack, strict=True))
        if close and (digits > 0 or max(slack) <= _SURE):
            return rounded[0], rounded[1], rounded[2], rounded[3]
    return box
