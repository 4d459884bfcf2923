"""An OpenCV that plays the films it is given, and keeps the videos that are written with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]


class CvError(Exception):
    pass


def frame(red: int, width: int = 640, height: int = 480) -> Frame:
    """One colour, in BGR as OpenCV has it."""
    return np.full((height, width, 3), (0, 0, red), np.uint8)


@dataclass
class Reel:
    """What a file or a camera gives."""

    frames: Sequence[Frame | Exception]
    fps: float = 10.0
    count: float | None = None
    times: Sequence[float] | None = None
    after: Callable[[int], None] = lambda _: None


@dataclass
class Capture:
    reel: Reel | None
    number: int = 0
    released: bool = False
    settings: dict[int, float] = field(default_factory=dict)

    def isOpened(self) -> bool:  # noqa: N802
        return self.reel is not None

    def set(self, what: int, value: float) -> bool:
        self.settings[what] = value
        return True

    def get(self, what: int) -> float:
        assert self.reel is not None
        if what == FakeCv.CAP_PROP_FPS:
            return self.reel.fps
        if what == FakeCv.CAP_PROP_FRAME_COUNT:
            return len(self.reel.frames) if self.reel.count is None else self.reel.count
        times = self.reel.times
        return 0.0 if times is None else 1000 * times[self.number - 1]

    def read(self) -> tuple[bool, Frame | None]:
        assert self.reel is not None
        if self.number == len(self.reel.frames):
            return False, None
        self.number += 1
        self.reel.after(self.number)
        given = self.reel.frames[self.number - 1]
        if isinstance(given, Exception):
            raise given
        return True, given

    def release(self) -> None:
        self.released = True


@dataclass
class Writer:
    path: Path
    fps: float
    size: tuple[int, int]
    opens: bool
    lost: int
    frames: list[Frame] = field(default_factory=list)

    def isOpened(self) -> bool:  # noqa: N802
        return self.opens

    def write(self, pixels: Frame) -> None:
        assert pixels.shape == (self.size[1], self.size[0], 3)
        self.frames.append(pixels.copy())

    def release(self) -> None:
        self.path.write_text(str(len(self.frames) - self.lost))


class FakeCv:
    """See above; ``films`` has reels by path or number of the camera."""

    error = CvError
    CAP_PROP_FPS, CAP_PROP_FRAME_COUNT, CAP_PROP_POS_MSEC, CAP_PROP_BUFFERSIZE = range(4)

    def __init__(self, films: Mapping[str | int, Reel], *, writes: bool = True, lost: int = 0) -> None:
        self.films, self.writes, self.lost = films, writes, lost
        self.captures: list[Capture] = []
        self.writers: list[Writer] = []

    def VideoCapture(self, place: str | int) -> Capture:  # noqa: N802
        reel = self.films.get(Path(place).name if isinstance(place, str) else place)
        if reel is None and isinstance(place, str) and Path(place).read_text().isdigit():  # written by us
            reel = Reel((), count=int(Path(place).read_text()))
        self.captures.append(Capture(reel))
        return self.captures[-1]

    def VideoWriter(self, path: str, codec: int, fps: float, size: tuple[int, int]) -> Writer:  # noqa: N802
        assert codec == 4
        self.writers.append(Writer(Path(path), fps, size, self.writes, self.lost))
        return self.writers[-1]

    @staticmethod
    def VideoWriter_fourcc(*letters: str) -> int:  # noqa: N802
        return len(letters)
