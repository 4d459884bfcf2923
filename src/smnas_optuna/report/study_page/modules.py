"""The modules of a detector with their shapes, parameters and multiply-adds, and a small drawing of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from smnas_optuna.arch import (
    CascadeHeadSpec,
    DetectorConstants,
    DetectorSpec,
    EncodedBackboneSpec,
    GuidedRpnSpec,
    MobileNetSpec,
    decode,
)
from smnas_optuna.page import Html, element
from smnas_optuna.report.tables import short

if TYPE_CHECKING:
    from torch import Tensor, nn

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class Module:
    """A module of a detector.

    Attributes:
        name: Its name.
        words: What it is.
        num_params: Its parameters.
        multiply_adds: For one image; see :class:`smnas_optuna.engine.complexity.Complexity`.
        outputs: What it gives, each with its shape: ``c2 16x24x32`` is channels x height x width.
    """

    name: str
    words: str
    num_params: int
    multiply_adds: int
    outputs: tuple[str, ...]


def modules_of(arch: str, num_classes: int, constants: DetectorConstants) -> list[Module]:
    """Return the modules of an architecture in the order in which an image passes them. Nothing is computed.

    Args:
        arch: Canonical string of the architecture.
        num_classes: Number of foreground classes.
        constants: Constants that it is built with.

    Raises:
        ArchError: If it names no architecture.
    """
    import torch

    from smnas_optuna.batch import canvas_size
    from smnas_optuna.models import build_detector

    spec = decode(arch)
    with torch.device("meta"):
        detector = build_detector(spec, num_classes, constants).eval()
    long, short_edge = spec.input_size.long, spec.input_size.short
    canvas = torch.zeros(1, 3, *canvas_size(long, short_edge, portrait=False), device="meta")
    features, backbone_work = _counted(lambda: detector.backbone(canvas))
    levels, neck_work = _counted(lambda: detector.neck(features))
    modules = [_module("backbone", _backbone(spec), [detector.backbone], backbone_work, _shapes(features))]
    if spec.neck is not None:
        words = f"feature pyramid with {spec.neck.channels} channels"
        modules.append(_module("neck", words, [detector.neck], neck_work, _shapes(levels)))
    return [*modules, *_heads(spec, detector.head, levels, constants)]


def _heads(
    spec: DetectorSpec, head: nn.Module, levels: dict[str, Tensor], constants: DetectorConstants
) -> list[Module]:
    if spec.rpn is None:
        _, work = _counted(lambda: head.fixed_work(levels))  # type: ignore[operator]
        words = "RetinaNet head: classes and boxes at every place"
        return [_module("head", words, [head], work, (f"up to {constants.max_detections} detections",))]
    guided = isinstance(spec.rpn, GuidedRpnSpec)
    count = constants.guided_proposals if guided else constants.test_proposals
    rpn, roi_head = head.rpn, head.roi_head
    _, rpn_work = _counted(lambda: rpn.fixed_work(levels))  # type: ignore[union-attr, operator]
    _, roi_work = _counted(lambda: roi_head.fixed_work(levels))  # type: ignore[union-attr, operator]
    cascade = spec.head.stages if isinstance(spec.head, CascadeHeadSpec) else 1
    width = getattr(spec.head, "width", None)
    layers = "the backbone's last stage" if width is None else f"two fully connected layers of {width}"
    words = f"{cascade} times {layers}" if cascade > 1 else layers
    return [
        _module("RPN", "Guided Anchoring" if guided else "3 anchors a place", [rpn], rpn_work, (f"{count} proposals",)),
        _module("RoI head", words, [roi_head], roi_work, (f"up to {constants.max_detections} detections",)),
    ]


def _module(name: str, words: str, parts: Sequence[object], multiply_adds: int, outputs: Sequence[str]) -> Module:
    num_params = sum(each.numel() for part in parts for each in part.parameters())  # type: ignore[attr-defined]
    return Module(name=name, words=words, num_params=num_params, multiply_adds=multiply_adds, outputs=tuple(outputs))


def _counted(work: Callable[[], Result]) -> tuple[Result, int]:
    """Return the result of ``work`` on the meta device, and its multiply-adds."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        result = work()
    return result, counter.get_total_flops() // 2


def _shapes(features: dict[str, Tensor]) -> list[str]:
    return [f"{name} {'x'.join(map(str, feature.shape[1:]))}" for name, feature in features.items()]


def _backbone(spec: DetectorSpec) -> str:
    backbone = spec.backbone
    if isinstance(backbone, EncodedBackboneSpec):
        return f"{len(''.join(backbone.stages))} blocks of {backbone.block}, base width {backbone.width}"
    if isinstance(backbone, MobileNetSpec):
        return f"{sum(backbone.depths)} blocks of MobileNetV2, base width {backbone.width}"
    return f"{backbone.family}, base width {backbone.width}"


def modules_drawing(modules: Sequence[Module], input_size: str) -> Html:
    """Return boxes from the image to the detections, each with its shapes and its share of the whole."""
    params = sum(module.num_params for module in modules) or 1
    work = sum(module.multiply_adds for module in modules) or 1
    boxes = [element("li", element("b", "image"), element("span", f"3 channels, {input_size} px", class_="soft"))]
    for module in modules:
        outputs = element("ul", *(element("li", element("code", each)) for each in module.outputs))
        boxes.append(
            element(
                "li",
                element("b", module.name),
                element("span", module.words, class_="soft"),
                _share(f"{short(module.num_params, 1e6)} M parameters", module.num_params / params),
                _share(f"{short(module.multiply_adds, 1e9)} G multiply-adds", module.multiply_adds / work),
                outputs,
            )
        )
    return element("ol", *boxes, class_="modules")


def _share(text: str, share: float) -> Html:
    percent = f"{100 * share:.0f} %"
    filled = element("i", class_="bar", style=f"width:{100 * share:.3g}%")
    return element("span", text, " ", element("small", percent), filled, class_="share")
