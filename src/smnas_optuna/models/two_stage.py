"""Two-stage detection: an RPN proposes regions, an RoI head classifies and refines them."""

from __future__ import annotations

from torch import Tensor, nn

from smnas_optuna.batch import Batch
from smnas_optuna.models.detections import Candidates, Selection
from smnas_optuna.models.guided import GuidedRpn
from smnas_optuna.models.roi_head import RoiHead
from smnas_optuna.models.rpn import Rpn


class TwoStageHead(nn.Module):
    """Part behind the neck of a two-stage detector.

    Args:
        rpn: Features -> proposals, and its losses.
        roi_head: Features and proposals -> detections, and its losses.
    """

    def __init__(self, rpn: Rpn | GuidedRpn, roi_head: RoiHead) -> None:
        super().__init__()
        self.rpn = rpn
        self.roi_head = roi_head

    def losses(self, features: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the losses of RPN and RoI head by name, each Tensor[]."""
        losses, proposals = self.rpn.losses(features, batch)
        return {**losses, **self.roi_head.losses(features, proposals, batch)}

    def candidates(self, features: dict[str, Tensor], batch: Batch, *, fixed_time: bool) -> Candidates:
        """Return scored boxes; see :class:`smnas_optuna.models.detector.DetectionHead`."""
        proposals = self.rpn.propose(features, batch, fixed_time=fixed_time)
        return self.roi_head.candidates(features, proposals, batch, fixed_time=fixed_time)

    @property
    def selection(self) -> Selection:
        """Rules that select detections from candidates."""
        return self.roi_head.selection

    def fixed_work(self, features: dict[str, Tensor]) -> None:
        """Run the layers on their maximum workload, to count their operations."""
        self.rpn.fixed_work(features)
        self.roi_head.fixed_work(features)
