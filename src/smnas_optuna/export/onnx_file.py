"""The exported file: ONNX with standard operators only, and what is known of the detector in its metadata."""

from __future__ import annotations

import io
import warnings
from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from smnas_optuna.arch import DetectorSpec
from smnas_optuna.batch import canvas_size
from smnas_optuna.export.module import ExportedDetector
from smnas_optuna.models import Detector
from smnas_optuna.runtime.description import METADATA_KEY, FileDescription
from smnas_optuna.runtime.names import INPUTS, OUTPUTS

OPSET = 17
DYNAMIC_AXES: Mapping[str, Mapping[int, str]] = {
    "images": {0: "batch", 2: "height", 3: "width"},
    "sizes": {0: "batch"},
    **{name: {0: "batch"} for name in OUTPUTS},
}
KEPT_GRAPHS = 64
"""Graphs that an :class:`Exporter` keeps, some 300 kB each."""
CONTROL_FLOW = {"If", "Loop", "Scan", "SequenceMap"}


def export_detector(detector: Detector, description: FileDescription) -> bytes:
    """Return ``detector`` as the bytes of an ONNX file, which detects the same.

    Inputs: ``images`` uint8 [batch, 3, height, width], RGB on one of the two canvases of the input size; ``sizes``
    int64 [batch, 2], (height, width) of each image on its canvas. Outputs, highest score first: ``boxes`` float32
    [batch, D, 4] in pixels of the canvas, ``labels`` int64 [batch, D], ``scores`` float32 [batch, D], ``counts`` int64
    [batch]. Slots beyond the count hold zeros.

    Args:
        detector: With trained weights, on the CPU. It is not changed.
        description: For the metadata; see :func:`described`.
    """
    return filled(graph_of(detector), detector, description)


def graph_of(detector: Detector) -> bytes:
    """Return an ONNX file of what detectors of one architecture compute, without weights; see :func:`filled`.

    Args:
        detector: On the CPU, with any weights. It is not changed.
    """
    import onnx

    module = ExportedDetector(detector)
    weights = module.state_dict()
    with torch.no_grad():  # the exporter makes one tensor of equal ones, such as the weights of norms at first
        for number, weight in enumerate(weights.values(), start=1):
            weight.view(-1)[0] += number / 1024
    height, width = canvas_size(detector.long, detector.short, portrait=False)
    images = torch.randint(0, 256, (2, 3, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    model = onnx.load_from_string(traced(module, images, torch.tensor([[height, width]] * 2)))
    for output in model.graph.output[:3]:
        output.type.tensor_type.shape.dim[1].dim_value = module.slots
    loops = sorted({node.op_type for node in model.graph.node} & CONTROL_FLOW)
    assert not loops, loops
    assert {entry.domain for entry in model.opset_import} <= {"", "ai.onnx"}
    onnx.checker.check_model(model)
    stored = {each.name: each for each in model.graph.initializer}
    assert weights.keys() <= stored.keys(), sorted(weights.keys() - stored.keys())
    for name in weights:
        stored[name].ClearField("raw_data")
    return bytes(model.SerializeToString())


def filled(graph: bytes, detector: Detector, description: FileDescription) -> bytes:
    """Return the exported file of ``detector``.

    Args:
        graph: :func:`graph_of` of a detector that differs in weights and score threshold alone.
        detector: On the CPU.
        description: For the metadata.
    """
    import onnx

    model, weights = onnx.load_from_string(graph), ExportedDetector(detector).state_dict()
    for stored in model.graph.initializer:
        if stored.name in weights:
            weight = weights.pop(stored.name).numpy()
            assert list(weight.shape) == list(stored.dims), stored.name
            stored.raw_data = weight.tobytes()
    assert not weights, sorted(weights)
    onnx.helper.set_model_props(model, {METADATA_KEY: description.json()})
    return bytes(model.SerializeToString())


class Exporter:
    """Exports detectors of many architectures, each of which is traced once: that takes seconds.

    A detector is timed before it is trained and afterwards, and only weights and score threshold differ then. Number of
    classes and all other constants must be the same for all detectors.
    """

    def __init__(self) -> None:
        self._graphs = OrderedDict[DetectorSpec, bytes]()

    def export(self, spec: DetectorSpec, detector: Detector, description: FileDescription) -> bytes:
        """Return the exported file of a ``detector`` of this architecture; see :func:`export_detector`."""
        if spec not in self._graphs:
            self._graphs[spec] = graph_of(detector)
        self._graphs.move_to_end(spec)
        while len(self._graphs) > KEPT_GRAPHS:
            self._graphs.popitem(last=False)
        return filled(self._graphs[spec], detector, description)


def traced(
    module: nn.Module, images: Tensor, sizes: Tensor, *, axes: Mapping[str, Mapping[int, str]] = DYNAMIC_AXES
) -> bytes:
    """Return an ONNX file of what ``module`` does with these inputs; ``axes`` names the dimensions that are free."""
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter that traces is the older one. It takes 1 s for a detector, and the newer one up to 30 s.
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript-based ONNX export", DeprecationWarning)
        warnings.filterwarnings("ignore", "The feature will be removed", DeprecationWarning)
        torch.onnx.export(
            module,
            (images, sizes),
            file,  # type: ignore[arg-type]  # the exporter that traces takes files, too
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    return file.getvalue()


def described(content: bytes, description: FileDescription) -> bytes:
    """Return an exported file with another description."""
    import onnx

    model = onnx.load_from_string(content)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA_KEY: description.json()})
    return bytes(model.SerializeToString())
