"""The commands that make and check data sets."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from smnas_optuna.cli.console import make_console
from smnas_optuna.cli.options import DataDir, StudyDir


def make_shapes_data(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the data set is drawn.")],
    train_images: Annotated[int, typer.Option(min=1, help="Training images.")] = 400,
    val_images: Annotated[int, typer.Option(min=1, help="Validation images.")] = 120,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other scenes.")] = 0,
) -> None:
    """Draw the embedded data set in COCO format."""
    from smnas_optuna.config import ShapesSettings
    from smnas_optuna.data.shapes import make_shapes

    make_shapes(folder, ShapesSettings(train_images=train_images, val_images=val_images, seed=seed))
    typer.echo(f"{folder}: {train_images} training and {val_images} validation images")


def check_data(study_dir: StudyDir, data: DataDir = None) -> None:
    """Check the data of a study, every image included."""
    from smnas_optuna.config import load_settings
    from smnas_optuna.report.progress import ConsoleListener
    from smnas_optuna.session.prepare import load_data
    from smnas_optuna.study.folder import StudyFolder
    from smnas_optuna.study.storage import explained_disk_errors

    console = make_console()
    with ConsoleListener(console) as listener, explained_disk_errors(study_dir):
        root, splits = load_data(StudyFolder(study_dir), data, load_settings(study_dir), partial(listener.step, "load"))
    for role, split in (("train", splits.train), ("val", splits.val), ("test", splits.test)):
        if split is None:
            continue
        boxes = sum(len(image.boxes) for image in split.images)
        counts = f"{len(split.images)} images, {boxes} boxes, {split.num_classes} classes"
        console.print(f"{role}: {counts}", highlight=False)
        for note in split.notes:
            console.print(f"  {note}", soft_wrap=True, highlight=False)
    console.print(f"{root}: fine", soft_wrap=True, highlight=False)
