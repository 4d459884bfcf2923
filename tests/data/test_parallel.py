from __future__ import annotations

import threading
import time

import pytest

from smnas_optuna.allowance import usable_cores
from smnas_optuna.data.parallel import map_in_threads


def test_results_come_in_order() -> None:
    assert list(map_in_threads(lambda number: number**2, range(100), bytes_each=0)) == [n**2 for n in range(100)]


@pytest.mark.parametrize(
    ("bytes_each", "most"), [(0, usable_cores()), (50, 1), (51, 1), (10**9, 1), (1, usable_cores())]
)
def test_no_more_threads_than_memory_is_free_for(bytes_each: int, most: int) -> None:
    lock, running, peak = threading.Lock(), 0, 0

    def work(_: int) -> None:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        time.sleep(0.005)
        with lock:
            running -= 1

    list(map_in_threads(work, range(20), bytes_each=bytes_each, free_bytes=lambda: 100 + 4 * usable_cores()))

    assert peak <= most
