"""A video and the detections in it, written frame by frame; they get their names once they are complete."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from smnas_optuna.errors import OutputError
from smnas_optuna.prediction.films import ENDING
from smnas_optuna.prediction.output import explained
from smnas_optuna.quote import quote_path

CODEC, RESULTS_ENDING = "mp4v", ".detections.json"
"""MPEG-4, which every build of OpenCV with FFmpeg can write, and every player reads."""
LEAST_FREE = 64 * 2**20
"""Bytes that must be free on the disk: what OpenCV writes to a full one is lost without a word."""
LONGEST_STILL_S = 10.0
"""Longest time that a picture of a camera stands still in the video, however long the next one takes."""
LONGEST_GAP_S = 300.0
"""Longest time between two frames of a file that is believed; a damaged one may say that it is hours."""
_LOOK_EVERY = 16
"""Frames between two looks at the disk."""


class ResultsStream:
    """A results file that is written entry by entry; see :mod:`.results`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._empty = stream, True

    def add(self, entries: Sequence[dict[str, Any]]) -> None:
        """Write entries, and hand them to whoever reads along."""
        for each in entries:
            self._stream.write(("[\n" if self._empty else ",\n") + json.dumps(each, ensure_ascii=False))
            self._empty = False
        if entries:
            self._stream.flush()

    def end(self) -> None:
        """Write the end of the list."""
        self._stream.write("[]\n" if self._empty else "\n]\n")
        self._stream.flush()


class Recorder:
    """Writes ``STEM.mp4`` and ``STEM.detections.json`` into a folder, which is made if it is missing.

    It is a context manager. Both have another name until its end, and a process that is killed before leaves those. A
    film without a frame leaves no file.

    Args:
        cv: OpenCV's module.
        folder: The folder.
        stem: Name of the files.
        fps: Frames per second of the video.

    Attributes:
        video: Path of the video.
        results: Path of the results.
        files: Those of them that are complete.

    Raises:
        OutputError: If the files cannot be made; at the end, if one of them is not whole.
    """

    def __init__(self, cv: Any, folder: Path, stem: str, fps: float) -> None:
        self.video, self.results = folder / f"{stem}{ENDING}", folder / f"{stem}{RESULTS_ENDING}"
        self.files: tuple[Path, ...] = ()
        self._cv, self._fps, self._size = cv, fps, (0, 0)
        self._writer: Any = None
        self._written, self._left_out = 0, 0
        self._last: NDArray[np.uint8] | None = None
        self._video_part = folder / f".{stem}.part{ENDING}"
        self._results_part = folder / f".{stem}.part{RESULTS_ENDING}"
        with explained("the video cannot be written", self.results):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._results_part.open("w", encoding="utf-8", errors="backslashreplace")
        self._stream = ResultsStream(self._file)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._complete()
        finally:
            for part in (self._video_part, self._results_part):
                part.unlink(missing_ok=True)

    def _complete(self) -> None:
        if self._writer is not None:
            self._writer.release()
        with explained("the results cannot be written", self.results):
            try:
                self._stream.end()
            finally:
                self._file.close()
            if not self._written:
                return
            self._results_part.replace(self.results)
        self._check_whole()
        with explained("the video cannot be written", self.video):
            self._video_part.replace(self.video)
        self.files = self.video, self.results

    def hold(self, until_s: float, longest_s: float) -> None:
        """Repeat the last picture until the time of the next one, so that this one is not shown before.

        Args:
            until_s: Time of the next one.
            longest_s: What is longer is left out, and the video is shorter by it.

        Raises:
            OutputError: If the disk is full.
        """
        begin, latest = self._frame_at(until_s), self._written + round(longest_s * self._fps)
        self._left_out += max(0, begin - latest)
        if self._last is not None:
            self._write(self._last, min(begin, latest))

    def add(self, picture: Image.Image, entries: Sequence[dict[str, Any]], time_s: float) -> None:
        """Write a frame and the objects in it.

        Args:
            picture: The frame with its boxes; all have the size of the first one, or are brought to it.
            entries: The objects.
            time_s: When it was seen. A picture that comes early is left out, so that the video keeps time; for one that
                comes late see :meth:`hold`.

        Raises:
            OutputError: If the disk is full, or OpenCV cannot write such a video.
        """
        if self._writer is None:
            self._open(picture)
        if picture.size != self._size:
            picture = picture.resize(self._size)
        self._last = np.ascontiguousarray(np.asarray(picture)[:, :, ::-1])
        self._write(self._last, self._frame_at(time_s) + 1)
        with explained("the results cannot be written", self.results):
            self._stream.add(entries)

    def _frame_at(self, time_s: float) -> int:
        """Return the number of the video's frame at a time of the film, from 0."""
        return round(time_s * self._fps) - self._left_out

    def _write(self, pixels: NDArray[np.uint8], end: int) -> None:
        """Write a picture until the video has ``end`` frames."""
        while self._written < end:
            if self._written % _LOOK_EVERY == 0:
                self._check_room()
            self._writer.write(pixels)
            self._written += 1

    def _open(self, picture: Image.Image) -> None:
        # an even number of pixels, as the codec halves the resolution of colours
        self._size = (max(2, picture.width & -2), max(2, picture.height & -2))
        codec = self._cv.VideoWriter_fourcc(*CODEC)
        fps = round(self._fps, 2 if self._fps < 600 else 1)  # MPEG-4 has 16 bits for the parts of a second
        self._writer = self._cv.VideoWriter(str(self._video_part.absolute()), codec, fps, self._size)
        if not self._writer.isOpened():
            raise OutputError(
                f"{quote_path(self.video)}: OpenCV cannot write a video of {self._size[0]}x{self._size[1]} px with "
                f"{self._fps:g} frames a second",
                fix="name a folder that can be written to (--output DIR), or take smaller frames",
            )

    def _check_room(self) -> None:
        with explained("the video cannot be written", self.video):
            free = shutil.disk_usage(self.video.parent).free
        if free < LEAST_FREE:
            raise OutputError(
                f"{quote_path(self.video)}: only {free / 2**20:.0f} MiB are free on its disk; the video ends here",
                fix="make room on that disk, or name another folder: --output DIR",
            )

    def _check_whole(self) -> None:
        """Check that the video can be opened and has all frames; OpenCV tells nothing of errors while it writes."""
        capture = self._cv.VideoCapture(str(self._video_part.absolute()))
        count = int(capture.get(self._cv.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if count < self._written:
            raise OutputError(
                f"{quote_path(self.video)}: the video could not be written: of {self._written:,} frames {count:,} can "
                "be read",
                fix="look for room and limits on that disk, or name another folder: --output DIR",
            )
