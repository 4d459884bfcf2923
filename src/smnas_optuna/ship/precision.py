"""Files of lower precision: 8-bit integers or 16-bit floats, calibrated on training images, beside the file in fp32."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smnas_optuna.arch import InputSize
from smnas_optuna.data import DetectionLoader
from smnas_optuna.errors import FileError
from smnas_optuna.session.prepare import Session
from smnas_optuna.session.timing import spread_evenly
from smnas_optuna.session.trained import Trained
from smnas_optuna.ship.request import Precision
from smnas_optuna.ship.timing import Pace

CALIBRATION_IMAGES = 64
"""Training images whose activations set the ranges of the integers; a few dozen are usual (Nagel et al. 2021, section
3)."""
PREDICTORS = ("predictor", "places", "offset", "cls_logits", "bbox_reg")
"""Layers that stay in fp32: the last ones, whose outputs are scores and coordinates. They take hardly any time."""
LAYERS = ("Conv", "Gemm")


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A file of lower precision beside that in fp32.

    Attributes:
        precision: Its precision.
        ap: Its AP on the validation images, in [0, 1].
        fp32_ap: AP of the file in fp32.
        pace: Its time beside that of the file in fp32.
    """

    precision: Precision
    ap: float
    fp32_ap: float
    pace: Pace


def check_trial(trial: Trial, ap_spread: float) -> None:
    """Check that a lower precision is worth it.

    Args:
        trial: The file beside that in fp32.
        ap_spread: Standard deviation of AP over seeds, in [0, 1].

    Raises:
        FileError: If it loses more AP than that, or is no faster.
    """
    loss, ratio = trial.fp32_ap - trial.ap, trial.pace.ratio
    measured = (
        f"AP {100 * trial.ap:.1f} (x100) at {trial.pace.ms:.3g} ms, fp32 {100 * trial.fp32_ap:.1f} at "
        f"{trial.pace.reference_ms:.3g} ms"
    )
    fix = "export in fp32, or write it all the same: --allow-loss"
    if loss > ap_spread:
        raise FileError(
            f"{trial.precision}: {measured}; it loses {100 * loss:.1f}, and seeds differ by {100 * ap_spread:.1f}",
            fix=fix,
        )
    if ratio >= 1:
        raise FileError(f"{trial.precision}: {measured}; it is no faster on this machine", fix=fix)


def lower_precision(session: Session, trained: Trained, content: bytes, precision: Precision) -> bytes:
    """Return a file in fp32 in a lower precision; its description is still that of fp32."""
    if precision == "int8":
        return _integers(session, trained, content)
    assert precision == "fp16"
    return _half_floats(content)


def _integers(session: Session, trained: Trained, content: bytes) -> bytes:
    """Quantize convolutions and fully connected layers, each output channel by its own scale."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no type information
        def __init__(self) -> None:
            self.inputs = _calibration_inputs(session, trained)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.inputs, None)

    model = onnx.load_from_string(content)
    # What ONNX Runtime asks for before quantization, fusing, was done before the export.
    model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    with tempfile.TemporaryDirectory(prefix="smnas-") as folder:
        file = Path(folder) / "quantized.onnx"
        quantize_static(
            model,
            file,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(LAYERS),
            nodes_to_exclude=[node.name for node in model.graph.node if any(name in node.name for name in PREDICTORS)],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return file.read_bytes()


def _calibration_inputs(session: Session, trained: Trained) -> Iterator[dict[str, Any]]:
    """Yield training images, one by one, spread evenly over the data."""
    testbed, size = session.testbed, InputSize(long=trained.module.long, short=trained.module.short)
    dataset = spread_evenly(testbed.splits.train, CALIBRATION_IMAGES)
    step = session.step("calibrate")
    loader = DetectionLoader(
        dataset, long=size.long, short=size.short, batch_size=1, device=testbed.device, seed=0, train=False
    )
    for done, batch in enumerate(loader.epoch(0), start=1):
        yield {"images": batch.images.numpy(), "sizes": batch.sizes.numpy()}
        step(done, len(loader))


def _half_floats(content: bytes) -> bytes:
    """Convert the layers to 16-bit floats; boxes and scores are computed in fp32, as coordinates need more digits."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load_from_string(content)
    others = [
        node.name
        for node in model.graph.node
        if not (node.op_type in LAYERS or node.name.startswith(("/backbone/", "/neck/")))
    ]
    converted = convert_float_to_float16(model, keep_io_types=True, node_block_list=others)
    return bytes(converted.SerializeToString())
