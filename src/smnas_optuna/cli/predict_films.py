"""The part of ``smnas predict`` that shows videos and cameras."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from smnas_optuna.cli.console import make_console, say
from smnas_optuna.duration import plural

if TYPE_CHECKING:
    from rich.console import Console

    from smnas_optuna.prediction.films import Film
    from smnas_optuna.prediction.finder import Finder
    from smnas_optuna.prediction.recorder import ResultsStream
    from smnas_optuna.prediction.watch import Watched
    from smnas_optuna.workers.interrupt import StopRequest


def watch_films(
    cv: Any,
    finder: Finder,
    films: Sequence[Film],
    output: Path | ResultsStream,
    *,
    first_id: int,
    errors: Console,
    stop: StopRequest,
) -> bool:
    """Find objects in films, one after the other, and say what came of each; return whether one ended early.

    Args:
        cv: OpenCV's module.
        finder: The detector.
        films: The films.
        output: Folder for videos, or a stream of results on standard output.
        first_id: ``image_id`` of the first frame in that stream.
        errors: Shows progress and problems.
        stop: Checked after each frame.

    Raises:
        Exit: If asked to stop; what was read is kept.
    """
    from smnas_optuna.errors import DataError
    from smnas_optuna.prediction.watch import watch
    from smnas_optuna.report.progress import ConsoleListener

    failed, console = False, make_console() if isinstance(output, Path) else errors
    for film in films:
        if film.is_camera:
            say(errors, f"{film.name}: Ctrl-C ends it")
        try:
            with ConsoleListener(errors) as listener:
                done = watch(
                    cv,
                    finder,
                    film,
                    output=output,
                    listener=listener,
                    stop=stop,
                    first_id=1 if isinstance(output, Path) else first_id,
                )
        except DataError as error:
            say(errors, f"error: {error}")
            failed = True
            continue
        first_id += done.num_frames
        say(console, _in_words(film, done))
        if done.problem is not None:
            say(errors, f"error: {film.name}: {done.problem}; what was read is kept")
            failed = True
        if done.stopped is not None:
            say(errors, f"{done.stopped}; what was read is kept")
            raise typer.Exit(128 + done.stopped.signal_number)
    return failed


def _in_words(film: Film, done: Watched) -> str:
    objects = f"{done.num_objects:,} {plural(done.num_objects, 'object')}"
    line = f"{film.name}: {objects} in {done.num_frames:,} {plural(done.num_frames, 'frame')}"
    if not done.num_objects and done.best_below is not None:
        line += f"; the highest score is {done.best_below:.2f}, which is below the threshold"
    return line + "".join(f"\nwrote {file}" for file in done.files)
