from __future__ import annotations

from pathlib import Path

import pytest

from smnas_optuna.cli import main
from tests.commands import here, smnas
from tests.data.formats.writers import write_coco_files


def init(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["init", *map(str, arguments)])
    return int(caught.value.code or 0)


def test_the_data_folder_must_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(tmp_path / "mine") == 2
    assert "Missing option '--data'" in capsys.readouterr().err


def test_a_study_that_is_there_is_refused_before_anything_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study.toml").write_text("[search]\n")

    assert init(tmp_path, "--data", tmp_path / "nowhere", "--device", "cpu") == 1
    assert "there is a study already, and it is not overwritten\n  fix: name another folder" in capsys.readouterr().err
    assert (tmp_path / "study.toml").read_text() == "[search]\n"


def test_a_data_folder_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(tmp_path / "mine", "--data", tmp_path / "nowhere", "--device", "cpu") == 1
    assert "nowhere: there is no such folder\n  fix: name the data folder: --data DIR" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


@pytest.mark.slow
def test_a_search_accepts_what_init_writes(tmp_path: Path) -> None:
    data, study = tmp_path / "my data", tmp_path / "mine"
    data.mkdir()
    write_coco_files(data)

    made = smnas("init", study, "--data", data, "--device", "cpu", "--hours", "0.5")

    assert f"  smnas search {study} --data '{data}' --device cpu\n" in made.stdout
    planned = here("structural", study, "--data", data, "--device", "cpu", "--dry-run")
    assert "budget: " in planned.stdout
    assert not (study / "study.db").exists()
