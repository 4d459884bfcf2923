"""A final training as it is stored: what was asked for, what it depends on, and what came out. No torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from smnas_optuna.arch import canonical
from smnas_optuna.config import Arch
from smnas_optuna.engine.durable import write_json
from smnas_optuna.errors import StudyError, quote
from smnas_optuna.final_training.expectation import Expectation
from smnas_optuna.final_training.place import Place
from smnas_optuna.final_training.request import check_name
from smnas_optuna.final_training.schedule import Pace, evaluation_epochs
from smnas_optuna.real_files import is_real_folder, is_regular_file, read_text
from smnas_optuna.study.choice import DETECTOR_FILE, WEIGHTS_FILE, Weights
from smnas_optuna.study.folder import StudyFolder

TRAINING_FILE, CURVE_FILE, LAST = "training.json", "curve.json", "last"
"""Files and the folder of a training beside its weights."""
LONGEST = 2**24
"""Bytes of the largest file of a training; one has about 5,000."""
Share = Annotated[float, Field(ge=0, le=1)]
Metrics = Mapping[str, Share | None]
"""COCO's metrics by name, in [0, 1]; null where there is nothing to measure."""
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_STRICT = ConfigDict(strict=True, extra="forbid")


@with_config(_STRICT)
@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a training does.

    Attributes:
        arch: Canonical string of the architecture.
        epochs: Epochs of the training.
        hours: Hours that the epochs were chosen for; None if they were asked for.
        with_val: True if the validation images are trained on.
        seed: Seed of weights, order and augmentation.
    """

    arch: Arch
    epochs: Annotated[int, Field(gt=0)]
    hours: Seconds | None
    with_val: bool
    seed: Count

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs after which it is evaluated on the validation images."""
        return () if self.with_val else tuple(sorted(evaluation_epochs(self.epochs)))


@with_config(_STRICT)
@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredLatency:
    """Latency of one image beside that of the reference detector.

    Attributes:
        ratio: As a multiple of the reference detector's.
        ms: On the scale of the study, the upper end of the interval if it is not precise, as on the front; None on
            another device than the study's.
        low_ms: Lower end of its 95 % interval.
        high_ms: Upper end of it.
        here_ms: 10th percentile as it was measured.
        reference_here_ms: That of the reference detector.
        runtime: What ran both.
    """

    ratio: Seconds
    ms: Seconds | None
    low_ms: Seconds | None
    high_ms: Seconds | None
    here_ms: Seconds
    reference_here_ms: Seconds
    runtime: str


@with_config(_STRICT)
@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came out of a training.

    Attributes:
        epoch: Epoch after which the kept weights were.
        metrics: Their metrics on the validation images; None if these were trained on.
        last_metrics: Those of the weights after the last epoch.
        test_metrics: Metrics on the test images; None if the data has none.
        ap_spread: Standard deviation of AP over seeds, as far as the study knows it.
        latency: Latency of one image.
        place: Place on the front; None if the validation images were trained on, or nothing is known of its latency.
        skipped_steps: Steps that were skipped because of gradients that are not finite.
        seconds: Time of all epochs.
        device: Description of the device that the latency was measured on.
        versions: Versions of the libraries.
    """

    epoch: Count
    metrics: Metrics | None
    last_metrics: Metrics | None
    test_metrics: Metrics | None
    ap_spread: Share
    latency: MeasuredLatency
    place: Place | None
    skipped_steps: Count
    seconds: Seconds
    device: Mapping[str, Any]
    versions: Mapping[str, str]


@with_config(_STRICT)
@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRecord:
    """A training.

    Attributes:
        plan: What it does.
        about: What its weights depend on beside the plan, as JSON values: data, recipe, device.
        expected: AP that it was expected to reach; None if the study knew nothing.
        outcome: What came out; None before the end.
        pace: Pace that the hours of the plan were turned into epochs by; None once they are settled (see
            :mod:`.settle`), and for a training without hours.
    """

    plan: Plan
    about: Mapping[str, Any]
    expected: Expectation | None
    outcome: Outcome | None
    pace: Pace | None = None

    @property
    def num_processes(self) -> int:
        """Number of processes that train together."""
        number = self.about.get("device", {}).get("processes", 1)
        return number if isinstance(number, int) else 1


_RECORD = TypeAdapter(TrainingRecord)


def read_training(folder: Path) -> TrainingRecord | None:
    """Return the training in ``folder``; None if none has begun there.

    Raises:
        StudyError: If its file holds something else.
    """
    file = folder / TRAINING_FILE
    try:
        return _RECORD.validate_json(read_text(file, LONGEST))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValidationError, RecursionError) as error:
        cause = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise StudyError(
            f"{file}: holds no training of smnas train: {quote(str(cause))}",
            fix=f"move {folder} away; what it held is then trained again",
        ) from None


def write_training(folder: Path, record: TrainingRecord) -> None:
    """Store ``record``; a kill leaves the file before it or this one."""
    write_json(folder / TRAINING_FILE, dataclasses.asdict(record))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Epoch:
    epoch: Count
    loss: float | None
    ap: Share | None
    skipped_steps: Count
    seconds: Seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class _Curve:
    arch: str
    of: Count
    epochs: list[_Epoch]


def read_curve(folder: Path) -> dict[str, Any]:
    """Return the learning curve of the training in ``folder``, as JSON values.

    Raises:
        StudyError: If its file holds something else.
    """
    file = folder / CURVE_FILE
    try:
        curve = json.loads(read_text(file, LONGEST))
        TypeAdapter(_Curve).validate_python(curve)
    except (OSError, ValueError, RecursionError) as error:  # pydantic's are values
        raise StudyError(
            f"{file}: holds no learning curve ({type(error).__name__})", fix="remove it; it is only drawn"
        ) from None
    return dict(curve)


def finished_trainings(folder: StudyFolder) -> Iterator[tuple[str, TrainingRecord]]:
    """Yield name and record of each finished training whose weights are kept, by name; a damaged one is left out."""
    if not is_real_folder(folder.trained):
        return
    for each in sorted(folder.trained.iterdir()):
        if not is_real_folder(each) or missing_files(each):
            continue
        with suppress(StudyError):
            record = read_training(each)
            if record is not None and record.outcome is not None:
                yield each.name, record


def missing_files(folder: Path) -> list[str]:
    """Return the files that the weights of a finished training lack."""
    return [name for name in (WEIGHTS_FILE, DETECTOR_FILE) if not is_regular_file(folder / name)]


def best_trained(folder: StudyFolder) -> dict[str, Weights]:
    """Return the weights of finished trainings by architecture: of several those of the highest AP on validation.

    Trainings on the validation images are left out, as nothing tells how good they are beside others.
    """
    best = dict[str, tuple[float, str, TrainingRecord]]()
    for name, record in finished_trainings(folder):
        metrics = record.outcome.metrics if record.outcome is not None else None
        if metrics is None:
            continue
        ap, arch = metrics.get("ap") or 0.0, canonical(record.plan.arch)
        if arch not in best or ap > best[arch][0]:
            best[arch] = ap, name, record
    return {arch: weights_of(folder, name, record) for arch, (_, name, record) in best.items()}


def weights_of(folder: StudyFolder, name: str, record: TrainingRecord) -> Weights:
    """Return the weights of a finished training."""
    outcome, plan = record.outcome, record.plan
    assert outcome is not None
    ap = None if outcome.metrics is None else outcome.metrics.get("ap")
    source = f"smnas train: {name}, after epoch {outcome.epoch} of {plan.epochs}"
    return Weights(folder=folder.trained / name, source=source, ap=ap, saw_val=plan.with_val)


def named_training(folder: StudyFolder, name: str) -> TrainingRecord:
    """Return the finished training ``name``.

    Raises:
        StudyError: If there is none, or it is not finished.
    """
    check_name(name)
    trainings = dict(finished_trainings(folder))
    if name in trainings:
        return trainings[name]
    begun = is_regular_file(folder.trained / name / TRAINING_FILE)
    if begun:
        read_training(folder.trained / name)  # says what is damaged
    known = ", ".join(trainings) or "none yet"
    raise StudyError(
        f"{folder.path}: the training {quote(name)} is not finished, or its weights are gone"
        if begun
        else f"{folder.path}: there is no training {quote(name)}",
        first=f"finished trainings: {known}",
        fix="run the command again that began it, with the same options: it goes on, or says what is missing"
        if begun
        else f"train it: smnas train {folder.path} --name {name}",
    )
