from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from smnas_optuna.cli import app
from smnas_optuna.search import stages
from smnas_optuna.search.outcome import Outcome
from smnas_optuna.search.request import Request
from smnas_optuna.verify import retrain as retrain_module
from smnas_optuna.verify.request import VerifyRequest
from smnas_optuna.workers.assignment import Assignment, launcher
from smnas_optuna.workers.placement import Placement

ARCHS = ("32x32.resnet18-w4.c4.rpn.fc", "32x32.resnet18-w4.fpn-p3-p5-c8.none.retina")
MODULE = [sys.executable, "-m", "smnas_optuna.cli", "work"]


@pytest.fixture(autouse=True)
def no_leash(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test itself has no supervisor whose end it would wait for."""
    monkeypatch.setattr("smnas_optuna.workers.supervisor.end_with_supervisor", lambda _: None)


@pytest.mark.parametrize(
    "request_",
    [
        Request(study_dir=Path("a study"), device="cpu"),
        Request(
            study_dir=Path("-mine: [\"'ü$\udcff"),
            stage="modular",
            data_dir=Path("/da ta"),
            trials=7,
            num_parents=2,
            parents=ARCHS,
            device="cuda",
            pruning=False,
            force=True,
        ),
    ],
)
def test_a_worker_of_a_search_gets_what_was_asked_for(monkeypatch: pytest.MonkeyPatch, request_: Request) -> None:
    taken: dict[str, Any] = {}

    def run_search(request: Request, **options: object) -> Outcome:
        taken.update(options, request=request)
        return Outcome(reason="done", failed=False, trained=1)

    monkeypatch.setattr(stages, "run_search", run_search)
    monkeypatch.setattr("smnas_optuna.loggers.listening.with_loggers", lambda listener, *_, **__: listener)
    launch = launcher("search", request_.as_json(), Placement(workers=1000))(3, True)

    assert launch.command[: len(MODULE)] == MODULE
    app(list(launch.command[3:]), standalone_mode=False)

    assert taken["request"] == request_
    assert (taken["worker"], taken["workers"], taken["threads"], taken["lead"]) == (3, 1000, 1, True)


@pytest.mark.parametrize(
    "request_",
    [
        VerifyRequest(study_dir=Path("a study"), archs=[ARCHS[0]], device="cpu"),
        VerifyRequest(study_dir=Path("mine"), archs=list(ARCHS), seeds=5, epochs=9, data_dir=Path("/da ta")),
    ],
)
def test_a_worker_of_a_verification_gets_what_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, request_: VerifyRequest
) -> None:
    taken: dict[str, Any] = {}
    monkeypatch.setattr(retrain_module, "retrain", lambda request, **options: taken.update(options, request=request))
    assignment = Assignment(task="verify", request=request_.as_json(), slot=1, workers=2, threads=3)

    app(list(assignment.command()[3:]), standalone_mode=False)

    assert taken["request"] == request_
    assert (taken["threads"], taken["lead"]) == (3, False)


def test_the_first_worker_leads_and_each_has_its_number_share_and_gpu() -> None:
    on_cpu, on_gpus = Placement(workers=1000), Placement(workers=2, gpus=["4", "6"])

    first, second = launcher("search", {"a": 1}, on_cpu)(0, True), launcher("verify", {}, on_gpus)(1, False)

    assert Assignment.from_json(first.command[-1]) == Assignment(
        task="search", request={"a": 1}, slot=0, workers=1000, lead=True, threads=1
    )
    assert first.environment == dict(os.environ)
    assert Assignment.from_json(second.command[-1]) == Assignment(task="verify", request={}, slot=1, workers=2)
    assert second.environment["CUDA_VISIBLE_DEVICES"] == "6"
