from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from smnas_optuna.arch import DetectorSpec, decode, encode
from smnas_optuna.arch.work import WorkCounter
from smnas_optuna.config import SearchSettings
from smnas_optuna.search.evolution.sampler import build_sampler
from smnas_optuna.search.loop import Evaluation, search
from smnas_optuna.search.outcome import ENDLESS, Outcome
from smnas_optuna.search.timekeeper import REFUSALS, Line, Timekeeper, fit_line
from smnas_optuna.session.deadline import Deadline
from smnas_optuna.session.listener import Listener
from smnas_optuna.study.attributes import store_attrs
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import INTERRUPTED, TOO_LONG, TrialRecord, read_record, read_records
from smnas_optuna.workers.interrupt import StopRequest

from .conftest import BASELINES, closed_form, make_stage, make_study, registered

SMALL, LARGE = BASELINES
COUNT = WorkCounter(num_classes=2)
EPOCHS = 4


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def trained(arch: str, train_s: float, around_s: float = 1.0) -> TrialRecord:
    attrs = {"arch": arch, "epochs_before": 0, "epochs_done": EPOCHS}
    attrs["seconds"] = {"load": 1000.0, "train": train_s, "evaluate": around_s}
    return read_record(create_trial(state=TrialState.COMPLETE, values=(1.0, 0.1), user_attrs=attrs))


def stopped(arch: str, epochs_done: int, **seconds: float) -> TrialRecord:
    seconds = {name.removesuffix("_s"): value for name, value in seconds.items()}
    attrs = {"arch": arch, "epochs_done": epochs_done, "reason": INTERRUPTED, "seconds": seconds}
    return read_record(create_trial(state=TrialState.FAIL, user_attrs=attrs))


def keeper(seconds: float, *records: TrialRecord, clock: Callable[[], float] | None = None) -> Timekeeper:
    deadline = Deadline(at=1000.0 + seconds, latest=1100.0 + seconds, end=2000.0 + seconds, total_s=2000.0)
    found = Timekeeper(deadline, COUNT, EPOCHS, lambda: records, clock or Clock())
    found.learn()
    return found


def test_a_line_through_two_points_meets_both() -> None:
    line = fit_line([10.0, 30.0], [3.0, 5.0])

    assert line is not None
    assert (line.start, line.slope) == pytest.approx((2.0, 0.1))
    assert line.spread == pytest.approx(0.0, abs=1e-9)
    assert line.safe_s(20.0) == pytest.approx(4.0)


def test_the_time_of_a_part_of_an_epoch_tells_nothing_if_others_tell() -> None:
    alone = keeper(100.0, stopped(SMALL, 1, train_s=19.0)).seconds(decode(SMALL))
    others = [
        keeper(100.0, trained(SMALL, 40.0), *more).seconds(decode(SMALL))
        for more in ([], [stopped(SMALL, 1, train_s=19.0)])
    ]

    assert alone is not None
    assert others[0] is not None
    # two trials of one architecture: what it has done counts, and its pace is that of the whole training
    assert others[1] == pytest.approx(1.0 + 3 / 4 * 40.0)
    assert others[0] == pytest.approx(1.0 + 40.0)


def test_one_point_is_half_work_and_none_tells_nothing() -> None:
    assert fit_line([10.0], [4.0]) == Line(start=2.0, slope=0.2, spread=0.0)
    assert fit_line([], []) is None


@pytest.mark.parametrize("seed", range(20))
def test_a_line_nowhere_falls_and_has_room_for_its_errors(seed: int) -> None:
    random = np.random.default_rng(seed)
    work, seconds = random.uniform(1e6, 1e9, 8), random.uniform(1, 30, 8)

    line = fit_line(list(work), list(seconds))

    assert line is not None
    assert line.start >= 0
    assert line.slope >= 0
    errors = (line.start + line.slope * work) / seconds - 1
    assert line.spread == pytest.approx(np.sqrt((errors**2).mean()))


def test_a_training_takes_its_epochs_and_what_is_around_it_but_images_are_loaded_once() -> None:
    timekeeper = keeper(100, trained(SMALL, 8.0), trained(LARGE, 40.0, around_s=5.0))

    assert timekeeper.seconds(decode(SMALL)) == pytest.approx(9.0)
    assert timekeeper.seconds(decode(LARGE)) == pytest.approx(45.0)


def test_a_training_that_was_stopped_tells_how_long_epochs_are() -> None:
    timekeeper = keeper(100, stopped(SMALL, 3, train_s=6.0))

    assert timekeeper.seconds(decode(SMALL)) == pytest.approx(2.0)
    assert (timekeeper.seconds(decode(LARGE)) or 0.0) > 8.0


def test_what_was_interrupted_has_only_its_other_epochs_left() -> None:
    timekeeper = keeper(100, trained(SMALL, 8.0), trained(LARGE, 40.0, around_s=5.0), stopped(LARGE, 3))

    assert timekeeper.seconds(decode(LARGE)) == pytest.approx(15.0)


@pytest.mark.parametrize(("left_s", "fits"), [(44.0, False), (46.0, True)])
def test_a_training_begins_only_if_it_can_end(left_s: float, fits: bool) -> None:
    timekeeper = keeper(left_s, trained(SMALL, 8.0), trained(LARGE, 40.0, around_s=5.0))

    assert timekeeper.fits(decode(LARGE)) is fits
    assert timekeeper.fits(decode(SMALL))


def test_before_the_first_training_nothing_is_known_but_the_time() -> None:
    clock = Clock()
    timekeeper = keeper(10, clock=clock)

    assert timekeeper.fits(decode(LARGE))
    assert not timekeeper.is_up
    clock.now += 11
    assert not timekeeper.fits(decode(LARGE))
    assert timekeeper.stop_reason(0) == Outcome(
        reason="time is up: 0 architectures are trained", failed=False, trained=0, time_up=True
    )


def test_before_the_first_training_a_probe_tells() -> None:
    deadline = Deadline(at=1020.0, latest=1100.0, end=2000.0, total_s=2000.0)
    timekeeper = Timekeeper(deadline, COUNT, EPOCHS, list, Clock(), expected_s={SMALL: 10.0, LARGE: 30.0})

    timekeeper.learn()

    assert timekeeper.fits(decode(SMALL))
    assert not timekeeper.fits(decode(LARGE))


def test_epochs_of_an_earlier_attempt_are_done_also_if_the_last_one_died_before_it_had_read_them() -> None:
    timed = trained(SMALL, 8.0), trained(LARGE, 40.0)
    once, twice = (keeper(500, *timed, *some) for some in ([stopped(LARGE, 2)], [stopped(LARGE, 2), stopped(LARGE, 0)]))

    anew = keeper(500, *timed, stopped(LARGE, 2), stopped(LARGE, 1))

    assert twice.seconds(decode(LARGE)) == once.seconds(decode(LARGE))
    assert (once.seconds(decode(LARGE)) or 0.0) < (anew.seconds(decode(LARGE)) or 0.0), "its checkpoint was lost"
    assert (once.seconds(decode(LARGE)) or 0.0) < (keeper(500, *timed).seconds(decode(LARGE)) or 0.0)


def test_a_search_ends_after_refusals_in_a_row() -> None:
    timekeeper = keeper(20, trained(SMALL, 8.0), trained(LARGE, 40.0, around_s=5.0))

    for times in (REFUSALS - 1, REFUSALS - 1, REFUSALS):
        timekeeper.begin()  # a training
        for _ in range(times):
            timekeeper.accept(decode(LARGE))
            assert timekeeper.accept(decode(SMALL)), "known, so that no training begins"
        assert (timekeeper.stop_reason(2) is not None) == (times == REFUSALS)
    timekeeper.begin()
    assert timekeeper.stop_reason(2) is None


def run(study: optuna.Study, seconds: float, clock: Clock, *, per_giga: float = 200.0) -> Outcome:
    """Search for so long; a training takes 2 s and more with its multiply-adds."""

    def evaluate(spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        evaluation, took = closed_form(spec, trial), 2 + per_giga * COUNT(spec).multiply_adds / 1e9
        clock.now += took + 1
        store_attrs(trial, {"epochs_done": EPOCHS, "seconds": {"train": took, "evaluate": 1.0}})
        return evaluation

    deadline = Deadline(
        at=clock.now + seconds, latest=clock.now + 2 * seconds, end=clock.now + seconds, total_s=seconds
    )
    timekeeper = Timekeeper(deadline, COUNT, EPOCHS, lambda: read_records(study), clock)
    stage = make_stage()
    study.sampler = build_sampler(
        SearchSettings(population=6, surrogate=False), stage.space, num_trials=len(study.trials), fits=timekeeper.fits
    )
    with registered() as crew:
        return search(
            study,
            stage,
            evaluate,
            budget=ENDLESS,
            crew=crew,
            listener=Listener(),
            stop=StopRequest(),
            limits=Limits(),
            timekeeper=timekeeper,
        )


def test_a_search_ends_just_before_its_time_with_shorter_trainings_at_the_end() -> None:
    study, clock = make_study(), Clock()

    outcome = run(study, 150.0, clock)

    shortest_s = min(sum(r.attrs["seconds"].values()) for r in read_records(study) if r.trained)
    assert outcome.time_up
    assert not outcome.failed
    assert 1150 - 2 * shortest_s <= clock.now <= 1150
    assert outcome.reason == f"time is up: {outcome.trained} architectures are trained"
    records = read_records(study)
    assert all(record.trained or record.reason == TOO_LONG for record in records)
    assert not any(record.settles for record in records if record.reason == TOO_LONG)


def test_more_time_goes_on_and_trains_what_was_too_long() -> None:
    study, clock = make_study(), Clock()
    too_long = 40.0 / (COUNT(decode(LARGE)).multiply_adds / 1e9)

    run(study, 20.0, clock, per_giga=too_long)
    before = [record.arch for record in read_records(study) if record.trained]
    outcome = run(study, 300.0, clock, per_giga=too_long)

    after = [record.arch for record in read_records(study) if record.trained]
    assert LARGE not in before
    assert after[: len(before)] == before
    assert LARGE in after
    assert outcome.trained == len(after) == len(set(after))


def test_an_enqueued_trial_that_is_too_long_waits(study: optuna.Study) -> None:
    clock, stage = Clock(), make_stage()
    run(study, 60.0, clock)
    largest = stage.space.genome(decode("160x120.resnet50-w24.fpn-p2-p6-c64.rpn.fc-w256"))
    study.enqueue_trial(dict(largest))

    outcome = run(study, 10.0, clock)

    assert outcome.time_up
    assert [record.state for record in read_records(study)].count("waiting") == 1
    assert encode(stage.space.express(largest)) not in {r.arch for r in read_records(study) if r.trained}


def test_beside_an_enqueued_trial_that_is_too_long_shorter_ones_fill_the_time() -> None:
    largest = make_stage().space.genome(decode("160x120.resnet50-w24.fpn-p2-p6-c64.rpn.fc-w256"))

    def more_trainings(*enqueued: dict[str, Any]) -> int:
        study, clock = make_study(), Clock()
        before = run(study, 60.0, clock).trained
        for genome in enqueued:
            study.enqueue_trial(genome)
        return run(study, 150.0, clock).trained - before

    assert more_trainings(dict(largest)) >= more_trainings() - 1 > 1
