"""Export of a detector that is chosen from a study: the work of ``smnas export`` and of :meth:`OpenStudy.export`."""

from __future__ import annotations

from smnas_optuna.report.choice import chosen, measured_spread
from smnas_optuna.session.listener import Listener
from smnas_optuna.ship.request import ShipRequest
from smnas_optuna.ship.run import Shipped, ship
from smnas_optuna.study.choice import Pick
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.storage import explained_disk_errors
from smnas_optuna.workers.interrupt import StopRequest


def export_chosen(request: ShipRequest, pick: Pick, *, listener: Listener, stop: StopRequest) -> Shipped:
    """Export the detector that ``pick`` means, prove the file and write it; see :func:`smnas_optuna.ship.run.ship`.

    Raises:
        SmnasError: If there is no such detector, its weights or its data cannot be used, or the file is not proved.
        Interrupted: If asked to stop; no file is written then.
    """
    with explained_disk_errors(request.study_dir):
        folder = StudyFolder(request.study_dir)
        choice = chosen(folder, pick)
        listener.note(f"{choice.arch}, with the weights of {choice.weights.source}")
        return ship(request, choice, ap_spread=measured_spread(folder), listener=listener, stop=stop)
