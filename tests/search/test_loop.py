from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.samplers import NSGAIISampler
from optuna.trial import TrialState

from smnas_optuna.arch import DetectorSpec, decode, encode
from smnas_optuna.config import StructuralSpace
from smnas_optuna.errors import DivergenceError, OutOfMemoryError
from smnas_optuna.search.ending import ASKED_PER_BUDGET
from smnas_optuna.search.evolution.children import START
from smnas_optuna.search.loop import Evaluation, search
from smnas_optuna.search.outcome import Outcome
from smnas_optuna.search.stage import Stage
from smnas_optuna.search_space import StructuralSearchSpace
from smnas_optuna.session.listener import Listener
from smnas_optuna.study.attributes import BASELINE, CHILD, FIRST, RANDOM, store_attrs
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.optuna_private import begin_trial, storage_of, study_id
from smnas_optuna.study.pareto import hypervolume, pareto_front
from smnas_optuna.study.record import INTERRUPTED, KILLED_TWICE, TrialRecord, read_records
from smnas_optuna.study.settled import FAILURES_IN_A_ROW
from smnas_optuna.workers.interrupt import Interrupted, StopRequest

from .conftest import BASELINES, SPACE, closed_form, limited, make_blind_study, make_stage, make_study, registered

Evaluate = Callable[[DetectorSpec, optuna.Trial], Evaluation]
TINY = StructuralSpace(
    input_sizes=("64x48", "128x96"),
    backbones=("resnet18",),
    backbone_widths=(8, 16),
    necks=("fpn",),
    neck_min_levels=(2,),
    neck_max_levels=(5,),
    neck_channels=(32,),
    rpns=("rpn",),
    heads=("retina", "fc"),
    head_widths=(64, 128),
)


class Recorder(Listener):
    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.ended: list[tuple[TrialRecord, bool]] = []
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def trial_started(self, number: int, arch: str, *, why: str, done: int, budget: int) -> None:
        self.asked.append((arch, why))

    def trial_ended(self, record: TrialRecord, *, on_front: bool, seconds: float, done: int, budget: int) -> None:
        self.ended.append((record, on_front))


def run(
    study: optuna.Study,
    evaluate: Evaluate = closed_form,
    *,
    budget: int = 20,
    stage: Stage | None = None,
    listener: Listener | None = None,
    limits: Limits | None = None,
    folder: Path | None = None,
) -> Outcome:
    with registered(folder) as crew:
        return search(
            study,
            stage or make_stage(),
            evaluate,
            budget=budget,
            crew=crew,
            listener=listener or Listener(),
            stop=StopRequest(),
            limits=limits,
        )


def trained_archs(study: optuna.Study) -> list[str]:
    return [str(record.arch) for record in read_records(study) if record.trained]


def test_the_budget_counts_unique_architectures_and_the_baselines_come_first(study: optuna.Study) -> None:
    recorder = Recorder()

    outcome = run(study, budget=20, listener=recorder)

    archs = trained_archs(study)
    assert len(archs) == len(set(archs)) == outcome.trained == 20
    assert outcome == Outcome(reason="budget reached: 20 of 20 architectures are trained", failed=False, trained=20)
    assert recorder.asked[:2] == [(arch, "baseline") for arch in BASELINES]
    assert [record.baseline for record in read_records(study)][:3] == [True, True, False]


def test_a_study_stores_nothing_for_each_trial_that_the_sampler_reads_in_each_trial(study: optuna.Study) -> None:
    run(study, budget=8)

    stored = storage_of(study).get_study_system_attrs(study_id(study))
    assert [name for name in stored if name.startswith("dashboard:")] == []


def test_a_larger_budget_goes_on_and_the_same_one_adds_nothing(study: optuna.Study) -> None:
    run(study, budget=8)
    before = trained_archs(study)

    assert run(study, budget=8).trained == 8
    assert trained_archs(study) == before
    assert run(study, budget=12).trained == 12
    assert trained_archs(study)[:8] == before


def test_a_known_architecture_is_answered_from_the_cache_and_takes_no_place() -> None:
    study, calls = make_blind_study(), list[str]()

    def counting(spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        calls.append(encode(spec))
        return closed_form(spec, trial)

    run(study, counting, budget=10, stage=make_stage(TINY, ()))

    records = read_records(study)
    cached = [record for record in records if record.cached_from is not None]
    assert cached, "a space of 12 architectures must repeat itself"
    assert len(calls) == len(set(calls)) == 10
    for record in cached:
        source = records[record.cached_from or 0]
        assert (record.state, record.arch) == ("pruned", source.arch)
        assert record.reason == f"{source.arch} is known from trial {source.number}: AP {source.ap:.4f}"
    shown = {records[trial.number].arch for trial in study.best_trials}
    assert len(shown) == len(study.best_trials), "Optuna shows each member of the front once"
    sampler = study.sampler
    assert isinstance(sampler, NSGAIISampler)
    places = [trial.number for generation in range(9) for trial in sampler.get_population(study, generation)]
    assert sorted(places) == [record.number for record in records if record.trained]
    assert len({record.arch for record in pareto_front(records)}) == len(pareto_front(records))


def test_baselines_are_members_of_the_first_generation(study: optuna.Study) -> None:
    run(study, budget=7)

    sampler = study.sampler
    assert isinstance(sampler, NSGAIISampler)
    assert [trial.number for trial in sampler.get_population(study, 0)][:2] == [0, 1]
    assert [record.generation for record in read_records(study) if record.trained] == [0] * 6 + [1]


def test_it_ends_when_the_space_is_exhausted() -> None:
    outcome = run(make_study(space=TINY), budget=100, stage=make_stage(TINY, ()))

    assert outcome == Outcome(reason="space exhausted: all 12 architectures are known", failed=False, trained=12)


@pytest.mark.slow
def test_it_ends_when_it_has_asked_too_often() -> None:
    study = make_study(space=TINY)
    # a space that says it is larger than it is never gives what is missing
    space = StructuralSearchSpace(TINY)
    space.size += 1
    liar = Stage(space=space)

    outcome = run(study, budget=13, stage=liar)

    assert not outcome.failed
    assert outcome.trained == 12
    assert outcome.reason == "asked for 260 architectures, 20 times the budget of 13; 12 are trained"
    assert len(study.trials) == 13 * ASKED_PER_BUDGET


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DivergenceError("it diverged", fix="x"), "DivergenceError: it diverged"),
        (OutOfMemoryError("12 MiB are missing", fix="x"), "OutOfMemoryError: 12 MiB are missing"),
        (RuntimeError("bad\nlong story"), "RuntimeError: bad"),
    ],
)
def test_failures_in_a_row_end_it_with_the_reason(study: optuna.Study, error: Exception, reason: str) -> None:
    def failing(spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        raise error

    outcome = run(study, failing)

    assert outcome.failed
    assert outcome.reason == f"5 trials in a row failed; the last one: {reason}"
    assert [record.reason for record in read_records(study)] == [reason] * FAILURES_IN_A_ROW
    assert len({record.arch for record in read_records(study)}) == FAILURES_IN_A_ROW, "a failed one is not tried again"


def test_a_search_on_a_broken_machine_blames_no_architecture(study: optuna.Study) -> None:
    def broken(spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        if encode(spec) == BASELINES[0]:
            raise DivergenceError("its own fault", fix="x")
        raise RuntimeError("the GPU has fallen off the bus")

    run(study, broken)
    recorder = Recorder()
    run(study, budget=8, listener=recorder)

    assert recorder.asked[0] == (BASELINES[1], "baseline")
    assert BASELINES[0] not in trained_archs(study)
    assert len(trained_archs(study)) == 8


def test_a_single_failure_is_remembered_and_the_search_goes_on(study: optuna.Study) -> None:
    def failing_once(spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        if encode(spec) == BASELINES[1]:
            raise DivergenceError("no", fix="x")
        return closed_form(spec, trial)

    outcome = run(study, failing_once, budget=10)

    assert not outcome.failed
    assert [record.arch for record in read_records(study) if record.state == "failed"] == [BASELINES[1]]


def test_a_repeat_of_a_failed_architecture_is_pruned_without_training() -> None:
    study = make_blind_study()

    def failing_small(spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        if spec.backbone.width == 8:
            raise DivergenceError("no", fix="x")
        return closed_form(spec, trial)

    run(study, failing_small, budget=6, stage=make_stage(TINY, ()))

    records = read_records(study)
    failed = {record.arch for record in records if record.state == "failed"}
    pruned = [record for record in records if record.state == "pruned" and record.arch in failed]
    assert pruned
    assert len([r for r in records if r.state == "failed"]) == len(failed)
    for record in pruned:
        assert record.reason == f"{record.arch} is known from trial {record.cached_from}: DivergenceError: no"


def test_what_would_train_for_too_long_is_pruned_once_and_takes_no_budget_and_no_place() -> None:
    study, recorder = make_study(population=6, limits=Limits(max_seconds=10)), Recorder()

    outcome = run(study, limited(10), budget=20, listener=recorder, limits=Limits(max_seconds=10))

    records = read_records(study)
    slow = [record for record in records if record.pruned and record.pruned.estimated_seconds is not None]
    assert outcome.trained == 20
    assert slow
    assert len({record.arch for record in slow}) == len(slow), "none is judged twice"
    for record in slow:
        assert record.pruned is not None
        assert (record.state, record.reason) == ("pruned", f"would take {record.pruned.estimated_seconds:g} s")
    assert [(record.number, front) for record, front in recorder.ended if record.state == "pruned"] == [
        (record.number, False) for record in slow
    ]
    assert isinstance(study.sampler, NSGAIISampler)
    members = {trial.number for g in range(10) for trial in study.sampler.get_population(study, g)}
    assert members == {record.number for record in records if record.trained}


def test_a_pruned_baseline_is_passed_over(study: optuna.Study) -> None:
    recorder = Recorder()

    run(study, limited(10), budget=3, listener=recorder, limits=Limits(max_seconds=10))

    assert [arch for arch, why in recorder.asked if why == "baseline"] == list(BASELINES)
    assert [record.state for record in read_records(study)][:2] == ["complete", "pruned"]


@pytest.mark.parametrize(("limit", "again"), [(11.0, False), (27.0, True), (None, True)])
def test_another_limit_judges_anew_what_was_pruned(study: optuna.Study, limit: float | None, again: bool) -> None:
    run(study, limited(10), budget=3, limits=Limits(max_seconds=10))
    (slow,) = [record for record in read_records(study) if record.arch == BASELINES[1]]
    assert slow.pruned is not None
    assert slow.pruned.estimated_seconds == pytest.approx(26.6)
    recorder = Recorder()

    run(study, limited(limit), budget=4, listener=recorder, limits=Limits(max_seconds=limit))

    assert ((BASELINES[1], "baseline") in recorder.asked) == again
    assert (BASELINES[1] in trained_archs(study)) == again


def test_a_limit_that_nothing_keeps_ends_the_search_when_it_has_asked_too_often(study: optuna.Study) -> None:
    outcome = run(study, limited(0.5), budget=2, limits=Limits(max_seconds=0.5))

    known = {record.arch for record in read_records(study)}
    assert outcome == Outcome(
        reason=f"asked for 40 architectures, 20 times the budget of 2; 0 are trained, {len(known)} pruned",
        failed=False,
        trained=0,
    )
    assert run(study, limited(None), budget=2).trained == 2, "trials that another limit pruned are not held against it"


def test_a_trial_that_another_limit_than_the_searchs_pruned_is_a_mistake(study: optuna.Study) -> None:
    with pytest.raises(AssertionError, match="another limit"):
        run(study, limited(0.5), limits=Limits(max_seconds=100))


def test_a_limit_that_nothing_keeps_exhausts_a_small_space() -> None:
    study = make_study(space=TINY)
    outcome = run(study, limited(0.5), budget=100, stage=make_stage(TINY, ()), limits=Limits(max_seconds=0.5))

    assert outcome == Outcome(reason="space exhausted: all 12 architectures are known", failed=False, trained=0)


def test_a_pruned_trial_neither_lengthens_nor_ends_a_row_of_failures(study: optuna.Study) -> None:
    calls = [0]

    def evaluate(spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        calls[0] += 1
        if calls[0] % 2:
            raise RuntimeError("the GPU has fallen off the bus")
        trial.set_user_attr("estimated_seconds", 99.0)
        raise optuna.TrialPruned("too long")

    outcome = run(study, evaluate, limits=Limits(max_seconds=1))

    assert outcome.failed
    assert outcome.reason == ("5 trials in a row failed; the last one: RuntimeError: the GPU has fallen off the bus")
    assert calls[0] == 2 * FAILURES_IN_A_ROW - 1
    recorder = Recorder()
    run(study, limited(1), budget=1, listener=recorder, limits=Limits(max_seconds=1))
    assert recorder.asked[0] == (BASELINES[0], "baseline"), "the row blames no architecture"


def interrupt_at(count: int, error: BaseException) -> Evaluate:
    calls = [0]

    def evaluate(spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        calls[0] += 1
        if calls[0] == count:
            raise error
        return closed_form(spec, trial)

    return evaluate


@pytest.mark.parametrize(
    "error", [Interrupted(signal.SIGTERM), KeyboardInterrupt(), SystemExit(3), OSError("disk"), TypeError("a bug")]
)
def test_what_interrupts_the_run_is_no_fault_of_the_architecture_which_goes_first(
    study: optuna.Study, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        run(study, interrupt_at(5, error))
    (interrupted,) = [record for record in read_records(study) if record.state == "failed"]
    recorder = Recorder()

    run(study, budget=20, listener=recorder)

    assert interrupted.reason == INTERRUPTED
    assert not any(trial.state == TrialState.RUNNING for trial in study.trials)
    assert recorder.asked[0] == (interrupted.arch, "interrupted before")
    assert len(trained_archs(study)) == len(set(trained_archs(study))) == 20


def test_an_interrupted_baseline_goes_before_the_others(study: optuna.Study) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(study, interrupt_at(1, KeyboardInterrupt()))
    recorder = Recorder()

    run(study, budget=3, listener=recorder)

    assert [arch for arch, _ in recorder.asked[:2]] == list(BASELINES)
    assert read_records(study)[1].baseline


def die_with(study: optuna.Study, arch: str, folder: Path, *, before: int = 0, done: int = 0) -> None:
    """Leave a trial RUNNING and a lock behind, as a killed process does."""
    stage = make_stage()
    trial = begin_trial(study, "someone", stage.space.genome(decode(arch)))
    stage.space.suggest(trial)
    store_attrs(trial, {"arch": arch, "epochs_before": before, "epochs_done": done})
    (folder / "someone.lock").touch()


def test_a_trial_of_a_dead_process_is_tried_again_first(study: optuna.Study, tmp_path: Path) -> None:
    die_with(study, BASELINES[1], tmp_path)
    recorder = Recorder()

    run(study, budget=3, listener=recorder, folder=tmp_path)

    first = read_records(study)[0]
    assert (first.state, first.reason, first.killed) == ("failed", INTERRUPTED, True)
    assert recorder.notes == [f"trial 0 ({BASELINES[1]}): its process died; interrupted"]
    assert recorder.asked[0] == (BASELINES[1], "interrupted before")


def test_an_architecture_that_killed_twice_is_given_up(study: optuna.Study, tmp_path: Path) -> None:
    recorder = Recorder()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(study, interrupt_at(1, KeyboardInterrupt()), listener=recorder, folder=tmp_path)
        die_with(study, BASELINES[1], tmp_path)

    run(study, budget=5, listener=recorder, folder=tmp_path)

    killed = [record for record in read_records(study) if record.arch == BASELINES[1]]
    assert [record.reason for record in killed if record.killed] == [INTERRUPTED, KILLED_TWICE]
    assert BASELINES[1] not in trained_archs(study)
    assert len(trained_archs(study)) == 5


@pytest.mark.parametrize(("before", "given_up"), [(0, False), (1, True)], ids=["it finished it", "earlier ones did"])
def test_only_an_attempt_that_finished_an_epoch_of_its_own_does_not_count(
    study: optuna.Study, tmp_path: Path, before: int, given_up: bool
) -> None:
    for _ in range(2):
        die_with(study, BASELINES[1], tmp_path, before=before, done=1)
    recorder = Recorder()

    run(study, budget=5, listener=recorder, folder=tmp_path)

    assert (recorder.asked[0][0] == BASELINES[1]) != given_up
    assert (BASELINES[1] in trained_archs(study)) != given_up


def test_an_end_that_could_not_be_stored_is_no_kill(study: optuna.Study, tmp_path: Path) -> None:
    for _ in range(3):
        die_with(study, BASELINES[1], tmp_path)
    (tmp_path / "someone.lock").unlink()  # whoever ends in order takes it away
    recorder = Recorder()

    run(study, budget=3, listener=recorder, folder=tmp_path)

    assert recorder.notes[0] == f"trial 0 ({BASELINES[1]}): its end could not be stored; interrupted"
    assert BASELINES[1] in trained_archs(study)


def test_a_stop_request_ends_it_between_trials(study: optuna.Study) -> None:
    stop = StopRequest()
    with stop.listening():
        signal.raise_signal(signal.SIGTERM)
        with registered() as crew, pytest.raises(Interrupted, match="stopped by SIGTERM"):
            search(study, make_stage(), closed_form, budget=5, crew=crew, listener=Listener(), stop=stop)
    assert study.trials == []


def test_a_second_signal_stops_at_once() -> None:
    with StopRequest().listening():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_restart_does_not_replay_the_same_architectures() -> None:
    first, second = make_study(seed=3), make_study(seed=3, num_trials=10)
    stage = make_stage(baselines=())
    run(first, budget=10, stage=stage)
    run(second, budget=10, stage=stage)
    again = make_study(seed=3)
    run(again, budget=10, stage=stage)

    assert trained_archs(again) == trained_archs(first)
    assert len(set(trained_archs(first)) & set(trained_archs(second))) <= 2


def test_whether_a_trial_is_on_the_front_is_told_as_it_ends(study: optuna.Study) -> None:
    recorder = Recorder()

    run(study, budget=6, listener=recorder)

    assert recorder.ended[0][1], "the first trial is on the front"
    last, on_front = recorder.ended[-1]
    assert on_front == (last.number in [record.number for record in pareto_front(read_records(study))])


@pytest.mark.slow
def test_it_beats_random_search_at_the_same_number_of_unique_evaluations() -> None:
    budget, seeds = 80, 20
    stage, reference = make_stage(baselines=()), (60.0, 0.0)
    ours, random = [], []
    for seed in range(seeds):
        study = make_study(seed=seed, population=10)
        run(study, budget=budget, stage=stage)
        ours.append(hypervolume([(r.latency_ms or 0, r.ap or 0) for r in read_records(study) if r.trained], reference))
        sampler = optuna.samplers.RandomSampler(seed=seed)
        blind = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
        seen: dict[str, tuple[float, float]] = {}
        while len(seen) < budget:
            trial = blind.ask()
            spec = stage.space.suggest(trial)
            evaluation = closed_form(spec, trial)
            seen[encode(spec)] = (evaluation.latency_ms, evaluation.ap)
            blind.tell(trial, [evaluation.latency_ms, evaluation.ap])
        random.append(hypervolume(list(seen.values()), reference))

    mean = sum(a - b for a, b in zip(ours, random, strict=True)) / seeds
    spread = (sum((a - b - mean) ** 2 for a, b in zip(ours, random, strict=True)) / (seeds - 1) / seeds) ** 0.5
    assert mean > 2 * spread, f"{mean:.4f} +- {spread:.4f}"


def test_every_architecture_of_the_space_is_reached_by_name() -> None:
    stage = make_stage(SPACE)
    assert stage.space.size == 4 * 3 * 4 * 2 * 2 * 3 * (1 + 3)


def test_each_training_stores_how_its_architecture_came_about() -> None:
    study = make_study(surrogate=True)
    first = [
        decode(arch)
        for arch in ("96x72.resnet18-w8.fpn-p2-p5-c32.none.retina", "64x48.resnet34-w8.fpn-p2-p5-c32.none.retina")
    ]
    stage = Stage(space=StructuralSearchSpace(SPACE), baselines=make_stage().baselines, first=first, population=4)

    run(study, budget=30, stage=stage)

    records = read_records(study)
    origins = [record.origin for record in records]
    assert origins[:4] == [BASELINE, BASELINE, FIRST, FIRST]
    assert origins[4:START] == [RANDOM] * (START - 4)
    assert set(origins[START:]) == {CHILD, RANDOM}
    assert {record.origin for record in records if record.ranked} == {CHILD, RANDOM}, "the surrogate ranks both"
    assert not any(record.ranked for record in records[:START])


def test_plain_nsgaii_breeds_children_and_draws_some() -> None:
    study = make_study()
    run(study, budget=40, stage=make_stage(baselines=()))

    origins = [record.origin for record in read_records(study)]
    assert origins[0] == RANDOM, "there are no parents yet"
    assert 4 <= origins.count(RANDOM) <= 20
    assert origins.count(CHILD) == 40 - origins.count(RANDOM)


def test_another_attempt_is_what_the_interrupted_one_was() -> None:
    study = make_study(surrogate=True)
    with pytest.raises(KeyboardInterrupt):
        run(study, interrupt_at(START + 8, KeyboardInterrupt()), budget=START + 8)
    *_, interrupted = read_records(study)

    run(study, budget=START + 8)

    *_, again = read_records(study)
    assert (again.arch, again.origin, again.ranked) == (interrupted.arch, interrupted.origin, interrupted.ranked)
    assert again.ranked, "so that the partial order leaves it alone again"


def test_repeats_from_another_study_end_a_search_that_learns_nothing_new() -> None:
    other, study = make_study(space=TINY), make_blind_study()
    run(other, budget=12, stage=make_stage(TINY, ()))
    stage = Stage(space=StructuralSearchSpace(TINY), other_trials=lambda: read_records(other))

    outcome = run(study, budget=1, stage=stage)

    assert outcome.reason == "asked for 20 architectures, 20 times the budget of 1; 0 are trained"
    for record in read_records(study):
        assert record.state == "pruned"
        assert record.attrs["cached_study"] == other.study_name
