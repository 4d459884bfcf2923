"""Runs in MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smnas_optuna.api.events import Event
from smnas_optuna.errors import ConfigError
from smnas_optuna.loggers.scalars import scalars_of

if TYPE_CHECKING:
    from mlflow import MlflowClient


STUDY = "smnas.study"
"""Tag of the runs of a study."""


class MlflowLogger:
    """Logs each training as a run of an MLflow experiment, with loss and AP over epochs; a callback.

    Args:
        experiment: Name of the experiment; it is made if there is none.
        tracking_uri: Server or store; by default that of the environment variable ``MLFLOW_TRACKING_URI``.
        study: Name of the study, a tag of its runs. A training that resumes then goes on in the run that it has begun.

    Raises:
        ConfigError: If MLflow is not installed.
    """

    def __init__(self, experiment: str = "smnas", *, tracking_uri: str | None = None, study: str | None = None) -> None:
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise ConfigError(
                "MLflow is not installed", fix="install it: pip install 'smnas-optuna[mlflow]'"
            ) from error
        self._client: MlflowClient = MlflowClient(tracking_uri)
        found = self._client.get_experiment_by_name(experiment)
        self._experiment = self._client.create_experiment(experiment) if found is None else found.experiment_id
        self._study = study
        self._runs: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        """Log the numbers of ``event``."""
        scalars = scalars_of(event)
        if scalars is None:
            return
        if scalars.run not in self._runs:
            self._runs[scalars.run] = self._begun(scalars.run) or self._new(scalars.run)
        run_id = self._runs[scalars.run]
        for name, value in scalars.values.items():
            self._client.log_metric(run_id, name, value, step=scalars.step)
        if scalars.final:
            self._client.set_terminated(self._runs.pop(scalars.run), "FAILED" if scalars.failed else "FINISHED")

    def _new(self, name: str) -> str:
        tags = None if self._study is None else {STUDY: self._study}
        run_id: str = self._client.create_run(self._experiment, run_name=name, tags=tags).info.run_id
        return run_id

    def _begun(self, name: str) -> str | None:
        """Return the run of a training that was interrupted; None if there is none."""
        if self._study is None:
            return None
        found = self._client.search_runs(
            [self._experiment], f"attributes.status = 'RUNNING' and attributes.run_name = '{name}'"
        )
        return next((run.info.run_id for run in found if run.data.tags.get(STUDY) == self._study), None)
