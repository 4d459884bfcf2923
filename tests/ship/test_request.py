from __future__ import annotations

from pathlib import Path

from smnas_optuna.ship.request import ShipRequest


def test_the_file_is_named_after_the_architecture_and_the_precision(tmp_path: Path) -> None:
    assert ShipRequest(study_dir=tmp_path).output_of("a.b") == Path("a.b.onnx")
    assert ShipRequest(study_dir=tmp_path, precision="int8").output_of("a.b") == Path("a.b.int8.onnx")
    assert ShipRequest(study_dir=tmp_path, output=tmp_path / "x").output_of("a.b") == tmp_path / "x"
