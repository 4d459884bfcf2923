from __future__ import annotations

import json
import os
from pathlib import Path

from smnas_optuna.session.deadline import Deadline
from smnas_optuna.verify.request import VerifyRequest, verify_progress


def test_it_goes_to_workers_as_json(tmp_path: Path) -> None:
    deadline = Deadline(at=1.0, latest=2.0, end=3.0, total_s=4.0)
    request = VerifyRequest(study_dir=tmp_path, archs=["a"], data_dir=tmp_path, deadline=deadline)

    assert VerifyRequest.from_json(json.loads(json.dumps(request.as_json()))) == request


def test_what_a_verification_keeps_is_progress_and_a_lock_is_none(tmp_path: Path) -> None:
    folder = VerifyRequest(study_dir=tmp_path, archs=()).folder
    folder.mkdir()
    before = verify_progress(folder)
    (folder / "a.lock").touch()
    assert verify_progress(folder) == before == 0

    checkpoint = folder / "a.safetensors"
    checkpoint.touch()
    first = verify_progress(folder)
    os.utime(checkpoint, ns=(first + 1, first + 1))

    assert before < first < verify_progress(folder)
