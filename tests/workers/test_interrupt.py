from __future__ import annotations

import signal
import time

import pytest

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


def test_a_signal_goes_before_the_time() -> None:
    stop = StopRequest()
    stop.ask(signal.SIGINT)

    with stop.no_later_than(time.time() - 1), pytest.raises(Interrupted, match="SIGINT") as caught:
        stop.check()
    assert not isinstance(caught.value, TimeUp)
