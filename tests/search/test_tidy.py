"""Files of trials that earlier versions stored under another spelling of an architecture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from optuna.trial import FrozenTrial, create_trial

from smnas_optuna.search.objective import Objective
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import INTERRUPTED, TrialRecord, read_record

from .conftest import registered

OLD, NEW, BETTER = (
    f"64x48.{name}.c4.rpn.fc" for name in ("basicblock-w8-conv7-11-21-21-21", "resnet18-w8", "resnet34-w8")
)


def numbered(number: int, arch: str, latency_ms: float, ap: float) -> FrozenTrial:
    trial = create_trial(values=(latency_ms, ap), user_attrs={"arch": arch})
    trial.number = number
    return trial


def test_weights_of_a_dominated_trial_are_its_own_and_not_those_of_the_other_spelling(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    for name in (OLD, NEW, BETTER):
        (folder.runs / name).mkdir(parents=True)
        (folder.runs / name / "weights.safetensors").touch()
    settings = SimpleNamespace(search=SimpleNamespace(keep_weights="front"))
    with registered() as crew:
        objective = Objective(SimpleNamespace(folder=folder, settings=settings), crew, limits=Limits())  # type: ignore[arg-type]

    # stage 2 of an old study: its first trial is the parent under its other name
    objective.tidy([read_record(numbered(0, OLD, 2.0, 0.1)), read_record(numbered(1, BETTER, 1.0, 0.5))])

    assert sorted(file.parent.name for file in folder.runs.rglob("*.safetensors")) == sorted((NEW, BETTER))


def test_weights_of_an_architecture_that_the_other_stage_trained_with_its_own_recipe_stay(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    for name in (OLD, NEW, BETTER):
        (folder.runs / name).mkdir(parents=True)
        (folder.runs / name / "weights.safetensors").touch()
    settings = SimpleNamespace(search=SimpleNamespace(keep_weights="front"))
    session: Any = SimpleNamespace(folder=folder, settings=settings)
    in_stage_1 = [read_record(numbered(0, NEW, 2.0, 0.1)), read_record(numbered(1, BETTER, 1.0, 0.5))]

    def kept(trained_otherwise: list[TrialRecord]) -> set[str]:
        with registered() as crew:
            objective = Objective(session, crew, limits=Limits(), trained_otherwise=lambda: trained_otherwise)
        objective.tidy(in_stage_1)
        return {file.parent.name for file in folder.runs.rglob("*.safetensors")}

    assert kept([read_record(numbered(7, NEW, 2.0, 0.9))]) == {OLD, NEW, BETTER}
    (folder.runs / NEW / "checkpoint.safetensors").touch()
    begun = replace(read_record(numbered(7, NEW, 2.0, 0.9)), state="failed", reason=INTERRUPTED, feasible=False)
    assert kept([begun]) == {OLD, NEW, BETTER}
    assert (folder.runs / NEW / "checkpoint.safetensors").exists(), "the other stage goes on with it"
    assert kept([]) == {OLD, BETTER}
