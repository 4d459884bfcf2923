"""The stack on which a thread handles signals, kept as it is while a library would exchange it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """``stack_t`` of Linux, as sigaltstack(2) has it."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Give the thread its stack for signals back after the body; elsewhere than on Linux do nothing.

    OpenVINO 2026.4 sets one of its own when it compiles a model, and the one before again when that is released. Of two
    that are released in the order in which they were made, the second sets the freed stack of the first, and the next
    signal ends the process.
    """
    if sys.platform != "linux":
        yield
        return
    library, before = ctypes.CDLL(None), _Stack()
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        library.sigaltstack(ctypes.byref(before), None)
