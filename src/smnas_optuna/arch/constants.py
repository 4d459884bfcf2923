"""Constants that all detectors of one study share."""

from __future__ import annotations

from dataclasses import dataclass

from smnas_optuna.errors import ArchError, quote

NORMS = ("gn", "bn")


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectorConstants:
    """Anchor sizes, numbers of samples, thresholds and the norm. The defaults are the paper's.

    They are part of a study's recipe, and not of an architecture's identity.
    Small inputs on a CPU need smaller anchors and fewer RoIs; a study sets them in its ``[detector]`` table.

    Attributes:
        anchor_scale: Edge of the RPN's square anchor, in strides of its level. RetinaNet's three octave scales start at
            half of it, as published (32 px at stride 8).
        train_proposals: Maximum number of proposals per image after NMS in training.
        test_proposals: Maximum number of proposals per image after NMS in detection.
        guided_proposals: Maximum number of proposals per image after NMS with Guided Anchoring, in training and in
            detection. These proposals are better, so fewer are enough.
        rpn_samples: Anchors sampled per image for the RPN's losses, at most half of them positive.
        roi_samples: RoIs sampled per image for the head's losses, at most a quarter of them positive.
        guided_roi_samples: The same behind Guided Anchoring.
        score_threshold: Detections with a score at or below this are dropped.
        nms_iou: IoU threshold of NMS: of two detections of one class that overlap more, the lower-scored one is
            dropped.
        max_detections: Maximum number of detections per image.
        norm: One of ``NORMS``. ``gn``: GroupNorm with Weight Standardization, in the backbone, the pyramid
            and the RetinaNet head; it trains from scratch with any batch size. ``bn``: BatchNorm in the backbone and no
            norm elsewhere, as in torchvision's detectors; it folds into the convolutions for inference.
    """

    anchor_scale: float = 8.0
    train_proposals: int = 2000
    test_proposals: int = 1000
    guided_proposals: int = 300
    rpn_samples: int = 256
    roi_samples: int = 384
    guided_roi_samples: int = 256
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100
    norm: str = "gn"

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ArchError(f"norm: {quote(self.norm)} is not known", fix=f"take one of {', '.join(NORMS)}")
