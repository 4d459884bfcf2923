"""Choice of a trained detector of a study: by its name, by a latency, or as the knee or the best of the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from smnas_optuna.arch import encode, find_spec
from smnas_optuna.errors import StudyError
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.pareto import knee
from smnas_optuna.study.record import TrialRecord

WEIGHTS_FILE, DETECTOR_FILE = "weights.safetensors", "detector.json"
"""Files of a trained detector, the latter written last; :mod:`smnas_optuna.engine.checkpoint` says the same, and loads
torch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pick:
    """A user's choice of a detector. At most one field chooses; without any it is the most accurate front member.

    Attributes:
        arch: Architecture of the detector, or its name.
        latency_ms: The most accurate front member that takes no longer than this, in the study's milliseconds.
        knee: The front member behind which more latency buys least; see :func:`smnas_optuna.study.pareto.knee`.
        best: The most accurate front member.
        trained: The detector of that finished training of ``smnas train``.
    """

    arch: str | None = None
    latency_ms: float | None = None
    knee: bool = False
    best: bool = False
    trained: str | None = None

    def __post_init__(self) -> None:
        given = [self.arch is not None, self.latency_ms is not None, self.knee, self.best, self.trained is not None]
        if sum(given) > 1:
            raise StudyError(
                "ARCH, --latency-ms, --knee, --best and --trained each choose the detector, and more than one of them "
                "is given",
                fix="give one of them, or none for the most accurate member of the front",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Trained weights of an architecture.

    Attributes:
        folder: Folder of the weights and of ``detector.json``.
        source: Training that they are from, in words.
        ap: AP on the validation images, in [0, 1]; None if it is not known, or says nothing.
        saw_val: True if they were trained on the validation images, too.
    """

    folder: Path
    source: str
    ap: float | None = None
    saw_val: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A detector that was chosen.

    Attributes:
        arch: Canonical string of its architecture.
        weights: Its weights; their folder may hold none, see :func:`check_kept`.
        record: Its trial on the front; None if it is not there.
    """

    arch: str
    weights: Weights
    record: TrialRecord | None


def choose(
    folder: StudyFolder, pick: Pick, front: Sequence[TrialRecord], retrained: Mapping[str, Weights] | None = None
) -> Choice:
    """Return the detector that ``pick`` means.

    Args:
        folder: The study folder.
        pick: The user's choice.
        front: Front of the study, fastest first.
        retrained: Weights of later trainings by architecture, which are better than those of the search.

    Raises:
        SmnasError: If there is no such architecture, or no member within the limit.
    """
    record = None
    if pick.arch is not None:
        arch = encode(find_spec(pick.arch))
        record = next((each for each in front if each.arch == arch), None)
    else:
        record = _on_front(folder, pick, front)
        assert record.arch is not None
        arch = record.arch
    stored = arch if record is None or record.stored_arch is None else record.stored_arch
    searched = Weights(folder=folder.run(stored), source="the search", ap=None if record is None else record.ap)
    return Choice(arch=arch, weights=(retrained or {}).get(arch, searched), record=record)


def check_kept(folder: StudyFolder, choice: Choice) -> None:
    """Check that the weights of ``choice`` are there.

    Raises:
        StudyError: If they are not.
    """
    if not (choice.weights.folder / WEIGHTS_FILE).exists():
        raise StudyError(
            f"{choice.arch}: its weights are not kept in {choice.weights.folder}; those of the front are, and with "
            "keep_weights = 'all' under [search] those of all later trials",
            fix=f"take a member of the front: smnas front {folder.path}",
        )


def _on_front(folder: StudyFolder, pick: Pick, front: Sequence[TrialRecord]) -> TrialRecord:
    if not front:
        raise StudyError(
            f"{folder.path}: its front is empty, so that there is no detector to choose",
            fix=f"search first, or with larger limits: smnas structural {folder.path} [--data DIR]",
        )
    if pick.knee:
        return knee(front)
    limit = pick.latency_ms
    within = [each for each in front if limit is None or _is_within(each.latency_ms, limit)]
    if not within:
        raise StudyError(
            f"--latency-ms {limit:g}: the fastest of {len(front)} members of the front takes {front[0].latency_ms:.3g} "
            "ms",
            fix=f"give a larger limit, or see them all: smnas front {folder.path}",
        )
    return within[-1]


def _is_within(latency_ms: float | None, limit: float) -> bool:
    """Return whether a latency is at most ``limit``, also as tables show it: their numbers are what people copy."""
    return latency_ms is not None and min(latency_ms, float(f"{latency_ms:.3g}")) <= limit
