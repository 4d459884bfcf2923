"""The exported file: ONNX with standard operators only, and what is known of the detector in its metadata."""

from __future__ import annotations

import io
import warnings

import torch
from torch import Tensor

from smnas_optuna.batch import canvas_size
from smnas_optuna.export.module import ExportedDetector
from smnas_optuna.models import Detector
from smnas_optuna.runtime.description import METADATA_KEY, FileDescription
from smnas_optuna.runtime.names import INPUTS, OUTPUTS

OPSET = 17
DYNAMIC_AXES = {
    "images": {0: "batch", 2: "height", 3: "width"},
    "sizes": {0: "batch"},
    **{name: {0: "batch"} for name in OUTPUTS},
}
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
    module = ExportedDetector(detector)
    height, width = canvas_size(detector.long, detector.short, portrait=False)
    images = torch.randint(0, 256, (2, 3, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    sizes = torch.tensor([[height, width]] * 2)
    return _finished(_trace(module, images, sizes), module.slots, description)


def _trace(module: ExportedDetector, images: Tensor, sizes: Tensor) -> bytes:
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
            dynamic_axes=DYNAMIC_AXES,
            opset_version=OPSET,
            dynamo=False,
        )
    return file.getvalue()


def _finished(content: bytes, slots: int, description: FileDescription) -> bytes:
    """Return a traced file with its description, and with the number of slots in the shapes of its outputs."""
    import onnx

    model = onnx.load_from_string(content)
    for output in model.graph.output[:3]:
        output.type.tensor_type.shape.dim[1].dim_value = slots
    loops = sorted({node.op_type for node in model.graph.node} & CONTROL_FLOW)
    assert not loops, loops
    assert {entry.domain for entry in model.opset_import} <= {"", "ai.onnx"}
    onnx.checker.check_model(model)
    return described(bytes(model.SerializeToString()), description)


def described(content: bytes, description: FileDescription) -> bytes:
    """Return an exported file with another description."""
    import onnx

    model = onnx.load_from_string(content)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA_KEY: description.json()})
    return bytes(model.SerializeToString())
