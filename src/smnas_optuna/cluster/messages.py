"""What the process with the study and a trainer on a node say to one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smnas_optuna.arch import decode, encode
from smnas_optuna.config import TrainSettings
from smnas_optuna.engine.evaluate import CocoMetrics
from smnas_optuna.engine.train import EpochReport
from smnas_optuna.session.executor import Images, Job
from smnas_optuna.session.samples import Detections
from smnas_optuna.study.record import StageName


@dataclass(frozen=True, kw_only=True, slots=True)
class Errand:
    """What all trainings of a search have in common.

    Attributes:
        study: A name for the study that no other one has; nodes keep its files under it.
        study_file: Text of ``study.toml``.
        stage: Stage whose recipe counts.
        content: Hash of the training and validation data.
        test: Hash of the test data; None without any.
        data: Folder of the data on the machine that asks.
        versions: Versions of the libraries there, by name.
    """

    study: str
    study_file: str
    stage: StageName
    content: str
    test: str | None
    data: Path
    versions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """A training that is wanted: a :class:`smnas_optuna.session.executor.Job` without what only its sender has."""

    arch: str
    seed: int
    recipe: Mapping[str, Any]
    key: Mapping[str, Any]
    rungs: tuple[int, ...]
    max_seconds: float | None
    images: tuple[Images, ...]
    with_val: bool

    @classmethod
    def of(cls, job: Job) -> Order:
        """Return the order of a job."""
        return cls(
            arch=encode(job.spec),
            seed=job.seed,
            recipe=job.recipe.model_dump(mode="json"),
            key=job.key,
            rungs=job.rungs,
            max_seconds=job.max_seconds,
            images=job.images,
            with_val=job.with_val,
        )

    def job(self, checkpoint: Path) -> Job:
        """Return the job on a node that keeps its checkpoint in the file ``checkpoint``."""
        return Job(
            spec=decode(self.arch),
            seed=self.seed,
            recipe=TrainSettings.model_validate(self.recipe),
            checkpoint=checkpoint,
            key=self.key,
            make_folder=lambda: checkpoint.parent.mkdir(parents=True, exist_ok=True),
            rungs=self.rungs,
            max_seconds=self.max_seconds,
            images=self.images,
            with_val=self.with_val,
        )


@dataclass(frozen=True, slots=True)
class Note:
    """A line for people."""

    line: str


@dataclass(frozen=True, slots=True)
class Begun:
    """A training that has begun, after the epochs that its checkpoint has."""

    history: Sequence[EpochReport]
    device: Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Step:
    """Progress of a phase."""

    phase: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Epoch:
    """A finished epoch, with the file of the checkpoint after it; None if a later one waits as well."""

    report: EpochReport
    checkpoint: bytes | None


@dataclass(frozen=True, slots=True)
class Measured:
    """Metrics that were measured at a rung."""

    epoch: int
    metrics: CocoMetrics


@dataclass(frozen=True, slots=True)
class Standing:
    """All APs so far. At a rung the trainer waits for :meth:`.trainer.Trainer.decide`."""

    ap_by_epoch: Mapping[int, float]
    rung: int | None


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of a phase that has ended."""

    phase: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Kept:
    """A training that was stopped, with the file of its checkpoint; None if it had not begun."""

    checkpoint: bytes | None


@dataclass(frozen=True, slots=True)
class Done:
    """A trained detector: its weights as a safetensors file, and the rest of its result."""

    weights: bytes
    metrics: Mapping[Images, CocoMetrics]
    found: Detections
    skipped_steps: int


@dataclass(frozen=True, slots=True)
class Slow:
    """A training that would take longer than it may."""

    seconds: float
    is_estimate: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """A training that failed: the name of the error's class, and the parts of its message."""

    kind: str
    message: str
    fix: str
    first: str | None = None


Event = Note | Begun | Step | Epoch | Measured | Standing | Spent | Kept | Done | Slow | Failed
ENDS = (Kept, Done, Slow, Failed)
"""Events after which a training says nothing more."""
