from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smnas_optuna import load_detector, open_study
from smnas_optuna.data import load_coco
from smnas_optuna.engine.evaluate import coco_metrics

from ..commands import here
from ..models.tiny_detectors import TWO_STAGE
from ..report.report_studies import FAST, MIDDLE, STRONG, full_study
from .api_folders import keep_detector, keep_studies

EXAMPLES = Path(__file__).parents[2] / "examples"


def _run(monkeypatch: pytest.MonkeyPatch, script: str, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / script), run_name="__main__")


def test_a_study_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = keep_studies(tmp_path / "cells", [full_study()])

    _run(monkeypatch, "look_at_a_study.py", folder, 20)

    assert capsys.readouterr().out.splitlines() == [
        repr(open_study(folder)),
        f"    3.50 ms  AP   6.2  {FAST}",
        f"   12.25 ms  AP  20.0  {MIDDLE}",
        f"  140.00 ms  AP  50.0  {STRONG}",
        "5 complete",
        "1 pruned",
        "2 failed",
        "1 running",
        f"best: {MIDDLE}",
        f"its weights: load_detector('{folder}/runs/{MIDDLE}')",
    ]
    _run(monkeypatch, "look_at_a_study.py", folder, 3)
    assert capsys.readouterr().out.splitlines()[-1] == "nothing on the front takes at most 3 ms"


def test_objects_are_printed_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder, image, drawn = keep_detector(tmp_path / "run", TWO_STAGE), tmp_path / "image.png", tmp_path / "out.png"
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    Image.fromarray(noise).save(image)

    _run(monkeypatch, "predict.py", run_folder, image, drawn)

    found = load_detector(run_folder).predict(image)
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        [f"{score:.2f}", name] for score, name in zip(found.scores, found.names, strict=True)
    ]
    assert found.scores.max() > 0.3
    with Image.open(drawn) as opened:
        enlarged = noise.repeat(6, axis=0).repeat(6, axis=1)
        assert (np.asarray(opened) != enlarged).any()
    _run(monkeypatch, "predict.py", run_folder, image)
    assert len(capsys.readouterr().out.splitlines()) == len(found)


@pytest.mark.slow
def test_a_trained_study_is_looked_at_and_its_detectors_are_used(trained_dir: Path) -> None:
    shown = json.loads(here("front", trained_dir, "--format", "json").stdout)["front"]
    front = open_study(trained_dir).front()

    assert [(trial.arch, trial.latency_ms, trial.ap) for trial in front] == [
        (member["arch"], member["latency_ms"], member["ap"]) for member in shown
    ]
    data = load_coco(trained_dir / "data" / "instances_val.json", trained_dir / "data" / "images")
    for trial in front:
        assert trial.run_folder is not None
        detector, detections = load_detector(trial.run_folder, device="cpu"), []
        for image in data.images:
            found = detector.predict(image.path)
            detections += [
                {
                    "image_id": image.image_id,
                    "category_id": data.category_ids[label - 1],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": score,
                }
                for (x1, y1, x2, y2), label, score in zip(
                    found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True
                )
            ]
        assert coco_metrics(data.ground_truth(), detections).ap == pytest.approx(trial.ap, abs=1e-6)
    for script, arguments in (
        ("look_at_a_study.py", [trained_dir]),
        ("predict.py", [str(front[0].run_folder), data.images[0].path, trained_dir / "drawn.png"]),
    ):
        subprocess.run([sys.executable, EXAMPLES / script, *arguments], check=True, stdout=subprocess.DEVNULL)
    assert (trained_dir / "drawn.png").exists()


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(trained_dir: Path) -> None:
    notebook = json.loads((EXAMPLES / "search_and_detect.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    changes = {'STUDY = "../studies/shapes"': f"STUDY = {str(trained_dir)!r}", "TRIALS = 6": "TRIALS = 2"}
    for old, new in changes.items():
        assert cells[0].count(old) == 1
        cells[0] = cells[0].replace(old, new)
    assert all(cell["outputs"] == [] for cell in notebook["cells"] if cell["cell_type"] == "code")

    names: dict[str, Any] = {}
    for cell in cells:
        exec(compile(cell, "cell", "exec"), names)

    assert names["exported"].description.arch == names["best"].arch == open_study(trained_dir).front()[-1].arch
    assert names["exported"].predict(names["IMAGE"]).names == names["detections"].names
