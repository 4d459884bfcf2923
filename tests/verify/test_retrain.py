from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from filelock import FileLock

from smnas_optuna import load_detector
from smnas_optuna.arch import decode
from smnas_optuna.errors import OutOfMemoryError, StudyError
from smnas_optuna.models import Detector
from smnas_optuna.session import resumable as resumable_module
from smnas_optuna.session.deadline import Deadline
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import prepare
from smnas_optuna.study.attributes import json_values
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.pareto import pareto_front
from smnas_optuna.study.record import TrialRecord, read_records
from smnas_optuna.study.seeds import derive_seed
from smnas_optuna.verify.request import VerifyRequest
from smnas_optuna.verify.results import Results, SeedRun
from smnas_optuna.verify.retrain import _description, retrain, seed_of
from smnas_optuna.verify.verdict import Candidate
from smnas_optuna.verify.verification import (
    Verification,
    candidates_of,
    collect,
    describe_work,
    verifying,
)
from smnas_optuna.workers.interrupt import Interrupted, StopRequest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("enough_memory")]  # trains detectors
SMALL, LARGE = "32x32.resnet18-w4.fpn-p3-p5-c8.none.retina", "32x32.resnet18-w4.fpn-p2-p5-c8.rpn.fc-w16"


class Hears(Listener):
    """Keeps what is told; asks to stop after so many steps of training."""

    def __init__(self, stop: StopRequest | None = None, steps: int = -1) -> None:
        self.stop, self.steps, self.step_count = stop or StopRequest(), steps, 0
        self.started: list[str] = []
        self.ended: list[TrialRecord] = []
        self.notes: list[str] = []
        self.counts: list[tuple[int, int]] = []

    def trial_started(self, number: int, arch: str, *, why: str, done: int, budget: int) -> None:
        self.started.append(f"{number} {'small' if arch == SMALL else 'large'} {why}")

    def step(self, phase: str, done: int, total: int) -> None:
        self.step_count += phase == "train"
        if phase == "train" and self.step_count == self.steps:
            self.stop.ask(15)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def trial_ended(self, record: TrialRecord, *, on_front: bool, seconds: float, done: int, budget: int) -> None:
        self.ended.append(record)
        self.counts.append((done, budget))


@pytest.fixture
def searched(drawn_dir: Path) -> Path:
    """A study whose search has found SMALL, LARGE, and nothing else."""
    study = StudyFolder(drawn_dir).create("structural", optuna.samplers.RandomSampler())
    for arch, values in ((SMALL, (1.0, 0.1)), (LARGE, (2.0, 0.2))):
        attrs = {"arch": arch, "seed": derive_seed(0, arch), "baseline": True}
        trial = optuna.trial.create_trial(values=values, user_attrs=attrs)
        study.add_trial(trial)
    return drawn_dir


def candidates(study_dir: Path, *archs: str) -> list[Candidate]:
    records = read_records(StudyFolder(study_dir).load("structural"))
    found = candidates_of(study_dir, pareto_front(records), records, (3.0, 0.0), top=5)
    return [each for each in found if not archs or each.arch in archs]


def asked(study_dir: Path, *archs: str, seeds: int = 1, epochs: int | None = 1) -> VerifyRequest:
    wanted = [each.arch for each in candidates(study_dir, *archs)]
    return VerifyRequest(study_dir=study_dir, archs=wanted, seeds=seeds, epochs=epochs, device="cpu")


def report(request: VerifyRequest) -> Verification:
    found = collect(request, candidates(request.study_dir, *request.archs))
    assert found is not None
    return found


def run(
    study_dir: Path, *archs: str, seeds: int = 1, epochs: int | None = 1, listener: Hears | None = None
) -> Verification:
    hears, request = listener or Hears(), asked(study_dir, *archs, seeds=seeds, epochs=epochs)
    retrain(request, listener=hears, stop=hears.stop)
    return report(request)


@pytest.mark.parametrize(("ends_in_s", "trained"), [(-1.0, 0), (1e6, 2)])
def test_a_training_begins_only_if_it_can_end_in_time(searched: Path, ends_in_s: float, trained: int) -> None:
    now, hears = time.time(), Hears()
    deadline = Deadline(at=now + ends_in_s, latest=now + 1e6, end=now + 1e6, total_s=1e6)

    retrain(replace(asked(searched), deadline=deadline), listener=hears, stop=hears.stop)

    assert len(hears.ended) == trained


def test_a_verification_stops_when_its_time_is_up_and_keeps_what_it_has_begun(searched: Path) -> None:
    now, hears = time.time(), Hears()
    deadline = Deadline(at=now + 1e6, latest=now - 1, end=now + 1e6, total_s=1e6)

    retrain(replace(asked(searched), deadline=deadline), listener=hears, stop=hears.stop)

    assert hears.ended == []
    assert hears.notes[-1] == "its time is up: the training is stored, and goes on with the next verification"


def checkpoints(study_dir: Path) -> Sequence[Path]:
    return sorted((study_dir / "verify").glob("*.safetensors"))


def aps(verification: Verification) -> dict[tuple[str, int, int], float | None]:
    return {each.key: each.ap for each in verification.runs}


def test_all_get_their_first_seed_before_any_gets_its_second_and_nothing_is_trained_twice(searched: Path) -> None:
    first, again, more = Hears(), Hears(), Hears()

    verification = run(searched, seeds=2, listener=first)

    assert first.started == [
        "1 small seed 1 of 2",
        "2 large seed 1 of 2",
        "3 small seed 2 of 2",
        "4 large seed 2 of 2",
    ]
    assert first.counts == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [record.ap for record in first.ended] == list(aps(verification).values())
    assert [record.latency_ms for record in first.ended] == [1.0, 2.0, 1.0, 2.0]
    assert first.notes[-1] == "no test images ([data] test in study.toml): AP is on the validation images alone"
    assert (verification.epochs, verification.search_epochs, verification.has_test) == (1, 2, False)
    assert [len(each.aps) for each in verification.verdict.verified] == [2, 2]
    assert checkpoints(searched) == []

    assert run(searched, seeds=2, listener=again).runs == verification.runs
    assert again.started == []
    assert list(aps(run(searched, SMALL, seeds=3, listener=more))) == [(SMALL, number, 1) for number in (1, 2, 3)]
    assert more.started == ["3 small seed 3 of 3"]
    stored = json.loads((searched / "verify" / "results.json").read_text())
    assert len({each["seed"] for each in stored["runs"]}) == len(stored["runs"]) == 5


class Elsewhere(Hears):
    """Another worker is at SMALL's first training, until this one has trained something."""

    def __init__(self, study_dir: Path, *, finishes: SeedRun | None) -> None:
        super().__init__()
        self._file, self._finishes = study_dir / "verify" / "results.json", finishes
        self._file.parent.mkdir(exist_ok=True)
        self._claim = FileLock(self._file.with_name(f"{SMALL}.seed1.epochs1.lock"))
        self._claim.acquire()

    def trial_ended(self, record: TrialRecord, *, on_front: bool, seconds: float, done: int, budget: int) -> None:
        super().trial_ended(record, on_front=on_front, seconds=seconds, done=done, budget=budget)
        if self._claim.is_locked:
            if self._finishes is not None:
                Results.load(self._file, json.loads(self._file.read_text())["about"]).add(self._finishes)
            self._claim.release()


def test_what_another_worker_trains_is_left_to_it(searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched, tmp_path / "other")
    (theirs,) = run(tmp_path / "other", SMALL).runs
    hears = Elsewhere(searched, finishes=theirs)

    verification = run(searched, listener=hears)

    assert hears.started == ["2 large seed 1 of 1"]
    assert [each.arch for each in verification.runs] == [SMALL, LARGE]
    assert verification.runs[0] == theirs


def test_what_another_worker_did_not_finish_is_trained_after_all(searched: Path) -> None:
    hears = Elsewhere(searched, finishes=None)

    verification = run(searched, listener=hears)

    assert hears.started == ["2 large seed 1 of 1", "1 small seed 1 of 1"]
    assert [each.arch for each in verification.runs] == [SMALL, LARGE]
    assert [file.name for file in (searched / "verify").glob("*.seed*")] == [], "no claim is left"


def test_twice_the_studys_epochs_are_trained_by_default(searched: Path) -> None:
    verification = run(searched, SMALL, epochs=None)

    assert (verification.epochs, verification.search_epochs) == (4, 2)


def test_what_is_left_and_its_time_are_told_by_the_searchs_own_trainings(searched: Path) -> None:
    request = asked(searched, seeds=3, epochs=2)
    assert describe_work(request) == "6 trainings of 2 epochs each"
    assert describe_work(asked(searched, SMALL)) == "1 training of 1 epoch"
    hears = Hears()
    run(searched, LARGE, seeds=2, epochs=2, listener=hears)
    assert describe_work(request) == "4 trainings of 2 epochs each, 2 are finished"
    assert not any("time: about" in note for note in hears.notes), "nothing to go by"

    study = StudyFolder(searched).load("structural")
    took = {"seconds": {"train": 4000.0, "evaluate": 10.0}, "epochs_before": 0, "epochs_done": 4}
    study.add_trial(optuna.trial.create_trial(values=(2.0, 0.2), user_attrs={"arch": LARGE, **took}))
    run(searched, seeds=3, epochs=2, listener=hears)

    assert describe_work(request) == "0 trainings of 2 epochs each, 6 are finished"
    # 4 trainings of 2 * 1000 s; then as many evaluations of 10 s, with those of the test images
    (line,) = [note for note in hears.notes if "time: about" in note]
    assert line == "time: about 2 h 14 min to the end, if an epoch takes as long as in the search"


def test_other_epochs_are_other_trainings_and_all_are_kept(searched: Path) -> None:
    short = run(searched, SMALL, epochs=1)
    long = run(searched, SMALL, epochs=2)

    assert [list(aps(each)) for each in (short, long)] == [[(SMALL, 1, 1)], [(SMALL, 1, 2)]]
    assert run(searched, SMALL, epochs=1).runs == short.runs


def weights(study_dir: Path) -> list[str]:
    return sorted(folder.name for folder in (study_dir / "verify" / "weights").iterdir())


def test_the_weights_of_the_best_training_are_kept_and_can_be_loaded(searched: Path) -> None:
    verification = run(searched, seeds=3)

    assert len(weights(searched)) == 2
    for each in verification.verdict.verified:
        best = max(
            (seed for seed in verification.runs if seed.arch == each.candidate.arch), key=lambda seed: seed.ap or 0
        )
        assert each.weights is not None
        assert (each.weights.number, each.weights.epochs, each.weights.ap) == (best.number, 1, best.ap)
        detector = load_detector(searched / each.weights.folder, device="cpu")
        assert detector.arch == each.candidate.arch
        assert detector.description["metrics"] == best.metrics
        assert (detector.description["seed"], detector.description["latency_ms"]) == (
            best.seed,
            each.candidate.latency_ms,
        )
        assert _evaluated(searched, detector.module, best.arch) == pytest.approx(best.metrics)


def test_weights_name_the_device_on_which_the_search_has_timed_them(searched: Path) -> None:
    session = prepare(StudyFolder(searched), listener=Listener(), stop=StopRequest(), device="cpu")
    stopwatch = {"kind": "stopwatch", "model": "a board", "threads": 4}
    session = replace(session, testbed=replace(session.testbed, begun_with=stopwatch))
    record, seed = read_records(StudyFolder(searched).load("structural"))[0], run(searched, SMALL).runs[0]

    assert _description(session, seed, record)["device"] == stopwatch


def _evaluated(study_dir: Path, detector: Detector, arch: str) -> dict[str, Any]:
    """COCO's metrics of ``detector`` on the validation images, as JSON values."""
    testbed = prepare(StudyFolder(study_dir), listener=Listener(), stop=StopRequest(), device="cpu").testbed
    return json_values(testbed.evaluate(detector, testbed.splits.val, testbed.val_batches(decode(arch).input_size)))


def test_killed_before_the_result_is_stored_it_has_the_same_weights_the_next_time(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(searched, tmp_path / "other")
    whole = run(tmp_path / "other", SMALL)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Results, "add", die)
    with pytest.raises(KeyboardInterrupt):
        run(searched, SMALL)
    monkeypatch.undo()
    assert len(weights(searched)) == len(checkpoints(searched)) == 1
    resumed, goes_on = Hears(), run(searched, SMALL)

    assert goes_on.runs[0].metrics == whole.runs[0].metrics
    assert weights(searched) == weights(tmp_path / "other") == [f"{SMALL}.seed1.epochs1"]
    assert checkpoints(searched) == []
    assert run(searched, SMALL, listener=resumed).runs == goes_on.runs
    assert resumed.started == []


def test_weights_that_another_training_surpasses_are_removed_by_the_next_run(searched: Path) -> None:
    run(searched, SMALL, seeds=2)
    (best,) = weights(searched)
    other = best.replace("seed1", "seed3").replace("seed2", "seed1").replace("seed3", "seed2")
    shutil.copytree(searched / "verify" / "weights" / best, searched / "verify" / "weights" / other)

    run(searched, SMALL, seeds=2)

    assert weights(searched) == [best]


def test_what_was_stopped_goes_on_to_the_same_numbers(searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched, tmp_path / "other")
    whole, stops, goes_on = run(tmp_path / "other", LARGE, epochs=2), Hears(steps=4), Hears()

    with pytest.raises(Interrupted):
        run(searched, LARGE, epochs=2, listener=stops)

    assert collect(asked(searched, LARGE, epochs=2), candidates(searched, LARGE)) is None
    assert [path.name for path in checkpoints(searched)] == [f"{LARGE}.seed1.epochs2.safetensors"]
    resumed = run(searched, LARGE, epochs=2, listener=goes_on)
    assert f"{LARGE}: resumes after epoch 1, step 2 of the next" in goes_on.notes
    assert resumed.runs[0].metrics == whole.runs[0].metrics
    assert checkpoints(searched) == []


def test_the_checkpoint_of_a_finished_training_is_removed_by_the_next_run(searched: Path) -> None:
    run(searched, SMALL)
    left = searched / "verify" / f"{SMALL}.seed1.epochs1.safetensors"
    left.touch()

    run(searched, SMALL)

    assert checkpoints(searched) == []


def test_asked_before_the_first_training_it_ends_with_nothing(searched: Path) -> None:
    hears = Hears()
    hears.stop.ask(15)

    with pytest.raises(Interrupted):
        run(searched, listener=hears)


@pytest.mark.parametrize("number", range(1, 4))
def test_the_searchs_seed_is_never_used(number: int) -> None:
    mine = seed_of(SMALL, number, None)

    assert seed_of(SMALL, number, derive_seed(0, SMALL)) == mine
    assert seed_of(SMALL, number, mine) != mine
    assert mine not in (seed_of(SMALL, number + 1, None), seed_of(LARGE, number, None))


def make_test_split(study_dir: Path) -> None:
    """Name other drawn images as test data."""
    from smnas_optuna.config import ShapesSettings
    from smnas_optuna.data.shapes import make_shapes

    settings = ShapesSettings(train_images=1, val_images=8, width=64, height=64, seed=1)
    make_shapes(study_dir / "test", settings)
    text = (study_dir / "study.toml").read_text()
    named = 'test = "../test/instances_val.json"\ntest_images = "../test/images"\n[data.shapes]'
    (study_dir / "study.toml").write_text(text.replace("[data.shapes]", named))


def test_test_images_are_evaluated_too(searched: Path) -> None:
    make_test_split(searched)
    hears = Hears()

    verification = run(searched, SMALL, listener=hears)

    (one,) = verification.runs
    assert one.metrics is not None
    assert one.test_metrics is not None
    assert one.metrics.keys() == one.test_metrics.keys()
    assert len(verification.verdict.verified[0].test_aps) == 1
    assert verification.about["data"]["test"]["images"] == 8
    assert not any("no test images" in note for note in hears.notes)


def test_results_without_the_test_images_are_not_mixed_with_others(searched: Path) -> None:
    before = run(searched, SMALL)
    make_test_split(searched)

    with pytest.raises(StudyError) as caught:
        run(searched, SMALL)

    message = str(caught.value)
    assert message.startswith(f"{searched}/verify/results.json: was made with other data; the numbers do not compare\n")
    assert "data.test.content was None, is " in message
    assert "data.test.images was 0, is 8" in message
    assert message.endswith(f"fix: go back to what it was, or move {searched}/verify away to begin again")
    assert not before.has_test


def test_a_study_of_other_data_is_refused_and_latency_settings_do_not_matter(searched: Path) -> None:
    about = run(searched, SMALL).about
    data = {name: value for name, value in about["data"].items() if name != "test"}
    recipe = {**about["recipe"], "latency": {"images": 99}}
    stored = {**about, "data": data, "recipe": recipe, "space": {}}
    StudyFolder(searched).load("structural").set_user_attr("fingerprint", stored)
    run(searched, SMALL)
    StudyFolder(searched).load("structural").set_user_attr("fingerprint", {**stored, "data": {**data, "content": "0f"}})

    with pytest.raises(StudyError) as caught:
        run(searched, SMALL)

    assert str(caught.value) == (
        f"{searched}: the study was made with other data; the numbers do not compare\n"
        f"  first: data.content was 0f, is {data['content']}\n"
        "  fix: go back to what it was: a longer training is --epochs, and another device has another study"
    )


def test_a_second_supervisor_is_refused(searched: Path) -> None:
    request = asked(searched, SMALL)
    with verifying(request), pytest.raises(StudyError) as caught, verifying(request):
        pass

    assert caught.value.message == f"{searched}: another process verifies this study"


def test_a_detector_that_finds_no_memory_is_left_for_the_next_time(
    searched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_large(_bench: object, _detector: object, spec: object) -> int:
        if "width=16" in str(spec):
            raise OutOfMemoryError("memory is full", fix="more")
        return 8

    monkeypatch.setattr(resumable_module, "fitting_images", refuse_large)
    hears = Hears()

    verification = run(searched, listener=hears)

    assert list(aps(verification)) == [(SMALL, 1, 1)]
    assert [(record.state, record.reason) for record in hears.ended] == [
        ("complete", None),
        ("failed", "memory is full"),
    ]
    assert hears.counts == [(1, 2), (1, 2)]
    monkeypatch.undo()
    assert list(aps(run(searched))) == [(SMALL, 1, 1), (LARGE, 1, 1)]


def test_a_training_that_diverges_is_kept_as_that(searched: Path) -> None:
    path = searched / "study.toml"
    path.write_text(path.read_text().replace("[train]", "[train]\nlearning_rate = 1e3\nclip_norm = 1e6"))
    hears = Hears()

    verification = run(searched, SMALL, epochs=30, listener=hears)

    (one,) = verification.runs
    assert one.metrics is None
    assert one.failed is not None
    assert (hears.ended[0].state, hears.ended[0].reason) == ("failed", one.failed)
    assert (verification.verdict.verified[0].failed, verification.verdict.verified[0].aps) == (1, ())
    assert run(searched, SMALL, epochs=30).runs == verification.runs


def test_a_study_that_has_trained_nothing_is_refused(study_dir: Path) -> None:
    study = StudyFolder(study_dir).create("structural", optuna.samplers.RandomSampler())
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL, user_attrs={"arch": SMALL}))

    with pytest.raises(StudyError) as caught:
        candidates(study_dir)

    assert str(caught.value) == (
        f"{study_dir}: there is no detector yet that could be trained again: of 1 trials 0 are trained, none is on "
        "the front or a baseline\n"
        f"  fix: search first, or with larger limits: smnas structural {study_dir} [--data DIR]"
    )


def test_all_are_trained_with_the_recipe_of_stage_2_and_each_stage_is_held_to_its_own(searched: Path) -> None:
    text = (searched / "study.toml").read_text()
    (searched / "study.toml").write_text(f"{text}\n[modular.train]\nepochs = 3\n")
    session = prepare(StudyFolder(searched), listener=Listener(), stop=StopRequest(), device="cpu")
    modular = StudyFolder(searched).create(f"modular/{LARGE}", optuna.samplers.RandomSampler())
    structural = StudyFolder(searched).load("structural")
    for study in (structural, modular):
        study.set_user_attr("fingerprint", {**session.depends_on_of(study), "space": {}})

    verification = run(searched, SMALL, epochs=None)

    assert (verification.epochs, verification.search_epochs) == (6, 3)
    assert verification.about["recipe"]["train"]["epochs"] == 3
    modular.set_user_attr("fingerprint", structural.user_attrs["fingerprint"])
    with pytest.raises(StudyError) as caught:
        run(searched, SMALL)
    assert caught.value.first == "recipe.train.epochs was 2, is 3"
