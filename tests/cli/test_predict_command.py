from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from optuna.samplers import NSGAIISampler
from PIL import Image

from smnas_optuna import load_detector, load_exported
from smnas_optuna.cli import main
from smnas_optuna.study.folder import StudyFolder

from ..api.api_folders import keep_detector
from ..commands import environment, here, start
from ..models.tiny_detectors import TWO_STAGE
from ..report.report_studies import fill
from ..runtime.exported_files import DESCRIPTION, make_content
from ..study.test_faults import overwrite

BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision"):
            raise ImportError(f"{name} is not to be imported")
sys.meta_path.insert(0, Blocked())
from smnas_optuna.cli import main
main(sys.argv[1:])
"""


def status(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """Finds a cat with a score of 0.78 in a red image and a dog with 0.44, and a cat with 0.16 in a dark one."""
    path = tmp_path / "detector.onnx"
    path.write_bytes(make_content())
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two red images and a dark one."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, red in (("a.png", 255), ("b.jpg", 255), ("c.png", 20)):
        Image.new("RGB", (640, 480), (red, 0, 0)).save(folder / name)
    return folder


def test_a_file_is_used_without_torch(images: Path, exported: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    arguments = ["predict", images, "--detector", exported, "--output", output]

    run = subprocess.run(
        [sys.executable, "-c", BLOCKED, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines() == ["2 objects in 3 images", f"wrote {output}/"]
    assert sorted(path.name for path in output.iterdir()) == ["a.png", "b.jpg", "c.png", "detections.json"]


def test_the_same_command_again_takes_no_picture_for_an_image(
    images: Path, exported: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images)

    for _ in range(2):
        assert status("predict", ".", "--detector", exported) == 0

        assert capsys.readouterr().out.splitlines() == ["2 objects in 3 images", "wrote predictions/"]


def test_json_is_all_that_is_printed_and_nothing_is_written(
    images: Path, exported: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images)

    assert status("predict", "*.png", "--detector", exported, "--json", "--threshold", "0.7") == 0

    said = capsys.readouterr()
    (result,) = json.loads(said.out)
    found = load_exported(exported).predict("a.png")
    assert (result["file_name"], result["category_id"], result["category_name"]) == ("a.png", 1, "cat")
    assert result["score"] == pytest.approx(found.scores[0], abs=1e-5)
    assert result["bbox"][:2] == pytest.approx(found.boxes[0, :2], abs=1e-3)
    assert said.err == "1 object in 2 images\n"
    assert len(list(images.iterdir())) == 3


def test_thresholds_that_a_file_was_stored_with_decide_without_an_option(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "thresholds" not in DESCRIPTION.__dataclass_fields__:
        pytest.skip("exported files have no thresholds")
    changes: dict[str, object] = {"thresholds": {"cat": 0.95, "dog": 0.4}}
    (tmp_path / "d.onnx").write_bytes(make_content(replace(DESCRIPTION, **changes)))  # type: ignore[arg-type]

    assert status("predict", images / "a.png", "--detector", tmp_path / "d.onnx", "--json") == 0

    assert [each["category_name"] for each in json.loads(capsys.readouterr().out)] == ["dog"]


def test_a_broken_image_is_skipped_and_the_command_fails_in_the_end(
    images: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "b.jpg").write_text("no image")

    assert status("predict", images, "--detector", exported, "--output", tmp_path / "out") == 1

    said = capsys.readouterr()
    assert said.out.splitlines() == ["1 object in 2 images", f"wrote {tmp_path / 'out'}/"]
    first, last = said.err.splitlines()
    assert first.startswith(f"skipped: {images / 'b.jpg'}: the image cannot be read: cannot identify it as any of ")
    assert last == "error: 1 of 3 images cannot be read, and are skipped"


@pytest.mark.parametrize(
    ("options", "limit"),
    [([], "the threshold of its class"), (["--threshold", "0.8"], "--threshold 0.8")],
)
def test_if_nothing_reaches_the_threshold_the_highest_score_is_told(
    options: list[str], limit: str, images: Path, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("predict", images / "c.png", "--detector", exported, "--json", *options) == 0

    assert capsys.readouterr().err.splitlines() == [
        "0 objects in 1 image",
        f"the highest score is 0.16, which is below {limit}",
    ]


def test_a_source_that_is_missing_is_told_before_the_detector_is_read(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("predict", images / "x.png", "--detector", "nothing") == 1

    assert capsys.readouterr().err.splitlines() == [
        f"error: {images / 'x.png'}: there is no such file or folder",
        "  fix: name image files, folders of them, or a pattern in quotes: 'photos/*.jpg'; videos are named "
        "themselves, or by 'clips/*.mp4'",
    ]


def test_a_detector_that_is_missing_is_one_message(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("predict", images, "--detector", images / "x.onnx", "--json") == 1

    assert capsys.readouterr().err.splitlines() == [
        f"error: {images / 'x.onnx'}: there is no such file or folder",
        "  fix: name a folder with weights, such as studies/shapes/runs/ARCH, a file that `smnas export` has written, "
        "or a study folder, such as studies/shapes",
    ]


def test_a_detector_that_cannot_be_reached_is_not_called_missing(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "loop").symlink_to("loop")

    assert status("predict", images, "--detector", images / "loop", "--json") == 1

    assert "loop: it cannot be read: Too many levels of symbolic links" in capsys.readouterr().err


def test_damaged_category_ids_are_no_fault_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_folder, image = keep_detector(tmp_path / "run", TWO_STAGE), tmp_path / "image.png"
    Image.new("RGB", (90, 60)).save(image)
    about = json.loads((run_folder / "detector.json").read_text())
    (run_folder / "detector.json").write_text(json.dumps({**about, "category_ids": [1]}))

    assert status("predict", image, "--detector", run_folder, "--json", "--threshold", "0", "--device", "cpu") == 1

    assert capsys.readouterr().err.splitlines() == [
        f"error: {run_folder / 'detector.json'}: category_ids: should be distinct ids, one for each of 3 classes, but "
        "got [1]",
        "  fix: copy the file from where the weights are from, or train the architecture again",
    ]


def test_a_damaged_database_of_a_study_is_one_message(
    study_dir: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(StudyFolder(study_dir).create("structural", NSGAIISampler()))
    overwrite(study_dir / "study.db", 8192)

    assert status("predict", images, "--detector", study_dir) == 1

    said = capsys.readouterr().err
    assert f"error: {study_dir / 'study.db'}: is damaged: " in said
    assert "Traceback" not in said


def test_an_output_folder_that_cannot_be_used_is_told_before_any_work(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "evaluated"
    output.mkdir()
    for name in ("detections.json", "detected.json"):
        (output / name).write_text("kept")

    assert status("predict", images, "--detector", "nothing", "--output", output) == 1

    assert capsys.readouterr().err.splitlines() == [
        f"error: {output}: it holds the detections.json of `smnas evaluate`, which would be lost",
        "  fix: name another folder: --output DIR",
    ]
    assert {path.name: path.read_text() for path in output.iterdir()} == {
        "detections.json": "kept",
        "detected.json": "kept",
    }


def test_a_picture_that_cannot_be_written_is_one_message_and_leaves_whole_ones(
    images: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    Image.fromarray(noise).save(images / "big.png")
    output, limits = tmp_path / "out", resource.getrlimit(resource.RLIMIT_FSIZE)

    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        ended = status("predict", images, "--detector", exported, "--output", output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert ended == 1
    assert capsys.readouterr().err.splitlines() == [
        f"error: {output / 'big.png'}: the picture cannot be written: File too large",
        "  fix: let a process write larger files: ulimit -f unlimited, or name another folder: --output DIR",
    ]
    assert sorted(path.name for path in output.iterdir()) == ["a.png", "b.jpg"]


def test_json_and_an_output_folder_exclude_each_other(
    images: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("predict", images, "--detector", exported, "--json", "--output", tmp_path / "out") == 2

    assert "--json writes no file, so that --output has no meaning" in capsys.readouterr().err


def test_a_folder_with_weights_is_a_detector(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_folder, image = keep_detector(tmp_path / "run", TWO_STAGE), tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)).save(image)

    assert status("predict", image, "--detector", run_folder, "--json", "--threshold", "0", "--device", "cpu") == 0

    found = load_detector(run_folder, device="cpu").predict(image)
    results = json.loads(capsys.readouterr().out)
    assert [each["score"] for each in results] == [pytest.approx(score, abs=1e-5) for score in found.scores]
    assert [each["category_id"] for each in results] == [[1, 3, 7][label - 1] for label in found.labels]


@pytest.mark.slow
def test_ctrl_c_leaves_whole_files(images: Path, tmp_path: Path) -> None:
    (tmp_path / "slow.onnx").write_bytes(make_content(slow=3))
    for number in range(3000):
        (images / f"{number:04}.png").write_bytes((images / "a.png").read_bytes())
    output = tmp_path / "out"

    process = start("predict", images, "--detector", tmp_path / "slow.onnx", "--output", output)
    deadline = time.monotonic() + 60
    while not list(output.glob("*.png")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)

    assert process.returncode == 130
    assert said.splitlines()[-1] == "stopped by SIGINT; no detections.json is written"
    written = list(output.iterdir())
    assert 0 < len(written) < 3000
    for path in written:
        with Image.open(path) as picture:
            picture.load()


@pytest.mark.slow
def test_a_study_stands_for_the_best_detector_of_its_front(trained_dir: Path, tmp_path: Path) -> None:
    images, output = trained_dir / "data" / "images", tmp_path / "out"

    done = here("predict", images, "--detector", trained_dir, "--output", output, "--threshold", "0")

    assert done.stderr.endswith(", with the weights of the search\n")
    assert len(list(output.glob("*.png"))) == len(list(images.iterdir()))
