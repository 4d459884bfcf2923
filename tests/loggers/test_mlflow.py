from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from smnas_optuna.api.events import TrialEnded
from smnas_optuna.errors import ConfigError
from smnas_optuna.loggers import MlflowLogger

from .events import ARCH, SEARCH, SEARCHED, TRAINING, TRIAL


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # inside mlflow
def test_runs_and_metrics_are_those_of_the_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a store of files, instead of a server
    uri = (tmp_path / "runs").as_uri()
    logger = MlflowLogger("detectors", tracking_uri=uri)
    for event in (*SEARCH, *TRAINING):
        logger(event)
    MlflowLogger("detectors", tracking_uri=uri)  # the experiment may be there already

    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("detectors")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert runs.keys() == {SEARCHED, ARCH}
    assert {name: run.info.status for name, run in runs.items()} == {SEARCHED: "FINISHED", ARCH: "FINISHED"}

    def curve(run: str, name: str) -> list[tuple[int, float]]:
        return [(each.step, each.value) for each in client.get_metric_history(runs[run].info.run_id, name)]

    assert curve(SEARCHED, "ap") == [(1, 0.25), (2, 0.5)]
    assert curve(SEARCHED, "loss") == [(1, 0.75)]
    assert curve(SEARCHED, "latency_ms") == [(2, 7.5)]
    assert curve(ARCH, "loss") == [(1, 0.5)]
    assert curve(ARCH, "ap") == [(2, 0.6)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # inside mlflow
def test_a_training_that_resumes_goes_on_in_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "runs").as_uri()
    for study in ("mine", "other", "mine"):
        MlflowLogger(tracking_uri=uri, study=study)(TRAINING[0])
    for event in TRAINING:
        MlflowLogger(tracking_uri=uri, study="mine")(event)
    MlflowLogger(tracking_uri=uri, study="mine")(TRAINING[0])  # another one: the first has ended

    client = mlflow.MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("smnas").experiment_id])
    of_study = [(run.data.tags["smnas.study"], run.info.status) for run in runs]
    assert sorted(of_study) == [("mine", "FINISHED"), ("mine", "RUNNING"), ("other", "RUNNING")]


def test_the_run_of_a_failed_trial_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Mock()
    client.return_value.create_run.return_value.info.run_id = "run"
    monkeypatch.setitem(sys.modules, "mlflow", Mock(MlflowClient=client))
    logger = MlflowLogger()

    logger(TrialEnded(trial=replace(TRIAL, state="failed", ap=math.nan), done=1, budget=2))

    client.return_value.set_terminated.assert_called_once_with("run", "FAILED")


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)

    with pytest.raises(ConfigError, match=r"(?s)MLflow is not installed.*smnas-optuna\[mlflow\]"):
        MlflowLogger()
