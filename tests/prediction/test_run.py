from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from smnas_optuna.engine.durable import part_of
from smnas_optuna.errors import OutOfMemoryError, OutputError
from smnas_optuna.prediction.finder import Finder, finder_of
from smnas_optuna.prediction.run import PHASE, Predicted, predict
from smnas_optuna.prediction.sources import find_sources
from smnas_optuna.runtime.detections import Detections
from smnas_optuna.session.listener import Listener
from smnas_optuna.workers.interrupt import Interrupted, StopRequest

from .detections import NAMES, detections


class Whole:
    """Finds one object, which fills the image: of class 2 in a bright one, of class 1 in others."""

    def predict(self, image: NDArray[np.uint8]) -> Detections:
        height, width = image.shape[:2]
        bright = image.mean() > 128
        return detections(((0, 0, width, height), 2 if bright else 1, 0.9 if bright else 0.3))


class Heard(Listener):
    """Keeps what is reported, and asks to stop after a number of images."""

    def __init__(self, stop: StopRequest | None = None, after: int = 0) -> None:
        self.notes: list[str] = []
        self.steps: list[tuple[str, int, int]] = []
        self._stop, self._after = stop, after

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, phase: str, done: int, total: int) -> None:
        self.steps.append((phase, done, total))
        if self._stop is not None and done == self._after:
            self._stop.ask(signal.SIGINT)


def finder(threshold: float | None = None, names: tuple[str, ...] = NAMES) -> Finder:
    return finder_of(Whole(), names, {"category_ids": [1, 3, 7]}, threshold=threshold)


def run(folder: Path, output: Path | None, threshold: float | None = None, heard: Heard | None = None) -> Predicted:
    sources = find_sources([str(folder)], output=output)
    return predict(finder(threshold), sources, output=output, listener=heard or Heard(), stop=StopRequest())


def results(output: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((output / "detections.json").read_text())
    return found


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A dark, a bright and a turned image."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    Image.new("RGB", (600, 500), (20, 20, 20)).save(folder / "dark.jpg")
    Image.new("RGB", (600, 500), (240, 240, 240)).save(folder / "deep" / "bright.bmp")
    turned, exif = Image.new("RGB", (600, 500), (250, 250, 250)), Image.Exif()
    turned.paste((0, 0, 0), (0, 0, 10, 10))
    exif[ExifTags.Base.Orientation] = 6  # to be turned clockwise
    turned.save(folder / "turned.png", exif=exif)
    return folder


def test_each_image_has_a_picture_and_the_results_are_those_of_all(images: Path, tmp_path: Path) -> None:
    output, heard = tmp_path / "new" / "out", Heard()

    done = run(images, output, threshold=0.2, heard=heard)

    assert sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()) == [
        "dark.jpg",
        "deep/bright.png",
        "detections.json",
        "turned.png",
    ]
    assert results(output) == done.results
    assert [(each["image_id"], each["category_id"], each["bbox"]) for each in done.results] == [
        (1, 1, [0, 0, 600, 500]),
        (2, 3, [0, 0, 600, 500]),
        (3, 3, [0, 0, 500, 600]),
    ]
    assert done.results[1]["file_name"] == str(images / "deep" / "bright.bmp")
    assert (done.num_images, done.errors, done.best_below) == (3, [], None)
    assert heard.steps == [(PHASE, number, 3) for number in (1, 2, 3)]
    assert heard.notes == []


def test_a_turned_image_comes_out_as_it_is_seen(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "out", threshold=1.0)

    with Image.open(tmp_path / "out" / "turned.png") as picture:
        assert picture.size == (500, 600)
        assert picture.getexif().get(ExifTags.Base.Orientation) in (None, 1)
        assert picture.getpixel((495, 5)) == (0, 0, 0)


def test_what_does_not_reach_the_threshold_is_not_drawn_and_no_result(images: Path, tmp_path: Path) -> None:
    done = run(images, tmp_path / "out")

    assert [each["category_name"] for each in done.results] == ["dog", "dog"]
    assert done.best_below == pytest.approx(0.3)
    with Image.open(tmp_path / "out" / "dark.jpg") as picture:
        assert np.asarray(picture).max() < 30


def test_a_broken_image_is_reported_and_skipped(images: Path, tmp_path: Path) -> None:
    (images / "broken.jpg").write_bytes((images / "dark.jpg").read_bytes()[:1000])
    (images / "text.png").write_text("text")
    heard = Heard()

    done = run(images, tmp_path / "out", heard=heard)

    assert done.num_images == 3
    assert [error.message for error in done.errors] == [note.removeprefix("skipped: ") for note in heard.notes]
    assert heard.notes[0].startswith(f"skipped: {images / 'broken.jpg'}: the image cannot be read: ")
    assert heard.notes[1].startswith(f"skipped: {images / 'text.png'}: the image cannot be read: cannot identify it ")
    assert not (tmp_path / "out" / "broken.jpg").exists()
    assert {each["image_id"] for each in results(tmp_path / "out")} == {3, 5}
    assert heard.steps[-1] == (PHASE, 5, 5)


def test_without_an_output_nothing_is_written(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    done = run(images, None)

    assert len(done.results) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_an_interrupted_run_leaves_whole_pictures_and_no_results(images: Path, tmp_path: Path) -> None:
    output, stop = tmp_path / "out", StopRequest()
    run(images, output)
    (output / "dark.jpg").unlink()
    sources = find_sources([str(images)], output=output)

    with pytest.raises(Interrupted):
        predict(finder(), sources, output=output, listener=Heard(stop, after=1), stop=stop)

    assert not (output / "detections.json").exists()
    assert not part_of(output / "dark.jpg").exists()
    with Image.open(output / "dark.jpg") as picture:
        picture.load()


def test_the_same_run_again_replaces_its_own_files(images: Path, tmp_path: Path) -> None:
    first = run(images, images / "out", threshold=0.2)
    again = run(images, images / "out", threshold=0.2)

    assert again.results == first.results
    assert len(list((images / "out").rglob("*.*"))) == 4


def test_names_that_no_font_can_write_are_noted(images: Path, tmp_path: Path) -> None:
    heard, names = Heard(), ("cat", "\U0010ffff", "\U0010fffe")
    sources = find_sources([str(images)])

    predict(finder(names=names), sources, output=tmp_path / "out", listener=heard, stop=StopRequest())

    assert heard.notes == [
        "note: no font of this machine has all characters of 2 of 3 class names, the first '\\U0010ffff'; pictures say "
        "`class 2`; fix: install a font, such as Noto Sans of that script"
    ]


@pytest.mark.parametrize("output", ["out", None])
def test_of_an_animated_image_the_first_frame_is_taken_and_that_is_noted(
    images: Path, output: str | None, tmp_path: Path
) -> None:
    frames, heard = [Image.new("RGB", (600, 500), (level, level, level)) for level in (250, 20)], Heard()
    frames[0].save(images / "a.gif", save_all=True, append_images=frames[1:])

    done = run(images, None if output is None else tmp_path / output, heard=heard)

    assert [each["category_name"] for each in done.results if each["file_name"].endswith("a.gif")] == ["dog"]
    assert heard.notes == [
        f"note: 1 of 4 images has more than one frame, such as {images / 'a.gif'}; only the first frame is looked at"
    ]


def test_a_full_disk_leaves_whole_pictures_and_no_results(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, room = tmp_path / "out", [True]

    def write_first(path: Path, content: bytes) -> None:
        path.write_bytes(content if room else content[:9])
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room.pop()

    run(images, output)
    (output / "dark.jpg").unlink()
    monkeypatch.setattr("smnas_optuna.engine.durable.write_anew", write_first)

    with pytest.raises(OutputError, match=r"bright\.png: the picture cannot be written: No space left on device"):
        run(images, output)

    files = [path for path in output.rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == ["bright.png", "dark.jpg", "turned.png"]
    for path in files:
        with Image.open(path) as picture:
            picture.load()


@pytest.mark.parametrize("error", [MemoryError(), OutOfMemoryError("no room", fix="make some")])
def test_an_image_that_memory_has_no_room_for_is_named_and_skipped(images: Path, error: Exception) -> None:
    class Greedy(Whole):
        def predict(self, image: NDArray[np.uint8]) -> Detections:
            if image.mean() < 128:
                raise error
            return super().predict(image)

    heard = Heard()
    greedy = finder_of(Greedy(), NAMES, {}, threshold=None)
    done = predict(greedy, find_sources([str(images)]), output=None, listener=heard, stop=StopRequest())

    assert (done.num_images, len(done.errors), len(done.results)) == (2, 1, 2)
    assert heard.notes == [f"skipped: {images / 'dark.jpg'}: memory is used up"]
    assert done.errors[0].fix == "close other programs, or make the image smaller"
