from __future__ import annotations

import io
import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from smnas_optuna.evaluation.kept import DetectionsKept
from smnas_optuna.evaluation.run import Evaluated
from smnas_optuna.report.evaluation_files import write_evaluation
from smnas_optuna.report.evaluation_table import MOST_CLASSES, evaluation_json, explanations, print_evaluation
from smnas_optuna.workers.interrupt import StopRequest

from ..evaluation.evaluated_data import dataset, detection, drawn, evaluated, with_images

LEFT, MIDDLE, RIGHT = (0.0, 0.0, 20.0, 20.0), (40.0, 0.0, 20.0, 20.0), (80.0, 0.0, 20.0, 20.0)


def printed(found: Evaluated, width: int = 120) -> str:
    out = io.StringIO()
    print_evaluation(found, Console(file=out, markup=False, width=width))
    return out.getvalue()


def small(**options: object) -> Evaluated:
    """An image with two objects of class a, one of which is taken for b, and one of b, which is missed."""
    data = dataset([(1, 0, LEFT), (1, 0, MIDDLE), (1, 1, RIGHT)])
    found = [detection(1, 0, LEFT, 0.9), detection(1, 1, MIDDLE, 0.8), detection(1, 0, RIGHT, 0.1)]
    return evaluated(data, found, **options)  # type: ignore[arg-type]


def row(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.split()[:1] == [name]]
    return line.split()[1:]


def test_classes_have_their_counts_and_what_they_are_taken_for() -> None:
    text = printed(small(thresholds={"a": 0.5, "b": 0.5}))

    assert "COCO's metrics (x100) on test: 1 images, 3 objects" in text
    # images, objects, AP, AP50, threshold, precision, recall, F1, and the class that it is taken for
    assert row(text, "a") == ["1", "2", "50.5", "50.5", "0.50", "100.0", "50.0", "66.7", "b", "(1)"]
    assert row(text, "b") == ["1", "1", "0.0", "0.0", "0.50", "0.0", "0.0", "0.0"]
    assert row(text, "all")[:2] == ["1", "3"]
    assert row(text, "all")[-3:] == ["50.0", "33.3", "40.0"]
    assert row(text, "0-8") == ["px", "3", "25.2", "25.0"]  # 20 px of 200 in an input of 64


def test_the_lines_say_where_thresholds_are_from() -> None:
    assert explanations(small(thresholds={"a": 0.5, "b": 0.5}))[-1] == (
        "thresholds of 2 classes as found on the validation images; on these images they give precision 50.0, recall "
        "33.3, F1 40.0 (x100)"
    )
    assert explanations(small(thresholds={}))[-1].startswith(
        "the detector has no thresholds: 0.5 is taken for all classes (precision 50.0, recall 33.3, F1 40.0 (x100)); "
    )
    assert explanations(small())[-1].endswith(
        "are not stored: a file stays as it was exported: evaluate its run, and export it again"
    )


def test_intervals_of_classes_in_few_images_are_left_out_and_that_is_said() -> None:
    data, found = drawn(1, images=40)

    assert "none for a class in fewer than 10 of them" in explanations(small())[0]
    assert explanations(evaluated(data, found))[0] == (
        "in brackets: 95 % interval for other images like these (bootstrap over the images)"
    )


def test_more_than_100_objects_of_an_image_are_said() -> None:
    boxes = [(float(x), float(y), 8.0, 8.0) for x in range(0, 150, 10) for y in range(0, 100, 10)]
    data = dataset([(1, 0, box) for box in boxes])
    found = [detection(1, 0, box, 0.9 - number / 1000) for number, box in enumerate(boxes)]

    lines = explanations(evaluated(data, found))
    text = printed(evaluated(data, found))

    assert lines[1] == (
        "an image holds up to 150 objects: the metrics count 200 detections of an image and class instead of 100, and "
        "do not compare with those of the search; the detector gives up to 100, as it was exported: set max_detections "
        "under [detector] before a search to raise that"
    )
    assert "200" in text.split("Classes")[0]  # AR at 200
    assert len(explanations(evaluated(data, found[:3], max_detections=300))) == 3
    assert explanations(evaluated(data, found, max_detections=300))[1].endswith("the detector gives up to 300")


def test_many_classes_are_the_worst_ones() -> None:
    data, found = drawn(2, classes=8, images=30)
    names = tuple(f"class{number}" for number in range(MOST_CLASSES + 2))
    ids = (*data.category_ids, *range(1000, 1000 + len(names) - 8))
    many = evaluated(
        type(data)(
            source=data.source,
            images=data.images,
            category_ids=ids,
            category_names=names,
            annotations=data.annotations,
            notes=(),
        ),
        found,
    )

    text, lines = printed(many), explanations(many)

    assert "class0" in text  # it has an AP
    assert f"class{MOST_CLASSES + 1}" not in text  # those without objects come last
    assert "2 classes with a higher AP are in evaluation.json only" in lines


def test_the_json_has_all_numbers_and_no_nan() -> None:
    found = small(thresholds={"a": 0.5, "b": 0.05})
    values = json.loads(evaluation_json(found), parse_constant=pytest.fail)

    assert values["detector"] == {
        "path": "a.onnx",
        "arch": found.subject.arch,
        "input_size": "64x48",
        "sha256": "f00",
    }
    assert values["images"] == {
        "role": "test",
        "annotations": "drawn.json",
        "images": 1,
        "objects": 3,
        "content": "abc",
    }
    first, second = values["classes"]
    assert (first["name"], first["category_id"], first["objects"], first["images"]) == ("a", 10, 2, 1)
    assert (first["right"], first["false"], first["missed"]) == (1, 0, 1)
    assert (second["precision"], second["threshold"]) == (0.0, 0.05)
    assert first["curve"]["threshold"][2] == 0.1
    assert first["curve"]["precision"][2] == 0.5
    assert first["curve"]["precision"][3] == 1.0
    assert values["confusion"] == {
        "classes": ["a", "b", "background"],
        "objects_as_detections": [[1, 1, 0], [0, 0, 1], [0, 0, 0]],
    }
    assert values["thresholds"] == {"source": "stored", "stored": False}
    assert values["limits"] == {"most_objects": 3, "metric": 100, "detector": 100, "raised": False}
    assert values["mistakes"] == [{"image_id": 1, "file_name": "1.png", "missed": 2, "false": 1}]
    assert values["all"]["one_threshold"]["right"] == 1
    assert values["metrics"]["ap_large"] is None
    assert {size["high_px"] for size in values["sizes"]} == {8.0}


def test_numbers_and_pictures_are_written_beside_the_detections(tmp_path: Path) -> None:
    data, found = drawn(3, images=6)

    done = evaluated(with_images(data, tmp_path), found, output=tmp_path / "out")

    paths = list(write_evaluation(replace(done, kept=True), StopRequest()))

    assert {path.name for path in paths} == {
        *("evaluation.json", "per_class.png", "pr_curves.png", "confusion.png", "missed.png", "false.png")
    }
    assert set((tmp_path / "out").iterdir()) == set(paths)


def test_new_detections_are_named_first(tmp_path: Path) -> None:
    paths = write_evaluation(small(output=tmp_path), StopRequest())

    assert [next(paths).name for _ in range(3)] == ["detections.json", "detected.json", "evaluation.json"]


def test_a_signal_stops_between_two_pictures(tmp_path: Path) -> None:
    stop = StopRequest()
    paths = write_evaluation(replace(small(output=tmp_path), kept=True), stop)
    assert [next(paths).name for _ in range(2)] == ["evaluation.json", "per_class.png"]

    stop.ask(signal.SIGINT)

    with pytest.raises(DetectionsKept) as caught:
        next(paths)
    assert str(caught.value) == f"stopped by SIGINT; the detections are kept in {tmp_path}"
    assert {path.name for path in tmp_path.iterdir()} == {"evaluation.json", "per_class.png"}
