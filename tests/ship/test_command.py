from __future__ import annotations

from pathlib import Path

import pytest

from smnas_optuna import load_exported, open_study

from ..commands import here, smnas


@pytest.mark.slow
def test_a_trained_member_is_exported_by_one_command(trained_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "detector.onnx"

    said = smnas("export", trained_dir, "--output", output).stdout

    arch = open_study(trained_dir).front()[-1].arch
    assert said.startswith(f"{arch}, with the weights of the search\n")
    assert "proved in fp32 on 12 validation images: " in said
    assert f"wrote {output} (" in said
    detector = load_exported(output)
    assert detector.description.arch == arch
    image = next((trained_dir / "data" / "images").iterdir())
    assert len(detector.predict(image)) > 0


@pytest.mark.slow
def test_a_limit_that_nothing_keeps_is_one_message_and_no_file(trained_dir: Path, tmp_path: Path) -> None:
    done = here("export", trained_dir, "--latency-ms", "0.001", "--output", tmp_path / "a.onnx", check=False)

    assert done.returncode == 1
    assert done.stderr.startswith("error: --latency-ms 0.001: the fastest of ")
    assert "\n  fix: " in done.stderr
    assert not list(tmp_path.glob("a.onnx*"))
