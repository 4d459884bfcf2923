"""A longer training of a detector that is chosen from a study: of :meth:`OpenStudy.train`, and of ``smnas train``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from smnas_optuna.api.events import Callback, CallbackListener
from smnas_optuna.config import load_settings
from smnas_optuna.final_training.known import Known
from smnas_optuna.final_training.record import read_training
from smnas_optuna.final_training.request import TrainOptions, TrainRequest
from smnas_optuna.report.evidence import known_of
from smnas_optuna.report.files import write_training_report
from smnas_optuna.study.choice import Pick
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.storage import explained_disk_errors
from smnas_optuna.workers.interrupt import StopRequest

if TYPE_CHECKING:
    from smnas_optuna.final_training.run import Finished
    from smnas_optuna.session.listener import Listener


def requested(study_dir: Path, pick: Pick, **options: Unpack[TrainOptions]) -> tuple[TrainRequest, Known]:
    """Return the request to train the detector that ``pick`` means, and what the study knows of it.

    Args:
        study_dir: A study whose search has begun.
        pick: The user's choice.
        **options: See :class:`smnas_optuna.final_training.request.TrainRequest`.

    Raises:
        SmnasError: If there is no such detector, or the options cannot be used.
    """
    arch, known = known_of(study_dir, pick, with_val=options.get("with_val", False))
    return TrainRequest(study_dir=study_dir, arch=arch, **options), known


def train_at(
    ray: str | None, name: str, request: TrainRequest, known: Known, *, listener: Listener, stop: StopRequest
) -> Finished:
    """Train in this process, or on a node of the Ray cluster at the address ``ray``, and return the training ``name``.

    The other arguments are those of :func:`smnas_optuna.final_training.run.train_detector`, and so is what is raised.
    """
    from smnas_optuna.final_training.run import train_detector  # loads torch

    before = read_training(StudyFolder(request.study_dir).trained / name)
    if ray is None or (before is not None and before.outcome is not None):
        return train_detector(request, known, listener=listener, stop=stop)
    from smnas_optuna.cluster.workforce import crowd

    with crowd(ray, "modular", 1, lambda _: listener) as workforce:
        return train_detector(request, known, listener=listener, stop=stop, workforce=workforce)


def train_chosen(
    study_dir: Path,
    pick: Pick,
    *,
    ray: str | None = None,
    callbacks: Sequence[Callback] = (),
    **options: Unpack[TrainOptions],
) -> Path:
    """Train the detector that ``pick`` means, write its curve and card, and return the folder of its weights.

    The options are those of :class:`smnas_optuna.final_training.request.TrainRequest`; ``callbacks`` receive events.
    It trains where :func:`train_at` does.

    Raises:
        SmnasError: If something cannot be used; see :func:`smnas_optuna.final_training.run.train_detector`.
    """
    with explained_disk_errors(study_dir):
        request, known = requested(study_dir, pick, **options)
        name = request.name_for(load_settings(study_dir).for_modular().train.epochs)
        listener = CallbackListener(study_dir, list(callbacks), arch=request.arch, name=name)
        finished = train_at(ray, name, request, known, listener=listener, stop=StopRequest())
        write_training_report(study_dir, finished.name)
    return finished.folder
