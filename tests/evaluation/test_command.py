from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from smnas_optuna import load_detector, open_study
from smnas_optuna.cli import main
from smnas_optuna.evaluation import run
from smnas_optuna.report import evaluation_files

from ..commands import here, smnas
from ..runtime.exported_files import DESCRIPTION, make_content


@pytest.mark.slow
def test_a_trained_member_is_evaluated_by_one_command(trained_dir: Path, tmp_path: Path) -> None:
    member = open_study(trained_dir).front()[-1]

    said = smnas("evaluate", trained_dir, "--device", "cpu").stdout

    assert said.startswith(f"{member.arch}, with the weights of the search\n")
    assert "COCO's metrics (x100) on val: 12 images, " in said
    output = trained_dir / "evaluation" / f"{member.arch}.val"
    values = json.loads((output / "evaluation.json").read_text())
    assert values["metrics"]["ap"] == member.ap
    assert f"wrote {output / 'missed.png'}" in said
    assert f"wrote {output / 'detections.json'}\nwrote {output / 'detected.json'}\n" in said
    thresholds = {each["name"]: each["threshold"] for each in values["classes"]}
    assert load_detector(str(member.run_folder), device="cpu").thresholds == thresholds

    again = here("evaluate", trained_dir, "--device", "cpu").stdout

    assert f"detections of these weights and images were kept in {output}" in again

    exported = tmp_path / "a.onnx"
    here("export", trained_dir, "--output", exported)
    of_file = here("evaluate", trained_dir, "--detector", exported, "--output", tmp_path / "file").stdout
    assert of_file.startswith(f"{exported}: {member.arch}\n")
    assert "are not stored: a file stays as it was exported" in of_file
    of_file_values = json.loads((tmp_path / "file" / "evaluation.json").read_text())
    assert of_file_values["metrics"]["ap"] == pytest.approx(member.ap, abs=1e-3)


@pytest.fixture
def exported(drawn_dir: Path, tmp_path: Path) -> Path:
    """An exported file with the classes of the study ``drawn_dir``."""
    categories = json.loads((drawn_dir / "data" / "instances_val.json").read_text())["categories"]
    path = tmp_path / "a.onnx"
    path.write_bytes(make_content(replace(DESCRIPTION, classes=tuple(row["name"] for row in categories))))
    return path


def test_ctrl_c_says_what_is_kept(
    drawn_dir: Path,
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    command = ["evaluate", str(drawn_dir), "--detector", str(exported), "--output", str(output)]

    def stopped_in(module: ModuleType, name: str) -> str:
        def interrupted(*values: Any, **options: Any) -> Any:
            os.kill(os.getpid(), signal.SIGINT)
            return function(*values, **options)

        function = getattr(module, name)
        with monkeypatch.context() as patch:
            patch.setattr(module, name, interrupted)
            with pytest.raises(SystemExit) as caught:
                main(command)
        assert caught.value.code == 130
        return capsys.readouterr().out

    assert stopped_in(run, "detect").endswith("stopped by SIGINT; no results are written; run the same command again\n")
    assert list(output.iterdir()) == []

    said = stopped_in(evaluation_files, "save_curves_png")

    written = ["detections.json", "detected.json", "evaluation.json", "per_class.png", "pr_curves.png"]
    assert said.splitlines()[-6:-1] == [f"wrote {output / name}" for name in written]
    assert said.splitlines()[-1] == (
        f"stopped by SIGINT; the detections are kept in {output}; run the same command again"
    )
    assert {path.name for path in output.iterdir()} == {*written}

    with pytest.raises(SystemExit):
        main(command)

    assert "wrote " + str(output / "false.png") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--detector", "a.onnx", "--knee"], "error: --detector names the detector, and ARCH or another option"),
        (["--detector", "a.onnx", "--on", "train"], "error: --on train: this is neither val nor test, and there is no"),
        (["--detector", "a.onnx"], "error: a.onnx: there is no such file"),
        (["--best", "--knee"], "error: ARCH, --latency-ms, --knee, --best and --trained each choose the"),
        ([], ": there is no structural study yet"),
    ],
)
def test_mistakes_are_one_message(
    options: list[str], message: str, study_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", str(study_dir), *options])

    assert caught.value.code == 1
    said = capsys.readouterr().err
    assert message in said
    assert "\n  fix: " in said
