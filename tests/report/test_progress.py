from __future__ import annotations

import io
import time
from typing import Any

import pytest
from optuna.trial import TrialState
from rich.console import Console

from smnas_optuna.engine.train import EpochReport
from smnas_optuna.report.progress import ConsoleListener, TimeLeft, TrainingListener
from smnas_optuna.session.deadline import Deadline, clock_time
from smnas_optuna.study.record import TrialRecord, read_records

from .report_studies import FAST, add_trial, new_study

PHASES = ("load", "train", "evaluate", "latency")


def record(
    values: tuple[float, float] | None = (12.5, 0.25), *, failed: TrialState = TrialState.FAIL, **attrs: Any
) -> TrialRecord:
    study = new_study()
    add_trial(study, values, TrialState.COMPLETE if values else failed, arch=FAST, **attrs)
    return read_records(study)[0]


def epoch(number: int, seconds: float = 30.0, skipped: int = 0) -> EpochReport:
    return EpochReport(epoch=number, epochs=2, loss=1.5, skipped_steps=skipped, seconds=seconds)


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), width=40, force_terminal=terminal, force_interactive=terminal)


def written(console: Console) -> str:
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def test_a_budget_in_hours_has_its_share_and_its_end_by_the_clock_in_each_line() -> None:
    now, plain = time.time(), console(terminal=False)
    deadline = Deadline(at=now, latest=now, end=now + 1800, total_s=3600)
    until = clock_time(now + 1800, now)
    with ConsoleListener(plain, deadline=deadline) as listener:
        listener.trial_started(0, FAST, why="baseline", done=3, budget=100_000)
        listener.epoch(epoch(1))
        listener.trial_ended(record(), on_front=False, seconds=75, done=4, budget=100_000)

    assert written(plain).splitlines() == [
        f"trial 0 (baseline; 3 done, 50 % · ends about {until}): {FAST}",
        f"trial 0 epoch 1/2: loss 1.5, took 30 s; trial about 30 s left, search 50 % · ends about {until}",
        f"trial 0: 12.5 ms, AP (x100) 25.0, took 75 s; 4 done, 50 % · ends about {until}",
    ]


def test_a_terminal_shows_the_share_of_the_hours_as_its_bar() -> None:
    now = time.time()
    terminal = Console(file=io.StringIO(), width=100, force_terminal=True, force_interactive=True)
    deadline = Deadline(at=now, latest=now, end=now + 1800, total_s=3600)
    with ConsoleListener(terminal, deadline=deadline) as listener:
        listener.trial_started(0, FAST, why="baseline", done=3, budget=100_000)
        listener.step("train", 1, 2)
        listener.note("the bars are drawn anew below a line")

    assert "50/100" in written(terminal)
    assert "100000" not in written(terminal)


def test_plain_lines_one_an_epoch_and_two_a_trial_with_the_time_left() -> None:
    plain = console(terminal=False)
    with ConsoleListener(plain) as listener:
        for number, front in enumerate((True, False)):
            listener.trial_started(number, FAST, why="baseline", done=number, budget=4)
            for phase in PHASES:
                listener.step(phase, 1, 2)
            listener.epoch(epoch(1))
            listener.epoch(epoch(2, skipped=3))
            listener.trial_ended(record(), on_front=front, seconds=75, done=number + 1, budget=4)

    assert written(plain).splitlines() == [
        f"trial 0 (baseline; 0 of 4 done): {FAST}",
        "trial 0 epoch 1/2: loss 1.5, took 30 s; trial about 30 s left, search about 4 min left",
        "trial 0 epoch 2/2: loss 1.5, skipped steps: 3, took 30 s; trial evaluation and latency left, "
        "search about 3 min left",
        "trial 0: 12.5 ms, AP (x100) 25.0, on the front, took 75 s; 1 of 4 done, search about 4 min left",
        f"trial 1 (baseline; 1 of 4 done): {FAST}",
        "trial 1 epoch 1/2: loss 1.5, took 30 s; trial about 45 s left, search about 3 min left",
        "trial 1 epoch 2/2: loss 1.5, skipped steps: 3, took 30 s; trial about 15 s left, search about 3 min left",
        "trial 0: 12.5 ms, AP (x100) 25.0, took 75 s; 2 of 4 done, search about 2 min left",
    ]


def test_an_ap_of_few_images_has_its_interval() -> None:
    plain = console(terminal=False)
    metrics = {"ap": 0.25, "ap_low": 0.1, "ap_high": 0.48}

    ConsoleListener(plain).trial_ended(record(metrics=metrics), on_front=False, seconds=75, done=1, budget=1)

    assert written(plain) == "trial 0: 12.5 ms, AP (x100) 25.0 (10-48), took 75 s; 1 of 1 done\n"


def test_other_words_than_trial_and_search() -> None:
    plain = console(terminal=False)
    with ConsoleListener(plain, each="training", all="all") as listener:
        listener.trial_started(1, FAST, why="seed 1 of 3", done=0, budget=6)
        listener.epoch(epoch(1))
        listener.trial_ended(record(), on_front=False, seconds=60, done=1, budget=6)

    assert written(plain).splitlines() == [
        f"training 1 (seed 1 of 3; 0 of 6 done): {FAST}",
        "training 1 epoch 1/2: loss 1.5, took 30 s; training about 30 s left, all about 6 min left",
        "training 0: 12.5 ms, AP (x100) 25.0, took 60 s; 1 of 6 done, all about 5 min left",
    ]


def test_after_the_last_trial_no_time_is_left_to_tell() -> None:
    plain = console(terminal=False)
    with ConsoleListener(plain) as listener:
        listener.trial_started(0, FAST, why="baseline", done=0, budget=1)
        listener.trial_ended(record(), on_front=False, seconds=60, done=1, budget=1)

    assert written(plain).splitlines()[-1] == "trial 0: 12.5 ms, AP (x100) 25.0, took 60 s; 1 of 1 done"


def test_a_note_is_one_line_as_it_was_said() -> None:
    plain = console(terminal=False)
    with ConsoleListener(plain) as listener:
        listener.note("retried [bold]with[/bold] half the batch, " + "x" * 60 + "\n  fix: none")

    assert written(plain) == "retried [bold]with[/bold] half the batch, " + "x" * 60 + "   fix: none\n"


@pytest.mark.parametrize(("state", "said"), [(TrialState.FAIL, "failed"), (TrialState.PRUNED, "pruned")])
def test_a_failed_or_pruned_trial_says_why_and_counts_for_no_estimate(state: TrialState, said: str) -> None:
    plain, ended = console(terminal=False), record(None, failed=state, reason="out of memory")
    with ConsoleListener(plain) as listener:
        listener.trial_started(0, FAST, why="generation 1", done=0, budget=2)
        listener.trial_ended(ended, on_front=False, seconds=3, done=0, budget=2)

    assert written(plain).splitlines()[1] == (
        f"trial 0: {said} (out of memory), took 3.0 s; 0 of 2 done, search time left unknown"
    )


def test_a_terminal_gets_bars_lines_and_its_cursor_back() -> None:
    terminal = console(terminal=True)
    with ConsoleListener(terminal) as listener:
        listener.step("load", 1, 2)  # before the first trial
        listener.trial_started(0, FAST, why="baseline", done=0, budget=4)
        for phase in PHASES:
            listener.step(phase, 1, 2)
        listener.step("unheard of", 0, 0)
        listener.epoch(epoch(1))
        listener.trial_ended(record(), on_front=True, seconds=75, done=1, budget=4)
    text = written(terminal)

    for said in ("loading images", "training", "evaluating", "timing", "unheard of", f"done): {FAST}"):
        assert said in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # cursor hidden and shown


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("last", [None, "start", *PHASES])
def test_a_search_may_be_stopped_in_any_phase(last: str | None, terminal: bool) -> None:
    out = console(terminal=terminal)

    def search() -> None:
        with ConsoleListener(out) as listener:
            if last is not None:
                listener.trial_started(0, FAST, why="baseline", done=0, budget=1)
            for phase in PHASES[: PHASES.index(last) + 1] if last in PHASES else ():
                listener.step(phase, 1, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search()

    assert written(out).endswith("\x1b[?25h") if terminal else "\x1b" not in written(out)


def test_a_trial_that_follows_a_stopped_one_starts_afresh() -> None:
    left = TimeLeft()
    left.start(0, 2)
    left.epoch(epoch(1, seconds=1000.0))
    left.start(0, 2)

    assert (left.of_trial(), left.of_search()) == (None, None)


def test_time_left() -> None:
    left = TimeLeft()
    left.start(0, 3)
    left.epoch(epoch(1, seconds=10.0))
    assert (left.of_trial(), left.of_search()) == (10.0, 10.0 + 2 * 20.0)
    left.end(1, 3, 26.0, trained=True)
    assert left.of_search() == 2 * 26.0
    left.start(1, 3)
    assert (left.of_trial(), left.of_search()) == (26.0, 2 * 26.0)
    left.epoch(epoch(1, seconds=20.0))
    assert (left.of_trial(), left.of_search()) == (20.0 + 16.0, 36.0 + 26.0)
    left.end(1, 3, 20.0, trained=False)
    assert left.of_search() == 2 * 26.0
    left.end(3, 3, 26.0, trained=True)
    assert left.of_search() == 0.0


def test_time_left_is_shared_by_the_workers_and_no_less_than_that_of_this_ones_trial() -> None:
    left = TimeLeft(workers=3)
    left.start(0, 5)
    left.epoch(epoch(1, seconds=10.0))
    assert left.of_search() == (10.0 + 4 * 20.0) / 3
    left.end(3, 5, 20.0, trained=True)
    left.start(4, 5)
    assert left.of_search() == 20.0


def test_a_single_training_has_no_number_and_no_search() -> None:
    plain = console(terminal=False)
    with TrainingListener(plain) as listener:
        listener.step("train", 1, 2)
        listener.epoch(epoch(1))
        listener.epoch(epoch(2, skipped=3))

    assert written(plain).splitlines() == [
        "epoch 1/2: loss 1.5, took 30 s; about 30 s left",
        "epoch 2/2: loss 1.5, skipped steps: 3, took 30 s; evaluation and latency are left",
    ]


def test_on_a_terminal_a_single_training_has_a_bar_in_place_of_lines() -> None:
    terminal = console(terminal=True)
    with TrainingListener(terminal) as listener:
        listener.step("train", 1, 2)
        listener.epoch(epoch(1))
    text = written(terminal)

    assert "training" in text
    assert "epoch 1/2:" not in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
