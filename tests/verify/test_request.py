from __future__ import annotations

import os
from pathlib import Path

from smnas_optuna.verify.request import VerifyRequest, verify_progress


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
