"""Searches under whose hands a part of the study is exchanged, in the middle of a training."""

from __future__ import annotations

import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from smnas_optuna.engine.train import EpochReport
from smnas_optuna.errors import SmnasError
from smnas_optuna.search.request import Request
from smnas_optuna.search.stages import run_search
from smnas_optuna.session.listener import Listener
from smnas_optuna.workers.interrupt import StopRequest

from ..commands import records
from ..fuzz.properties import nothing_changes, refusal
from .changes import CHANGES, THEIRS, Change, make_theirs

MIDWAY = [each for each in CHANGES if each.path in ("study.db", "study.toml", "runs", "workers", "report", "cache")]
FATAL = ("study.db is deleted", "study.db is emptied", "study.db is text", "runs is a link", "runs is a file")
"""No search can go on behind these."""
SEEDED = random.Random(20).sample(MIDWAY, 3)


class Attacker(Listener):
    """Makes ``change`` once, at the end of an epoch, until ``stack`` is closed."""

    def __init__(self, change: Change, study_dir: Path, stack: ExitStack) -> None:
        self._change, self._study_dir, self._stack = change, study_dir, stack
        self.struck = False

    def epoch(self, report: EpochReport) -> None:
        if not self.struck:
            self.struck = True
            self._stack.enter_context(self._change.made(self._study_dir))


def search(study_dir: Path, listener: Listener) -> str:
    request = Request(study_dir=study_dir, trials=3, device="cpu")
    return run_search(request, listener=listener, stop=StopRequest()).reason


@pytest.mark.usefixtures("enough_memory")
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(each, marks=pytest.mark.slow if each in SEEDED else pytest.mark.nightly, id=each.name)
        for each in MIDWAY
    ],
)
def test_a_search_goes_on_or_says_what_happened_and_the_next_one_finishes_it(trained_dir: Path, change: Change) -> None:
    make_theirs(trained_dir.parent)
    before = [(record.number, record.arch, record.ap, record.stored_ms) for record in records(trained_dir)]
    with nothing_changes(trained_dir.parent / THEIRS, outside=""):
        with ExitStack() as stack:
            attacker = Attacker(change, trained_dir, stack)
            try:
                reason = search(trained_dir, attacker)
            except SmnasError as error:
                refusal(error)
            else:
                assert change.name not in FATAL
                assert reason.startswith("budget reached: 3 of 3")
            assert attacker.struck

        assert search(trained_dir, Listener()).startswith("budget reached: 3 of 3")

    after = records(trained_dir)
    assert [(record.number, record.arch, record.ap, record.stored_ms) for record in after[: len(before)]] == before
    trained = [record.arch for record in after if record.trained]
    assert len(trained) == len(set(trained)) == 3
