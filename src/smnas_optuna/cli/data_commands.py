"""The commands that check data sets and show them."""

from __future__ import annotations

from functools import partial

import typer

from smnas_optuna.cli.console import make_console, say
from smnas_optuna.cli.options import DataDir, PageFile, StudyDir


def check_data(study_dir: StudyDir, data: DataDir = None) -> None:
    """Check the settings and the data of a study, every image included."""
    from smnas_optuna.config import load_settings

    settings = load_settings(study_dir)  # a typo is reported before torch is loaded
    from smnas_optuna.report.progress import ConsoleListener
    from smnas_optuna.search_space import baselines_of
    from smnas_optuna.session.advice import advice_on
    from smnas_optuna.session.prepare import load_data
    from smnas_optuna.study.folder import StudyFolder
    from smnas_optuna.study.storage import explained_disk_errors

    console = make_console()
    baselines_of(settings)  # a search would refuse them
    with ConsoleListener(console) as listener, explained_disk_errors(study_dir):
        root, splits = load_data(StudyFolder(study_dir), data, settings, partial(listener.step, "load"))
    for role, split in (("train", splits.train), ("val", splits.val), ("test", splits.test)):
        if split is None:
            continue
        boxes = sum(len(image.boxes) for image in split.images)
        counts = f"{len(split.images)} images, {boxes} boxes, {split.num_classes} classes"
        console.print(f"{role}: {counts}", highlight=False)
        for note in split.notes:
            say(console, f"  note: {note}")
    advice = advice_on(splits, settings.detector.max_detections)
    for note in advice:
        say(console, f"note: {note}")
    noted = bool(advice) or any(split.notes for split in (splits.train, splits.val, splits.test) if split is not None)
    verdict = "fine, but read the notes above" if noted else "fine"
    say(console, f"{root}: {verdict}")


def look_at_data(study_dir: StudyDir, data: DataDir = None, output: PageFile = None) -> None:
    """Show the data of a study on a page: classes, sizes, what is suspicious, and pictures with their boxes.

    The table is a result already, so a page that cannot be written where nobody asked for it is a note: whoever may
    only read a study can look at its data.
    """
    from smnas_optuna.config import load_settings

    settings = load_settings(study_dir)
    from smnas_optuna.errors import StudyError
    from smnas_optuna.overview.data_page import data_page
    from smnas_optuna.overview.look import look
    from smnas_optuna.report.data_table import print_overview
    from smnas_optuna.report.files import write_page
    from smnas_optuna.report.progress import ConsoleListener
    from smnas_optuna.session.prepare import load_data
    from smnas_optuna.study.folder import StudyFolder
    from smnas_optuna.study.storage import explained_disk_errors

    console, folder = make_console(), StudyFolder(study_dir)
    with explained_disk_errors(study_dir):
        with ConsoleListener(console) as listener:
            root, splits = load_data(folder, data, settings, partial(listener.step, "load"))
            overview = look(study_dir.resolve().name, root, splits, settings)
            text = data_page(overview, partial(listener.step, "draw"))
        print_overview(overview, console)
        try:
            say(console, f"wrote {write_page(folder.report, 'data.html', text, 'page on the data', output)}")
        except StudyError as error:
            if output is not None:
                raise
            typer.echo(f"note: {error}", err=True)
