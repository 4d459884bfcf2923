"""The tests of CUDA graphs that need no GPU; the others are in ``tests/models/test_cuda_graphs.py``."""

from __future__ import annotations

import pytest
import torch

from smnas_optuna.engine.graphs import choose_runtime
from smnas_optuna.errors import DeviceError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_detectors_run_by_graphs_where_there_is_a_gpu_and_nobody_says_otherwise() -> None:
    assert choose_runtime("auto", CPU) == "eager"
    assert choose_runtime("auto", CUDA) == "graph"
    assert choose_runtime("eager", CUDA) == "eager"
    assert choose_runtime("graph", CUDA) == "graph"


def test_without_a_gpu_there_are_no_graphs() -> None:
    with pytest.raises(DeviceError, match="runtime graph: there are no CUDA graphs on the device cpu") as caught:
        choose_runtime("graph", CPU)

    assert caught.value.fix == 'use eager (--runtime eager, or [latency] runtime = "eager" in study.toml), or a GPU'
