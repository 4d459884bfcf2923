"""Front members and baselines, retrained with new seeds for more epochs, and evaluated on test images too.

A search trains each detector once, for few epochs, and picks the best of many, so some of its picks were lucky. The
detectors that are retrained here were picked before.

All are trained with one recipe, because only then do their APs compare: that of stage 2, where ``[modular.train]``
gives it one, also for baselines and members of the front of stage 1.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from smnas_optuna.arch import decode, encode
from smnas_optuna.engine.checkpoint import remove_checkpoint, save_weights
from smnas_optuna.engine.device import explained_device_faults, explained_out_of_memory, library_versions
from smnas_optuna.engine.train import EpochReport
from smnas_optuna.errors import DivergenceError, KilledError, OutOfMemoryError
from smnas_optuna.models import Detector
from smnas_optuna.session.description import describe_detector
from smnas_optuna.session.executor import Images, Job, Watch
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import Session, other_versions, prepare
from smnas_optuna.session.remote import STOPWATCH
from smnas_optuna.session.workforce import Alone, Workforce
from smnas_optuna.session.workload import Workers
from smnas_optuna.study.attributes import FINGERPRINT, json_values
from smnas_optuna.study.fingerprint import differences, refuse_differences
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import TrialRecord
from smnas_optuna.study.seeds import derive_seed
from smnas_optuna.study.storage import explained_disk_errors
from smnas_optuna.study.stored import study_attrs
from smnas_optuna.verify.forecast import seconds_of, time_line
from smnas_optuna.verify.request import VerifyRequest
from smnas_optuna.verify.results import Key, Metrics, Results, SeedRun
from smnas_optuna.verify.verification import RESULTS_FILE
from smnas_optuna.verify.weights import is_best, remove_all_but_best, weights_folder
from smnas_optuna.workers.interrupt import StopRequest, TimeUp
from smnas_optuna.workers.locks import acquire

RECIPE = ("train", "detector")
"""Parts of a study's recipe that AP depends on."""
POLL_S = 0.5
"""Interval at which a worker without work looks whether another worker has given up a training."""


def retrain(
    request: VerifyRequest,
    *,
    listener: Listener,
    stop: StopRequest,
    threads: int | None = None,
    workers: int = 1,
    lead: bool = True,
    begun: float | None = None,
    on_ready: Callable[[], None] = lambda: None,
    workforce: Workforce | None = None,
) -> None:
    """Run all requested trainings that are not finished and that no other worker is running; finished ones are kept.

    Args:
        request: The user's request; its architectures are trained ones of the study.
        listener: Receives reports; a training is reported as a trial.
        stop: Checked at every step.
        threads: CPU threads to work with; see :func:`smnas_optuna.session.threads.adopt_threads`.
        workers: Number of workers that start together.
        lead: True if it reports what concerns the study as a whole.
        begun: Value of ``time.perf_counter()`` when this process began, for the forecast; by default now.
        on_ready: Called once data, device and results fit the study: other workers may start.
        workforce: Who asks for the trainings in this process; by default it alone.

    With a deadline no training is begun that is expected to end later. One that is longer than expected is stopped at
    the latest then, and keeps its checkpoint.

    Raises:
        SmnasError: If the data, the device or earlier results do not fit the study.
        DeviceFault: If the device can only be used by a new process.
        Interrupted: If asked to stop.
    """
    begun = time.perf_counter() if begun is None else begun
    folder, workforce = StudyFolder(request.study_dir), workforce or Alone(0, listener)
    with explained_disk_errors(folder.path):
        folder.verify.mkdir(exist_ok=True)
        session = prepare(
            folder,
            listener=listener,
            stop=stop,
            data_dir=request.data_dir,
            device=request.device,
            threads=threads,
            stage="modular",
            times=False,
            workers=workers,
        )
        session = workforce.equip(session)
        about = _conditions(session)
        versions = _check_studies(session, about)
        results = Results.load(folder.verify / RESULTS_FILE, about)
        if lead:
            for line in versions:
                listener.note(f"warning: {line}")
            if session.testbed.splits.test is None:
                listener.note("no test images ([data] test in study.toml): AP is on the validation images alone")
            _forecast(session, results, request, Workers(count=workers, start_s=time.perf_counter() - begun))
        on_ready()

        def one(_: int, listener: Listener) -> None:
            _train_all(replace(session, listener=listener), results, request)

        try:
            with stop.no_later_than(None if request.deadline is None else request.deadline.latest):
                workforce.run(one)
        except TimeUp as up:
            listener.note(f"{up}: the training is stored, and goes on with the next verification")


def seed_of(arch: str, number: int, searched: int | None) -> int:
    """Return the seed of an architecture's training ``number``, from 1; never ``searched``, that of the search."""
    seed = derive_seed("verify", number, arch)
    return seed if seed != searched else derive_seed("verify", number, arch, "another")


def _forecast(session: Session, results: Results, request: VerifyRequest, workers: Workers) -> None:
    """Report the likely time of what is left."""
    wanted = request.wanted(session.settings.train.epochs)
    left = [key for key in wanted if key not in results.runs]
    line = time_line(left, session.folder.records(), workers, evaluated=_evaluated(session))
    if line is not None:
        session.listener.note(line)


def _evaluated(session: Session) -> float:
    """Return the number of images that are evaluated after a training, as a multiple of the validation images."""
    splits = session.testbed.splits
    return 1.0 if splits.test is None else 1 + len(splits.test.images) / len(splits.val.images)


def _expected_s(session: Session, request: VerifyRequest, results: Results, left: Sequence[Key]) -> Mapping[Key, float]:
    """Return the seconds that the trainings ``left`` are expected to take; 0 if that is not known, or not asked for."""
    expected = None
    if request.deadline is not None:
        expected = seconds_of(left, session.folder.records(), results.runs.values(), evaluated=_evaluated(session))
    return dict.fromkeys(left, 0.0) if expected is None else expected


def _is_too_long(request: VerifyRequest, seconds: float) -> bool:
    """Return whether a training of so many seconds is not expected to end before the deadline."""
    return request.deadline is not None and seconds > request.deadline.at - time.time()


def _train_all(session: Session, results: Results, request: VerifyRequest) -> None:
    record_of = {str(record.arch): record for record in session.folder.records() if record.trained}
    wanted = request.wanted(session.settings.train.epochs)
    for key in wanted:
        if key in results.runs:
            remove_checkpoint(_checkpoint(session, key))  # of a process that died before it could
    remove_all_but_best(session.folder.verify, results.runs)
    given_up = set[Key]()
    while left := [key for key in wanted if key not in results.runs and key not in given_up]:
        idle = True
        expected_s = _expected_s(session, request, results, left)
        for key in left:
            if _is_too_long(request, expected_s[key]):
                given_up.add(key)
                idle = False
                continue
            with _claimed(_checkpoint(session, key)) as mine:
                if mine:
                    idle = False
                    _train_one(session, results, wanted, key, record_of[key[0]])
                    expected_s = _expected_s(session, request, results, left)
                    given_up |= {key} - results.runs.keys()
        if idle:  # other workers have all of it; if they die or run out of memory, this one has to finish it
            session.stop.check()
            session.executor.wait(POLL_S)
        results.refresh()


def _train_one(session: Session, results: Results, wanted: Sequence[Key], key: Key, record: TrialRecord) -> None:
    """Run the training ``key`` unless another worker has finished it."""
    results.refresh()
    if key in results.runs:
        return
    number, budget = wanted.index(key) + 1, len(wanted)
    done, why = sum(each in results.runs for each in wanted), f"seed {key[1]} of {wanted[-1][1]}"
    session.listener.trial_started(number, key[0], why=why, done=done, budget=budget)
    begin = time.perf_counter()
    ended = replace(_train_and_store(session, results, key, record), number=number)
    seconds, done = time.perf_counter() - begin, sum(each in results.runs for each in wanted)
    session.listener.trial_ended(ended, on_front=False, seconds=seconds, done=done, budget=budget)


def _train_and_store(session: Session, results: Results, key: Key, record: TrialRecord) -> TrialRecord:
    """Run the training ``key`` and store its result; return the search's ``record`` with that result.

    The weights of the best training of each architecture are kept. They are stored before the result: a process that
    dies in between evaluates the training again, from its last checkpoint, and stores both.
    """
    try:
        run, detector = _seed_run(session, key, record.attrs.get("seed"))
    except OutOfMemoryError as error:  # there may be more memory next time
        return replace(record, state="failed", reason=error.message, latency_ms=None)
    verify = session.folder.verify
    results.refresh()
    if detector is not None and is_best(verify, key, run.ap or 0.0, results.runs):
        kept = session.folder.make(weights_folder(verify, key))
        save_weights(kept, detector, _description(session, run, record))
    results.add(run)
    remove_checkpoint(_checkpoint(session, key))
    remove_all_but_best(verify, results.runs)
    record = replace(record, ap=run.ap, attrs={**record.attrs, "metrics": run.metrics})
    return record if run.failed is None else replace(record, state="failed", reason=run.failed)


def _description(session: Session, run: SeedRun, record: TrialRecord) -> dict[str, Any]:
    """Return the description of a trained detector, with the latency that the search measured, and where it did."""
    results = {name: getattr(run, name) for name in ("number", "seed", "epochs", "metrics", "test_metrics")}
    measured = {"latency_ms": record.latency_ms, "latency": record.attrs.get("latency")}
    if session.testbed.begun_with is not None:  # a stopwatch is elsewhere, and this process does without it
        measured["device"] = dict(session.testbed.begun_with)
    return describe_detector(session.testbed, run.arch, {**results, **measured})


def _seed_run(session: Session, key: Key, searched: int | None) -> tuple[SeedRun, Detector | None]:
    """Return a finished training and its detector, or one that diverged; its seed is not that of the search.

    Raises:
        OutOfMemoryError: If memory does not suffice.
        DeviceFault: If the GPU failed, and this process cannot use it any more.
        Interrupted: If asked to stop; the training is stored, and resumed later.
    """
    arch, number, epochs = key
    seed = seed_of(arch, number, searched)
    testbed, begin = session.testbed, time.perf_counter()
    detector = metrics = test_metrics = failed = None
    try:
        with (
            testbed.measurement_lock.running(session.stop.check),
            explained_device_faults(testbed.device),
            explained_out_of_memory(),
        ):
            detector, metrics, test_metrics = _train_and_evaluate(session, key, seed)
    except (DivergenceError, KilledError) as error:
        failed = error.message
    run = SeedRun(
        arch=arch,
        number=number,
        seed=seed,
        epochs=epochs,
        metrics=metrics,
        test_metrics=test_metrics,
        failed=failed,
        seconds=round(time.perf_counter() - begin, 3),
        versions=library_versions(),
    )
    return run, detector


def _train_and_evaluate(session: Session, key: Key, seed: int) -> tuple[Detector, Metrics, Metrics | None]:
    """Return a trained detector and COCO's metrics on the validation and the test images.

    What an earlier attempt has stored is resumed.
    """
    images: tuple[Images, ...] = ("val",) if session.testbed.splits.test is None else ("val", "test")
    job = Job(
        spec=decode(key[0]),
        seed=seed,
        recipe=session.settings.train.model_copy(update={"epochs": key[2]}),
        checkpoint=_checkpoint(session, key),
        key={"run": list(key), "seed": seed, **_conditions(session)},
        make_folder=lambda: session.folder.make(session.folder.verify),
        images=images,
    )
    trained = session.executor.train(job, _SeedWatch(session))
    metrics = {name: json_values(each) for name, each in trained.metrics.items()}
    return trained.detector, metrics["val"], metrics.get("test")


class _SeedWatch(Watch):
    """Reports a training to the listener of the session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def note(self, line: str) -> None:
        self._session.listener.note(line)

    def step(self, phase: str, done: int, total: int) -> None:
        self._session.step(phase)(done, total)

    def epoch(self, report: EpochReport) -> None:
        self._session.listener.epoch(report)


def _checkpoint(session: Session, key: Key) -> Path:
    arch, number, epochs = key
    # a name from a database must not lead out of the folder
    return session.folder.verify / f"{encode(decode(arch))}.seed{number}.epochs{epochs}.safetensors"


def _conditions(session: Session) -> dict[str, Any]:
    """Return what AP depends on beside architecture, seed and epochs: the fingerprint without that of latencies."""
    depends_on, splits = session.depends_on, session.testbed.splits
    images = [] if splits.test is None else splits.test.images
    test = {"content": splits.test_hash, "images": len(images), "boxes": sum(len(image.boxes) for image in images)}
    return {
        "data": {**depends_on["data"], "test": test},
        "recipe": {name: depends_on["recipe"][name] for name in RECIPE},
        "device": depends_on["device"],
    }


def _check_studies(session: Session, about: Mapping[str, Any]) -> list[str]:
    """Check that the search's numbers depend on what they depended on; return the libraries that changed.

    The recipe of each study is that of its stage.
    """
    versions = dict[str, None]()
    data = {name: value for name, value in about["data"].items() if name != "test"}
    for study in session.folder.studies:
        stored = study_attrs(study).get(FINGERPRINT)
        if stored is None:
            continue
        recipe = {name: stored.get("recipe", {}).get(name) for name in RECIPE}
        now_recipe = session.depends_on_of(study)["recipe"]
        now = {**about, "data": data, "recipe": {name: now_recipe[name] for name in RECIPE}}
        was = {"data": stored.get("data"), "recipe": recipe, "device": stored.get("device")}
        if (stored.get("device") or {}).get("kind") == STOPWATCH:  # it has timed, and trained nothing
            del was["device"], now["device"]
        refuse_differences(
            differences(was, now),
            f"{session.folder.path}: the study was made with other",
            fix="go back to what it was: a longer training is --epochs, and another device has another study",
        )
        versions |= dict.fromkeys(other_versions(study))
    return list(versions)


@contextmanager
def _claimed(checkpoint: Path) -> Iterator[bool]:
    """Claim the training of ``checkpoint`` while the body runs; yield False if another worker has claimed it.

    No sampler is involved, so no database is needed: one lock file for each training is enough. The operating system
    frees a claim when its process dies. A worker with a claim reads the results before it trains: the file may be
    removed, and a new one be claimed, while another worker waits for the old one.
    """
    file = checkpoint.with_suffix(".lock")
    lock = acquire(file)
    if lock is None:
        yield False
        return
    try:
        yield True
        if not checkpoint.exists():
            file.unlink(missing_ok=True)
    finally:
        lock.release()
