from __future__ import annotations

import json
from pathlib import Path

import pytest

from smnas_optuna import load_detector, open_study
from smnas_optuna.cli import main

from ..commands import smnas


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
    thresholds = {each["name"]: each["threshold"] for each in values["classes"]}
    assert load_detector(str(member.run_folder), device="cpu").thresholds == thresholds

    again = smnas("evaluate", trained_dir, "--device", "cpu").stdout

    assert f"detections of these weights and images were kept in {output}" in again

    exported = tmp_path / "a.onnx"
    smnas("export", trained_dir, "--output", exported)
    of_file = smnas("evaluate", trained_dir, "--detector", exported, "--output", tmp_path / "file").stdout
    assert of_file.startswith(f"{exported}: {member.arch}\n")
    assert "are not stored: a file stays as it was exported" in of_file
    of_file_values = json.loads((tmp_path / "file" / "evaluation.json").read_text())
    assert of_file_values["metrics"]["ap"] == pytest.approx(member.ap, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--detector", "a.onnx", "--knee"], "error: --detector names the detector, and ARCH, --latency-ms, --knee or"),
        (["--detector", "a.onnx", "--on", "train"], "error: --on train: this is neither val nor test, and there is no"),
        (["--detector", "a.onnx"], "error: a.onnx: there is no such file"),
        (["--best", "--knee"], "error: ARCH, --latency-ms, --knee and --best each choose the detector, and more than"),
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
