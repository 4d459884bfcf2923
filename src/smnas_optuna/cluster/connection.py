"""Ray, where it is installed, and the connection to a cluster."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from smnas_optuna.errors import DeviceError, first_line

EXTRA = "pip install 'smnas-optuna[ray]'"


def load_ray() -> Any:
    """Return the module ``ray``.

    Raises:
        DeviceError: If it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody unless the user wants it
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise DeviceError(f"--ray needs Ray, and it cannot be imported ({first_line(error)})", fix=EXTRA) from None


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Be connected to a cluster while the body runs; yield the module ``ray``.

    Trainings of this connection end with it, however it ends.

    Args:
        address: As Ray takes it: ``auto`` for the cluster that this machine is a node of, ``HOST:PORT`` of its head, or
            ``ray://HOST:PORT`` from a machine that is no node.

    Raises:
        DeviceError: If Ray is not installed, or there is no cluster, or not any more.
    """
    ray = load_ray()
    is_main = threading.current_thread() is threading.main_thread()  # only there are signals handled
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM) if is_main}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except Exception as error:  # noqa: BLE001  # Ray raises whatever its layers do
        raise DeviceError(
            f"--ray {address}: there is no cluster to connect to ({first_line(error)})",
            fix="start one (ray start --head, then ray start --address=HOST:6379 on each node), or name its address",
        ) from None
    finally:
        for number, handler in handlers.items():  # Ray sets its own
            signal.signal(number, handler)
    try:
        yield ray
    except (ConnectionError, ray.exceptions.RayError) as error:
        raise DeviceError(
            f"--ray {address}: the connection to the cluster is lost ({first_line(error)})",
            fix="run the same command again once the cluster is there; what is stored is kept",
        ) from error
    finally:
        ray.shutdown()
