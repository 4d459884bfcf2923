from __future__ import annotations

import os
import signal
import time

import pytest

from smnas_optuna.workers import interrupt
from smnas_optuna.workers.interrupt import Interrupted, StopRequest, TimeUp


def test_time_that_is_up_stops_as_a_signal_does_and_only_while_it_is_bounded() -> None:
    stop = StopRequest()

    with stop.no_later_than(time.time() + 1000):
        stop.check()
    with stop.no_later_than(time.time() - 1):
        with pytest.raises(TimeUp, match="its time is up"):
            stop.check()
        with pytest.raises(Interrupted):
            stop.check()
    stop.check()


def test_two_signals_at_once_are_one_for_a_supervised_process(monkeypatch: pytest.MonkeyPatch) -> None:
    supervised, alone = StopRequest(), StopRequest()
    with supervised.listening(supervised=True):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # one to all processes, and the same one from the supervisor
        with pytest.raises(Interrupted):
            supervised.check()
        monkeypatch.setattr(interrupt, "AT_ONCE_S", -1.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    with alone.listening():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_goes_before_the_time() -> None:
    stop = StopRequest()
    stop.ask(signal.SIGINT)

    with stop.no_later_than(time.time() - 1), pytest.raises(Interrupted, match="SIGINT") as caught:
        stop.check()
    assert not isinstance(caught.value, TimeUp)
