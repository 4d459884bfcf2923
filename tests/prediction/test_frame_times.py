"""Films whose frames do not come evenly."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from smnas_optuna.prediction import watch as watch_module
from smnas_optuna.prediction.films import Film
from smnas_optuna.prediction.watch import Watched, watch
from smnas_optuna.workers.interrupt import StopRequest

from .fake_cv import FakeCv, Reel, frame
from .test_run import Heard, finder

CLIP = Film(name="clips/a.mp4", place=Path("clips/a.mp4"), stem="a")


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clips").mkdir()
    Path("clips/a.mp4").write_text("a film")


def run(cv: FakeCv) -> Watched:
    return watch(cv, finder(), CLIP, output=Path("out"), listener=Heard(), stop=StopRequest())


def shown(times: list[float] | None, *, fps: float = 10.0, frames: int = 0) -> tuple[float, list[int]]:
    """The frames a second of the video that is made, and the number of the film's frame in each of its pictures."""
    count = len(times) if times is not None else frames
    cv = FakeCv({"a.mp4": Reel([frame(number) for number in range(count)], fps=fps, times=times)})

    done = run(cv)

    assert (done.problem, done.num_frames) == (None, count)
    (writer,) = cv.writers
    return writer.fps, [int(picture[240, 320, 2]) for picture in writer.frames]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0.0, 0.1, 0.2, 0.3], [0, 1, 2, 3]),
        ([0.0, 0.1, 0.6, 0.7], [0, 1, 1, 1, 1, 1, 2, 3]),
        ([0.0, 0.033, 0.066, 0.1, 0.2], [0, 2, 4]),  # more than the video can show
        ([0.0, 0.04, 0.5], [0, 1, 1, 1, 1, 2]),  # the latest one is shown until the next
        ([0.3, 0.4], [0, 0, 0, 0, 1]),
        ([0.0, 0.1 + 1e-9, 0.1999, 0.3001], [0, 1, 2, 3]),
    ],
    ids=["even", "a gap", "a burst", "a burst and a gap", "a late begin", "rounded"],
)
def test_each_picture_is_shown_at_its_time_and_until_the_next(times: list[float], expected: list[int]) -> None:
    assert shown(times) == (10.0, expected)


@pytest.mark.parametrize(
    "times",
    [
        None,
        [0.0] * 4,
        [0.0, math.nan, -math.inf, -1.0],
        [0.0, 0.1, 0.1, 0.1],
        [0.0, -5.0, -4.0, -3.0],
        [math.nan, 0.1, 0.0, 0.1],
    ],
    ids=["none", "zero", "no numbers", "not ascending", "negative", "begins again"],
)
def test_without_times_each_picture_is_shown_once(times: list[float] | None) -> None:
    assert shown(times, frames=4) == (10.0, [0, 1, 2, 3])


def test_a_film_that_begins_anew_in_its_middle_goes_on() -> None:
    assert shown([0.0, 0.1, 5.0, 0.0, 0.1, 0.2]) == (10.0, [0, *[1] * 49, 2, 3, 4, 5])


def test_a_time_that_is_hours_later_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "LONGEST_GAP_S", 2.0)

    assert shown([0.0, 0.1, 90_000.0, 90_000.1, 90_000.3]) == (10.0, [0, 1, *[1] * 20, 2, 3, 3, 4])


@pytest.mark.parametrize(("fps", "rate"), [(0.5, 10.0), (0.4, 10.0), (3.0, 12.0), (10.0, 10.0), (29.97, 29.97)])
def test_a_film_with_few_frames_on_average_becomes_a_video_with_a_whole_multiple(fps: float, rate: float) -> None:
    made, pictures = shown(None, fps=fps, frames=3)

    assert made == pytest.approx(rate)
    times = round(rate / fps)
    assert pictures == [*[0] * times, *[1] * times, 2]


def test_results_have_the_times_of_the_file() -> None:
    bright = frame(255)
    bright[:] = 255

    run(FakeCv({"a.mp4": Reel([bright] * 4, times=[0.0, 0.04, 0.64, 0.64])}))

    found = json.loads(Path("out/a.detections.json").read_text())
    assert [(each["frame"], each["time_s"]) for each in found] == [(1, 0.0), (2, 0.04), (3, 0.64), (4, 0.74)]


def test_a_film_whose_number_of_frames_is_a_guess_is_not_called_damaged() -> None:
    times = [number / 10 for number in range(20)]  # 2 s, of which the file says that it has 60 frames a second
    pictures = [frame(0)] * 20

    assert run(FakeCv({"a.mp4": Reel(pictures, fps=60.0, count=119, times=times)})).problem is None
    cut = run(FakeCv({"a.mp4": Reel(pictures[:10], fps=60.0, count=119, times=times[:10])}))
    assert cut.problem == "it ends after 10 of 119 frames: it is damaged or incomplete"
    without = run(FakeCv({"a.mp4": Reel(pictures, fps=60.0, count=119)}))
    assert without.problem == "it ends after 20 of 119 frames: it is damaged or incomplete"
