from __future__ import annotations

from pathlib import Path

import pytest

from smnas_optuna.search.ground import prepare
from smnas_optuna.search.interrupt import Interrupted, StopRequest
from smnas_optuna.search.listener import Listener
from smnas_optuna.search.quiet import Quiet
from smnas_optuna.search.request import Request


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
    request, listener = Request(study_dir=study_dir, device="cpu"), Loads()

    with Quiet().measuring() as alone, pytest.raises(Interrupted):
        prepare(request, None, listener, Impatient())

    assert alone
    assert listener.loads == 0
    prepare(request, None, listener, StopRequest())
    assert listener.loads > 0
