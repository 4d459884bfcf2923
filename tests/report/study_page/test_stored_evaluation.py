from __future__ import annotations

from pathlib import Path

import pytest

from smnas_optuna.report.study_page.stored_evaluation import of_arch, stored_evaluations
from tests.report.report_studies import FAST, MIDDLE
from tests.report.study_page.test_panel import evaluation_of


def _keep(study_dir: Path, name: str, role: str) -> Path:
    folder = study_dir / "evaluation" / name
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(evaluation_of("cat", role).model_dump_json())
    return folder


def test_evaluations_are_read_with_those_of_the_validation_images_first(tmp_path: Path) -> None:
    test, val = _keep(tmp_path, "a.test", "test"), _keep(tmp_path, "b.val", "val")
    found = stored_evaluations(tmp_path)

    assert [folder for folder, _ in found] == [test, val]
    assert [folder for folder, _ in of_arch(found, MIDDLE)] == [val, test]
    assert of_arch(found, FAST) == []


@pytest.mark.parametrize("text", ["", "[]", '{"detector": 1}', "[" * 100_000])
def test_a_damaged_evaluation_is_left_out(tmp_path: Path, text: str) -> None:
    (_keep(tmp_path, "a.val", "val") / "evaluation.json").write_text(text)

    assert stored_evaluations(tmp_path) == []


def test_an_evaluation_behind_a_link_is_not_read(tmp_path: Path) -> None:
    _keep(tmp_path / "elsewhere", "a.val", "val")
    (tmp_path / "evaluation").symlink_to(tmp_path / "elsewhere" / "evaluation")

    assert stored_evaluations(tmp_path) == []
