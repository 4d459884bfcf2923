from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from smnas_optuna.cli import app
from smnas_optuna.search import stages, verify
from smnas_optuna.search.launch import launcher, search_command, verify_command, verify_progress
from smnas_optuna.search.loop import Outcome
from smnas_optuna.search.placement import Placement
from smnas_optuna.search.request import Request
from smnas_optuna.search.verification import VerifyRequest

ARCHS = ("32x32.resnet18-w4.c4.rpn.fc", "32x32.resnet18-w4.fpn-p3-p5-c8.none.retina")


@pytest.mark.parametrize(
    "request_",
    [
        Request(study_dir=Path("a study"), device="cpu"),
        Request(
            study_dir=Path("mine"),
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

    app([*search_command(request_), "--of", "2", "--threads", "3", "--lead"], standalone_mode=False)

    assert taken["request"] == request_
    assert (taken["workers"], taken["threads"], taken["lead"]) == (2, 3, True)


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
    monkeypatch.setattr(verify, "train_again", lambda request, **options: taken.update(options, request=request))

    app([*verify_command(request_), "--of", "2", "--threads", "3"], standalone_mode=False)

    assert taken["request"] == request_
    assert (taken["threads"], taken["lead"]) == (3, False)


def test_the_first_worker_leads_and_each_has_its_number_share_and_gpu() -> None:
    on_cpu, on_gpus = Placement(workers=1000), Placement(workers=2, gpus=["4", "6"])

    first, second = launcher(["worker", "mine"], on_cpu)(0, True), launcher(["worker", "mine"], on_gpus)(1, False)

    module = [sys.executable, "-m", "smnas_optuna.cli", "worker", "mine"]
    assert first.command == [*module, "--of", "1000", "--threads", "1", "--slot", "0", "--lead"]
    assert first.environment == dict(os.environ)
    assert second.command == [*module, "--of", "2", "--slot", "1"]
    assert second.environment["CUDA_VISIBLE_DEVICES"] == "6"


def test_what_a_verification_keeps_is_progress_and_a_lock_is_none(tmp_path: Path) -> None:
    request = VerifyRequest(study_dir=tmp_path, archs=ARCHS)
    request.folder.mkdir()
    before = verify_progress(request)
    (request.folder / "a.lock").touch()
    assert verify_progress(request) == before == 0

    checkpoint = request.folder / "a.safetensors"
    checkpoint.touch()
    first = verify_progress(request)
    os.utime(checkpoint, ns=(first + 1, first + 1))

    assert before < first < verify_progress(request)
