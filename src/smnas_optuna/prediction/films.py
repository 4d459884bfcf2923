"""Videos and cameras: which ones are named, and their frames one by one. OpenCV reads them, where it is installed."""

from __future__ import annotations

import glob
import importlib
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.errors import ConfigError, DataError, first_line, shortened
from smnas_optuna.paths import at_home
from smnas_optuna.prediction.sources import is_outside
from smnas_optuna.quote import quote_error, quote_path
from smnas_optuna.real_files import check_regular_file

SUFFIXES = frozenset(
    {".3gp", ".avi", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv"}
)
"""Endings of files that are videos."""
ENDING = ".mp4"
"""Ending of the videos that are made."""
CAMERA = re.compile(r"camera:(\d{1,3})")
"""How a camera is named: by its number on this machine."""
USUAL_FPS, HIGHEST_FPS = 25.0, 1000.0
"""Frames per second where a video does not say it, and the most that are believed."""
_MISSING, _FEW = 0.02, 2
"""A video ends early if it has fewer frames than it says, by this share and number, and its last one comes too early by
as much. Some formats only estimate the number; of Matroska and WebM it is the length times the highest frame rate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Film:
    """A video file or a camera.

    Attributes:
        name: As it was named, for messages and results.
        place: Path of the file, or number of the camera.
        stem: Name of what is made of it, without an ending; no two films have the same.
    """

    name: str
    place: Path | int
    stem: str

    @property
    def is_camera(self) -> bool:
        """True for a camera, which has no end."""
        return isinstance(self.place, int)


def find_films(sources: Sequence[str], output: Path | None) -> tuple[list[Film], list[str]]:
    """Return the videos and the camera among ``sources``, and the rest, which are images.

    A video is named itself, or by a pattern with a video's ending: ``'clips/*.mp4'``. Folders are searched for images
    only. Earlier results in ``output`` are left out of a pattern.

    Raises:
        DataError: If a pattern means no video, or a camera is named beside something else.
    """
    films, rest, taken = list[Film](), list[str](), set[str]()
    inside = None if output is None else output.resolve()
    for source in sources:
        camera = CAMERA.fullmatch(source)
        if camera is not None:
            films.append(Film(name=source, place=int(camera[1]), stem=f"camera-{int(camera[1])}"))
        elif Path(source).suffix.lower() in SUFFIXES and not at_home(source).is_dir():
            known = {film.place for film in films}
            for path in _videos(source, inside):
                if path not in known:
                    films.append(Film(name=str(path), place=path, stem=_stem(path, taken)))
        else:
            rest.append(source)
    if len(films) + len(rest) > 1 and any(film.is_camera for film in films):
        raise DataError("a camera gives pictures until it is stopped, so that nothing can come after it",
                        fix="name the camera alone")  # fmt: skip
    return films, rest


def open_cv() -> Any:
    """Return OpenCV's module; it prints nothing by itself.

    Raises:
        ConfigError: If it is not installed.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # ffmpeg's AV_LOG_QUIET
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        raise ConfigError(
            f"videos and cameras need OpenCV, which cannot be loaded: {shortened(first_line(error), 200)}",
            fix="install it: pip install 'smnas-optuna[video]'",
        ) from error


class Frames:
    """The frames of a film, from the first one on; a context manager.

    Args:
        cv: OpenCV's module.
        film: What is read.
        clock: Seconds, for a camera, which has no times of its own.

    Attributes:
        fps: Frames per second; the mean or the most, as the format has it, where they do not come evenly.
        expected: Number of all frames, as the file says or as follows from its length; None if it does not, and for a
            camera.
        problem: Why the film ended early; None before the end, and if it did not.

    Raises:
        DataError: If it cannot be opened.
    """

    def __init__(self, cv: Any, film: Film, clock: Callable[[], float] = time.monotonic) -> None:
        self._cv, self._film, self._clock = cv, film, clock
        if isinstance(film.place, Path):
            _check_file(film.place)
        self._capture = cv.VideoCapture(str(film.place.absolute()) if isinstance(film.place, Path) else film.place)
        if not self._capture.isOpened():
            self._capture.release()
            raise _unopened(film)
        if film.is_camera:
            self._capture.set(cv.CAP_PROP_BUFFERSIZE, 1)  # what is seen now, and not what was seen before
        fps, count = (float(self._capture.get(which)) for which in (cv.CAP_PROP_FPS, cv.CAP_PROP_FRAME_COUNT))
        self.fps = fps if 0 < fps <= HIGHEST_FPS else USUAL_FPS
        self.expected = None if film.is_camera or not 0 < count < math.inf else int(count)
        self._length_s = count / fps if self.expected is not None and 0 < fps < math.inf else math.inf
        self.problem: str | None = None

    def __enter__(self) -> Frames:
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], float]]:
        """Yield each frame, uint8 [H, W, 3] in RGB, and its time in seconds from the beginning; times never fall.

        A frame without a time that is later than the one before it comes 1 / fps after that.
        """
        number, latest, begin = 0, -1 / self.fps, self._clock()
        while True:
            try:
                read, frame = self._capture.read()
            except self._cv.error as error:
                self.problem = f"frame {number + 1} cannot be read: {shortened(first_line(error), 200)}"
                return
            if not read or frame is None:
                self.problem = self._early_end(number, latest)
                return
            if frame.ndim == 2:
                frame = np.repeat(frame[:, :, None], 3, axis=2)
            latest = self._time(latest, begin)
            number += 1
            yield np.ascontiguousarray(frame[:, :, 2::-1]), latest

    def _time(self, before: float, begin: float) -> float:
        if self._film.is_camera:
            return max(before, self._clock() - begin)
        told = float(self._capture.get(self._cv.CAP_PROP_POS_MSEC)) / 1000
        return told if max(before, 0) < told < math.inf else before + 1 / self.fps

    def _early_end(self, number: int, latest: float) -> str | None:
        if self._film.is_camera:
            return "the camera gives no more pictures"
        has_all = self.expected is None or number >= self.expected * (1 - _MISSING) - _FEW
        mean_s = latest / max(1, number - 1)
        if has_all or latest + _FEW * mean_s >= self._length_s * (1 - _MISSING):
            return None if number else "no frame can be read"
        return f"it ends after {number:,} of {self.expected:,} frames: it is damaged or incomplete"


def _videos(source: str, output: Path | None) -> list[Path]:
    path = at_home(source)
    if path.is_file() or not glob.has_magic(source):
        return [path]
    matches = map(Path, glob.iglob(str(path), recursive=True))  # noqa: PTH207  # Path.glob refuses `a**b`
    found = sorted(each for each in matches if is_outside(each, output, path))
    if not found:
        raise DataError(f"{quote_path(path)}: there is no video", fix="name video files, or a pattern: 'clips/*.mp4'")
    return found


def check_kept(films: Sequence[Film], output: Path) -> None:
    """Check that nothing that is made of the films takes the place of one.

    Raises:
        DataError: If something would.
    """
    places = {film.place.resolve(): film for film in films if isinstance(film.place, Path)}
    for film in films:
        if (lost := places.get((output / f"{film.stem}{ENDING}").resolve())) is not None:
            raise DataError(
                f"{quote_path(output)}: the video with boxes would take the place of {quote_path(Path(lost.name))}",
                fix="name another folder: --output DIR",
            )


def _stem(path: Path, taken: set[str]) -> str:
    number, stem = 1, path.stem
    while stem.casefold() in taken:
        number += 1
        stem = f"{path.stem}-{number}"
    taken.add(stem.casefold())
    return stem


def _check_file(path: Path) -> None:
    try:
        check_regular_file(path)  # OpenCV would wait for a pipe, and read other things than a disk
        with path.open("rb"):
            return
    except FileNotFoundError:
        problem = "there is no such file"
    except OSError as error:
        problem = f"it cannot be read: {quote_error(error)}"
    raise DataError(f"{quote_path(path)}: {problem}", fix="name a video file, or a pattern in quotes: 'clips/*.mp4'")


def _unopened(film: Film) -> DataError:
    if isinstance(film.place, int):
        return DataError(
            f"{film.name}: there is no such camera, or it cannot be used",
            fix="close what else uses it, or name another one: camera:0 is the first (Linux: ls /dev/video*)",
        )
    return DataError(
        f"{quote_path(film.place)}: OpenCV cannot read it: it is damaged or incomplete, or no video",
        fix="record or copy it again, or convert it: ffmpeg -i IN OUT.mp4",
    )
