"""Tiny ONNX files as anybody may have written them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

IMAGE = (1, 3, 40, 64)


def write_onnx(
    path: Path,
    shape: Sequence[int | str] = IMAGE,
    *,
    kind: int = TensorProto.FLOAT,
    inputs: int = 1,
    operator: str = "ReduceMax",
) -> Path:
    """Write a network that returns the largest value of its first input, or its first axis."""
    names = [f"input{number}" for number in range(inputs)]
    node = helper.make_node(operator, names[:1], ["found"])
    if operator == "ReduceMax":
        node.attribute.append(helper.make_attribute("keepdims", 0))
    graph = helper.make_graph(
        [node],
        "tiny",
        [helper.make_tensor_value_info(name, kind, shape) for name in names],
        [helper.make_tensor_value_info("found", kind, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save_model(model, path)
    return path
