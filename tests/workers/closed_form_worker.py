"""A search whose workers train in closed form: it needs no torch, so that a test can kill its processes by the dozen.

All but the training is the product's: supervisor, crew, claims, storage, loop and recovery. A training takes a few
steps an epoch. It stores each epoch in a checkpoint before it tells of it, and resumes after the last one.

Run as ``python -m tests.workers.closed_form_worker supervise|work|join PLAN [SLOT LEAD]``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import optuna
import typer

from smnas_optuna.arch import DetectorSpec, encode
from smnas_optuna.cli.console import make_console, working
from smnas_optuna.config import SearchSettings, StructuralSpace
from smnas_optuna.errors import SmnasError
from smnas_optuna.search.evolution.sampler import build_sampler
from smnas_optuna.search.loop import Evaluation, search
from smnas_optuna.search.outcome import Outcome
from smnas_optuna.search.request import search_progress
from smnas_optuna.search.stage import Stage
from smnas_optuna.session.listener import Listener
from smnas_optuna.study.attributes import store_attrs
from smnas_optuna.study.folder import CHECKPOINT_FILE, StudyFolder
from smnas_optuna.study.record import MODULAR_PREFIX, STRUCTURAL, TrialRecord
from smnas_optuna.workers.crew import check_folder, open_crew
from smnas_optuna.workers.interrupt import Interrupted, StopRequest
from smnas_optuna.workers.launch import Launch
from smnas_optuna.workers.supervisor import Supervisor, say_ready, supervising

from ..commands import environment
from ..search.conftest import BASELINES, SPACE, closed_form, make_stage

ROOT = Path(__file__).parents[2]
LOG_FILE = "train.log"
OTHER_SPACE = StructuralSpace.model_validate(
    {**SPACE.model_dump(), "input_sizes": ("80x64", "112x80", "144x112", "192x128")}
)
STAGES = {STRUCTURAL: make_stage(SPACE), f"{MODULAR_PREFIX}{BASELINES[0]}": make_stage(OTHER_SPACE, ())}
"""The studies of a plan, searched in this order; none of their architectures are the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A search, the same in each of its processes.

    Attributes:
        folder: The study folder.
        budget: Architectures to train in each study.
        workers: Started by the supervisor.
        studies: The first so many of ``STAGES``.
        epochs: Of a training.
        steps: Of an epoch.
        step_seconds: Length of a step.
        deadly: Architectures whose training kills its process before the end of its first epoch.
    """

    folder: str
    budget: int
    workers: int = 2
    studies: int = 1
    epochs: int = 3
    steps: int = 3
    step_seconds: float = 0.05
    deadly: Sequence[str] = ()

    def command(self, role: str, slot: int = 0, lead: bool = False) -> list[str]:
        """The command line of a process of this search."""
        module = [sys.executable, "-m", "tests.workers.closed_form_worker"]
        return [*module, role, json.dumps(asdict(self)), str(slot), str(int(lead))]

    def launch(self, slot: int, lead: bool) -> Launch:
        """The start of a supervised worker."""
        return Launch(command=self.command("work", slot, lead), environment=program_environment())


def program_environment() -> dict[str, str]:
    """The environment in which this program is found."""
    path = os.pathsep.join(dict.fromkeys([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]))
    return {**environment(), "PYTHONPATH": path}


def supervise(plan: Plan) -> int:
    """Run workers until all have ended, and return the exit status, as a command that searches does."""
    stop, path = StopRequest(), Path(plan.folder)
    with stop.listening(), supervising(path):
        progress = partial(search_progress, path)
        supervisor = Supervisor(plan.launch, plan.workers, progress=progress, note=_say, stop=stop)
        try:
            return supervisor.run()
        except Interrupted as interrupted:
            return 128 + interrupted.signal_number


def work(plan: Plan, slot: int, *, lead: bool, supervised: bool) -> None:
    """Search the studies of ``plan`` as one of its workers; ``lead`` creates them."""
    stop, folder = StopRequest(), StudyFolder(Path(plan.folder))
    with working(make_console(interactive=False), stop, supervised=supervised):
        names = list(STAGES)[: plan.studies]
        studies = [
            folder.create(name, optuna.samplers.NSGAIISampler()) if lead else folder.load(name) for name in names
        ]
        check_folder(studies[0], folder)
        if supervised:
            say_ready()
        for name, study in zip(names, studies, strict=True):
            outcome = _search(plan, study, STAGES[name], folder, slot, stop)
            _say(f"ended: {outcome.reason}")


class Training:
    """The objective: trains for a while, and returns the closed form.

    Args:
        plan: What a training is like.
        folder: Its ``runs`` get checkpoints and logs.
        stop: Asked at every step.
    """

    def __init__(self, plan: Plan, folder: StudyFolder, stop: StopRequest) -> None:
        self._plan, self._folder, self._stop = plan, folder, stop

    def __call__(self, spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        """Train ``spec`` from its last epoch on.

        Raises:
            Interrupted: If asked to stop.
        """
        run, evaluation = self._folder.run(encode(spec)), closed_form(spec, trial)
        run.mkdir(parents=True, exist_ok=True)
        checkpoint = run / CHECKPOINT_FILE
        done = int(checkpoint.read_text()) if checkpoint.exists() else 0
        store_attrs(trial, {"epochs_before": done, "epochs_done": done})
        for epoch in range(done + 1, self._plan.epochs + 1):
            for _ in range(self._plan.steps):
                self._stop.check()
                time.sleep(self._plan.step_seconds)
                if encode(spec) in self._plan.deadly:
                    os.kill(os.getpid(), signal.SIGKILL)
            _part(checkpoint).write_text(str(epoch))
            _part(checkpoint).replace(checkpoint)
            store_attrs(trial, {"epochs_done": epoch})
            with (run / LOG_FILE).open("a") as log:
                log.write(f"process {os.getpid()} epoch {epoch}/{self._plan.epochs}\n")
        return evaluation

    def tidy(self, records: Sequence[TrialRecord]) -> None:
        """Remove the checkpoints of trainings that are over."""
        for record in records:
            if record.settles:
                checkpoint = self._folder.run(str(record.arch)) / CHECKPOINT_FILE
                for each in (checkpoint, _part(checkpoint)):
                    each.unlink(missing_ok=True)


def _search(
    plan: Plan, study: optuna.Study, stage: Stage, folder: StudyFolder, slot: int, stop: StopRequest
) -> Outcome:
    num_trials = len(study.get_trials(deepcopy=False))
    study.sampler = build_sampler(
        SearchSettings(population=6, surrogate=False), stage.space, num_trials=num_trials, worker=slot
    )
    crew, training = open_crew(study, folder), Training(plan, folder, stop)
    with crew.registered():
        return search(
            study,
            stage,
            training,
            budget=plan.budget,
            crew=crew,
            listener=Listener(),
            stop=stop,
            after_trial=training.tidy,
        )


def _part(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"{checkpoint.name}.part")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(role: str, plan: Plan, slot: int, lead: bool) -> int:
    """The exit status of a process, as the command line of the product has it."""
    try:
        if role == "supervise":
            return supervise(plan)
        work(plan, slot, lead=lead, supervised=role == "work")
    except SmnasError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except typer.Exit as end:
        return end.exit_code
    return 0


if __name__ == "__main__":
    _, role, plan, slot, lead = sys.argv
    sys.exit(main(role, Plan(**json.loads(plan)), int(slot), lead == "1"))
