"""The request of an export, and the choice of the detector that is exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from smnas_optuna.arch import encode, find_spec
from smnas_optuna.errors import StudyError
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import TrialRecord

WEIGHTS_FILE = "weights.safetensors"
"""File of the weights; :mod:`smnas_optuna.engine.checkpoint` says the same, and loads torch."""
Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShipRequest:
    """A user's request for an exported file.

    At most one of ``arch``, ``latency_ms`` and ``best`` chooses the detector; without any it is the most accurate one.

    Attributes:
        study_dir: Folder of a study that has trained something.
        arch: Architecture of the detector, or its name.
        latency_ms: The most accurate front member that takes no longer than this, in the study's milliseconds.
        best: The most accurate front member.
        output: File to write; by default ``<arch>.onnx`` (with the precision, if it is not fp32) in the working folder.
        precision: Precision of weights and activations.
        allow_loss: Write the file even if a lower precision loses AP or is no faster.
        data_dir: The data folder; by default that of the last search, or ``study_dir/data``.
    """

    study_dir: Path
    arch: str | None = None
    latency_ms: float | None = None
    best: bool = False
    output: Path | None = None
    precision: Precision = "fp32"
    allow_loss: bool = False
    data_dir: Path | None = None

    def __post_init__(self) -> None:
        chosen = [self.arch is not None, self.latency_ms is not None, self.best]
        if sum(chosen) > 1:
            raise StudyError(
                "ARCH, --latency-ms and --best each choose the detector, and more than one of them is given",
                fix="give one of them, or none for the most accurate member of the front",
            )

    def output_of(self, arch: str) -> Path:
        """Return the file that ``arch`` is written to."""
        ending = "" if self.precision == "fp32" else f".{self.precision}"
        return self.output or Path(f"{arch}{ending}.onnx")


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Trained weights of an architecture.

    Attributes:
        folder: Folder of the weights and of ``detector.json``.
        source: Training that they are from, in words.
    """

    folder: Path
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The detector that is exported.

    Attributes:
        arch: Canonical string of its architecture.
        weights: Its weights.
        record: Its trial on the front; None if it is not there.
    """

    arch: str
    weights: Weights
    record: TrialRecord | None


def choose(request: ShipRequest, front: Sequence[TrialRecord], verified: Mapping[str, Weights]) -> Choice:
    """Return the requested detector.

    Args:
        request: The request.
        front: Front of the study, fastest first.
        verified: Weights of ``smnas verify`` by architecture. They are taken rather than those of the search, because
            they are the best of several longer trainings.

    Raises:
        SmnasError: If there is no such architecture, or no member within the limit.
    """
    record = None
    if request.arch is not None:
        arch = encode(find_spec(request.arch))
        record = next((each for each in front if each.arch == arch), None)
    else:
        record = _on_front(request, front)
        assert record.arch is not None
        arch = record.arch
    stored = arch if record is None or record.stored_arch is None else record.stored_arch
    searched = Weights(folder=StudyFolder(request.study_dir).run(stored), source="the search")
    weights = verified.get(arch, searched)
    if not (weights.folder / WEIGHTS_FILE).exists():
        raise StudyError(
            f"{arch}: its weights are not kept in {weights.folder}; those of the front are, and with keep_weights = "
            "'all' under [search] those of all later trials",
            fix=f"take a member of the front: smnas front {request.study_dir}",
        )
    return Choice(arch=arch, weights=weights, record=record)


def _on_front(request: ShipRequest, front: Sequence[TrialRecord]) -> TrialRecord:
    if not front:
        raise StudyError(
            f"{request.study_dir}: its front is empty, so that there is no detector to export",
            fix=f"search first, or with larger limits: smnas structural {request.study_dir} [--data DIR]",
        )
    limit = request.latency_ms
    within = [each for each in front if limit is None or (each.latency_ms is not None and each.latency_ms <= limit)]
    if not within:
        raise StudyError(
            f"--latency-ms {limit:g}: the fastest of {len(front)} members of the front takes {front[0].latency_ms:.3g} "
            "ms",
            fix=f"give a larger limit, or see them all: smnas front {request.study_dir}",
        )
    return within[-1]
