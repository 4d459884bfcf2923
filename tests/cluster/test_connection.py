from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from smnas_optuna.cluster import connection
from smnas_optuna.cluster.connection import connected, load_ray
from smnas_optuna.errors import DeviceError

from ..commands import smnas


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DeviceError) as error:
        load_ray()
    assert "pip install 'smnas-optuna[ray]'" in str(error.value)


class Module:
    """Ray as a module that handles signals itself where it can, as it does."""

    exceptions = SimpleNamespace(RayError=OSError)

    def __init__(self) -> None:
        self.addresses = list[str]()

    def init(self, address: str, **_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.addresses.append(address)

    def shutdown(self) -> None:
        self.addresses.append("shut down")


@pytest.mark.parametrize("thread", [False, True])
def test_in_any_thread_a_connection_ends_and_signals_stay_as_they_were(
    monkeypatch: pytest.MonkeyPatch, thread: bool
) -> None:
    module, before = Module(), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(connection, "load_ray", lambda: module)

    def connect() -> None:
        with connected("a") as ray:
            assert ray is module
            ray.addresses.append("body")

    if thread:
        connecting = threading.Thread(target=connect)
        connecting.start()
        connecting.join()
    else:
        connect()

    assert module.addresses == ["a", "body", "shut down"]
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.slow
def test_an_address_without_a_cluster_is_refused(drawn_dir: Path) -> None:
    pytest.importorskip("ray")
    done = smnas("structural", drawn_dir, "--ray", "no-port", "--device", "cpu", check=False)
    assert done.returncode == 1
    assert "--ray no-port: there is no cluster to connect to" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
