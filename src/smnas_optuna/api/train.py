"""A longer training of a detector that is chosen from a study: the work of :meth:`OpenStudy.train`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from smnas_optuna.api.events import Callback, CallbackListener
from smnas_optuna.config import DeviceChoice
from smnas_optuna.final_training.request import TrainRequest
from smnas_optuna.final_training.run import train_detector
from smnas_optuna.report.evidence import known_of
from smnas_optuna.report.files import write_training_report
from smnas_optuna.study.choice import Pick
from smnas_optuna.study.storage import explained_disk_errors
from smnas_optuna.workers.interrupt import StopRequest


def train_chosen(
    study_dir: Path,
    pick: Pick,
    *,
    epochs: int | None,
    hours: float | None,
    with_val: bool,
    name: str | None,
    data_dir: Path | None,
    device: DeviceChoice,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Train the detector that ``pick`` means, write its curve and card, and return the folder of its weights.

    The arguments are those of :class:`smnas_optuna.final_training.request.TrainRequest`; ``callbacks`` receive events.

    Raises:
        SmnasError: If something cannot be used; see :func:`smnas_optuna.final_training.run.train_detector`.
    """
    with explained_disk_errors(study_dir):
        arch, known = known_of(study_dir, pick, with_val=with_val)
        request = TrainRequest(
            study_dir=study_dir,
            arch=arch,
            epochs=epochs,
            hours=hours,
            with_val=with_val,
            name=name,
            data_dir=data_dir,
            device=device,
        )
        listener = CallbackListener(study_dir, callbacks, arch=arch)
        finished = train_detector(request, known, listener=listener, stop=StopRequest())
        write_training_report(study_dir, finished.name)
        if not finished.before and (outcome := finished.record.outcome) is not None:
            ap = None if outcome.metrics is None else outcome.metrics["ap"]
            listener.training_ended(outcome.epoch, math.nan if ap is None else ap)
    return finished.folder
