"""An XML file of Pascal VOC -> its image and objects. No entity is expanded: a file with a DOCTYPE is refused."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from smnas_optuna.data.coco_box import upright_size
from smnas_optuna.data.formats.text_file import LONGEST, finite_number, read_data_text
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote, quote_error, quote_path

CORNERS = ("xmin", "ymin", "xmax", "ymax")
OBJECT_FIXES = {
    "name": "write the class of each object as <name>",
    "corner": "write the corners of each object as numbers: <bndbox> with <xmin>, <ymin>, <xmax> and <ymax>",
    "difficult": "write 0 or 1 as <difficult>",
}
_DECLARED = re.compile(
    rb"<\?xml[^>]{1,99}encoding=[\"'](iso-8859-[0-9]{1,2}|latin-?1|windows-125[0-9]|cp[0-9]{3,4}|gb2312|gbk|gb18030|big5|"
    rb"shift[-_]jis|euc-jp|euc-kr|koi8-r)[\"']",
    re.IGNORECASE,
)
_COORDINATE = re.compile(r"[xy][0-9]*")
_FEWEST_CORNERS = 3
_HEAD = 200  # bytes, in which a declaration ends
_XML_FIX = "write the file as Pascal VOC has it: an <annotation> with an <object> for each object"


@dataclass(frozen=True, kw_only=True, slots=True)
class VocObject:
    """An object.

    Attributes:
        number: Its place in the file, from 1.
        name: Its class.
        corners: (xmin, ymin, xmax, ymax) as written; None if there is no box.
        difficult: Whether it is marked so.
        outlined: Whether the corners are those of an outline, as there is no box.
        turned: Whether the corners are those around a box that is turned.
    """

    number: int
    name: str
    corners: tuple[float, float, float, float] | None
    difficult: bool
    outlined: bool = False
    turned: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """An object that cannot be read.

    Attributes:
        number: Its place in the file, from 1.
        what: Words on the mistake.
        kind: Key of ``OBJECT_FIXES``.
    """

    number: int
    what: str
    kind: str


@dataclass(frozen=True, kw_only=True, slots=True)
class VocFile:
    """An XML file.

    Attributes:
        path: The file.
        file_name: Name of the image, without folders; empty if there is none.
        size: (height, width) of the image as stated, pixels; None if it is not stated.
        objects: In the order of the file.
    """

    path: Path
    file_name: str
    size: tuple[int, int] | None
    objects: Sequence[VocObject | Mistake]


def read_voc_file(path: Path) -> VocFile:
    """Return the content of an XML file.

    Raises:
        DataError: If it cannot be read, is not XML, has a DOCTYPE, or is something else than VOC.
    """
    text = _read_xml_text(path)
    if "<!DOCTYPE" in text:
        raise DataError(f"{quote_path(path)}: has a DOCTYPE, which VOC does not have", fix="remove the DOCTYPE")
    try:
        top = ElementTree.fromstring(text.lstrip())
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise DataError(f"{quote_path(path)}: this is not XML: {quote_error(error)}", fix=_XML_FIX) from error
    if top.tag != "annotation":
        raise DataError(f"{quote_path(path)}: this is not VOC: it holds a {quote(top.tag)}", fix=_XML_FIX)
    objects = [_read_object(element, number) for number, element in enumerate(top.findall("object"), start=1)]
    name = _text(top, "filename").replace("\\", "/").rpartition("/")[2]
    return VocFile(path=path, file_name=name, size=_size(top), objects=objects)


def _read_xml_text(path: Path) -> str:
    """Return the text in ``path``: in the encoding of one system if its declaration names one, otherwise in UTF-8."""
    with suppress(OSError, LookupError, UnicodeDecodeError):  # what is wrong with the file is said below
        if path.is_file() and path.stat().st_size <= LONGEST:
            with path.open("rb") as stream:
                head = stream.read(_HEAD)
                if (declared := _DECLARED.match(head)) is not None:
                    return (head + stream.read()).decode(declared[1].decode("ascii"))
    return read_data_text(path)


def _text(element: ElementTree.Element, name: str) -> str:
    return (element.findtext(name) or "").strip()


def _size(top: ElementTree.Element) -> tuple[int, int] | None:
    """Return (height, width); None if it is missing or 0, as some tools write it."""
    height, width = (finite_number(_text(top, f"size/{name}")) for name in ("height", "width"))
    if height is None or width is None or not height.is_integer() or not width.is_integer():
        return None
    return (int(height), int(width)) if min(height, width) > 0 else None


def _read_object(element: ElementTree.Element, number: int) -> VocObject | Mistake:
    name = unicodedata.normalize("NFC", _text(element, "name"))
    difficult, box = _text(element, "difficult").lower(), element.find("bndbox")
    if not name:
        return Mistake(number=number, what="has no name", kind="name")
    if difficult not in ("", "0", "1", "false", "true", "unspecified"):
        return Mistake(number=number, what=f"has {quote(difficult)} as difficult", kind="difficult")
    corners = None
    if box is not None:
        texts = [_text(box, corner) for corner in CORNERS]
        numbers = [each for text in texts if (each := finite_number(text)) is not None]
        if len(numbers) < len(CORNERS):
            place = next(place for place, text in enumerate(texts) if finite_number(text) is None)
            what = f"has {quote(texts[place])}, which is no number, as {CORNERS[place]}"
            return Mistake(number=number, what=what if texts[place] else f"has no {CORNERS[place]}", kind="corner")
        corners = (numbers[0], numbers[1], numbers[2], numbers[3])
    whole = partial(VocObject, number=number, name=name, difficult=difficult in ("1", "true"))
    if corners is None:
        corners = _corners_of_outline(element)
        return whole(corners=corners, outlined=corners is not None)
    degrees = _degrees(element)
    return whole(corners=corners if degrees == 0 else _around_turned(corners, degrees), turned=degrees != 0)


def _degrees(element: ElementTree.Element) -> float:
    """Return by how much a box is turned, 0 to 180: CVAT writes it as an attribute beside the box before the turn."""
    for attribute in element.iterfind("attributes/attribute"):
        if _text(attribute, "name") == "rotation":
            return (finite_number(_text(attribute, "value")) or 0.0) % 180
    return 0.0


def _around_turned(corners: tuple[float, float, float, float], degrees: float) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = corners
    wide, tall = upright_size(x2 - x1, y2 - y1, math.radians(degrees))
    return (x1 + x2 - wide) / 2, (y1 + y2 - tall) / 2, (x1 + x2 + wide) / 2, (y1 + y2 + tall) / 2


def _corners_of_outline(element: ElementTree.Element) -> tuple[float, float, float, float] | None:
    """Return the corners around a polygon or a turned box; None if there is neither, or it has other than numbers.

    Polygons are ``<x1>``, ``<y1>``, ``<x2>``, ... (Roboflow) or ``<pt>`` with ``<x>`` and ``<y>`` (LabelMe); a turned
    box is ``<robndbox>`` with centre, size and angle in radians (roLabelImg).
    """
    if (box := element.find("robndbox")) is not None:
        five = [finite_number(_text(box, name)) for name in ("cx", "cy", "w", "h", "angle")]
        if any(number is None for number in five):
            return None
        x, y, width, height, angle = (number for number in five if number is not None)
        wide, tall = upright_size(width, height, angle)
        return x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2
    if (polygon := element.find("polygon")) is None:
        return None
    leaves = [leaf for leaf in polygon.iter() if _COORDINATE.fullmatch(leaf.tag)]
    numbers = [(leaf.tag[0], finite_number((leaf.text or "").strip())) for leaf in leaves]
    xs, ys = ([number for tag, number in numbers if tag == axis and number is not None] for axis in "xy")
    if len(xs) != len(ys) or len(xs) + len(ys) < len(leaves) or len(xs) < _FEWEST_CORNERS:
        return None
    return min(xs), min(ys), max(xs), max(ys)
