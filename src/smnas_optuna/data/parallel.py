"""Work on many images in threads; Pillow releases the interpreter lock while it decodes and resizes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from smnas_optuna.allowance import free_memory, usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 4  # pending results per thread: bounds the memory, and the delay of an interruption


def map_in_threads(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    bytes_each: int,
    free_bytes: Callable[[], int] = free_memory,
) -> Iterator[Result]:
    """Yield ``function`` of every item, in order, with one thread per usable core, or fewer if memory is short.

    Args:
        function: Called from several threads.
        items: Its arguments.
        bytes_each: Peak memory of one call. All threads together take at most half of the free memory, unless one call
            alone takes more.
        free_bytes: Returns the free memory in bytes.

    Raises:
        Exception: Any error of ``function``, raised in the place of its result.
    """
    num_threads = max(1, min(usable_cores(), free_bytes() // 2 // max(bytes_each, 1)))
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= _AHEAD * num_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
