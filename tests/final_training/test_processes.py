from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import optuna
import pytest
from optuna.trial import create_trial

from smnas_optuna.allowance import usable_cores
from smnas_optuna.cli import main
from smnas_optuna.config import StudySettings
from smnas_optuna.errors import DeviceError, StudyError
from smnas_optuna.final_training.processes import LAUNCHED, MEETING, check_parallel, choose_processes, launches
from smnas_optuna.final_training.request import TrainRequest
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers import group, placement
from smnas_optuna.workers.assignment import Assignment
from smnas_optuna.workers.interrupt import Interrupted
from smnas_optuna.workers.launch import Launch

from .trainings import ARCH


def settings(norm: str = "gn", batch_size: int = 8) -> StudySettings:
    tables = {"search": {"baselines": [ARCH]}, "detector": {"norm": norm}, "train": {"batch_size": batch_size}}
    return StudySettings.model_validate(tables)


@pytest.mark.parametrize(
    ("gpus", "asked", "begun_with", "size"),
    [
        (0, None, None, 1),
        (1, None, None, 1),
        (4, None, None, 4),
        (4, 2, None, 2),
        (4, None, 1, 1),
        (4, None, 2, 2),
        (0, 3, None, 3),
        (0, None, 2, 2),
    ],
)
def test_there_is_one_for_each_gpu_unless_it_is_said_or_was_begun_otherwise(
    gpus: int, asked: int | None, begun_with: int | None, size: int
) -> None:
    notes: list[str] = []

    chosen = choose_processes(asked, gpus=gpus, begun_with=begun_with, settings=settings(), note=notes.append)

    assert (chosen, notes) == (size, [])


@pytest.mark.parametrize(
    ("norm", "batch_size", "size", "note"),
    [
        ("bn", 8, 1, "note: of 4 GPUs 1 is used: [detector] norm is 'bn'"),
        ("gn", 3, 3, "note: of 4 GPUs 3 are used: [train] batch_size is 3"),
    ],
)
def test_gpus_that_a_recipe_has_no_work_for_are_left_out(norm: str, batch_size: int, size: int, note: str) -> None:
    notes: list[str] = []
    recipe = settings(norm, batch_size)

    assert choose_processes(None, gpus=4, begun_with=None, settings=recipe, note=notes.append) == size
    assert notes == [note]


def test_more_processes_than_gpus_are_refused() -> None:
    with pytest.raises(DeviceError, match=r"3 processes cannot train here: there are 2 GPUs\n  fix: .*--processes 2"):
        choose_processes(3, gpus=2, begun_with=None, settings=settings())
    with pytest.raises(DeviceError, match=r"there is 1 GPU\n  fix: this training was begun with 2: .* --name OTHER"):
        choose_processes(None, gpus=1, begun_with=2, settings=settings())


def test_what_several_processes_cannot_share_is_refused() -> None:
    check_parallel("bn", 1, 1)
    check_parallel("gn", 2, 2)
    with pytest.raises(StudyError, match=r"2 processes cannot train with \[detector\] norm = 'bn'"):
        check_parallel("bn", 8, 2)
    with pytest.raises(StudyError, match=r"2 processes cannot share a batch: \[train\] batch_size is 1"):
        check_parallel("gn", 1, 2)


@pytest.mark.parametrize("on_gpus", [True, False])
def test_each_process_gets_the_request_and_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_gpus: bool
) -> None:
    monkeypatch.setenv("MARK", "mine")
    request = TrainRequest(study_dir=tmp_path / "a b", arch=ARCH, hours=0.5, with_val=True, data_dir=Path("d"))

    started = launches(request, 3, on_gpus=on_gpus, folder=tmp_path)

    jobs = [Assignment.from_json(each.command[-1]) for each in started]
    assert [(job.task, job.slot, job.workers, job.lead) for job in jobs] == [
        ("train", slot, 3, slot == 0) for slot in range(3)
    ]
    assert all(each.environment["MARK"] == "mine" for each in started)
    assert {job.threads for job in jobs} == ({None} if on_gpus else {max(1, usable_cores() // 3)})
    values = json.loads(json.dumps(jobs[2].request))
    assert values.pop(MEETING) == str(tmp_path / MEETING)
    assert TrainRequest.from_json(values) == request


@pytest.fixture
def searched(study_dir: Path) -> Path:
    """A study whose search says that it has trained ARCH."""
    study = StudyFolder(study_dir).create("structural", optuna.samplers.RandomSampler())
    study.add_trial(create_trial(values=(20.0, 0.02), user_attrs={"arch": ARCH}))
    return study_dir


@pytest.mark.parametrize(("options", "size"), [((), 3), (("--processes", "2"), 2)])
def test_the_command_starts_one_for_each_gpu_and_ends_as_they_end(
    searched: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], size: int
) -> None:
    started: list[Sequence[Launch]] = []

    def run(launches: Sequence[Launch], **_: object) -> int:
        started.append(launches)
        return 70

    monkeypatch.setattr(placement, "visible_gpus", lambda _: ["0", "1", "2"])
    monkeypatch.setattr(group, "run_together", run)
    with pytest.raises(SystemExit) as caught:
        main(["train", str(searched), *options])

    assert caught.value.code == 70
    assert [len(each) for each in started] == [size]


def test_under_torchrun_the_number_of_processes_is_its_own(
    searched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(LAUNCHED, "a")
    with pytest.raises(SystemExit) as caught:
        main(["train", str(searched), "--processes", "2"])

    assert caught.value.code == 1
    assert "--processes has no meaning under torchrun" in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_told_once(
    searched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(placement, "visible_gpus", lambda _: [])
    with pytest.raises(SystemExit) as caught:
        main(["train", str(searched), "--device", "cuda", "--processes", "2"])

    assert caught.value.code == 1
    assert capsys.readouterr().err.count("error: --device cuda: no GPU can be seen") == 1


def test_the_command_says_how_to_go_on_when_it_is_stopped(
    searched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: object, **__: object) -> int:
        raise Interrupted(15)

    monkeypatch.setattr(group, "run_together", run)
    with pytest.raises(SystemExit) as caught:
        main(["train", str(searched), "--processes", "2", "--device", "cpu"])

    assert caught.value.code == 128 + 15
    assert capsys.readouterr().out.endswith("stopped by SIGTERM; run the same command to resume\n")
    assert not (searched / "trained").exists()
