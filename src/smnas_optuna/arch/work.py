"""Multiply-adds and parameters of an architecture in closed form, without building it.

A detector that is built on the meta device costs a third of a second to count, and a proposal compares hundreds. The
formulas give what :func:`smnas_optuna.engine.complexity.count_complexity` counts; a test compares both.
"""

from __future__ import annotations

from smnas_optuna.arch import DetectorConstants, DetectorSpec, NeckSpec
from smnas_optuna.arch.backbone_work import BIAS, NORM, Work, conv, count_stages
from smnas_optuna.arch.spec import (
    BACKBONE_TOP,
    CascadeHeadSpec,
    FcHeadSpec,
    GuidedRpnSpec,
    HeadSpec,
    RetinaHeadSpec,
)
from smnas_optuna.runtime.canvas import canvas_size

ROI_PLACES, C4_ROI_EDGE = 7 * 7, 14
RPN_ANCHORS, C4_RPN_ANCHORS = 3, 15
"""Anchors of a place, on a level of a pyramid and on the only level of C4."""
RETINA_ANCHORS, RETINA_LAYERS = 9, 4


class WorkCounter:
    """Counts multiply-adds and parameters of specs.

    Args:
        num_classes: Number of foreground classes.
        constants: Constants of the study: numbers of proposals, and the norm.
    """

    def __init__(self, num_classes: int = 1, constants: DetectorConstants | None = None) -> None:
        self._num_classes = num_classes
        self._constants = constants or DetectorConstants()
        self._behind_pyramid = NORM if self._constants.norm == "gn" else BIAS

    def __call__(self, spec: DetectorSpec) -> Work:
        """Return the work of ``spec``, for its whole canvas and its maximum number of proposals."""
        height, width = canvas_size(spec.input_size.long, spec.input_size.short, portrait=False)
        stages = count_stages(spec.backbone, height, width)
        if spec.neck is None:
            # The last stage runs on every RoI, once for each stage of the head.
            channels, places = stages[-2][1], height * width // 16**2
            body = [work for work, _ in stages[:-1]]
            return sum([*body, self._count_rpn(spec, channels, places), self._count_c4_head(spec)], Work())
        maps = _pyramid_places(spec.neck, height, width)
        body = [work for work, _ in stages]
        body.append(self._count_pyramid(spec.neck, [channels for _, channels in stages], maps))
        if isinstance(spec.head, RetinaHeadSpec):
            return sum([*body, self._count_retina(spec.neck.channels, sum(maps))], Work())
        rpn = self._count_rpn(spec, spec.neck.channels, sum(maps))
        return sum([*body, rpn, self._count_fc_head(spec, spec.neck.channels)], Work())

    def _count_pyramid(self, neck: NeckSpec, channels: list[int], maps: list[int]) -> Work:
        total, extra = Work(), self._behind_pyramid
        inside = BACKBONE_TOP + 1 - neck.min_level
        for inputs, places in zip(channels[neck.min_level - 2 :], maps[:inside], strict=True):
            total += conv(inputs, neck.channels, 1, places, extra=extra)
            total += conv(neck.channels, neck.channels, 3, places, extra=extra)
        if neck.extra in ("conv_c5", "conv_p5"):
            inputs = channels[-1] if neck.extra == "conv_c5" else neck.channels
            for places in maps[inside:]:
                total += conv(inputs, neck.channels, 3, places, extra=extra)
                inputs = neck.channels
        return total

    def _count_retina(self, channels: int, places: int) -> Work:
        layer = conv(channels, channels, 3, places, extra=self._behind_pyramid)
        outputs = RETINA_ANCHORS * (self._num_classes + 4)
        layers = 2 * RETINA_LAYERS
        return layer.times(layers, layers) + conv(channels, outputs, 3, places, extra=BIAS)

    def _count_rpn(self, spec: DetectorSpec, channels: int, places: int) -> Work:
        total = conv(channels, channels, 3, places, extra=BIAS)
        if not isinstance(spec.rpn, GuidedRpnSpec):
            anchors = C4_RPN_ANCHORS if spec.neck is None else RPN_ANCHORS
            return total + conv(channels, 5 * anchors, 1, places, extra=BIAS)
        offsets = 2 * 3**2 * next(groups for groups in (4, 2, 1) if channels % groups == 0)
        total += conv(channels, 1 + 2 + 1 + 4, 1, places, extra=BIAS)  # location, shape, objectness, box
        return total + conv(2, offsets, 1, places, extra=0) + conv(channels, channels, 3, places, extra=0)

    def _count_fc_head(self, spec: DetectorSpec, channels: int) -> Work:
        width, stages = head_width(spec.head), num_roi_stages(spec.head)
        assert width is not None
        stage = conv(channels * ROI_PLACES, width, 1, 1, extra=BIAS) + conv(width, width, 1, 1, extra=BIAS)
        stage += self._count_predictor(spec.head, width)
        return stage.times(stages * self._num_rois(spec), stages)

    def _count_c4_head(self, spec: DetectorSpec) -> Work:
        # An RoI of 14 x 14 at stride 16 is a canvas of 224 x 224.
        trunk, channels = count_stages(spec.backbone, 16 * C4_ROI_EDGE, 16 * C4_ROI_EDGE)[-1]
        stages = num_roi_stages(spec.head)
        runs = stages * self._num_rois(spec)
        return trunk.times(runs) + self._count_predictor(spec.head, channels).times(runs, stages)

    def _count_predictor(self, head: HeadSpec, channels: int) -> Work:
        boxes = 1 if isinstance(head, CascadeHeadSpec) else self._num_classes + 1
        return conv(channels, self._num_classes + 1 + 4 * boxes, 1, 1, extra=BIAS)

    def _num_rois(self, spec: DetectorSpec) -> int:
        guided = isinstance(spec.rpn, GuidedRpnSpec)
        return self._constants.guided_proposals if guided else self._constants.test_proposals


def num_roi_stages(head: HeadSpec) -> int:
    """Return the number of stages of an RoI head; 0 for a one-stage head."""
    match head:
        case RetinaHeadSpec():
            return 0
        case FcHeadSpec():
            return 1
        case CascadeHeadSpec(stages=stages):
            return stages


def head_width(head: HeadSpec) -> int | None:
    """Return the width of the fully connected layers; None if there are none."""
    return None if isinstance(head, RetinaHeadSpec) else head.width


def _pyramid_places(neck: NeckSpec, height: int, width: int) -> list[int]:
    """Return the positions of every level; above p5 an odd edge is rounded up."""
    edges = [(height >> level, width >> level) for level in range(neck.min_level, BACKBONE_TOP + 1)]
    for _ in range(BACKBONE_TOP, neck.max_level):
        edges.append((-(-edges[-1][0] // 2), -(-edges[-1][1] // 2)))
    return [high * wide for high, wide in edges]
