from __future__ import annotations

import os
from pathlib import Path

import pytest

from smnas_optuna.errors import StudyError
from smnas_optuna.final_training.record import CURVE_FILE, write_training
from smnas_optuna.report.files import write_front, write_training_report, write_verification
from smnas_optuna.report.summary import summarize
from smnas_optuna.report.tables import front_csv, front_json
from smnas_optuna.report.verify_table import verification_csv, verification_json

from ..final_training.trainings import finished, training
from .report_studies import full_study, new_study
from .verifications import summary, verification


def test_the_front_is_written_as_csv_json_and_pictures_and_nothing_else(tmp_path: Path) -> None:
    folder, summary = tmp_path / "study" / "report", summarize(full_study())
    for each in (summarize(new_study()), summary):  # the second time over the first
        paths = write_front(each, folder)

    assert paths == [folder / name for name in ("front.csv", "front.json", "front.png", "hypervolume.png")]
    assert sorted(folder.iterdir()) == paths
    assert paths[0].read_text() == front_csv(summary)
    assert paths[1].read_text() == front_json(summary)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths[2:])
    assert paths[2].read_bytes() != paths[3].read_bytes()


def test_a_folder_that_cannot_be_made_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "study").write_text("a file")

    with pytest.raises(StudyError) as caught:
        write_front(summarize(full_study()), tmp_path / "study" / "report")

    assert str(caught.value) == (
        f"{tmp_path}/study/report: the front cannot be written (Not a directory)\n"
        "  fix: make room on the disk and the folder writable; the study itself is whole"
    )


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "front.json").mkdir()
    (tmp_path / "front.json" / "old").touch()

    with pytest.raises(StudyError, match="the front cannot be written"):
        write_front(summarize(full_study()), tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["front.csv", "front.json"]
    assert (tmp_path / "front.json" / "old").exists()


def test_a_verification_is_written_beside_the_front_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "study" / "report"

    paths = write_verification(verification(), summary(), folder)

    assert paths == [folder / name for name in ("verify.csv", "verify.json", "verify.png")]
    assert sorted(folder.iterdir()) == paths
    assert paths[0].read_text() == verification_csv(verification())
    assert paths[1].read_text() == verification_json(verification())
    assert paths[2].read_bytes().startswith(b"\x89PNG")


def test_a_linked_folder_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "report").symlink_to(tmp_path / "theirs")

    with pytest.raises(StudyError) as caught:
        write_front(summarize(full_study()), tmp_path / "report")

    assert str(caught.value) == (
        f"{tmp_path}/report: the front cannot be written: this is a link to {tmp_path}/theirs\n"
        "  fix: remove the link: files are written into the study folder alone"
    )
    assert list((tmp_path / "theirs").iterdir()) == []


def test_a_link_in_the_place_of_a_file_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "report").mkdir()
    for name in ("front.csv", "front.png", f"front.json.{os.getpid()}.part"):
        (tmp_path / "report" / name).symlink_to(tmp_path / "theirs")

    paths = write_front(summarize(full_study()), tmp_path / "report")

    assert (tmp_path / "theirs").read_text() == "theirs"
    assert sorted((tmp_path / "report").iterdir()) == paths
    assert not any(path.is_symlink() for path in paths)


def test_a_training_has_a_curve_and_when_it_is_finished_a_card(tmp_path: Path) -> None:
    folder = tmp_path / "trained" / "mine"
    folder.mkdir(parents=True)
    write_training(folder, training())
    assert write_training_report(tmp_path, "mine") == []
    (folder / CURVE_FILE).write_text('{"arch": "an-arch", "of": 3, "epochs": []}')
    assert write_training_report(tmp_path, "mine") == [folder / "curve.png"]
    done = finished(tmp_path, "done", 0.5)

    assert write_training_report(tmp_path, "done") == [done / "card.md"]
    assert (done / "card.md").read_text().startswith("# done\n")
