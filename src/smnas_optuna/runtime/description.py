"""Description of an exported detector, which its file carries as JSON: what it finds, and what its input must be."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

from smnas_optuna.errors import FileError
from smnas_optuna.quote import printable_name, quote, quote_error
from smnas_optuna.runtime.canvas import CANVAS_MULTIPLE, MEAN_COLOUR

FORMAT = 1
"""Version of the file's inputs, outputs and description; increase it when one of them changes its meaning."""
METADATA_KEY = "smnas"
"""Name of the entry among the metadata of an ONNX file that holds the description."""
PRECISIONS = ("fp32", "fp16", "int8")
LONGEST = 4 * 2**20
"""Largest number of characters of a description; one of COCO has about 2,000."""
MAX_EDGE = 4096
"""Pixels of the longest input; also that of :mod:`smnas_optuna.arch.spec`."""
MAX_MULTIPLE = 1024
LONGEST_TEXT = 1000
"""Characters of an architecture, a fingerprint or a version."""
DEEPEST = 8
"""Deepest nesting of lists and objects in ``constants`` and ``latency``."""

FIX = "export the detector again, with `smnas export`"


@dataclass(frozen=True, kw_only=True, slots=True)
class FileDescription:
    """What an exported file says about itself; ``docs/stopwatch.md`` says what its graph takes and returns.

    Attributes:
        arch: Architecture of the detector.
        classes: Names of the classes; label 1 is the first.
        long: Long edge of the input size, pixels.
        short: Short edge, pixels.
        precision: One of ``PRECISIONS``.
        constants: The detector's constants by name: thresholds, numbers of proposals and detections, anchor scale.
        canvas_multiple: Canvases are padded to a multiple of this; see :func:`smnas_optuna.runtime.canvas.canvas_size`.
        padding: Colour of the rest of the canvas, RGB in 0..255.
        grey_bits: Bits of the values of images with more than 8 bits a channel, 8..16.
        ap: AP on the validation images, 0..1; None if it is not known.
        latency: What is known of its latency: device, versions, milliseconds.
        thresholds: Score by name of a class, 0..1, from which on its detections count; empty if they are not known.
            They are those of the detector in fp32, whatever the file's precision.
        with_val: True if the detector was trained on the validation images, too, so that they say nothing of it.
        data: Fingerprint of the data that it was trained on; empty if it is not known.
        smnas_optuna: Version of this package that wrote the file; empty if it is not known.
    """

    arch: str
    classes: tuple[str, ...]
    long: int
    short: int
    precision: str
    constants: Mapping[str, Any]
    canvas_multiple: int = CANVAS_MULTIPLE
    padding: tuple[int, int, int] = MEAN_COLOUR
    grey_bits: int = 16
    ap: float | None = None
    latency: Mapping[str, Any] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    with_val: bool = False
    data: str = ""
    smnas_optuna: str = ""

    def json(self) -> str:
        """Return the text that :meth:`read` reads.

        Raises:
            FileError: If a value is not as stated above, which :meth:`read` would refuse.
        """
        try:
            text = json.dumps({"format": FORMAT, **asdict(self)}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise FileError(
                f"the description of {quote(self.arch)} cannot be written: {quote_error(error)}",
                fix="give JSON values, None where a number is not known",
            ) from error
        self.read(text, where=f"the description of {quote(self.arch)}")
        return text

    @classmethod
    def read(cls, text: str | bytes, where: str = "the file") -> FileDescription:
        """Return the description that ``text`` holds; control characters in names of classes are replaced.

        Entries that this version does not know are ignored.

        Args:
            text: JSON, in UTF-8 if it is bytes.
            where: Name of the file, for messages.

        Raises:
            FileError: If it is none, is too long, or a value is missing, has another type or is out of range.
        """
        values = _json_object(text, where)
        if (version := values.get("format")) != FORMAT or isinstance(version, bool):
            raise FileError(
                f"{where}: its format is {quote(version)}, and this version of smnas-optuna reads format {FORMAT}",
                fix="install the version of smnas-optuna that wrote it, or export the detector again",
            )
        for name, is_right, rule in _RULES:
            if name not in values:
                if name in _OPTIONAL:
                    continue
                raise FileError(f"{where}: its description has no `{name}`", fix=FIX)
            if not is_right(values[name]):
                raise FileError(
                    f"{where}: `{name}` of its description must be {rule}, but is {quote(values[name])}", fix=FIX
                )
        if values["long"] < values["short"]:
            raise FileError(
                f"{where}: its input size is {values['long']}x{values['short']}, but the long edge comes first", fix=FIX
            )
        known = {name: values[name] for name, _, _ in _RULES if name in values}
        classes = tuple(printable_name(name) for name in known["classes"])
        thresholds = {printable_name(name): score for name, score in known.get("thresholds", {}).items()}
        if others := thresholds.keys() - {*classes}:
            raise FileError(f"{where}: it has a threshold for {quote(min(others))}, which is no class of it", fix=FIX)
        padding = tuple(known["padding"])
        return cls(**{**known, "classes": classes, "padding": padding, "thresholds": thresholds})


def _json_object(text: str | bytes, where: str) -> dict[str, Any]:
    if len(text) > LONGEST:
        raise FileError(f"{where}: its description has {len(text):,} characters, and the limit is {LONGEST:,}", fix=FIX)
    try:
        values = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise FileError(f"{where}: its description is no JSON: {quote_error(error)}", fix=FIX) from error
    if not isinstance(values, dict):
        raise FileError(f"{where}: its description is no JSON object, but {quote(values)}", fix=FIX)
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_TEXT and value.isprintable()


def _is_name(value: object) -> bool:
    return _is_text(value) and value != ""


def _are_classes(value: object) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(name, str) for name in value)


def _within(low: int, high: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_colour(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_within(0, 255), value))


def _is_share_or_none(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1)


def _are_thresholds(value: object) -> bool:
    return isinstance(value, dict) and all(each is not None and _is_share_or_none(each) for each in value.values())


def _is_finite_object(value: object) -> bool:
    return isinstance(value, dict) and _is_finite(value, DEEPEST)


def _is_finite(value: object, depth: int) -> bool:
    """Return whether ``value`` is nested at most ``depth`` times and has only numbers that a float can hold."""
    if isinstance(value, list | dict):
        parts = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(_is_finite(part, depth - 1) for part in parts)
    if isinstance(value, int):
        return abs(value) < 2**63
    return not isinstance(value, float) or math.isfinite(value)


_EDGE = (_within(1, MAX_EDGE), f"a whole number in 1..{MAX_EDGE}")
_OBJECT = (_is_finite_object, f"an object of finite numbers and texts, nested at most {DEEPEST} times")
_TEXT = (_is_text, f"a printable text of at most {LONGEST_TEXT} characters")
_RULES: tuple[tuple[str, Callable[[object], bool], str], ...] = (
    ("arch", _is_name, f"a printable text of 1 to {LONGEST_TEXT} characters"),
    ("classes", _are_classes, "a list of at least one name"),
    ("long", *_EDGE),
    ("short", *_EDGE),
    ("precision", lambda value: value in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
    ("constants", *_OBJECT),
    ("canvas_multiple", _within(1, MAX_MULTIPLE), f"a whole number in 1..{MAX_MULTIPLE}"),
    ("padding", _is_colour, "three whole numbers in 0..255"),
    ("grey_bits", _within(8, 16), "a whole number in 8..16"),
    ("ap", _is_share_or_none, "a number in 0..1, or null"),
    ("latency", *_OBJECT),
    ("thresholds", _are_thresholds, "an object of numbers in 0..1"),
    ("with_val", lambda value: isinstance(value, bool), "true or false"),
    ("data", *_TEXT),
    ("smnas_optuna", *_TEXT),
)
"""Names of the values, what they must be, and that in words."""
_OPTIONAL = ("thresholds", "with_val")
"""Those that files of earlier versions do not have."""
