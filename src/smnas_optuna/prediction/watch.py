"""The work of ``smnas predict`` on videos and cameras: frames in, one after the other; a video and results out."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smnas_optuna.prediction.drawing import draw_detections
from smnas_optuna.prediction.films import Film, Frames
from smnas_optuna.prediction.finder import Finder, explained_memory
from smnas_optuna.prediction.fonts import Fonts
from smnas_optuna.prediction.recorder import LONGEST_GAP_S, LONGEST_STILL_S, Recorder, ResultsStream
from smnas_optuna.prediction.results import results_of
from smnas_optuna.prediction.run import PHASE
from smnas_optuna.session.listener import Listener
from smnas_optuna.workers.interrupt import Interrupted, StopRequest

LEAST_FPS = 10.0
"""Frames per second that the video of a file has at least. A film that stands still for a while, such as a screen
recording, has few on average, and pictures in between would be left out."""


@dataclass(kw_only=True, slots=True)
class Watched:
    """What came of a film.

    Attributes:
        num_frames: Frames that were read.
        num_objects: Objects that count.
        best_below: Highest score of an object that does not count; None if there is none.
        problem: Why the film ended early; None if it did not.
        files: What was written.
        stopped: The request to stop that ended it; None for a film that ended, and for a camera after Ctrl-C.
    """

    num_frames: int = 0
    num_objects: int = 0
    best_below: float | None = None
    problem: str | None = None
    files: tuple[Path, ...] = ()
    stopped: Interrupted | None = None


def watch(
    cv: Any,
    finder: Finder,
    film: Film,
    *,
    output: Path | ResultsStream,
    listener: Listener,
    stop: StopRequest,
    first_id: int = 1,
    clock: Callable[[], float] = time.monotonic,
) -> Watched:
    """Find the objects in all frames of a film, and draw them into a video, frame by frame.

    What was read before an early end, or before a request to stop, is kept. Only one frame is in memory at a time.

    Args:
        cv: OpenCV's module.
        finder: The detector.
        film: The video or the camera.
        output: Folder for a video and its results, or a stream of results alone.
        listener: Receives a step for each frame.
        stop: Checked after each frame. Ctrl-C is how a camera ends.
        first_id: ``image_id`` of the first frame.
        clock: Seconds, for a camera.

    Raises:
        DataError: If the film cannot be opened.
        SmnasError: If the detector cannot run.
        OutputError: If the video or the results cannot be written.
    """
    done, fonts = Watched(), Fonts()
    with ExitStack() as stack:
        frames = stack.enter_context(Frames(cv, film, clock))
        recorder = None
        if not isinstance(output, ResultsStream):
            recorder = stack.enter_context(Recorder(cv, output, film.stem, _rate(film, frames.fps)))
        try:
            for pixels, time_s in frames:
                done.num_frames += 1
                height, width = pixels.shape[:2]
                with explained_memory(f"{film.name}: frame {done.num_frames:,} of {width}x{height} px"):
                    found, below = finder.find(pixels)
                    picture = None if recorder is None else draw_detections(pixels, found, fonts)
                number = first_id + done.num_frames - 1
                entries = [
                    {**each, "frame": done.num_frames, "time_s": round(time_s, 3)}
                    for each in results_of(
                        found, image_id=number, file=Path(film.name), category_ids=finder.category_ids
                    )
                ]
                if recorder is not None and picture is not None:
                    recorder.hold(time_s, LONGEST_STILL_S if film.is_camera else LONGEST_GAP_S)
                    recorder.add(picture, entries, time_s)
                elif isinstance(output, ResultsStream):
                    output.add(entries)
                done.num_objects += len(entries)
                done.best_below = max((each for each in (below, done.best_below) if each is not None), default=None)
                listener.step(PHASE, done.num_frames, max(frames.expected or 0, done.num_frames))
                stop.check()
        except Interrupted as interrupted:
            if not film.is_camera or interrupted.signal_number != signal.SIGINT:
                done.stopped = interrupted
        done.problem = frames.problem
    done.files = () if recorder is None else recorder.files
    return done


def _rate(film: Film, fps: float) -> float:
    """Return the frames per second of the video that is made of a film."""
    return fps if film.is_camera else fps * math.ceil(max(1.0, LEAST_FPS / fps))
