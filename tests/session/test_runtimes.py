"""The choice of what runs detectors while they are timed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from smnas_optuna.errors import DeviceError
from smnas_optuna.session.runtimes import choose_runtime

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_what_ships_is_timed_where_nobody_says_otherwise() -> None:
    assert choose_runtime("auto", CPU) == "onnxruntime"
    assert choose_runtime("auto", CUDA) == "graph"
    assert choose_runtime("eager", CUDA) == "eager"
    assert choose_runtime("graph", CUDA) == "graph"
    assert choose_runtime("openvino", CPU) == "openvino"


@pytest.mark.parametrize(
    ("stored", "runtime"),
    [
        (None, "onnxruntime"),
        ({"kind": "cpu"}, "eager"),
        ({"kind": "cpu", "runtime": "onnxruntime"}, "onnxruntime"),
        ({"kind": "cpu", "runtime": "openvino"}, "openvino"),
        ({"kind": "cpu", "runtime": "of another version"}, "onnxruntime"),
    ],
    ids=["new", "of an early version", "as now", "asked for before", "not known"],
)
def test_a_study_that_has_begun_keeps_its_runtime(stored: dict[str, Any] | None, runtime: str) -> None:
    assert choose_runtime("auto", CPU, stored) == runtime
    assert choose_runtime("auto", CUDA, stored) == "graph"
    assert choose_runtime("eager", CPU, stored) == "eager"


@pytest.mark.parametrize(
    ("choice", "device", "message", "fix"),
    [
        ("graph", CPU, "runtime graph: there are no CUDA graphs on the device cpu", "use onnxruntime"),
        (
            "openvino",
            CUDA,
            "runtime openvino: it runs exported detectors on the CPU, and the device is cuda",
            "use graph",
        ),
    ],
)
def test_a_runtime_that_the_device_does_not_have_is_refused(
    choice: Any, device: torch.device, message: str, fix: str
) -> None:
    with pytest.raises(DeviceError) as caught:
        choose_runtime(choice, device)

    assert caught.value.message == message
    assert caught.value.fix.startswith(fix)
