"""What a study knows of an architecture that is to be trained. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smnas_optuna.final_training.expectation import Evidence
from smnas_optuna.study.record import TrialRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What the study knows of an architecture.

    Attributes:
        record: Its trial in the search; None if the search has not trained it.
        front: Front of the study, fastest first.
        evidence: What says how accurate it should become.
    """

    record: TrialRecord | None
    front: Sequence[TrialRecord]
    evidence: Evidence
