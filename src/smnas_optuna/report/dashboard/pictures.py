"""Pictures that optuna-dashboard shows with a study and its trials, each drawn when it is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from smnas_optuna.errors import DataError, shortened
from smnas_optuna.quote import printable_name
from smnas_optuna.real_files import is_regular_file
from smnas_optuna.report.figures.frame import png_of
from smnas_optuna.report.figures.front_figure import draw_front
from smnas_optuna.report.figures.training_figure import draw_training
from smnas_optuna.report.study_page.learning import read_learning_curve
from smnas_optuna.report.summary import Summary
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import TrialRecord

if TYPE_CHECKING:
    from smnas_optuna.data import ImageRecord
    from smnas_optuna.session.samples import Found

CELL, GAP, COLUMNS, TEXT = 320, 12, 4, 13
"""Longest edge of an image, space around it, images in a row, and size of the text, pixels."""
INK, RIGHT, FALSE = (28, 33, 38), (77, 180, 255), (255, 138, 61)
"""Colours of text, of right boxes and of false ones."""
Colour = tuple[int, int, int]
Area = tuple[float, float, float, float]
"""Left, top, right and bottom, pixels."""
SAID = "white: truth; blue: right; orange: false, at an IoU of 0.5 with the right class"


def front_png(summary: Summary) -> bytes:
    """Return the front of a study, as ``front.png`` has it."""
    return png_of(draw_front(summary))


def curve_png(run: Path, record: TrialRecord) -> bytes:
    """Return the learning curve of a training of the search; ``run`` is the folder of its log."""
    curve = read_learning_curve(run)
    losses = {} if curve is None else curve.losses
    aps = dict(record.ap_by_epoch)
    if record.epochs_done and record.ap is not None:
        aps[record.epochs_done] = record.ap
    epochs = [{"epoch": epoch, "loss": losses.get(epoch), "ap": aps.get(epoch)} for epoch in sorted({*losses, *aps})]
    last = max([record.epochs_done, *losses], default=0)
    return png_of(draw_training({"arch": record.arch, "of": last, "epochs": epochs}, f"Trial {record.number}"))


def detections_jpeg(folder: StudyFolder, run: Path, record: TrialRecord) -> bytes:
    """Return the sample images of a study with truth and what the detector of ``run`` found in them.

    Raises:
        DataError: If they are damaged, or of other data than the study has now.
        OSError: If an image cannot be read.
    """
    from smnas_optuna.session.samples import read_found, read_images

    kept = read_images(folder)
    found = None if kept is None else read_found(run, kept.content, kept.images)
    if kept is None or found is None:
        raise DataError(
            f"{folder.samples}: the images, or what trial {record.number} found in them, are damaged or of other data",
            fix="nothing: a detector that is trained from now on has them",
        )
    cells = [
        _cell(image, found[image.image_id], printable_name(name), kept.classes)
        for image, name in zip(kept.images, kept.names, strict=True)
    ]
    title = f"trial {record.number}: AP {100 * (record.ap or 0.0):.1f} on all validation images. {SAID}"
    return _sheet(cells, title)


def said_png(text: str) -> bytes:
    """Return a picture of one line of text."""
    picture = Image.new("RGB", (900, 40), "white")
    _write(ImageDraw.Draw(picture), (GAP, GAP), shortened(printable_name(text), 110))
    file = BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _sheet(cells: Sequence[Image.Image], title: str) -> bytes:
    rows = [cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)]
    heights = [max(cell.height for cell in row) for row in rows]
    head = TEXT + 2 * GAP
    sheet = Image.new("RGB", (COLUMNS * (CELL + GAP) + GAP, head + sum(heights) + GAP * len(rows)), "white")
    _write(ImageDraw.Draw(sheet), (GAP, GAP), title)
    top = head
    for row, height in zip(rows, heights, strict=True):
        for place, cell in enumerate(row):
            sheet.paste(cell, (GAP + place * (CELL + GAP), top))
        top += height + GAP
    file = BytesIO()
    sheet.save(file, "JPEG", quality=85)
    return file.getvalue()


def _cell(image: ImageRecord, found: Found, name: str, classes: Sequence[str]) -> Image.Image:
    """Return an image with its boxes, and a line below it."""
    from smnas_optuna.report.study_page.pictures import judged

    if not is_regular_file(image.path):
        raise FileNotFoundError(f"{image.path}: is no file")
    picture = Image.open(image.path).convert("RGB")
    scale = CELL / max(image.width, image.height)
    picture = picture.resize((max(1, round(scale * image.width)), max(1, round(scale * image.height))))
    draw = ImageDraw.Draw(picture)
    right, false, taken = judged(image, found)
    objects = image.boxes[~image.crowd]
    for box in objects:
        _box(draw, [scale * float(edge) for edge in box], (255, 255, 255), width=1)
    labels: list[Area] = []
    for place in np.flatnonzero(right | false).tolist():
        box, label, score, is_right = found.boxes[place], found.labels[place], found.scores[place], right[place]
        colour, corners = RIGHT if is_right else FALSE, [scale * float(edge) for edge in box]
        _box(draw, corners, colour, width=2)
        class_name = printable_name(classes[int(label) - 1]) if 0 < label <= len(classes) else str(label)
        _label(draw, corners, f"{shortened(class_name, 14)} {score:.2f}", colour, labels)
    cell = Image.new("RGB", (CELL, picture.height + TEXT + 6), "white")
    cell.paste(picture, (0, 0))
    said = f"{shortened(name, 22)}: {int(taken.sum())} of {len(objects)} found, {int(false.sum())} false"
    _write(ImageDraw.Draw(cell), (0, picture.height + 2), said)
    return cell


def _box(draw: ImageDraw.ImageDraw, corners: Sequence[float], colour: Colour, *, width: int) -> None:
    left, top, right, bottom = (round(edge) for edge in corners)
    if right > left and bottom > top:
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=(0, 0, 0), width=width + 2)
        draw.rectangle((left, top, right, bottom), outline=colour, width=width)


def _label(draw: ImageDraw.ImageDraw, corners: Sequence[float], text: str, colour: Colour, others: list[Area]) -> None:
    """Write ``text`` above a box, unless it would cover one of ``others``; what is surer comes first."""
    x, y = corners[0] + 2, max(0.0, corners[1] - TEXT - 2)
    area = (x, y, x + 0.6 * TEXT * len(text), y + TEXT)
    if any(area[0] < each[2] and each[0] < area[2] and area[1] < each[3] and each[1] < area[3] for each in others):
        return
    others.append(area)
    _write(draw, (x, y), text, colour=colour, edge=True)


def _write(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, *, colour: Colour = INK, edge: bool = False
) -> None:
    from smnas_optuna.prediction.fonts import Fonts, font

    written, path = Fonts().written(text, 0)
    shown = text if written == text else text.encode("ascii", "replace").decode()
    draw.text(at, shown, font=font(path, TEXT - 1), fill=colour, stroke_width=2 * edge, stroke_fill=(0, 0, 0))
