"""Exported files without a network: what they find follows from the mean colour of the canvas."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

from smnas_optuna.runtime.description import METADATA_KEY, FileDescription
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.sessions import Found

SLOTS = 3
DESCRIPTION = FileDescription(
    arch="64x48.resnet18-w4.fpn-p2-p5-c8.rpn.fc-w16",
    classes=("cat", "dog"),
    long=64,
    short=48,
    precision="fp32",
    constants={"score_threshold": 0.05, "max_detections": SLOTS, "norm": "gn"},
    ap=0.4,
    latency={"device": "a CPU", "ms": 1.5},
    data="f00",
    smnas_optuna="0.1.0",
)


def expected(images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> Found:
    """What the file finds: one object, or two where the canvas has much red."""
    share = images.astype(np.float32).mean((2, 3)) / np.float32(255)
    height, width = sizes[:, 0].astype(np.float32), sizes[:, 1].astype(np.float32)
    corner = np.stack((share[:, 1] * width, share[:, 2] * height, width, height), 1)
    counts = 1 + (share[:, 0] > 0.5).astype(np.int64)
    there = np.arange(SLOTS) < counts[:, None]
    scores = np.array([0.9, 0.5, 0.1], np.float32) * share[:, :1]
    return Found(
        boxes=np.repeat(corner[:, None], SLOTS, 1) * there[..., None],
        labels=np.array([1, 2, 1]) * there,
        scores=scores * there,
        counts=counts,
    )


def make_model(description: FileDescription | str = DESCRIPTION, *, slow: int = 0, **renamed: str) -> ModelProto:
    """Return a model that finds what :func:`expected` says.

    Args:
        description: Its description, or the text in the place of one.
        slow: Number of convolutions of the canvas that it computes besides.
        renamed: Other names of inputs and outputs, by name.
    """

    def constant(name: str, value: Any, dtype: type[np.generic]) -> TensorProto:
        return numpy_helper.from_array(np.array(value, dtype), name)

    def name(each: str) -> str:
        return renamed.get(each, each)

    node = helper.make_node
    constants = [
        constant("axes", [2, 3], np.int64),
        constant("one", [1], np.int64),
        constant("255", 255, np.float32),
        constant("half", 0.5, np.float32),
        constant("slots", range(SLOTS), np.int64),
        constant("slot_scores", [0.9, 0.5, 0.1], np.float32),
        constant("slot_labels", [1, 2, 1], np.int64),
        constant("kernel", np.full((3, 3, 3, 3), 0.01), np.float32),
    ]
    nodes = [
        node("Cast", [name("images")], ["pixels"], to=TensorProto.FLOAT),
        *[
            node("Conv", [f"slow{i}" if i else "pixels", "kernel"], [f"slow{i + 1}"], pads=[1, 1, 1, 1])
            for i in range(slow)
        ],
        node("ReduceMean", ["pixels", "axes"] if slow == 0 else ["with_slow", "axes"], ["mean"], keepdims=0),
        node("Div", ["mean", "255"], ["share"]),
        node("Split", ["share"], ["red", "green", "blue"], axis=1, num_outputs=3),
        node("Cast", [name("sizes")], ["real_sizes"], to=TensorProto.FLOAT),
        node("Split", ["real_sizes"], ["height", "width"], axis=1, num_outputs=2),
        node("Mul", ["green", "width"], ["x1"]),
        node("Mul", ["blue", "height"], ["y1"]),
        node("Concat", ["x1", "y1", "width", "height"], ["corner"], axis=1),
        node("Greater", ["red", "half"], ["is_red"]),
        node("Cast", ["is_red"], ["second"], to=TensorProto.INT64),
        node("Add", ["second", "one"], ["column"]),
        node("Squeeze", ["column", "one"], [name("counts")]),
        node("Less", ["slots", "column"], ["is_there"]),
        node("Cast", ["is_there"], ["there"], to=TensorProto.FLOAT),
        node("Cast", ["is_there"], ["there_whole"], to=TensorProto.INT64),
        node("Unsqueeze", ["corner", "one"], ["corners"]),
        node("Constant", [], ["last"], value=constant("", [2], np.int64)),
        node("Unsqueeze", ["there", "last"], ["there_boxes"]),
        node("Mul", ["corners", "there_boxes"], [name("boxes")]),
        node("Mul", ["slot_labels", "there_whole"], [name("labels")]),
        node("Mul", ["slot_scores", "red"], ["all_scores"]),
        node("Mul", ["all_scores", "there"], [name("scores")]),
    ]
    if slow:  # its values do not count, but the runtime cannot know
        nodes.insert(1 + slow, node("Mul", [f"slow{slow}", "nothing"], ["nearly_nothing"]))
        nodes.insert(2 + slow, node("Add", ["pixels", "nearly_nothing"], ["with_slow"]))
        constants.append(constant("nothing", 1e-30, np.float32))
    shapes: list[tuple[str, int, list[Any]]] = [
        ("images", TensorProto.UINT8, ["batch", 3, "height", "width"]),
        ("sizes", TensorProto.INT64, ["batch", 2]),
        ("boxes", TensorProto.FLOAT, ["batch", SLOTS, 4]),
        ("labels", TensorProto.INT64, ["batch", SLOTS]),
        ("scores", TensorProto.FLOAT, ["batch", SLOTS]),
        ("counts", TensorProto.INT64, ["batch"]),
    ]
    values = [helper.make_tensor_value_info(name(each), kind, shape) for each, kind, shape in shapes]
    graph = helper.make_graph(nodes, "detector", values[:2], values[2:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    checker.check_model(model)
    text = description if isinstance(description, str) else description.json()
    helper.set_model_props(model, {METADATA_KEY: text, "other": "ignored"})
    return model


def make_content(description: FileDescription | str = DESCRIPTION, *, slow: int = 0, **renamed: str) -> bytes:
    """Return the bytes of :func:`make_model`."""
    return bytes(make_model(description, slow=slow, **renamed).SerializeToString())


def make_file(*, slow: int = 0, **changes: Any) -> DetectorFile:
    """Return the file whose description has these ``changes``."""
    return DetectorFile.of(make_content(replace(DESCRIPTION, **changes), slow=slow), "detector.onnx")
