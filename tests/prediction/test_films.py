from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from smnas_optuna.errors import ConfigError, DataError
from smnas_optuna.prediction.films import Film, Frames, check_kept, find_films, open_cv

from .fake_cv import CvError, FakeCv, Reel, frame


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b.AVI", "deep/a.mov", "c.jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("a film")


def film(name: str = "a.mp4") -> Film:
    return Film(name=name, place=Path(name), stem=Path(name).stem)


CAMERA = Film(name="camera:2", place=2, stem="camera-2")


def read(cv: FakeCv, which: Film) -> tuple[list[float], str | None]:
    with Frames(cv, which) as frames:
        times = [time for _, time in frames]
    assert cv.captures[-1].released
    return times, frames.problem


def test_films_are_told_from_images_and_have_names_of_their_own() -> None:
    films, rest = find_films(["a.mp4", "c.jpg", "b.AVI", "deep/*.mov", "a.mp4", "photos"], None)

    assert [(each.place, each.stem) for each in films] == [
        (Path("a.mp4"), "a"),
        (Path("b.AVI"), "b"),
        (Path("deep/a.mov"), "a-2"),
    ]
    assert rest == ["c.jpg", "photos"]


def test_earlier_videos_with_boxes_are_no_sources_of_a_pattern() -> None:
    Path("results/deep").mkdir(parents=True)
    for name in ("results/a.mp4", "results/deep/b.mp4"):
        Path(name).touch()

    found = [str(each.place) for each in find_films(["**/*.mp4"], Path("results"))[0]]

    assert found == ["a.mp4"]
    assert [str(each.place) for each in find_films(["results/*.mp4"], Path("results"))[0]] == ["results/a.mp4"]


def test_a_camera_is_named_alone() -> None:
    assert find_films(["camera:2"], None) == ([CAMERA], [])
    assert find_films(["camera:x"], None) == ([], ["camera:x"])
    for sources in (["camera:0", "a.mp4"], ["c.jpg", "camera:0"], ["camera:0", "camera:1"]):
        with pytest.raises(DataError, match=r"until it is stopped.*\n  fix: name the camera alone"):
            find_films(sources, None)


def test_a_pattern_without_a_video_and_a_file_that_is_missing_are_named() -> None:
    with pytest.raises(DataError, match=r"none\*\.mp4: there is no video\n  fix: name video files"):
        find_films(["none*.mp4"], None)
    (missing,), _ = find_films(["missing.mp4"], None)
    with pytest.raises(DataError, match=r"missing\.mp4: there is no such file"):
        Frames(FakeCv({}), missing)


def test_no_video_takes_the_place_of_a_film() -> None:
    films, _ = find_films(["a.mp4", "b.AVI"], None)

    check_kept(films, Path("out"))
    with pytest.raises(DataError, match=r"^\.: the video with boxes would take the place of a\.mp4"):
        check_kept(films, Path())


def test_what_opencv_cannot_open_is_named() -> None:
    with pytest.raises(DataError, match=r"a\.mp4: OpenCV cannot read it: .*\n  fix: record or copy it again"):
        Frames(FakeCv({}), film())
    with pytest.raises(DataError, match=r"camera:2: there is no such camera, or it cannot be used\n  fix: close"):
        Frames(FakeCv({}), CAMERA)


def test_without_opencv_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)

    with pytest.raises(
        ConfigError, match=r"(?s)need OpenCV, which cannot be loaded: .*pip install 'smnas-optuna\[video\]'"
    ):
        open_cv()


def test_frames_are_rgb_and_have_the_times_of_the_file() -> None:
    reel = Reel([frame(200), frame(100)], times=[0.0, 0.25])

    with Frames(FakeCv({"a.mp4": reel}), film()) as frames:
        (first, begin), (second, time) = frames
        assert (frames.fps, frames.expected) == (10.0, 2)

    assert (begin, time, frames.problem) == (0.0, 0.25, None)
    assert first.dtype == np.uint8
    assert (first[0, 0].tolist(), second[0, 0].tolist()) == ([200, 0, 0], [100, 0, 0])
    assert first.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("times", [None, [0.0, 0.0, 0.0], [0.0, math.nan, math.inf], [0.0, -5.0, 0.1]])
def test_times_that_a_file_does_not_tell_follow_from_its_frame_rate(times: list[float] | None) -> None:
    reel = Reel([frame(0)] * 3, times=times)

    assert read(FakeCv({"a.mp4": reel}), film())[0] == pytest.approx([0.0, 0.1, 0.2])


@pytest.mark.parametrize("fps", [0.0, math.nan, -1.0, 90_000.0])
def test_a_frame_rate_that_cannot_be_is_the_usual_one(fps: float) -> None:
    assert Frames(FakeCv({"a.mp4": Reel([], fps=fps)}), film()).fps == 25.0


@pytest.mark.parametrize(
    ("count", "problem"),
    [
        (5, None),
        (6, None),  # the number is an estimate of some formats
        (-9e18, None),
        (0, None),
        (math.nan, None),
        (1_000, "it ends after 5 of 1,000 frames: it is damaged or incomplete"),
    ],
)
def test_an_early_end_is_told(count: float, problem: str | None) -> None:
    cv = FakeCv({"a.mp4": Reel([frame(0)] * 5, count=count)})

    assert read(cv, film())[1] == problem


def test_a_film_without_a_frame_and_one_that_breaks_are_told() -> None:
    assert read(FakeCv({"a.mp4": Reel([])}), film()) == ([], "no frame can be read")
    cv = FakeCv({"a.mp4": Reel([frame(0), CvError("(-4) no memory\nand more")])})
    assert read(cv, film()) == ([0.0], "frame 2 cannot be read: (-4) no memory")


def test_a_camera_has_the_times_at_which_it_was_asked() -> None:
    ticks, cv = iter([100.0, 100.0, 100.5, 100.75]), FakeCv({2: Reel([frame(0)] * 3, count=-1)})

    with Frames(cv, CAMERA, lambda: next(ticks)) as frames:
        assert [time for _, time in frames] == [0.0, 0.5, 0.75]

    assert (frames.expected, frames.problem) == (None, "the camera gives no more pictures")
    assert cv.captures[0].settings == {FakeCv.CAP_PROP_BUFFERSIZE: 1}


def test_grey_frames_have_three_channels() -> None:
    grey = np.full((4, 6), 9, np.uint8)

    with Frames(FakeCv({"a.mp4": Reel([grey])}), film()) as frames:
        ((pixels, _),) = frames

    assert pixels.tolist() == np.full((4, 6, 3), 9).tolist()


def test_a_folder_of_images_may_end_like_a_video_and_a_pipe_is_no_video() -> None:
    Path("images.mp4").mkdir()
    os.mkfifo("pipe.mp4")

    assert find_films(["images.mp4"], None) == ([], ["images.mp4"])
    with pytest.raises(DataError, match=r"pipe\.mp4: it cannot be read: "):
        Frames(FakeCv({}), film("pipe.mp4"))
