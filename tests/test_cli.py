from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from optuna.samplers import RandomSampler
from PIL import Image

from smnas_optuna.cli import check_platform, main
from smnas_optuna.errors import StudyError
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import STRUCTURAL

from .as_nobody import as_nobody
from .report.report_studies import FAST, fill
from .runtime.any_files import write_onnx


def smnas(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


def test_windows_is_refused_in_a_sentence() -> None:
    check_platform("linux")
    with pytest.raises(StudyError, match="smnas does not run on Windows\n  fix: use Linux, for example in WSL 2"):
        check_platform("win32")


def test_the_command_line_needs_no_torch_to_say_what_it_can_do() -> None:
    code = "import sys; from smnas_optuna.cli import app; print('torch' in sys.modules, 'optuna' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False", "False"]


def test_who_supervises_needs_no_torch() -> None:
    modules = (
        "config, search.request, search.loop, study.folder, workers.supervisor, workers.assignment, workers.recovery, "
        "campaign.run, verify.request, verify.verification, report.files, report.summary, report.tables"
    )
    imports = "; ".join(f"import smnas_optuna.{name}" for name in modules.split(", "))
    code = f"import sys; {imports}; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False"]


SEARCH = {
    "--data",
    "--trials",
    "--device",
    "--workers",
    "--no-pruning",
    "--force",
    "--dry-run",
    "--warm-start",
    "--ray",
}


# What a script may rely on: a change here breaks somebody's command.
@pytest.mark.parametrize(
    ("command", "options"),
    [
        (["init"], {"--data", "--hours", "--max-latency-ms", "--device", "--drop-empty-boxes"}),
        (["search"], SEARCH - {"--trials", "--no-pruning"} | {"--hours"}),
        (["structural"], SEARCH | {"--storage"}),
        (["modular"], SEARCH | {"--parents", "--parent"}),
        (
            ["worker"],
            SEARCH - {"--workers", "--dry-run", "--warm-start", "--ray"} | {"--stage", "--parents", "--parent"},
        ),
        (
            ["benchmark"],
            {"--baselines", "--sizes", "--study", "--data", "--device", "--runtime", "--json"}
            | {"--onnx", "--results", "--on"},
        ),
        (["doctor"], {"--fix", "--ray", "--data"}),
        (["front"], {"--stage", "--format"}),
        (["report"], {"--data", "--watch", "--output"}),
        (["retime"], {"--data", "--device", "--stopwatch", "--runtime", "--force"}),
        (["verify"], {"--top", "--seeds", "--epochs", "--data", "--device", "--workers", "--ray"}),
        (["dashboard"], {"--port"}),
        (["data", "check"], {"--data"}),
        (["data", "look"], {"--data", "--output"}),
        (
            ["export"],
            {"--latency-ms", "--knee", "--best", "--trained", "--output", "--precision", "--allow-loss", "--data"},
        ),
        (
            ["train"],
            {
                "--latency-ms",
                "--knee",
                "--best",
                "--epochs",
                "--hours",
                "--with-val",
                "--name",
                "--processes",
                "--data",
                "--device",
                "--ray",
            },
        ),
        (
            ["evaluate"],
            {"--latency-ms", "--knee", "--best", "--trained", "--detector", "--on", "--images", "--output"}
            | {"--data", "--device"},
        ),
        (["predict"], {"--detector", "--output", "--json", "--threshold", "--device"}),
        (["stopwatch"], {"--images", "--runtime", "--threads", "--max-seconds", "--json"}),
        (["stopwatch", "serve"], {"--host", "--port", "--token-file", "--max-gib"}),
    ],
)
def test_options_are_these(command: list[str], options: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert smnas(*command, "--help") == 0
    words = capsys.readouterr().out.replace("│", " ").split()
    assert {word.strip(",") for word in words if word.startswith("--")} - {"--help"} == options


@pytest.mark.parametrize(
    ("command", "default"),
    [
        ("search", "that of study.toml; without one the numbers of trainings there"),
        ("structural", "that of study.toml"),
        ("structural", "that of the last run, or STUDY_DIR/data"),
        ("structural", "STUDY_DIR/study.db"),
        ("worker", "that of the joined search"),
        ("verify", "twice those of study.toml"),
        ("train", "five times those of the search"),
        ("benchmark", "those of the ARCHs"),
    ],
)
def test_help_has_defaults_that_are_found_later(command: str, default: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert smnas(command, "--help") == 0
    assert f"[default: ({default})]" in " ".join(capsys.readouterr().out.replace("│", " ").split())


def write(path: Path, values: object) -> Path:
    path.write_text(json.dumps(values))
    return path


def make_data(folder: Path, *, val: bool = True) -> Path:
    """Two training images and one for validation, 40 x 30 px, one box each."""
    (folder / "images").mkdir(parents=True)
    for number in (1, 2, 3):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
    for name, ids in {"train": (1, 2), "val": (3,)}.items():
        if name == "train" or val:
            write(
                folder / f"instances_{name}.json",
                {
                    "images": [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in ids],
                    "annotations": [{"id": i, "image_id": i, "category_id": 7, "bbox": [5, 5, 10, 10]} for i in ids],
                    "categories": [{"id": 7, "name": "thing"}],
                },
            )
    return folder


@pytest.fixture
def own_data_study(study_dir: Path) -> Path:
    """The tiny study on data of one's own instead of drawn images."""
    text = (study_dir / "study.toml").read_text()
    (study_dir / "study.toml").write_text(text.replace("[data.shapes]", "").replace("train_images = 24", ""))
    lines = (study_dir / "study.toml").read_text().splitlines()
    own = [line for line in lines if line.split(" ")[0] not in ("val_images", "width", "height")]
    (study_dir / "study.toml").write_text("\n".join(own))
    return study_dir


Spoil = Callable[[Path], object]


def edit(change: Callable[[dict[str, list[dict[str, object]]]], object], name: str = "train") -> Spoil:
    def spoil(data: Path) -> None:
        path = data / f"instances_{name}.json"
        values = json.loads(path.read_text())
        change(values)
        write(path, values)

    return spoil


BAD_DATA: dict[str, tuple[Spoil, str]] = {
    "no annotations": (
        lambda d: (d / "instances_train.json").unlink(),
        "instances_train.json: there is no such annotation file",
    ),
    "not JSON": (lambda d: (d / "instances_train.json").write_text("{"), "instances_train.json: this is not JSON: "),
    "not COCO": (lambda d: write(d / "instances_train.json", [1, 2]), "instances_train.json: this is not COCO: "),
    "image missing": (lambda d: (d / "images" / "2.png").unlink(), "images/2.png: No such file or directory"),
    "image truncated": (
        lambda d: (d / "images" / "2.png").write_bytes((d / "images" / "2.png").read_bytes()[:900]),
        "images/2.png: the image cannot be read: ",
    ),
    "image outside": (
        edit(lambda v: v["images"][0].update(file_name="../instances_train.json")),
        "images lie outside the image folder\n  first: image 1, ",
    ),
    "another size": (
        edit(lambda v: v["images"][0].update(width=41)),
        "the image is 40x30 pixels (width x height), its annotation says 41x30",
    ),
    "box without area": (
        edit(lambda v: v["annotations"][1].update(bbox=[1, 1, 0, 5])),
        "have a box without area\n  first: annotation 2 of image 2",
    ),
    "box outside": (
        edit(lambda v: v["annotations"][1].update(bbox=[50, 1, 5, 5])),
        "have a box wholly outside its image\n  first: annotation 2 of image 2",
    ),
    "box NaN": (
        edit(lambda v: v["annotations"][1].update(bbox=[float("nan"), 1, 5, 5])),
        "have a box that is not four finite numbers\n  first: annotation 2 of image 2",
    ),
    "no such image": (edit(lambda v: v["annotations"][1].update(image_id=99)), "first: annotation 2 has image_id 99"),
    "no such category": (
        edit(lambda v: v["annotations"][1].update(category_id=8)),
        "first: annotation 2 has category_id 8",
    ),
    "duplicate id": (
        edit(lambda v: v["images"][1].update(id=1)),
        "1 of 2 images repeat the id of another\n  first: images[1] has id 1",
    ),
    "no categories": (edit(lambda v: v["categories"].clear()), "there are no categories: "),
    "no training images": (
        edit(lambda v: v.update(images=[], annotations=[])),
        "instances_train.json: there are no images: ",
    ),
    "no boxes": (edit(lambda v: v["annotations"].clear()), "the 2 training images have no box"),
    "other categories": (
        edit(lambda v: v["categories"][0].update(name="other"), "val"),
        "first: category 7 is 'thing' in instances_train.json, 'other' in",
    ),
    "shared image": (
        lambda d: (d / "images" / "3.png").write_bytes((d / "images" / "1.png").read_bytes()),
        "1 of 1 validation images are training images too",
    ),
}


@pytest.mark.parametrize("problem", BAD_DATA)
def test_bad_data_is_refused_with_where_what_and_fix(
    problem: str, own_data_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "data")
    spoil, named = BAD_DATA[problem]
    spoil(data)

    status = smnas("structural", own_data_study, "--data", data, "--device", "cpu", "--dry-run")

    error = capsys.readouterr().err
    assert status == 1
    assert error.startswith("error: ")
    assert named in error
    assert "\n  fix: " in error
    assert "Traceback" not in error
    assert not (own_data_study / "study.db").exists(), "nothing is begun with bad data"


def test_the_front_says_that_the_limits_have_changed(study_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(StudyFolder(study_dir).create("structural", optuna.samplers.NSGAIISampler()))
    text = (study_dir / "study.toml").read_text()
    (study_dir / "study.toml").write_text(text.replace("[search]", "[search]\nmax_latency_ms = 12"))

    assert smnas("front", study_dir, "--format", "csv") == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("arch,latency_ms,")
    assert captured.err == (
        "note: study.toml has other limits than this front: max_latency_ms is 12, was none; "
        "the next search applies them\n"
    )


def test_good_data_passes_the_check(own_data_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "data")

    assert smnas("data", "check", own_data_study, "--data", data) == 0

    assert "train: 2 images, 2 boxes, 1 classes" in capsys.readouterr().out


def test_data_are_shown_on_a_page(own_data_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, page = make_data(tmp_path / "data"), own_data_study / "report" / "data.html"

    assert smnas("data", "look", own_data_study, "--data", data) == 0

    out = capsys.readouterr().out
    assert ["training", "2", "2", "1"] in [line.split()[:4] for line in out.splitlines()]
    assert out.splitlines()[-1] == f"wrote {page}"
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [file.name for file in page.parent.iterdir()] == ["data.html"], "nothing else is left there"


def test_who_may_only_read_a_study_looks_at_its_data(
    own_data_study: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "data")
    for _ in range(2):  # what another user needs is imported here
        assert smnas("data", "look", own_data_study, "--data", data) == 0
    shutil.rmtree(own_data_study / "report")
    (mine := tmp_path / "mine").mkdir()
    mine.chmod(0o777)
    capfd.readouterr()

    def look(*options: str | Path) -> str:
        return as_nobody(lambda: str(smnas("data", "look", own_data_study, "--data", data, *options)), own_data_study)

    assert look() == "0"
    said = capfd.readouterr()
    assert ["training", "2", "2", "1"] in [line.split()[:4] for line in said.out.splitlines()]
    assert said.err.startswith(f"note: {own_data_study / 'report'}: the page on the data cannot be written (Permission")
    assert said.err.endswith("; or name another file: --output data.html\n")

    assert look("--output", mine / "page.html") == "0"
    assert capfd.readouterr().out.splitlines()[-1] == f"wrote {mine / 'page.html'}"
    assert look("--output", mine) == "0"
    assert sorted(file.name for file in mine.iterdir()) == ["data.html", "page.html"]

    assert look("--output", own_data_study / "page.html") == "1", "what was asked for is not there"
    assert "the page on the data cannot be written (Permission denied)" in capfd.readouterr().err


def test_who_may_only_read_a_study_has_its_report_written_elsewhere(
    study_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fill(StudyFolder(study_dir).create("structural", optuna.samplers.NSGAIISampler()))
    (study_dir / "data").symlink_to(study_dir)
    (mine := tmp_path / "mine").mkdir()
    mine.chmod(0o777)
    assert smnas("report", study_dir) == 0
    shutil.rmtree(study_dir / "report")

    assert as_nobody(lambda: str(smnas("report", study_dir)), study_dir) == "1"
    assert "; or name another file: --output report.html" in capfd.readouterr().err
    assert as_nobody(lambda: str(smnas("report", study_dir, "--output", mine)), study_dir) == "0"
    assert [file.name for file in mine.iterdir()] == ["report.html"]


def test_a_study_is_reported_on_a_page(study_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(StudyFolder(study_dir).create("structural", optuna.samplers.NSGAIISampler()))
    (study_dir / "data").symlink_to(study_dir)  # not drawn into

    assert smnas("report", study_dir) == 0

    page = study_dir / "report" / "report.html"
    assert capsys.readouterr().out == f"wrote {page}\n"
    assert "There are no pictures, as the data cannot be used" in page.read_text(encoding="utf-8")
    assert smnas("report", study_dir, "--data", study_dir / "nothing") == 1
    assert "there is no such folder" in capsys.readouterr().err


def test_a_page_is_not_written_through_a_link(
    own_data_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (own_data_study / "report").symlink_to(tmp_path / "elsewhere")

    assert smnas("data", "look", own_data_study, "--data", make_data(tmp_path / "data")) == 1

    assert "1 of its parts are something else\n  first: " in capsys.readouterr().err
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("command", [("structural", "--device", "cpu", "--dry-run"), ("data", "check")], ids=" ".join)
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = 2", "epoch = 2", "unknown key `train.epoch`\n  fix: did you mean `epochs`?"),
        ("epochs = 2", "epochs = 0", "train.epochs: Input should be greater than 0, but got 0"),
        ("trials = 5", 'trials = "many"', "search.trials: "),
        ("resnet18-w8.", "resnet19-w8.", "'resnet19' is not known"),
        (
            "resnet18-w8.",
            "resnet18-w16.",
            "error: study.toml: [search] baselines: 64x64.resnet18-w16.fpn-p2-p5-c16.rpn.fc-w32 is not in "
            "[space.structural]: backbone.width 16 is none of its choices\n  fix: add it to the space",
        ),
        ("[train]", "[train", "is not TOML"),
    ],
)
def test_bad_settings_are_refused(
    command: tuple[str, ...], old: str, new: str, message: str, study_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study_dir / "study.toml"
    path.write_text(path.read_text().replace(old, new))

    assert smnas(*command, study_dir) == 1

    error = capsys.readouterr().err
    assert message in error
    assert "fix: " in error


def test_no_study_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert smnas("structural", tmp_path) == 1
    assert f"error: {tmp_path}/study.toml: there is no such file\n  fix: " in capsys.readouterr().err


def test_no_data_folder(own_data_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert smnas("structural", own_data_study, "--data", tmp_path / "nowhere", "--device", "cpu", "--dry-run") == 1
    assert f"error: {tmp_path}/nowhere: there is no such folder\n  fix: " in capsys.readouterr().err


@pytest.mark.slow
def test_what_a_worker_refuses_is_said_once_and_ends_the_search(
    study_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = study_dir / "study.toml"
    path.write_text(path.read_text().replace('baselines = ["64x64.resnet18-w8', 'baselines = ["64x64.resnet18-w16'))

    assert smnas("structural", study_dir, "--device", "cpu", "--workers", "2") == 1

    error = capfd.readouterr().err
    assert error.count("error: ") == 1
    assert "backbone.width 16 is none of its choices" in error
    assert not (study_dir / "study.db").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_without_cuda(study_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert smnas("structural", study_dir, "--device", "cuda", "--dry-run") == 1
    assert "error: --device cuda: torch " in capsys.readouterr().err


def test_a_database_that_is_none(study_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study_dir / "study.db").write_text("not a database")

    for command in (["structural"], ["front"], ["dashboard"]):
        assert smnas(*command, study_dir) == 1
        assert "study.db" in capsys.readouterr().err


def test_front_before_there_is_a_study(study_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert smnas("front", study_dir, "--format", "json") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "fix: start one: smnas structural" in captured.err


@pytest.mark.parametrize("format", ["table", "csv", "json"])
def test_a_front_whose_files_cannot_be_written_is_printed(
    study_dir: Path, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(StudyFolder(study_dir).create(STRUCTURAL, RandomSampler()))
    (study_dir / "report").write_text("in the way")

    assert smnas("front", study_dir, "--format", format) == 0

    captured = capsys.readouterr()
    assert FAST in captured.out
    assert captured.err.startswith(f"note: {study_dir}/report: the front cannot be written (")
    assert "\n  fix: " in captured.err
    assert "wrote " not in captured.out
    if format == "json":
        assert len(json.loads(captured.out)["front"]) == 3


def test_verify_before_there_is_a_study(study_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert smnas("verify", study_dir) == 1
    assert f"error: {study_dir}: there is no structural study yet\n  fix: start one" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--seeds", "--top", "--epochs"])
def test_verify_takes_no_number_below_one(option: str, study_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert smnas("verify", study_dir, option, "0") == 2
    assert f"Invalid value for '{option}'" in capsys.readouterr().err


def test_test_images_are_checked_too(own_data_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, data = own_data_study / "study.toml", make_data(tmp_path / "data")
    path.write_text(path.read_text().replace("[data]", '[data]\ntest = "instances_test.json"'))
    shutil.copy(data / "instances_val.json", data / "instances_test.json")

    assert smnas("data", "check", own_data_study, "--data", data) == 1
    assert "1 of 1 test images are validation images too, by content" in capsys.readouterr().err

    Image.new("RGB", (40, 30)).save(data / "images" / "4.png")
    edit(lambda values: values["images"][0].update(file_name="4.png"), "test")(data)
    assert smnas("data", "check", own_data_study, "--data", data) == 0
    assert "test: 1 images, 1 boxes, 1 classes" in capsys.readouterr().out


@pytest.mark.slow
def test_dry_run_says_what_it_takes_and_begins_nothing(study_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert smnas("structural", study_dir, "--device", "cpu", "--dry-run") == 0

    out = capsys.readouterr().out
    assert "data: 24 training and 12 validation images, 10 classes" in out
    assert "space: 160 architectures of resnet18 at 32x32, 64x64\nbudget: 5 of them trained from scratch" in out
    for word in ("device: kind cpu", "time: about", "memory: at least", "disk: up to about"):
        assert word in out
    assert not (study_dir / "study.db").exists()


@pytest.mark.slow
def test_a_benchmark_is_a_table_or_json(study_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arch = "64x48.resnet18-w4.fpn-p4-p5-c4.none.retina"
    command = ["benchmark", arch, "--study", str(study_dir), "--device", "cpu"]

    assert smnas(*command) == 0
    out = capsys.readouterr().out
    assert f"ratio: 10th percentile (p10) divided by that of {arch}, timed in alternation" in out
    assert "untrained networks detect by chance" in out

    assert smnas(*command, "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["rows"][0]["name"] == arch
    assert captured.err.startswith(f"{arch}: ")


def test_detections_of_nothing_that_is_timed(capsys: pytest.CaptureFixture[str], study_dir: Path) -> None:
    assert smnas("benchmark", "sm_nas_e0", "--study", str(study_dir), "--results", "found.json") == 1
    assert capsys.readouterr().err == (
        "error: --results found.json: nothing is timed that they are of\n  fix: name its file: --onnx FILE\n"
    )
    assert smnas("benchmark", "sm_nas_e0", "--study", str(study_dir), "--on", "test") == 1
    assert capsys.readouterr().err == (
        "error: --on test: there are no detections\n  fix: name their file: --results FILE\n"
    )


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Whoever changes the number of torch's threads has it back afterwards."""
    before = torch.get_num_threads()
    yield monkeypatch
    torch.set_num_threads(before)


@pytest.mark.slow
def test_a_detector_from_outside_is_a_row_and_a_point_of_the_report(
    drawn_dir: Path, tmp_path: Path, threads: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    threads.setenv("OMP_NUM_THREADS", "1")
    assert smnas("structural", str(drawn_dir), "--trials", "1", "--device", "cpu", "--workers", "1") == 0
    truth = json.loads((drawn_dir / "data" / "instances_val.json").read_text())
    found = write(tmp_path / "found.json", [{**row, "score": 0.5} for row in truth["annotations"]])
    file = write_onnx(tmp_path / "theirs.onnx", (1, 3, 64, 64))
    command = ["benchmark", "--study", str(drawn_dir), "--device", "cpu", "--onnx", str(file)]
    threads.delenv("OMP_NUM_THREADS")
    torch.set_num_threads(2)  # as elsewhere; the study has measured with 1, and so has what is compared with it
    capsys.readouterr()

    assert smnas(*command, "--results", str(found)) == 0
    out = capsys.readouterr().out
    assert "theirs: AP (x100) 100.0" in out
    assert f"wrote {drawn_dir}/report/outside.json" in out

    assert smnas(*command, "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in values["rows"]] == ["the study's reference", "theirs"]
    kept = json.loads((drawn_dir / "report" / "outside.json").read_text())["detectors"]["theirs"]
    assert kept["ratio"] == values["rows"][1]["latency"]["ratio"]
    assert kept["val"]["metrics"]["ap"] == pytest.approx(1), "kept from the first run, as the file is the same"

    assert smnas("report", str(drawn_dir)) == 0
    assert "theirs, from outside: AP 100.0 at " in (drawn_dir / "report" / "report.html").read_text()


def test_a_benchmark_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert smnas("benchmark") == 1
    assert capsys.readouterr().err.startswith("error: there is nothing to time\n  fix: name architectures")
