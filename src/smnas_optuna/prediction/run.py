"""The work of ``smnas predict``: images in, pictures and results out."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from smnas_optuna.errors import DataError
from smnas_optuna.prediction.drawing import draw_detections
from smnas_optuna.prediction.finder import Finder, explained_memory
from smnas_optuna.prediction.fonts import Fonts
from smnas_optuna.prediction.output import make_output, write_output
from smnas_optuna.prediction.results import RESULTS_FILE, results_json, results_of
from smnas_optuna.prediction.sources import Source, has_more_frames
from smnas_optuna.quote import quote, quote_path
from smnas_optuna.runtime.picture import pixels_of
from smnas_optuna.session.listener import Listener
from smnas_optuna.workers.interrupt import StopRequest

PHASE = "predict"
_QUALITY = 95


@dataclass(kw_only=True, slots=True)
class Predicted:
    """What came of a prediction.

    Attributes:
        results: Entries of the results file.
        num_images: Images that were read.
        errors: Why each of the others was not.
        best_below: Highest score of an object that does not count; None if there is none.
        animated: Files of which the first frame was read, and others were not.
    """

    results: list[dict[str, Any]] = field(default_factory=list)
    num_images: int = 0
    errors: list[DataError] = field(default_factory=list)
    best_below: float | None = None
    animated: list[Path] = field(default_factory=list)


def predict(
    finder: Finder, sources: Sequence[Source], *, output: Path | None, listener: Listener, stop: StopRequest
) -> Predicted:
    """Find the objects in all images; draw them, if there is an ``output``.

    Every file is written whole or not at all, the results after all pictures. An image that cannot be read is
    reported and skipped, also one that memory has no room for.

    Args:
        finder: The detector.
        sources: The images.
        output: Folder for pictures and results, made if it is missing; None writes nothing.
        listener: Receives a step for each image, a note for each that is skipped, and a note if some have more than one
            frame.
        stop: Checked before each image.

    Raises:
        SmnasError: If the detector cannot run.
        OutputError: If a picture or the results cannot be written; the pictures before it are whole.
        Interrupted: If asked to stop; there are no results then, not even those of an earlier run.
    """
    fonts, done = Fonts(), Predicted()
    if output is not None:
        make_output(output)
        _note_names(fonts, finder.classes, listener)
    for number, source in enumerate(sources, start=1):
        stop.check()
        try:
            with explained_memory(quote_path(source.path)):
                _predict_one(finder, source, number, None if output is None else output / source.picture, fonts, done)
        except DataError as error:
            done.errors.append(error)
            listener.note(f"skipped: {error.message}")
        listener.step(PHASE, number, len(sources))
    _note_frames(done, listener)
    if output is not None:
        write_output(output / RESULTS_FILE, results_json(done.results).encode())
    return done


def _predict_one(
    finder: Finder, source: Source, number: int, picture: Path | None, fonts: Fonts, done: Predicted
) -> None:
    pixels = pixels_of(source.path, grey_bits=finder.grey_bits)
    found, below = finder.find(pixels)
    if picture is not None:
        write_output(picture, _encoded(draw_detections(pixels, found, fonts), picture.suffix))
    done.results += results_of(found, image_id=number, file=source.path, category_ids=finder.category_ids)
    done.num_images += 1
    if has_more_frames(source.path):
        done.animated.append(source.path)
    if below is not None and (done.best_below is None or below > done.best_below):
        done.best_below = below


def _encoded(picture: Image.Image, ending: str) -> bytes:
    """Return the content of an image file; lines in a JPEG keep their colour at full resolution."""
    content = io.BytesIO()
    if ending == ".jpg":
        picture.save(content, "JPEG", quality=_QUALITY, subsampling=0)
    else:
        picture.save(content, "PNG", compress_level=1 if picture.width * picture.height > 4e6 else 6)
    return content.getvalue()


def _note_names(fonts: Fonts, classes: Sequence[str], listener: Listener) -> None:
    if missing := fonts.unwritten(classes):
        listener.note(
            f"note: no font of this machine has all characters of {len(missing)} of {len(classes)} class names, the "
            f"first {quote(missing[0])}; pictures say `class {1 + list(classes).index(missing[0])}`; fix: install a "
            "font, such as Noto Sans of that script"
        )


def _note_frames(done: Predicted, listener: Listener) -> None:
    if done.animated:
        count = len(done.animated)
        listener.note(
            f"note: {count} of {done.num_images} images {'has' if count == 1 else 'have'} more than one frame, such as "
            f"{quote_path(done.animated[0])}; only the first frame is looked at"
        )
