from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from smnas_optuna.errors import DataError, OutputError
from smnas_optuna.prediction import films
from smnas_optuna.prediction.films import Film, open_cv
from smnas_optuna.prediction.finder import Finder, finder_of
from smnas_optuna.prediction.recorder import ResultsStream
from smnas_optuna.prediction.watch import Watched, watch
from smnas_optuna.runtime.detections import Detections
from smnas_optuna.workers.interrupt import StopRequest

from ..commands import SMNAS, environment, here
from ..runtime.exported_files import make_content
from .detections import NAMES
from .fake_cv import FakeCv, Reel, frame
from .test_run import Heard, Whole, finder

CLIP = Film(name="clips/a.mp4", place=Path("clips/a.mp4"), stem="a")
CAMERA = Film(name="camera:0", place=0, stem="camera-0")
BRIGHT, DARK = frame(255), frame(20)


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clips").mkdir()
    Path("clips/a.mp4").write_text("a film")


def white(red: int = 255) -> NDArray[np.uint8]:
    return np.full((480, 640, 3), red, np.uint8)


def run(
    cv: FakeCv, film: Film = CLIP, *, which: Finder | None = None, heard: Heard | None = None, **named: Any
) -> Watched:
    arguments: dict[str, Any] = {"output": Path("out"), "listener": heard or Heard(), "stop": StopRequest(), **named}
    return watch(cv, which or finder(), film, **arguments)


def results(name: str = "a") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Path(f"out/{name}.detections.json").read_text())
    return found


def test_a_video_with_boxes_and_results_by_frame_and_time_come_out() -> None:
    cv, heard = FakeCv({"a.mp4": Reel([white(), white(20), white()], times=[0.0, 0.1, 0.2])}), Heard()

    done = run(cv, heard=heard)

    assert (done.num_frames, done.num_objects) == (3, 2)
    assert done.best_below == pytest.approx(0.3)
    assert (done.problem, done.stopped, heard.steps) == (None, None, [("predict", each, 3) for each in (1, 2, 3)])
    assert done.files == (Path("out/a.mp4"), Path("out/a.detections.json"))
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.detections.json", "a.mp4"]
    first, last = results()
    assert first == {
        "image_id": 1,
        "file_name": "clips/a.mp4",
        "category_id": 3,
        "category_name": NAMES[1],
        "bbox": [0.0, 0.0, 640.0, 480.0],
        "score": 0.9,
        "frame": 1,
        "time_s": 0.0,
    }
    assert (last["image_id"], last["frame"], last["time_s"]) == (3, 3, 0.2)
    (writer,) = cv.writers
    assert (writer.fps, writer.size, len(writer.frames)) == (10.0, (640, 480), 3)
    assert (writer.frames[0][240, 320].tolist(), writer.frames[1][240, 320].tolist()) == ([255] * 3, [20] * 3)
    assert (writer.frames[0] != 255).any()  # the box


def test_what_was_read_before_an_early_end_is_kept() -> None:
    done = run(FakeCv({"a.mp4": Reel([white()] * 3, count=100)}))

    assert done.problem == "it ends after 3 of 100 frames: it is damaged or incomplete"
    assert (len(results()), Path("out/a.mp4").read_text()) == (3, "3")


def test_a_film_without_a_frame_leaves_no_file() -> None:
    done = run(FakeCv({"a.mp4": Reel([])}))

    assert (done.problem, done.files, list(Path("out").iterdir())) == ("no frame can be read", (), [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("film", [CLIP, CAMERA], ids=["video", "camera"])
def test_asked_to_stop_it_keeps_what_was_read_and_a_camera_ends_by_ctrl_c(film: Film, number: signal.Signals) -> None:
    stop = StopRequest()
    reel = Reel([white()] * 9, after=lambda frames: stop.ask(number) if frames == 4 else None)

    done = run(FakeCv({"a.mp4": reel, 0: reel}), film, stop=stop)

    assert (done.num_frames, len(results(film.stem)), len(done.files)) == (4, 4, 2)
    asked = None if done.stopped is None else done.stopped.signal_number
    assert asked == (None if film is CAMERA and number == signal.SIGINT else number)


def test_the_video_of_a_camera_keeps_time() -> None:
    seen = [0.0, 0.0, 0.04, 0.31, 0.4, 99.0]  # the first is that of the beginning
    cv, ticks = FakeCv({0: Reel([white(red) for red in (200, 201, 202, 203, 204)])}), iter(seen)

    run(cv, CAMERA, clock=lambda: next(ticks))

    shown = [int(each[240, 320, 0]) for each in cv.writers[0].frames]
    assert shown == [200, 201, 201, 202, 203] + [203] * 100 + [204]  # ten seconds at most until one that comes too late
    assert [each["time_s"] for each in results("camera-0")] == [0.0, 0.04, 0.31, 0.4, 99.0]


def test_frames_of_another_or_an_odd_size_are_brought_to_that_of_the_first() -> None:
    cv = FakeCv({"a.mp4": Reel([frame(255, 641, 481), frame(255, 700, 500)])})

    run(cv)

    assert (cv.writers[0].size, len(cv.writers[0].frames)) == ((640, 480), 2)


def test_a_stream_gets_the_results_alone_and_goes_on_counting() -> None:
    text = io.StringIO()
    stream = ResultsStream(text)

    run(FakeCv({"a.mp4": Reel([white()] * 2)}), output=stream, first_id=5)
    run(FakeCv({"a.mp4": Reel([white()])}), output=stream, first_id=7)
    stream.end()

    assert [(each["image_id"], each["frame"]) for each in json.loads(text.getvalue())] == [(5, 1), (6, 2), (7, 1)]
    assert not Path("out").exists()


def test_no_results_are_an_empty_list() -> None:
    run(FakeCv({"a.mp4": Reel([DARK])}), which=finder(0.99))

    assert results() == []


def test_a_full_disk_ends_the_video_and_keeps_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    free = iter([2**40, 2**40, 2**20])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=next(free)))

    with pytest.raises(OutputError, match=r"out/a\.mp4: only 1 MiB are free on its disk; the video ends here"):
        run(FakeCv({"a.mp4": Reel([white()] * 90)}))

    assert (Path("out/a.mp4").read_text(), len(results())) == ("32", 32)


def test_what_opencv_could_not_write_is_no_video() -> None:
    with pytest.raises(OutputError, match=r"of 3 frames 1 can be read"):
        run(FakeCv({"a.mp4": Reel([white()] * 3)}, lost=2))
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.detections.json"]

    with pytest.raises(OutputError, match=r"OpenCV cannot write a video of 640x480 px with 10 frames a second"):
        run(FakeCv({"a.mp4": Reel([white()])}, writes=False))


def test_a_folder_that_cannot_be_made_is_named() -> None:
    Path("out").touch()

    with pytest.raises(OutputError, match=r"the video cannot be written: File exists\n  fix: "):
        run(FakeCv({"a.mp4": Reel([white()])}))


def test_used_up_memory_is_told_of_the_frame() -> None:
    class Greedy:
        def predict(self, image: NDArray[np.uint8]) -> Detections:
            raise MemoryError

    greedy = finder_of(Greedy(), NAMES, {}, threshold=None)
    with pytest.raises(
        DataError, match=r"^clips/a\.mp4: frame 1 of 640x480 px: memory is used up\n  fix: close other programs"
    ):
        run(FakeCv({"a.mp4": Reel([white()])}), which=greedy)


def test_memory_does_not_grow_with_the_film() -> None:
    class Endless(list[NDArray[np.uint8]]):
        def __len__(self) -> int:
            return 60

        def __getitem__(self, number: Any) -> Any:
            return white(200)

    peaks: list[int] = []
    tracemalloc.start()
    reel = Reel(Endless(), after=lambda _: peaks.append(tracemalloc.get_traced_memory()[0]))
    run(FakeCv({"a.mp4": reel}), output=ResultsStream(io.StringIO()), which=finder_of(Whole(), NAMES, {}, threshold=1))
    tracemalloc.stop()

    assert max(peaks[10:]) < peaks[5] + 2**20  # a frame has 0.9 MiB


def command(
    monkeypatch: pytest.MonkeyPatch, reels: dict[str | int, Reel], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """``smnas predict`` with an OpenCV that plays ``reels``, and a detector that finds a cat in a bright image."""
    Path("detector.onnx").write_bytes(make_content())
    for name in reels:
        if isinstance(name, str):
            Path(name).write_text("a film")
    monkeypatch.setattr(films, "open_cv", lambda: FakeCv(reels))
    return here("predict", *arguments, "--detector", "detector.onnx", check=False)


def test_with_json_the_command_counts_on_over_images_and_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("in").mkdir()
    for name, red in (("1.png", 255), ("2.png", 20)):
        Image.new("RGB", (640, 480), (red, 0, 0)).save(Path("in") / name)
    reels: dict[str | int, Reel] = {"a.mp4": Reel([BRIGHT, DARK, BRIGHT]), "b.mp4": Reel([BRIGHT])}

    done = command(monkeypatch, reels, "in", "clips/a.mp4", "b.mp4", "--json")

    assert done.returncode == 0
    assert [(each["image_id"], each["file_name"], each.get("frame")) for each in json.loads(done.stdout)] == [
        (1, "in/1.png", None),
        (3, "clips/a.mp4", 1),
        (5, "clips/a.mp4", 3),
        (6, "b.mp4", 1),
    ]
    assert done.stderr.splitlines() == [
        "1 object in 2 images",
        "clips/a.mp4: 2 objects in 3 frames",
        "b.mp4: 1 object in 1 frame",
    ]
    assert not Path("predictions").exists()


@pytest.mark.parametrize("json_alone", [False, True], ids=["into a folder", "as JSON"])
def test_the_command_goes_on_after_a_film_that_fails_and_fails_in_the_end(
    json_alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("broken.mp4").write_text("no film")
    reels: dict[str | int, Reel] = {"cut.mp4": Reel([BRIGHT] * 2, count=100), "b.mp4": Reel([BRIGHT])}

    target = ["--json"] if json_alone else ["--output", "out"]
    done = command(monkeypatch, reels, "broken.mp4", "cut.mp4", "b.mp4", *target)

    assert done.returncode == 1
    assert "error: broken.mp4: OpenCV cannot read it" in done.stderr
    assert "error: cut.mp4: it ends after 2 of 100 frames: it is damaged or incomplete; what was read is kept\n" in (
        done.stderr
    )
    found = json.loads(done.stdout) if json_alone else [*results("cut"), *results("b")]
    ids = [1, 2, 3] if json_alone else [1, 2, 1]
    assert [(each["image_id"], each["frame"]) for each in found] == list(zip(ids, [1, 2, 1], strict=True))


@pytest.mark.parametrize(
    ("source", "number", "status", "said"),
    [
        ("b.mp4", signal.SIGINT, 130, "stopped by SIGINT; what was read is kept"),
        ("b.mp4", signal.SIGTERM, 143, "stopped by SIGTERM; what was read is kept"),
        ("camera:0", signal.SIGINT, 0, "camera:0: Ctrl-C ends it"),
    ],
)
def test_a_signal_ends_the_command_and_what_was_read_is_kept(
    source: str, number: signal.Signals, status: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reel = Reel([BRIGHT] * 9, after=lambda frames: signal.raise_signal(number) if frames == 4 else None)

    done = command(monkeypatch, {"b.mp4": reel, 0: reel}, source, "--output", "out")

    stem = source.removesuffix(".mp4").replace(":", "-")
    assert (done.returncode, done.stderr) == (status, f"{said}\n")
    assert done.stdout == (f"{source}: 4 objects in 4 frames\nwrote out/{stem}.mp4\nwrote out/{stem}.detections.json\n")
    assert [each["image_id"] for each in results(stem)] == [1, 2, 3, 4]


@pytest.fixture
def real() -> Any:
    pytest.importorskip("cv2")
    return open_cv()


def write_clip(cv: Any, path: Path, frames: int, codec: str = "mp4v") -> None:
    writer = cv.VideoWriter(str(path), cv.VideoWriter_fourcc(*codec), 10, (320, 240))
    for number in range(frames):
        writer.write(frame(255 if number % 2 else 20, 320, 240))
    writer.release()


def predict(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*SMNAS, "predict", *arguments, "--detector", "detector.onnx"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment())


@pytest.mark.slow
def test_a_real_video_goes_in_and_a_playable_one_comes_out(real: Any) -> None:
    Path("detector.onnx").write_bytes(make_content())
    write_clip(real, Path("b.mp4"), 20)

    done = predict("b.mp4", "--output", "out")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "b.mp4: 10 objects in 20 frames\nwrote out/b.mp4\nwrote out/b.detections.json\n"
    assert [(each["frame"], each["time_s"]) for each in results("b")][:2] == [(2, 0.1), (4, 0.3)]
    played = real.VideoCapture("out/b.mp4")
    assert (played.get(real.CAP_PROP_FPS), played.get(real.CAP_PROP_FRAME_COUNT)) == (10, 20)
    assert played.read()[1].shape == (480, 640, 3)


@pytest.mark.slow
def test_a_real_video_that_is_cut_off_is_told_and_a_broken_one_is_skipped(real: Any) -> None:
    Path("detector.onnx").write_bytes(make_content())
    write_clip(real, Path("whole.avi"), 50, "MJPG")
    Path("cut.avi").write_bytes(Path("whole.avi").read_bytes()[: Path("whole.avi").stat().st_size // 2])
    write_clip(real, Path("b.mp4"), 20)
    Path("broken.mp4").write_bytes(Path("b.mp4").read_bytes()[:2000])

    done = predict("broken.mp4", "cut.avi", "b.mp4", "--output", "out")

    assert done.returncode == 1
    assert "broken.mp4: OpenCV cannot read it" in done.stderr
    assert "cut.avi: it ends after " in done.stderr
    assert {path.name for path in Path("out").iterdir()} == {
        *("cut.mp4", "cut.detections.json", "b.mp4", "b.detections.json")
    }


def test_without_opencv_the_command_says_how_to_get_it() -> None:
    Path("detector.onnx").write_bytes(make_content())
    shutil.copy("clips/a.mp4", "b.mp4")
    blocked = "import sys; sys.modules['cv2'] = None; from smnas_optuna.cli import main; main(sys.argv[1:])"

    done = subprocess.run(
        [sys.executable, "-c", blocked, "predict", "b.mp4", "--detector", "detector.onnx"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: videos and cameras need OpenCV")
    assert "pip install 'smnas-optuna[video]'" in done.stderr
