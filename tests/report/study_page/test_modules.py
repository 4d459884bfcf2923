from __future__ import annotations

import pytest

from smnas_optuna.arch import DetectorConstants, decode
from smnas_optuna.engine.complexity import count_complexity
from smnas_optuna.models import build_detector
from smnas_optuna.report.study_page.modules import modules_drawing, modules_of

CONSTANTS = DetectorConstants(test_proposals=20, guided_proposals=10)


@pytest.mark.parametrize(
    ("arch", "names"),
    [
        ("64x48.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128", ["backbone", "neck", "RPN", "RoI head"]),
        ("64x48.resnet18-w8.fpn-p2-p5-c32.ga.cascade2-w128", ["backbone", "neck", "RPN", "RoI head"]),
        ("64x48.resnet18-w8.fpn-p3-p5-c32.none.retina", ["backbone", "neck", "head"]),
        ("64x48.resnet18-w8.c4.rpn.fc", ["backbone", "RPN", "RoI head"]),
    ],
)
def test_modules_add_up_to_the_whole_detector(arch: str, names: list[str]) -> None:
    modules = modules_of(arch, 3, CONSTANTS)
    spec = decode(arch)
    whole = count_complexity(build_detector(spec, 3, CONSTANTS), long=spec.input_size.long, short=spec.input_size.short)

    assert [module.name for module in modules] == names
    assert sum(module.num_params for module in modules) == whole.num_params
    assert sum(module.multiply_adds for module in modules) == whole.multiply_adds


def test_modules_say_their_output_shapes() -> None:
    # the canvas is as wide and high as whole strides of c5
    backbone, neck, rpn, head = modules_of("64x48.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128", 3, CONSTANTS)

    assert backbone.outputs == ("c2 8x16x16", "c3 16x8x8", "c4 32x4x4", "c5 64x2x2")
    assert neck.outputs == ("p2 32x16x16", "p3 32x8x8", "p4 32x4x4", "p5 32x2x2")
    assert rpn.outputs == ("20 proposals",)
    assert head.words == "two fully connected layers of 128"


def test_the_drawing_names_each_module_with_its_share() -> None:
    drawing = modules_drawing(modules_of("64x48.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128", 3, CONSTANTS), "64x48")

    assert "<b>image</b>" in drawing
    assert "3 channels, 64x48 px" in drawing
    assert "<code>p5 32x2x2</code>" in drawing
    assert drawing.count(" %</small>") == 8
