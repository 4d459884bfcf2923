from __future__ import annotations

import threading
from pathlib import Path

from smnas_optuna.cluster.baton import Baton
from smnas_optuna.workers.measurement_lock import MeasurementLock


def test_one_thread_works_at_a_time_and_others_while_it_waits(tmp_path: Path) -> None:
    baton, order = Baton(MeasurementLock(tmp_path)), list[str]()
    may_return, waits = threading.Event(), threading.Event()

    def first() -> None:
        with baton.held():
            order.append("first begins")
            with baton.passed_on():
                waits.set()
                may_return.wait(10)
            order.append("first goes on")

    def second() -> None:
        waits.wait(10)
        with baton.held():
            order.append("second begins")
            may_return.set()
            order.append("second ends")

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert order == ["first begins", "second begins", "second ends", "first goes on"]


def test_whoever_waits_is_not_at_work_and_lets_others_measure(tmp_path: Path) -> None:
    ours, others = (MeasurementLock(tmp_path, patience_seconds=0.2) for _ in range(2))
    baton = Baton(ours)
    with baton.held(), ours.running():
        with others.exclusive() as alone:
            assert not alone  # nobody pauses
        with baton.passed_on(), others.exclusive() as alone:
            assert alone
        with others.exclusive() as alone:
            assert not alone
