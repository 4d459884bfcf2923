from __future__ import annotations

import subprocess
import sys

import pytest

import smnas_optuna
from smnas_optuna import api, arch, models


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    "statement",
    [
        "import smnas_optuna",
        "from smnas_optuna import decode, encode, BASELINES",
        "import smnas_optuna.config",
    ],
)
def test_what_needs_no_torch_loads_none(statement: str) -> None:
    loaded = _python(
        f"{statement}\nimport sys\nprint(*sorted({{'torch', 'torchvision', 'optuna'}} & set(sys.modules)))"
    )

    assert loaded == ""


WITHOUT_TORCH = """
import importlib, pkgutil, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision"):
            raise ImportError(f"{name} is not to be imported")
sys.meta_path.insert(0, Blocked())
for name in sys.argv[1:]:
    module = importlib.import_module(f"smnas_optuna.{name}")
    for each in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{module.__name__}."):
        importlib.import_module(each.name)
        print(each.name)
"""


def test_studies_workers_and_the_loop_are_there_without_torch() -> None:
    names = ["arch", "config", "search_space", "study", "workers", "search.loop", "search.request", "verify.request"]
    command = [sys.executable, "-c", WITHOUT_TORCH, *names]

    run = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (run.returncode, run.stderr) == (0, "")
    imported = {name.removeprefix("smnas_optuna.") for name in run.stdout.split()}
    assert {"arch.codec", "search_space.modular", "study.settled", "workers.supervisor"} <= imported


def test_the_lazy_names_are_the_ones_of_their_homes() -> None:
    assert smnas_optuna.decode is arch.decode
    assert smnas_optuna.encode is arch.encode
    assert smnas_optuna.BASELINES is arch.BASELINES
    assert smnas_optuna.build_detector is models.build_detector
    assert smnas_optuna.load_detector is api.load_detector
    assert smnas_optuna.open_study is api.open_study


@pytest.mark.parametrize("name", smnas_optuna.__all__)
def test_every_name_of_the_package_is_there(name: str) -> None:
    assert getattr(smnas_optuna, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'smnas_optuna' has no attribute 'build_dectector'"):
        smnas_optuna.build_dectector  # noqa: B018
