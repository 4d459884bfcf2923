"""The ledger of a campaign: the seconds that each phase has spent, in one small file that survives a kill."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from smnas_optuna.engine.durable import write_json
from smnas_optuna.errors import StudyError, shortened
from smnas_optuna.real_files import read_text
from smnas_optuna.study.forms import Form, is_count, is_measured, is_positive, mapping_to, mapping_with, or_none

LEDGER_FILE = "hours.json"
TICK_S = 5.0
"""Interval at which the ledger is written: a kill loses no more."""
Phase = Literal["structural", "modular", "timing", "verification"]
PHASES: tuple[Phase, ...] = get_args(Phase)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModularPlan:
    """What stage 2 was planned with when it began, so that it goes on alike.

    Attributes:
        hours: Budget in hours that it was planned for.
        trials: Number of trainings that were expected.
        parents: Number of structures whose modules are searched.
    """

    hours: float
    trials: int
    parents: int


class Ledger:
    """The time that a campaign has spent. Time in which it did not run, or the machine slept, does not count.

    Args:
        file: Its file; what it holds is read.
        timer: Returns seconds from some moment on, without those in which the machine slept.

    Attributes:
        phase: Phase that spends now.
        plan: What stage 2 was planned with; None before it begins.
        finished_hours: Largest budget that was spent to its end, in hours; 0 before.

    Raises:
        StudyError: If the file holds something else.
    """

    def __init__(self, file: Path, timer: Callable[[], float] = time.monotonic) -> None:
        self._file, self._timer = file, timer
        stored = _read(file)
        self.spent_s: dict[Phase, float] = {name: float(stored["spent_s"].get(name, 0.0)) for name in PHASES}
        self.plan = None if stored["modular"] is None else ModularPlan(**stored["modular"])
        self.finished_hours = float(stored["finished_hours"])
        self.phase: Phase = PHASES[0]
        self._counted_at: float | None = None
        self._lock = threading.Lock()

    @property
    def total_s(self) -> float:
        """Seconds that all phases together have spent."""
        return sum(self.spent_s.values())

    def begin(self, phase: Phase) -> None:
        """Count for ``phase`` from now on."""
        self.count()
        self.phase = phase

    def count(self) -> None:
        """Count the time by now, and store it."""
        with self._lock:
            now = self._timer()
            if self._counted_at is not None:
                self.spent_s[self.phase] += max(0.0, now - self._counted_at)
                self._counted_at = now
            self._store()

    @contextmanager
    def counting(self, on_tick: Callable[[], None] = lambda: None, *, before_s: float = 0.0) -> Iterator[None]:
        """Count time while the body runs; ``on_tick`` is called every ``TICK_S`` seconds, in a thread of its own.

        Args:
            on_tick: Called in that thread.
            before_s: Seconds before now that count, too.
        """
        over = threading.Event()

        def tick() -> None:
            while not over.wait(TICK_S):
                with suppress(OSError):  # a full disk: the next phase tells
                    self.count()
                    on_tick()

        self._counted_at = self._timer() - before_s
        thread = threading.Thread(target=tick, name="ledger", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.count()
            self._counted_at = None

    def _store(self) -> None:
        plan = None if self.plan is None else asdict(self.plan)
        spent = {name: round(seconds, 1) for name, seconds in self.spent_s.items()}
        write_json(self._file, {"spent_s": spent, "modular": plan, "finished_hours": self.finished_hours})


def _is_plan(value: object) -> bool:
    forms = {"hours": is_positive, "trials": is_count, "parents": is_count}
    return mapping_with(**forms)(value) and value.keys() == forms.keys() and all(value.values())  # type: ignore[attr-defined]


_FORMS: Mapping[str, Form] = {
    "spent_s": mapping_to(is_measured),
    "modular": or_none(_is_plan),
    "finished_hours": is_measured,
}


def _read(file: Path) -> dict[str, Any]:
    """Return what a ledger holds; nothing is spent if it does not exist."""
    try:
        stored = json.loads(read_text(file))
        wrong = [name for name, form in _FORMS.items() if not form(stored[name])]
        if wrong:
            raise ValueError(f"{wrong[0]} is not as it is stored")
    except FileNotFoundError:
        return {"spent_s": {}, "modular": None, "finished_hours": 0.0}
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise StudyError(
            f"{file}: does not hold the time that was spent ({type(error).__name__}: {shortened(str(error), 200)})",
            fix="move it away; the hours are then counted anew, and what was trained stays",
        ) from None
    return dict(stored)
