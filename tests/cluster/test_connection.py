from __future__ import annotations

import sys
from pathlib import Path

import pytest

from smnas_optuna.cluster.connection import load_ray
from smnas_optuna.errors import DeviceError

from ..commands import smnas


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DeviceError) as error:
        load_ray()
    assert "pip install 'smnas-optuna[ray]'" in str(error.value)


@pytest.mark.slow
def test_an_address_without_a_cluster_is_refused(drawn_dir: Path) -> None:
    pytest.importorskip("ray")
    done = smnas("structural", drawn_dir, "--ray", "no-port", "--device", "cpu", check=False)
    assert done.returncode == 1
    assert "--ray no-port: there is no cluster to connect to" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
