"""Work on many images at once; Pillow lets go of the interpreter while it decodes and resizes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from smnas_optuna.data.memory import free_memory

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 4  # results waiting per thread: bounds the memory, and how long an interruption waits


def map_in_threads(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    bytes_each: int,
    free_bytes: Callable[[], int] = free_memory,
) -> Iterator[Result]:
    """``function`` of every item, in order, one thread per processor as far as their memory is free.

    Args:
        function: Called from several threads.
        items: What it is called with.
        bytes_each: Memory that one call takes at most; all together take at most half of what is free, if that is
            enough for one.
        free_bytes: Gives the free memory in bytes.

    Raises:
        Exception: What ``function`` raises, when its item's turn comes.
    """
    num_threads = max(1, min(os.cpu_count() or 1, free_bytes() // 2 // max(bytes_each, 1)))
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= _AHEAD * num_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
