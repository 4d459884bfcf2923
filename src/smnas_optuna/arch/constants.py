"""What all detectors of one study share, beside their architecture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectorConstants:
    """Sizes of anchors, numbers of samples and thresholds. The defaults are the paper's, for the 2-FC head.

    Small inputs on a CPU want smaller anchors and fewer RoIs; a study sets them in its ``[detector]`` table.

    Attributes:
        anchor_scale: Edge of the RPN's square anchor, in strides of its level. RetinaNet's three octave scales start at
            half of it, as published (32 px at stride 8).
        train_proposals: Proposals an image keeps after NMS in training.
        test_proposals: Proposals an image keeps after NMS in detection.
        rpn_samples: Anchors sampled an image for the RPN's losses, at most half of them positive.
        roi_samples: RoIs sampled an image for the head's losses, at most a quarter of them positive.
        score_threshold: Detections below this score are dropped.
        nms_iou: Of two detections of one class that overlap more than this, the lower one is dropped.
        max_detections: Detections an image, at most.
    """

    anchor_scale: float = 8.0
    train_proposals: int = 2000
    test_proposals: int = 1000
    rpn_samples: int = 256
    roi_samples: int = 384
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100
