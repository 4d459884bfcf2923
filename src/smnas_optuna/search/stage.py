"""What a stage tries: its space, and the architectures that come before the sampler is asked."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smnas_optuna.arch import DetectorSpec, decode, encode
from smnas_optuna.search.shared_budget import SharedBudget
from smnas_optuna.search_space import SearchSpace
from smnas_optuna.study.attributes import BASELINE, FIRST, ORIGIN, RANKED
from smnas_optuna.study.record import INTERRUPTED, TrialRecord
from smnas_optuna.study.settled import num_trained


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """The space of one study, and the architectures that are tried before the sampler is asked.

    Attributes:
        space: Space of architectures.
        baselines: Architectures that are tried first, in this order.
        first: Architectures that are tried next, in this order, until ``population`` architectures are trained.
        population: Number of architectures that the first generation trains; 0 in stage 1.
        other_trials: Returns trials of other studies. An architecture that one of them knows is answered from there:
            the spaces of two parents may overlap.
        shared: Budget that this study has together with others; None if it has one of its own alone.
    """

    space: SearchSpace
    baselines: Sequence[DetectorSpec] = ()
    first: Sequence[DetectorSpec] = ()
    population: int = 0
    other_trials: Callable[[], list[TrialRecord]] = list
    shared: SharedBudget | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Queued:
    """An architecture that is tried before the sampler is asked.

    Attributes:
        spec: The architecture.
        why: Reason in words, for people.
        attrs: Attributes of its trial: how it came about.
    """

    spec: DetectorSpec
    why: str
    attrs: Mapping[str, Any]


def queued_first(stage: Stage, records: Sequence[TrialRecord], settled: Container[str]) -> Iterator[Queued]:
    """Yield what is tried before the sampler is asked.

    Interrupted architectures come first, the latest before the others. Then come the baselines, then ``stage.first``.
    """
    interrupted = {record.arch: record for record in records if record.reason == INTERRUPTED}
    for arch, record in sorted(interrupted.items(), key=lambda pair: -pair[1].number):
        if arch is not None and arch not in settled:
            yield Queued(spec=decode(arch), why="interrupted before", attrs=_origin_of(record))
    for spec in stage.baselines:
        if encode(spec) not in settled:
            yield Queued(spec=spec, why="baseline", attrs={ORIGIN: BASELINE})
    if num_trained(records) < stage.population:
        for spec in stage.first:
            if encode(spec) not in settled:
                yield Queued(spec=spec, why="first generation", attrs={ORIGIN: FIRST})


def _origin_of(record: TrialRecord) -> dict[str, Any]:
    """Return what another attempt takes over from ``record``: how its architecture came about, and who chose it."""
    return {name: record.attrs[name] for name in (ORIGIN, RANKED) if name in record.attrs}
