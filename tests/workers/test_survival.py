"""Workers that are killed, stopped and frozen at any moment; see closed_form_worker.py for what they do."""

from __future__ import annotations

import itertools
import os
import random
import re
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from smnas_optuna.doctor import examine
from smnas_optuna.errors import StudyError
from smnas_optuna.search.request import search_progress
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import ELSEWHERE, INTERRUPTED, KILLED_TWICE, STRUCTURAL, TrialRecord
from smnas_optuna.workers.interrupt import StopRequest
from smnas_optuna.workers.supervisor import GRACE_S, Supervisor, supervising

from ..commands import PATIENCE, processes_of, records, wait_for_trial
from ..search.conftest import BASELINES
from .closed_form_worker import STAGES, Plan, program_environment

KILLS = int(os.environ.get("SMNAS_KILLS", "300"))

Finished = dict[tuple[str, int], tuple[str, str | None, float | None, float | None]]


@contextmanager
def start(plan: Plan, role: str = "supervise", *, lead: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A process of ``plan`` in a process group of its own, all of which is killed if the body fails."""
    output, environment = subprocess.PIPE, program_environment()
    with subprocess.Popen(
        plan.command(role, lead=lead),
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            yield process
        except BaseException:
            kill_group(process)
            raise


@contextmanager
def searching(plan: Plan) -> Iterator[subprocess.Popen[str]]:
    """A search, all processes of which are killed when the body is done with it."""
    with start(plan) as process:
        yield process
        kill_group(process)


def kill_group(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def finish(plan: Plan) -> str:
    """Run ``plan`` to its end, and return what it said."""
    with start(plan) as process:
        said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    return said


def trials(plan: Plan) -> list[TrialRecord]:
    """The trials of all studies."""
    return [record for stage in (STRUCTURAL, "modular") for record in records(Path(plan.folder), stage)]


def finished(plan: Plan) -> Finished:
    return {
        (record.study, record.number): (record.state, record.arch, record.latency_ms, record.ap)
        for record in trials(plan)
        if record.state in ("complete", "pruned", "failed")
    }


def told_epochs(plan: Plan) -> Counter[tuple[str, str]]:
    """How often each (architecture, epoch) is in the logs."""
    return Counter(
        (log.parent.name, epoch)
        for log in (Path(plan.folder) / "runs").glob("*/train.log")
        for epoch in re.findall(r" epoch (\d+)/", log.read_text())
    )


def pid_of(record: TrialRecord) -> int:
    return int(str(record.worker).rsplit("-", 2)[1])


def wait_until_nobody_works(folder: Path) -> None:
    deadline = time.monotonic() + GRACE_S + 10
    while found := processes_of(folder):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def wait_for_epoch(plan: Plan, process: subprocess.Popen[str], number: int) -> None:
    """Return once trial ``number`` of the first study has stored an epoch."""
    wait_for_trial(Path(plan.folder), process, number, training=True)
    folder, deadline = StudyFolder(Path(plan.folder)), time.monotonic() + PATIENCE
    while not folder.records()[number].epochs_done:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def freeze(plan: Plan, process: subprocess.Popen[str]) -> None:
    """Stop a process, but not as it reads or writes the database: others would wait for that, too."""
    deadline = time.monotonic() + PATIENCE
    with closing(sqlite3.connect(Path(plan.folder) / "study.db", timeout=0.1)) as database:
        while time.monotonic() < deadline:
            process.send_signal(signal.SIGSTOP)
            with suppress(sqlite3.OperationalError):
                database.execute("BEGIN EXCLUSIVE")
                return
            process.send_signal(signal.SIGCONT)
            time.sleep(0.02)
    raise AssertionError("it is always at the database")


def wait_until_one_trains(plan: Plan, process: subprocess.Popen[str]) -> None:
    """Return while a worker that is alive trains, or when the search is over."""
    folder, deadline = StudyFolder(Path(plan.folder)), time.monotonic() + PATIENCE
    while process.poll() is None:
        begun = [each for each in folder.records() if each.state == "running" and "epochs_before" in each.attrs]
        if {pid_of(record) for record in begun} & processes_of(folder.path).keys():
            return
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Havoc:
    """Strikes a search in one way after another.

    Args:
        folder: The study folder.
        chance: Chooses among workers.

    Attributes:
        may_have_died: Processes of the workers that had no chance to end in order.
    """

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self._folder, self._chance = folder, chance
        self._ways = itertools.cycle([
            *(self._kill_one, self._kill_supervisor, self._kill_all),
            *(self._freeze_one, self._stop_one, self._stop_all),
        ])  # fmt: skip
        self.may_have_died: set[int] = set()

    def strike(self, process: subprocess.Popen[str]) -> None:
        """Do the next thing to the search of ``process``."""
        with suppress(ProcessLookupError):
            next(self._ways)(process)

    def _kill_one(self, process: subprocess.Popen[str]) -> None:
        for worker in self._one(process):
            self.may_have_died.add(worker)
            os.kill(worker, signal.SIGKILL)

    def _kill_supervisor(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.wait()
        self.may_have_died |= set(self._workers(process))  # it may take a busy one longer than GRACE_S to end
        wait_until_nobody_works(self._folder)

    def _kill_all(self, process: subprocess.Popen[str]) -> None:
        self.may_have_died |= set(self._workers(process))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _freeze_one(self, process: subprocess.Popen[str]) -> None:
        for worker in self._one(process):
            os.kill(worker, signal.SIGSTOP)
            time.sleep(0.3)
            os.kill(worker, signal.SIGCONT)

    def _stop_one(self, process: subprocess.Popen[str]) -> None:
        for worker in self._one(process):
            os.kill(worker, signal.SIGTERM)

    def _stop_all(self, process: subprocess.Popen[str]) -> None:
        process.terminate()
        ends = {"as it starts": -signal.SIGTERM, "as it works": 128 + signal.SIGTERM, "at its end": 0}
        assert process.wait(timeout=PATIENCE) in ends.values()
        wait_until_nobody_works(self._folder)

    def _workers(self, process: subprocess.Popen[str]) -> list[int]:
        return [pid for pid in processes_of(self._folder) if pid != process.pid]

    def _one(self, process: subprocess.Popen[str]) -> list[int]:
        workers = self._workers(process)
        return [self._chance.choice(workers)] if workers else []


def check_whole(plan: Plan) -> None:
    """Nothing is lost, doubled or left over, and the budget is kept exactly."""
    folder = Path(plan.folder)
    assert {record.state for record in trials(plan)} <= {"complete", "pruned", "failed"}
    for name in list(STAGES)[: plan.studies]:
        mine = [record for record in trials(plan) if record.study == name]
        assert [record.number for record in mine] == list(range(len(mine)))
        trained = [record.arch for record in mine if record.trained]
        assert len(trained) == len(set(trained)) == plan.budget
    assert {key: times for key, times in told_epochs(plan).items() if times > 1} == {}
    assert list((folder / "runs").glob("*/checkpoint*")) == []
    with closing(sqlite3.connect(folder / "study.db")) as database:
        assert list(database.execute("PRAGMA integrity_check")) == [("ok",)]
        assert list(database.execute("SELECT * FROM smnas_claims")) == []


def check_reasons(plan: Plan, may_have_died: set[int]) -> None:
    """Only the dead are called that, and an architecture is given up at the second death in vain, for good."""
    vain, given_up = Counter[str](), set[str]()
    for record in trials(plan):
        assert not record.killed or pid_of(record) in may_have_died
        arch = str(record.arch)
        if record.arch is None or record.cached_from is not None or record.reason == ELSEWHERE:
            continue
        assert arch not in given_up
        vain[arch] += record.fruitless
        assert (record.reason == KILLED_TWICE) == (record.fruitless and vain[arch] == 2)
        given_up |= {arch} if record.reason == KILLED_TWICE else set()
        if record.state == "failed":
            assert record.reason in (INTERRUPTED, KILLED_TWICE)
    assert len(given_up) < plan.studies * plan.budget / 2


@pytest.mark.parametrize(
    ("studies", "kills"),
    [
        pytest.param(2, 12, marks=pytest.mark.slow, id="two studies, a dozen"),
        pytest.param(1, KILLS, marks=pytest.mark.nightly, id="one study, hundreds"),
        pytest.param(2, KILLS, marks=pytest.mark.nightly, id="two studies, hundreds"),
    ],
)
def test_killed_again_and_again_nothing_is_lost_and_nothing_is_doubled(
    study_dir: Path, studies: int, kills: int
) -> None:
    plan = Plan(folder=str(study_dir), budget=6, studies=studies, epochs=4, steps=4)
    chance, count = random.Random(kills), 0
    havoc, before = Havoc(study_dir, chance), Finished()
    while count < kills:
        with searching(plan) as process:
            while process.poll() is None and count < kills:
                if count % 5 < 4:  # most are killed as they work, some as they start
                    wait_until_one_trains(plan, process)
                time.sleep(chance.uniform(0, 0.6))
                havoc.strike(process)
                count += 1
                now = finished(plan)
                assert {number: now.get(number) for number in before} == before
                before = now
            if process.poll() == 0:  # it ended before it could be struck
                plan = replace(plan, budget=plan.budget + 4)
        wait_until_nobody_works(study_dir)

    said = finish(plan)

    assert said.count(f"ended: budget reached: {plan.budget} of {plan.budget} architectures are trained") >= studies
    after = finished(plan)
    assert {number: after[number] for number in before} == before
    check_whole(plan)
    check_reasons(plan, havoc.may_have_died)
    # Nothing points to a worker that was killed while it had no claim: its lock is all that it may have left.
    list(examine(study_dir, fix=True))
    assert sorted(file.name for file in (study_dir / "workers").iterdir()) == ["folder.id"]
    wait_until_nobody_works(study_dir)


def run_here(plan: Plan, meanwhile: Callable[[Callable[[], bool]], object] = lambda _: None) -> tuple[int, list[str]]:
    """Supervise ``plan`` in this process; return the exit status and what the supervisor noted.

    Args:
        plan: What is searched.
        meanwhile: Called as the supervisor runs, with a function that says whether it has ended.
    """
    notes, stop = list[str](), StopRequest()
    supervisor = Supervisor(
        plan.launch,
        plan.workers,
        progress=partial(search_progress, Path(plan.folder)),
        note=notes.append,
        stop=stop,
    )
    with ThreadPoolExecutor(1) as pool:
        status = pool.submit(supervisor.run)
        try:
            meanwhile(status.done)
            return status.result(timeout=PATIENCE), notes
        except BaseException:
            stop.ask(signal.SIGTERM)  # else the pool would wait for it
            raise


@pytest.mark.slow
def test_workers_share_a_search_and_one_more_joins_it(study_dir: Path) -> None:
    plan = Plan(folder=str(study_dir), budget=8, step_seconds=0.1)
    more = replace(plan, budget=9)  # on a busy machine it may begin late; the ninth training is left to it
    joiners = list[int]()

    def join(has_ended: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not any(record.arch for record in trials(plan)):
            assert not has_ended(), "it ended before there was something to join"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with start(more, "join") as joined:
            said, _ = joined.communicate(timeout=PATIENCE)
        assert joined.returncode == 0, said
        assert said == "ended: budget reached: 9 of 9 architectures are trained\n"
        joiners.append(joined.pid)

    assert run_here(plan, join) == (0, [])

    workers = {pid_of(record) for record in trials(plan) if record.trained}
    assert workers > set(joiners), "those that were there, and the one that joined"
    assert all(record.state == "pruned" for record in trials(plan) if record.reason == ELSEWHERE)
    check_whole(more)


@pytest.mark.slow
def test_an_architecture_that_kills_its_process_twice_is_given_up(study_dir: Path) -> None:
    plan = Plan(folder=str(study_dir), budget=3, workers=1, deadly=BASELINES[:1])

    status, notes = run_here(plan)

    assert (status, notes) == (0, ["worker 0 was stopped by SIGKILL; a new one takes its place"] * 2)
    first, second, third, *_ = trials(plan)
    assert first.arch == second.arch == BASELINES[0] != third.arch
    assert (first.reason, second.reason) == (INTERRUPTED, KILLED_TWICE)
    check_whole(plan)
    check_reasons(plan, {pid_of(first), pid_of(second)})


@pytest.mark.slow
def test_killed_in_the_middle_the_next_process_goes_on_after_the_last_epoch(study_dir: Path) -> None:
    plan = Plan(folder=str(study_dir), budget=5, epochs=20, step_seconds=0.01)
    with start(plan, "join", lead=True) as worker:
        wait_for_epoch(plan, worker, 2)
        worker.kill()
    before = trials(plan)

    with start(plan, "join") as worker:
        said, _ = worker.communicate(timeout=PATIENCE)

    assert said == "ended: budget reached: 5 of 5 architectures are trained\n"
    after = trials(plan)
    assert after[:2] == before[:2]
    assert [record.trained for record in before] == [True, True, False]
    assert (after[2].state, after[2].reason, after[2].killed) == ("failed", INTERRUPTED, True)
    assert (after[3].arch, after[3].trained) == (after[2].arch, True)
    assert after[3].epochs_before - after[2].epochs_done in (0, 1), "it may have died before it told of the last one"
    assert 0 < after[3].epochs_before < after[3].epochs_done == 20
    check_whole(plan)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        signal.SIGTERM,
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
    ],
    ids=lambda number: number.name,
)
def test_what_a_worker_is_at_is_stored_when_its_supervisor_ends(study_dir: Path, number: signal.Signals) -> None:
    plan = Plan(folder=str(study_dir), budget=2, workers=1, epochs=1000)
    with searching(plan) as process:
        wait_for_epoch(plan, process, 0)
        with pytest.raises(StudyError) as refused, supervising(study_dir):
            pass
        process.send_signal(number)
        code = process.wait(timeout=PATIENCE)
        wait_until_nobody_works(study_dir)

    assert f"another search is running here (process {process.pid})" in str(refused.value)
    assert code == (-number if number == signal.SIGKILL else 128 + number)
    (last,) = trials(plan)
    assert (last.state, last.reason, last.killed) == ("failed", INTERRUPTED, False)
    assert (study_dir / "runs" / str(last.arch) / "checkpoint.safetensors").read_text() == str(last.epochs_done)
    assert [file.name for file in (study_dir / "workers").iterdir()] == ["folder.id"]


@pytest.mark.slow
def test_a_frozen_worker_is_alive_and_keeps_what_it_trains(study_dir: Path) -> None:
    plan = Plan(folder=str(study_dir), budget=2)
    with start(replace(plan, epochs=20), "join", lead=True) as frozen:
        wait_for_trial(study_dir, frozen, 0, training=True)
        freeze(plan, frozen)
        try:
            with start(plan, "join") as other:
                said, _ = other.communicate(timeout=PATIENCE)
        finally:
            frozen.send_signal(signal.SIGCONT)
        assert said.startswith("ended: ")
        assert said.endswith(": 1 being trained\n")
        assert trials(plan)[0].state == "running"
        said, _ = frozen.communicate(timeout=PATIENCE)

    assert said == "ended: budget reached: 2 of 2 architectures are trained\n"
    first, second = [record for record in trials(plan) if record.trained]
    assert (pid_of(first), pid_of(second)) == (frozen.pid, other.pid)
    check_whole(plan)
    check_reasons(plan, set())
