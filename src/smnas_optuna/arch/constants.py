"""What all detectors of one study share, beside their architecture."""

from __future__ import annotations

from dataclasses import dataclass

from smnas_optuna.errors import ArchError

NORMS = ("gn", "bn")


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectorConstants:
    """Sizes of anchors, numbers of samples, thresholds and the norm. The defaults are the paper's.

    Small inputs on a CPU want smaller anchors and fewer RoIs; a study sets them in its ``[detector]`` table.

    Attributes:
        anchor_scale: Edge of the RPN's square anchor, in strides of its level. RetinaNet's three octave scales start at
            half of it, as published (32 px at stride 8).
        train_proposals: Proposals an image keeps after NMS in training.
        test_proposals: Proposals an image keeps after NMS in detection.
        guided_proposals: Proposals an image keeps after NMS where Guided Anchoring makes them, in training and in
            detection; they are better, so fewer do.
        rpn_samples: Anchors sampled an image for the RPN's losses, at most half of them positive.
        roi_samples: RoIs sampled an image for the head's losses, at most a quarter of them positive.
        guided_roi_samples: The same, behind Guided Anchoring.
        score_threshold: Detections below this score are dropped.
        nms_iou: Of two detections of one class that overlap more than this, the lower one is dropped.
        max_detections: Detections an image, at most.
        norm: One of ``NORMS``. ``gn``: GroupNorm with Weight Standardization in the backbone, GroupNorm in the pyramid
            and the RetinaNet head; it trains from scratch with any batch. ``bn``: BatchNorm in the backbone and no norm
            elsewhere, as in torchvision's detectors; it folds into the convolutions for inference.
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
            raise ArchError(f"norm: {self.norm!r} is not known", fix=f"take one of {', '.join(NORMS)}")
