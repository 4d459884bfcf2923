"""Command that finds objects in images and videos of one's own: ``smnas predict``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smnas_optuna.cli.console import make_console, say
from smnas_optuna.cli.options import Device, DeviceOption, home
from smnas_optuna.cli.predict_films import watch_films
from smnas_optuna.duration import plural
from smnas_optuna.report.choice import chosen

if TYPE_CHECKING:
    from rich.console import Console

    from smnas_optuna.prediction.finder import Finder
    from smnas_optuna.prediction.recorder import ResultsStream
    from smnas_optuna.prediction.run import Predicted
    from smnas_optuna.prediction.sources import Source
    from smnas_optuna.workers.interrupt import StopRequest

_OUTPUT = Path("predictions")


def predict(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Images, folders (searched with all folders in them), videos, patterns in quotes, or camera:0.",
        ),
    ],
    detector: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            callback=home,
            help="Detector: the folder of its weights, an exported .onnx file, or a study for the best of its front.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            callback=home,
            help="Folder for pictures, videos and detections.json.",
            show_default=f"{_OUTPUT} in this folder",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the detections as JSON, and write no file.")] = False,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            min=0,
            max=1,
            help="Lowest score that counts.",
            show_default="one per class, as stored with the detector; else 0.5",
        ),
    ] = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Find objects in images, videos and what a camera sees: write pictures with boxes, and the detections as JSON."""
    from smnas_optuna.prediction.films import check_kept, find_films, open_cv
    from smnas_optuna.prediction.output import check_output
    from smnas_optuna.prediction.recorder import ResultsStream
    from smnas_optuna.prediction.sources import find_sources
    from smnas_optuna.workers.interrupt import StopRequest

    if json and output is not None:
        raise typer.BadParameter("--json writes no file, so that --output has no meaning beside it")
    folder = None if json else output or _OUTPUT
    films, rest = find_films(sources, folder)
    cv = open_cv() if films else None
    if folder is not None:
        check_output(folder)
        check_kept(films, folder)
    errors, stop, failed = make_console(stderr=True), StopRequest(), False
    images = find_sources(rest, output=folder) if rest else []
    finder = _open(detector, device, threshold, errors)
    target = ResultsStream(sys.stdout) if folder is None else folder
    with stop.listening():
        if images:
            failed = _predict_images(finder, images, target, threshold, errors, stop)
        try:
            if films:
                failed |= watch_films(cv, finder, films, target, first_id=len(images) + 1, errors=errors, stop=stop)
        finally:
            if isinstance(target, ResultsStream):
                target.end()
    if failed:
        raise typer.Exit(1)


def _predict_images(
    finder: Finder,
    images: Sequence[Source],
    target: Path | ResultsStream,
    threshold: float | None,
    errors: Console,
    stop: StopRequest,
) -> bool:
    """Find objects in images, say what was found, and return whether some could not be read."""
    from smnas_optuna.prediction.run import predict as predict_all
    from smnas_optuna.report.progress import ConsoleListener
    from smnas_optuna.workers.interrupt import Interrupted

    folder = target if isinstance(target, Path) else None
    try:
        with ConsoleListener(errors) as listener:
            done = predict_all(finder, images, output=folder, listener=listener, stop=stop)
    except Interrupted as interrupted:
        say(errors, f"{interrupted}; {'nothing' if folder is None else 'no detections.json'} is written")
        raise typer.Exit(128 + interrupted.signal_number) from None
    if not isinstance(target, Path):
        target.add(done.results)
    for line in _in_words(done, folder, threshold):
        say(errors if folder is None else make_console(), line)
    if done.errors:
        say(errors, f"error: {len(done.errors)} of {len(images)} images cannot be read, and are skipped")
    return bool(done.errors)


def _open(path: Path, device: Device, threshold: float | None, console: Console) -> Finder:
    """Return the detector of a run, of a study, or in an exported file; the last needs no torch."""
    from smnas_optuna.api.load import load_detector
    from smnas_optuna.config.study_file import STUDY_FILE
    from smnas_optuna.prediction.finder import finder_of
    from smnas_optuna.runtime.predictor import load_exported
    from smnas_optuna.study.choice import Pick
    from smnas_optuna.study.folder import StudyFolder
    from smnas_optuna.study.storage import explained_disk_errors

    _check_there(path)
    if (path / STUDY_FILE).is_file():
        with explained_disk_errors(path):
            choice = chosen(StudyFolder(path), Pick())
        say(console, f"{choice.arch}, with the weights of {choice.weights.source}")
        path = choice.weights.folder
    if path.is_dir():
        trained = load_detector(path, device=device.value)
        return finder_of(trained, trained.classes, trained.description, threshold=threshold)
    exported = load_exported(path, "cuda" if device is Device.cuda else "onnxruntime")
    description = {
        field.name: getattr(exported.description, field.name) for field in dataclasses.fields(exported.description)
    }
    return finder_of(exported, exported.classes, description, threshold=threshold)


def _check_there(path: Path) -> None:
    """Check that there is a file or folder that may be a detector.

    Raises:
        FileError: If there is none.
    """
    from smnas_optuna.errors import FileError
    from smnas_optuna.quote import quote_error, quote_path

    try:
        path.stat()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        problem = "there is no such file or folder" if missing else f"it cannot be read: {quote_error(error)}"
        raise FileError(
            f"{quote_path(path)}: {problem}",
            fix="name a folder with weights, such as studies/shapes/runs/ARCH, a file that `smnas export` has written, "
            "or a study folder, such as studies/shapes",
        ) from error


def _in_words(done: Predicted, folder: Path | None, threshold: float | None) -> list[str]:
    """Return what was found and written, one line each."""
    objects = f"{len(done.results):,} {plural(len(done.results), 'object')}"
    lines = [f"{objects} in {done.num_images:,} {plural(done.num_images, 'image')}"]
    if not done.results and done.best_below is not None:
        limit = "the threshold of its class" if threshold is None else f"--threshold {threshold:g}"
        lines.append(f"the highest score is {done.best_below:.2f}, which is below {limit}")
    if folder is not None:
        lines.append(f"wrote {folder}/")
    return lines
