from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from smnas_optuna import open_study
from smnas_optuna.api import Trial
from smnas_optuna.errors import StudyError
from smnas_optuna.report.summary import summarize
from smnas_optuna.report.tables import front_json
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.storage import use_storage

from ..report.report_studies import (
    DEEP,
    FAST,
    MIDDLE,
    POOR,
    SLIM,
    STRONG,
    add_trial,
    both_stages,
    full_study,
    new_study,
    timed_together,
)
from .api_folders import keep_studies


@pytest.fixture(scope="module")
def one_stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study folder that is only read."""
    return keep_studies(tmp_path_factory.mktemp("one") / "cells", [full_study()])


@pytest.fixture(scope="module")
def two_stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study folder that is only read."""
    return keep_studies(tmp_path_factory.mktemp("two") / "cells", both_stages())


@pytest.fixture(scope="module")
def timed_again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study folder that is only read; SLIM took 12.5 ms as the fronts were timed together."""
    return keep_studies(tmp_path_factory.mktemp("again") / "cells", timed_together({SLIM: 12.5}))


@pytest.fixture
def study_dir(one_stage: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(one_stage, tmp_path / "cells"))


def test_the_front_is_fastest_first(one_stage: Path) -> None:
    front = open_study(one_stage).front()

    assert [(trial.number, trial.arch, trial.latency_ms, trial.ap) for trial in front] == [
        (2, FAST, 3.5, 0.0625),
        (0, MIDDLE, 12.25, 0.2),
        (3, STRONG, 140.0, 0.5),
    ]
    assert all(trial.on_front for trial in front)


@pytest.mark.parametrize("name", ["one_stage", "two_stages", "timed_again"])
def test_the_front_is_that_of_smnas_front(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    shown = json.loads(front_json(summarize(*StudyFolder(folder).of_stage(None))))["front"]

    study = open_study(folder)

    names = ("arch", "latency_ms", "ap", "num_params", "multiply_adds", "study", "baseline")
    assert [[getattr(trial, name) for name in names] for trial in study.front()] == [
        [member[name] for name in names] for member in shown
    ]
    assert [trial.number for trial in study.front()] == [member["trial_number"] for member in shown]
    by_latency = sorted((trial for trial in study.trials() if trial.on_front), key=lambda trial: trial.latency_ms)
    assert by_latency == study.front()


def test_latencies_are_those_that_were_timed_together(timed_again: Path) -> None:
    study = open_study(timed_again)

    assert {trial.arch: trial.latency_ms for trial in study.front()} == {
        FAST: 3.5,
        MIDDLE: 12.25,
        SLIM: 12.5,
        STRONG: 140.0,
        DEEP: 150.0,
    }
    assert {trial.arch: trial.stage for trial in study.front()}[SLIM] == "modular"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda study: next(study.search("Modular")),
            "stage='Modular' is not known\n  fix: take one of 'struct",
        ),
        (lambda study: next(study.search(trials=0)), "trials=0: nothing would be trained"),
        (lambda study: next(study.search(device="gpu")), "device='gpu' is not known"),
        (lambda study: study.train(device="gpu"), "device='gpu' is not known"),
        (
            lambda study: study.export(precision="fp8"),
            "precision='fp8' is not known\n  fix: take one of 'fp32'",
        ),
    ],
    ids=["stage", "trials", "device", "device of a training", "precision"],
)
def test_words_that_are_not_known_are_refused_at_once(
    one_stage: Path, call: Callable[[Any], object], said: str
) -> None:
    with pytest.raises(StudyError) as refusal:
        call(open_study(one_stage))

    assert str(refusal.value).startswith(said)


def test_limits_that_are_in_force_count(tmp_path: Path) -> None:
    limited = full_study()
    limited.set_user_attr("limits", {"max_latency_ms": 20.0})
    study = open_study(keep_studies(tmp_path / "cells", [limited]))

    assert [trial.arch for trial in study.front()] == [FAST, MIDDLE]
    assert [trial.number for trial in study.trials() if not trial.feasible] == [1, 3]


def test_a_trial_has_all_that_is_known_of_it(tmp_path: Path) -> None:
    study = new_study()
    study.set_user_attr("fingerprint", {})
    add_trial(
        study,
        (12.25, 0.2),
        TrialState.COMPLETE,
        minute=7,
        arch=MIDDLE,
        baseline=True,
        generation=1,
        num_params=1_234_567,
        multiply_adds=56_700_000,
        epochs_done=12,
        seconds={"train": 20.5, "latency": 2.25},
        metrics={"ap": 0.2, "ap50": 0.4125, "ap75": 0.1, "ap_small": None, "ap_medium": 0.3, "ap_large": 0.4},
    )
    folder = keep_studies(tmp_path / "cells", [study])

    (trial,) = open_study(str(folder)).trials()

    small = trial.ap_small
    assert math.isnan(small)
    assert trial == Trial(
        number=0,
        stage="structural",
        study="structural",
        state="complete",
        arch=MIDDLE,
        latency_ms=12.25,
        latency_low_ms=12.25,
        latency_high_ms=12.25,
        precise=True,
        ap=0.2,
        ap50=0.4125,
        ap75=0.1,
        ap_small=small,
        ap_medium=0.3,
        ap_large=0.4,
        on_front=True,
        baseline=True,
        feasible=True,
        num_params=1_234_567,
        multiply_adds=56_700_000,
        epochs=12,
        seconds=22.75,
        reason=None,
        cached_from=None,
        generation=1,
        ended=datetime(2025, 1, 1, 0, 7),
        run_folder=f"{folder}/runs/{MIDDLE}",
    )


def test_all_trials_are_there_in_order(two_stages: Path) -> None:
    trials = open_study(two_stages).trials()

    assert [(trial.study, trial.number) for trial in trials] == [
        *(("structural", number) for number in range(9)),
        (f"modular/{MIDDLE}", 0),
        (f"modular/{MIDDLE}", 1),
        (f"modular/{STRONG}", 0),
    ]
    assert [trial.state for trial in trials[:9]] == [*["complete"] * 5, "pruned", "failed", "failed", "running"]
    assert (trials[5].reason, trials[6].reason) == ("over budget", "DivergenceError: the loss is not finite")
    assert (trials[4].cached_from, trials[4].on_front) == (2, False)
    assert [trial.arch for trial in trials if trial.on_front] == [FAST, STRONG, SLIM, DEEP]


def test_what_is_not_known_is_not_a_number_and_compares_false(study_dir: Path) -> None:
    study = StudyFolder(study_dir).structural
    assert study is not None
    add_trial(study, None, TrialState.RUNNING)

    trials = open_study(study_dir).trials()

    assert (trials[9].arch, trials[9].run_folder, trials[9].num_params) == (None, None, None)
    assert all(math.isnan(value) for value in (trials[9].latency_ms, trials[9].ap, trials[9].seconds))
    assert [trial.number for trial in trials if trial.latency_ms <= 12.25] == [0, 2, 4]


def test_a_trial_is_a_row_of_plain_values(two_stages: Path) -> None:
    # What pandas.DataFrame makes rows of: dataclasses, by asdict.
    for trial in open_study(two_stages).trials():
        assert dataclasses.is_dataclass(trial)
        plain = (str, int, float, bool, datetime, type(None))
        assert all(isinstance(value, plain) for value in dataclasses.asdict(trial).values())


def test_a_trial_is_frozen(one_stage: Path) -> None:
    trial = open_study(one_stage).front()[0]

    with pytest.raises(dataclasses.FrozenInstanceError):
        trial.ap = 1.0  # type: ignore[misc]


def test_a_search_that_runs_is_seen(study_dir: Path) -> None:
    study, writer = open_study(study_dir), StudyFolder(study_dir).structural
    assert writer is not None
    before = study.trials()

    add_trial(writer, (1.0, 0.75), TrialState.COMPLETE, arch=POOR)

    assert [trial.arch for trial in study.front()] == [POOR]
    assert study.trials()[:9] != before
    assert len(study.trials()) == 10


def test_what_is_shown_in_a_notebook_is_short(two_stages: Path) -> None:
    study = open_study(two_stages)

    assert repr(study) == (
        f"OpenStudy('{two_stages}', structural and modular: 6 trained (4 on the front), "
        "1 answered from an earlier trial, 1 pruned, 1 failed, 2 interrupted, 1 running)"
    )
    assert repr(study.front()[0]) == f"Trial(structural 2, complete, 3.50 ms, AP 0.062, '{FAST}')"
    assert repr(study.trials()[5]) == f"Trial(structural 5, pruned, '{FAST}')"


def test_nothing_changes_in_the_folder(study_dir: Path) -> None:
    before = (study_dir / "study.db").read_bytes()
    study = open_study(study_dir)
    study.front()
    study.trials()

    assert (study_dir / "study.db").read_bytes() == before
    assert [file.name for file in study_dir.iterdir()] == ["study.db"]


def test_a_home_folder_is_found(study_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(study_dir.parent))

    assert open_study("~/cells").path == study_dir


def test_a_study_that_only_others_may_write_opens() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = keep_studies(Path(name) / "cells", [full_study()])
        (folder / "study.db").chmod(0o444)
        folder.chmod(0o555)
        Path(name).chmod(0o555)
        code = (
            "import os, sys, smnas_optuna.api\n"
            "smnas_optuna.api.open_study(sys.argv[1])\n"  # loads all modules, which may be root's alone
            "if os.geteuid() == 0:\n"
            "    os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"  # root may write anywhere
            "assert not os.access(sys.argv[1], os.W_OK)\n"
            "print(len(smnas_optuna.api.open_study(sys.argv[1]).front()))\n"
        )
        try:
            shown = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
        finally:
            Path(name).chmod(0o755)
            folder.chmod(0o755)

    assert (shown.stdout, shown.stderr) == ("3\n", "")


def test_a_study_is_opened_and_shown_without_torch(one_stage: Path) -> None:
    code = (
        "import sys\n"
        "from smnas_optuna import load_detector, open_study\n"
        "study = open_study(sys.argv[1])\n"
        "repr(study), study.front(), study.trials()\n"
        "print(*sorted({'torch', 'torchvision'} & set(sys.modules)))\n"
    )

    assert subprocess.run([sys.executable, "-c", code, str(one_stage)], capture_output=True, text=True).stdout == "\n"


def _refusal(folder: Path) -> str:
    with pytest.raises(StudyError) as caught:
        open_study(folder)
    return str(caught.value)


def test_folders_without_a_study_are_refused(tmp_path: Path) -> None:
    assert _refusal(tmp_path / "none") == (
        f"{tmp_path}/none: there is no such folder\n  fix: name the folder of a study, such as studies/shapes"
    )
    assert _refusal(tmp_path) == (
        f"{tmp_path}: there is no structural study yet\n  fix: start one: smnas structural {tmp_path} [--data DIR]"
    )
    (tmp_path / "study.db").write_text("something else")
    assert _refusal(tmp_path).startswith(
        f"{tmp_path}/study.db: is no study database: it does not begin like an SQLite file\n  fix: move it away"
    )


def test_a_damaged_database_is_refused(study_dir: Path) -> None:
    content = (study_dir / "study.db").read_bytes()
    (study_dir / "study.db").write_bytes(content[:4096].ljust(len(content), b"\xff"))

    assert re.search(r"study\.db: is damaged: .*malformed\n  fix: bring a copy back, or save what", _refusal(study_dir))


def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    use_storage(tmp_path, "postgresql+psycopg://nobody@127.0.0.1:1/none")

    message = _refusal(tmp_path)

    assert message.startswith("postgresql+psycopg://nobody@127.0.0.1:1/none: the study's database cannot be used: ")
    assert "\n  fix: start the server" in message


def test_a_trial_of_no_architecture_is_shown_and_counts_for_nothing(study_dir: Path) -> None:
    study = StudyFolder(study_dir).structural
    assert study is not None
    add_trial(study, (1.0, 0.75), TrialState.COMPLETE, arch="../../elsewhere")

    *_, trial = open_study(study_dir).trials()

    assert (trial.arch, trial.run_folder, trial.on_front) == (None, None, False)
    assert trial.reason == "not a trial of smnas: arch is not as it stores it"
    assert trial not in open_study(study_dir).front()
