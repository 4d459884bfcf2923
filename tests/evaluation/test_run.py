from __future__ import annotations

import dataclasses
import json
import math
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from optuna.samplers import RandomSampler

from smnas_optuna.arch import decode
from smnas_optuna.engine.checkpoint import DETECTOR_FILE, save_weights
from smnas_optuna.errors import StudyError
from smnas_optuna.evaluation import run
from smnas_optuna.evaluation.kept import DETECTIONS_FILE, DetectionsKept
from smnas_optuna.evaluation.request import EvaluationRequest
from smnas_optuna.evaluation.run import Evaluated, evaluate
from smnas_optuna.evaluation.subject import read_subject
from smnas_optuna.report.evaluation_table import explanations
from smnas_optuna.session.description import describe_detector
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import prepare
from smnas_optuna.session.trained import read_trained
from smnas_optuna.study.attributes import FINGERPRINT
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.interrupt import StopRequest

from ..models.tiny_detectors import spread_predictions
from ..runtime.exported_files import DESCRIPTION, make_content

ARCH = "64x64.resnet18-w8.fpn-p2-p5-c16.rpn.fc-w32"


class Notes(Listener):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.evaluations = 0

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, phase: str, done: int, total: int) -> None:
        self.evaluations += phase == "evaluate"


@pytest.fixture(scope="module")
def stored(drawn: Path) -> tuple[Path, float]:
    """A study folder with a detector of varied predictions in its runs, as if it had been trained, and its AP."""
    session = prepare(StudyFolder(drawn), listener=Listener(), stop=StopRequest(), device="cpu")
    with torch.random.fork_rng():
        detector = session.testbed.build(decode(ARCH), 0)
    spread_predictions(detector)
    save_weights(drawn / "runs" / ARCH, detector, describe_detector(session.testbed, ARCH, {"epochs": 2}))
    testbed = session.testbed
    size = decode(ARCH).input_size
    return drawn, testbed.evaluate(detector, testbed.splits.val, testbed.val_batches(size)).ap


@pytest.fixture
def runs_dir(stored: tuple[Path, float], drawn_dir: Path) -> Path:
    """A copy of it."""
    return drawn_dir


def request_of(study_dir: Path, **options: Any) -> EvaluationRequest:
    given: dict[str, Any] = {"study_dir": study_dir, "detector": study_dir / "runs" / ARCH, "device": "cpu"}
    return EvaluationRequest(**given | options)


def evaluated(request: EvaluationRequest, listener: Listener | None = None) -> Evaluated:
    return evaluate(request, listener=listener or Listener(), stop=StopRequest())


def test_a_run_has_the_ap_of_its_training(runs_dir: Path, stored: tuple[Path, float]) -> None:
    done = evaluated(request_of(runs_dir))

    assert done.metrics.ap == stored[1]
    assert (done.role, done.kept, done.output) == ("val", False, runs_dir / "evaluation" / f"{ARCH}.val")
    assert len(done.matches) == len(done.images.dataset.images) == 12
    assert [each.name for each in done.classes] == list(done.subject.classes)
    assert (
        sum(each.objects for each in done.sizes)
        == sum(each.objects for each in done.classes)
        == done.total.right + done.total.missed
    )
    assert np.trace(done.confusion) == done.total.right
    rows = json.loads((done.output / DETECTIONS_FILE).read_text())
    assert set(rows[0]) == {"image_id", "category_id", "bbox", "score"}
    assert list(done.output.glob("*.part")) == []


def test_nothing_is_detected_twice(runs_dir: Path) -> None:
    first, listener = evaluated(request_of(runs_dir)), Notes()

    again = evaluated(request_of(runs_dir), listener)

    assert (first.kept, again.kept, listener.evaluations) == (False, True, 0)
    assert dataclasses.astuple(again.metrics) == pytest.approx(dataclasses.astuple(first.metrics), nan_ok=True)
    assert again.thresholds == first.thresholds


def test_thresholds_of_val_are_stored_and_used_on_other_images(runs_dir: Path) -> None:
    on_val = evaluated(request_of(runs_dir))

    description = json.loads((runs_dir / "runs" / ARCH / DETECTOR_FILE).read_text())
    assert (on_val.threshold_source, on_val.stored) == ("found here", True)
    assert description["thresholds"] == dict(zip(on_val.subject.classes, on_val.thresholds, strict=True))
    assert description["epochs"] == 2  # the rest stays
    assert read_trained(runs_dir / "runs" / ARCH).thresholds == description["thresholds"]

    data = runs_dir / "data"
    other = evaluated(request_of(runs_dir, on=str(data / "instances_train.json"), images=data / "images"))

    assert (other.threshold_source, other.stored, other.role) == ("stored", False, "instances_train")
    assert other.thresholds == on_val.thresholds
    assert len(other.matches) == 24


def test_without_thresholds_other_images_take_a_half(runs_dir: Path) -> None:
    data = runs_dir / "data"

    done = evaluated(request_of(runs_dir, on=str(data / "instances_train.json"), images=data / "images"))

    assert (done.threshold_source, set(done.thresholds)) == ("none", {0.5})
    assert "thresholds" not in json.loads((runs_dir / "runs" / ARCH / DETECTOR_FILE).read_text())


def test_thresholds_that_cannot_be_stored_are_a_note(runs_dir: Path) -> None:
    listener = Notes()
    (runs_dir / "runs" / ARCH / f"{DETECTOR_FILE}.part").mkdir()

    done = evaluated(request_of(runs_dir), listener)

    assert not done.stored
    assert any("the thresholds cannot be stored" in note for note in listener.notes)


def test_test_images_are_those_of_the_study(runs_dir: Path) -> None:
    with pytest.raises(StudyError, match="--on test: the study has no test images"):
        evaluated(request_of(runs_dir, on="test"))

    set_last_image_aside(runs_dir)

    done = evaluated(request_of(runs_dir, on="test", data_dir=runs_dir / "data"))

    assert (done.role, len(done.matches)) == ("test", 1)


def set_last_image_aside(study_dir: Path) -> None:
    """Make the last training image the only test image."""
    toml, data = study_dir / "study.toml", study_dir / "data"
    rows = json.loads((data / "instances_train.json").read_text())
    last = max(row["id"] for row in rows["images"])
    for name, is_test in (("instances_train.json", False), ("instances_test.json", True)):
        chosen = [row for row in rows["images"] if (row["id"] == last) == is_test]
        ids = {row["id"] for row in chosen}
        annotations = [row for row in rows["annotations"] if row["image_id"] in ids]
        (data / name).write_text(json.dumps({**rows, "images": chosen, "annotations": annotations}))
    toml.write_text(toml.read_text().replace("[data]\n", '[data]\ntest = "instances_test.json"\n', 1))


def test_the_test_images_decide_for_a_detector_that_has_seen_the_validation_images(runs_dir: Path) -> None:
    about = runs_dir / "runs" / ARCH / DETECTOR_FILE
    about.write_text(json.dumps({**json.loads(about.read_text()), "with_val": True}))
    set_last_image_aside(runs_dir)

    on_val = evaluated(request_of(runs_dir, data_dir=runs_dir / "data"))

    assert (on_val.threshold_source, on_val.stored) == ("none", False)
    assert any("was trained on the validation images, too" in line for line in explanations(on_val))
    assert explanations(on_val)[-1].endswith("find them: --on test")

    on_test = evaluated(request_of(runs_dir, on="test", data_dir=runs_dir / "data"))
    again = evaluated(request_of(runs_dir, data_dir=runs_dir / "data"))

    assert (on_test.threshold_source, on_test.stored) == ("found here", True)
    assert (again.threshold_source, again.thresholds) == ("stored", on_test.thresholds)
    assert "as found on the test images" in explanations(again)[-1]


@pytest.mark.parametrize("with_val", [True, False])
def test_a_file_says_whether_its_detector_has_seen_the_validation_images(
    runs_dir: Path, tmp_path: Path, with_val: bool
) -> None:
    classes = read_subject(runs_dir / "runs" / ARCH).classes
    exported = tmp_path / "a.onnx"
    exported.write_bytes(make_content(replace(DESCRIPTION, classes=classes, with_val=with_val)))

    said = explanations(evaluated(request_of(runs_dir, detector=exported)))

    assert any("was trained on the validation images, too" in line for line in said) == with_val


def renamed(study_dir: Path, names: dict[str, str], ids: dict[int, int]) -> Path:
    """The validation file with other names and ids of categories."""
    rows = json.loads((study_dir / "data" / "instances_val.json").read_text())
    categories = [
        {"id": ids.get(row["id"], row["id"]), "name": names.get(row["name"], row["name"])} for row in rows["categories"]
    ]
    annotations = [
        {**row, "category_id": ids.get(row["category_id"], row["category_id"])} for row in rows["annotations"]
    ]
    path = study_dir / "data" / "other.json"
    path.write_text(json.dumps({**rows, "categories": categories, "annotations": annotations}))
    return path


def test_classes_are_told_by_their_names(runs_dir: Path) -> None:
    on_val = evaluated(request_of(runs_dir))
    ids = {1: 502, 2: 501}  # now the second one comes before the first
    options = {"on": str(renamed(runs_dir, {}, ids)), "images": runs_dir / "data" / "images"}

    other = evaluated(request_of(runs_dir, **options))

    assert other.images.category_ids[:2] == (502, 501)
    assert other.metrics.ap == pytest.approx(on_val.metrics.ap)
    for mine, its in zip(on_val.classes, other.classes, strict=True):
        assert (mine.name, mine.objects) == (its.name, its.objects)
        assert mine.ap == pytest.approx(its.ap, nan_ok=True)


def test_other_classes_are_refused(runs_dir: Path) -> None:
    path = renamed(runs_dir, {read_subject(runs_dir / "runs" / ARCH).classes[0]: "zebra"}, {})

    with pytest.raises(StudyError, match=r"other.json: its classes are not those of .*: 10 and 10\n  first: .* one of"):
        evaluated(request_of(runs_dir, on=str(path), images=runs_dir / "data" / "images"))


def test_an_exported_file_is_evaluated_and_stays_as_it_is(runs_dir: Path, tmp_path: Path) -> None:
    classes = read_subject(runs_dir / "runs" / ARCH).classes
    path = tmp_path / "a.onnx"
    content = make_content(replace(DESCRIPTION, classes=classes, thresholds={classes[0]: 0.25}))
    path.write_bytes(content)

    done = evaluated(request_of(runs_dir, detector=path))

    assert (done.subject.is_file, done.stored, done.threshold_source) == (True, False, "found here")
    assert done.output.name == "a.onnx.val"
    assert len(json.loads((done.output / DETECTIONS_FILE).read_text())) >= 12  # one or two an image
    assert path.read_bytes() == content

    data = runs_dir / "data"
    options = {"on": str(data / "instances_train.json"), "images": data / "images"}
    other = evaluated(request_of(runs_dir, detector=path, **options))

    assert other.threshold_source == "stored"
    assert other.thresholds[:2] == [0.25, 0.5]


def test_limits_go_up_where_images_hold_more_than_100_objects(runs_dir: Path) -> None:
    path = runs_dir / "data" / "many.json"
    rows = json.loads((runs_dir / "data" / "instances_val.json").read_text())
    first = rows["annotations"][0]
    boxes = [[x, y, 5, 5] for x in range(0, 55, 5) for y in range(0, 55, 5)]
    rows["annotations"] += [{**first, "id": 10_000 + n, "bbox": box, "area": 25} for n, box in enumerate(boxes)]
    path.write_text(json.dumps(rows))

    done = evaluated(request_of(runs_dir, on=str(path), images=runs_dir / "data" / "images"))

    assert (done.limits.metric, done.limits.detector, done.limits.raised) == (200, 200, True)
    subject = read_subject(runs_dir / "runs" / ARCH)
    network = subject.network(200, torch.device("cpu"))
    assert network.selection.max_detections == 200  # type: ignore[union-attr]
    for mine, its in zip(
        network.state_dict().values(), read_trained(subject.path).module.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, its)


def test_results_go_where_they_are_wanted(runs_dir: Path, tmp_path: Path) -> None:
    done = evaluated(request_of(runs_dir, output=tmp_path / "far" / "away"))

    assert (done.output / DETECTIONS_FILE).is_file()
    assert done.output == tmp_path / "far" / "away"
    assert not (runs_dir / "evaluation").exists()


def test_a_folder_that_cannot_be_made_is_refused(runs_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"nn: the folder cannot be made: .*\n  fix: write elsewhere: --output DIR"):
        evaluated(request_of(runs_dir, output=tmp_path / ("n" * 300)))


def test_an_output_that_cannot_be_used_is_refused_before_any_work(
    runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch()
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    (predictions / DETECTIONS_FILE).write_text("mine")
    monkeypatch.setattr(run, "read_subject", never)

    with pytest.raises(StudyError, match=r"link: is a link to .*, and results are not written through a link\n  fix: "):
        evaluated(request_of(runs_dir, output=tmp_path / "link"))
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StudyError, match=r"file: is no folder, .*\n  fix: write elsewhere: --output DIR"):
            evaluated(request_of(runs_dir, output=path))
    with pytest.raises(StudyError, match=r"predictions/detections.json: is not of an evaluation, .* no detected.json"):
        evaluated(request_of(runs_dir, output=predictions))
    assert (predictions / DETECTIONS_FILE).read_text() == "mine"


def never(*_: object) -> None:
    raise AssertionError("the work has begun")


def begin_study(study_dir: Path, **changes: object) -> None:
    """Begin the study with its data, or with data that differs in ``changes``."""
    session = prepare(StudyFolder(study_dir), listener=Listener(), stop=StopRequest(), device="cpu")
    study = session.folder.create("structural", RandomSampler())
    data = {**session.depends_on["data"], **changes}
    study.set_user_attr(FINGERPRINT, {**session.depends_on, "data": data})


@pytest.mark.parametrize("on", ["val", "test"])
def test_other_data_than_that_of_the_search_is_refused(runs_dir: Path, on: str) -> None:
    begin_study(runs_dir, content="f00")

    with pytest.raises(
        StudyError,
        match=r"study was made with other data; .*\n  first: data.content was f00, is .*\n  fix: .*--data",
    ):
        evaluated(request_of(runs_dir, on=on))

    assert not (runs_dir / "evaluation").exists()
    assert "thresholds" not in json.loads((runs_dir / "runs" / ARCH / DETECTOR_FILE).read_text())

    data = runs_dir / "data"
    alone = evaluated(request_of(runs_dir, on=str(data / "instances_val.json"), images=data / "images"))

    assert (alone.stored, len(alone.matches)) == (False, 12)


def test_the_data_of_the_search_passes(runs_dir: Path) -> None:
    begin_study(runs_dir)

    assert evaluated(request_of(runs_dir)).stored


def test_weights_of_a_study_with_other_data_are_refused(runs_dir: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(runs_dir, tmp_path / "other"))
    begin_study(other, content="f00")

    with pytest.raises(StudyError, match=r"the study .*other was made with other data; "):
        evaluated(request_of(runs_dir, detector=other / "runs" / ARCH))

    assert "thresholds" not in json.loads((other / "runs" / ARCH / DETECTOR_FILE).read_text())


@pytest.mark.parametrize(
    ("part", "following"),
    [
        ("coco_evaluation", "metrics_of"),
        ("metrics_of", "size_metrics"),
        ("class_metrics", "size_metrics"),
        ("size_metrics", "match_images"),
        ("match_images", "_store"),
    ],
)
def test_a_signal_between_two_parts_keeps_the_detections(
    runs_dir: Path, part: str, following: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, compute = StopRequest(), getattr(run, part)

    def stopped(*values: Any, **options: Any) -> Any:
        stop.ask(signal.SIGTERM)
        return compute(*values, **options)

    monkeypatch.setattr(run, part, stopped)
    monkeypatch.setattr(run, following, never)

    with pytest.raises(DetectionsKept, match=r"stopped by SIGTERM; the detections are kept in .*evaluation/"):
        evaluate(request_of(runs_dir), listener=Listener(), stop=stop)

    assert "thresholds" not in json.loads((runs_dir / "runs" / ARCH / DETECTOR_FILE).read_text())
    monkeypatch.undo()
    assert evaluated(request_of(runs_dir)).kept


def test_nothing_is_written_behind_a_link(runs_dir: Path, tmp_path: Path) -> None:
    (runs_dir / "evaluation").symlink_to(tmp_path)

    with pytest.raises(StudyError, match="evaluation: is a link to "):
        evaluated(request_of(runs_dir))


def test_an_evaluation_that_is_stopped_leaves_nothing_half_done(runs_dir: Path) -> None:
    class Stopped(Listener):
        def step(self, phase: str, done: int, total: int) -> None:
            if phase == "evaluate":
                raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        evaluated(request_of(runs_dir), Stopped())

    assert not (runs_dir / "evaluation" / f"{ARCH}.val" / DETECTIONS_FILE).exists()
    assert not math.isnan(evaluated(request_of(runs_dir)).metrics.ap)
