from __future__ import annotations

from pathlib import Path

import pytest

from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import prepare
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.interrupt import Interrupted, StopRequest
from smnas_optuna.workers.measurement_lock import MeasurementLock


class Loads(Listener):
    """Hears whether anything was loaded."""

    loads = 0

    def step(self, phase: str, done: int, total: int) -> None:
        self.loads += phase == "load"


class Impatient(StopRequest):
    """Stops when it is asked for the fifth time."""

    asked = 0

    def check(self) -> None:
        self.asked += 1
        if self.asked == 5:
            raise Interrupted(15)


def test_no_data_is_loaded_while_somebody_measures(study_dir: Path) -> None:
    folder, listener = StudyFolder(study_dir), Loads()

    with MeasurementLock().exclusive() as alone, pytest.raises(Interrupted):
        prepare(folder, listener=listener, stop=Impatient(), device="cpu")

    assert alone
    assert listener.loads == 0
    prepare(folder, listener=listener, stop=StopRequest(), device="cpu")
    assert listener.loads > 0
