"""Members of the front and baselines, trained again: with further seeds, for longer, and seen by images held out.

A search tells one training of each detector, of few epochs, and picks the best of many: some of what it picks was
lucky. What is trained here was picked before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from smnas_optuna.arch import decode, encode
from smnas_optuna.data import CocoDataset, DetectionLoader
from smnas_optuna.engine.checkpoint import remove_checkpoint, resume, save_checkpoint
from smnas_optuna.engine.device import explained_device_faults, explained_out_of_memory, library_versions
from smnas_optuna.engine.train import EpochReport, Training
from smnas_optuna.errors import DivergenceError, OutOfMemoryError
from smnas_optuna.models import Detector
from smnas_optuna.search.ground import Ground, other_versions, prepare
from smnas_optuna.search.interrupt import Interrupted, StopRequest
from smnas_optuna.search.listener import Listener, step_of
from smnas_optuna.search.locks import acquire
from smnas_optuna.search.objective import fitting_images, without_nan
from smnas_optuna.search.request import Request
from smnas_optuna.search.seed_runs import Key, Metrics, Results, SeedRun
from smnas_optuna.search.verification import RESULTS_FILE, VERIFY, VerifyRequest
from smnas_optuna.study.attributes import FINGERPRINT
from smnas_optuna.study.fingerprint import differences, refuse_differences
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import TrialRecord, read_records
from smnas_optuna.study.seeds import derive_seed
from smnas_optuna.study.storage import explained_disk_errors

RECIPE = ("train", "detector")
"""What of a study's recipe AP depends on."""
POLL_S = 0.5
"""A worker that has nothing to do looks so often whether another one has left something."""


def train_again(
    request: VerifyRequest,
    *,
    listener: Listener,
    stop: StopRequest,
    threads: int | None = None,
    lead: bool = True,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Train what is asked for and neither finished nor in another worker's hands; what is finished is kept.

    Args:
        request: What the user asks for; its architectures are trained ones of the study.
        listener: Told what happens; a training is told as a trial.
        stop: Asked at every step.
        threads: Of a CPU, to work with; see :func:`smnas_optuna.search.placement.adopt_threads`.
        lead: Whether it tells what there is to say of the study as a whole.
        on_ready: Called once data, device and results fit the study: other workers may start.

    Raises:
        SmnasError: If the data, the device or earlier results do not fit the study.
        DeviceFault: If the device can only be used by a new process.
        Interrupted: If asked to stop.
    """
    study_dir = request.study_dir
    with explained_disk_errors(study_dir):
        request.folder.mkdir(exist_ok=True)
        ground = prepare(
            Request(study_dir=study_dir, data_dir=request.data_dir, device=request.device), threads, listener, stop
        )
        about = _conditions(ground)
        versions = _check_studies(ground, about)
        results = Results.load(request.folder / RESULTS_FILE, about)
        if lead:
            for line in versions:
                listener.note(f"warning: {line}")
            if ground.bench.splits.test is None:
                listener.note("no test images ([data] test in study.toml): AP is on the validation images alone")
        on_ready()
        _train_all(ground, results, request)


def seed_of(arch: str, number: int, searched: int | None) -> int:
    """The seed of an architecture's training ``number``, from 1; never ``searched``, that of the search."""
    seed = derive_seed(VERIFY, number, arch)
    return seed if seed != searched else derive_seed(VERIFY, number, arch, "another")


def _train_all(ground: Ground, results: Results, request: VerifyRequest) -> None:
    searched = [
        record for study in StudyFolder(ground.study_dir).studies for record in read_records(study) if record.trained
    ]
    record_of = {str(record.arch): record for record in searched}
    wanted = request.wanted(ground.settings.train.epochs)
    for key in wanted:
        if key in results.runs:
            remove_checkpoint(_checkpoint(ground.study_dir, key))  # of a process that died before it could
    given_up = set[Key]()
    while left := [key for key in wanted if key not in results.runs and key not in given_up]:
        idle = True
        for key in left:
            with _claimed(_checkpoint(ground.study_dir, key)) as mine:
                if mine:
                    idle = False
                    _train_one(ground, results, wanted, key, record_of[key[0]])
                    given_up |= {key} - results.runs.keys()
        if idle:  # others are at all of it; if they die or run out of memory somebody has to finish it
            ground.stop.check()
            time.sleep(POLL_S)
        results.refresh()


def _train_one(ground: Ground, results: Results, wanted: Sequence[Key], key: Key, record: TrialRecord) -> None:
    """Train ``key`` unless another worker has finished it."""
    results.refresh()
    if key in results.runs:
        return
    number, budget = wanted.index(key) + 1, len(wanted)
    done, why = sum(each in results.runs for each in wanted), f"seed {key[1]} of {wanted[-1][1]}"
    ground.listener.trial_started(number, key[0], why=why, done=done, budget=budget)
    begin = time.perf_counter()
    ended = replace(_ended(ground, results, key, record), number=number)
    seconds, done = time.perf_counter() - begin, sum(each in results.runs for each in wanted)
    ground.listener.trial_ended(ended, on_front=False, seconds=seconds, done=done, budget=budget)


def _ended(ground: Ground, results: Results, key: Key, record: TrialRecord) -> TrialRecord:
    """Train ``key`` and keep what came out; return the search's ``record`` of its architecture with that."""
    try:
        run = _train(ground, key, record.attrs.get("seed"))
    except OutOfMemoryError as error:  # there may be more of it next time
        return replace(record, state="failed", reason=error.message, latency_ms=None)
    results.add(run)
    remove_checkpoint(_checkpoint(ground.study_dir, key))
    if run.failed is not None:
        return replace(record, ap=run.ap, state="failed", reason=run.failed)
    return replace(record, ap=run.ap)


def _train(ground: Ground, key: Key, searched: int | None) -> SeedRun:
    """A finished training, or one that diverged; its seed is not that of the search.

    Raises:
        OutOfMemoryError: If memory does not suffice.
        DeviceFault: If the GPU failed, and this process can use it no more.
        Interrupted: If asked to stop; what was trained is kept, and gone on with.
    """
    arch, number, epochs = key
    seed = seed_of(arch, number, searched)
    bench, begin = ground.bench, time.perf_counter()
    metrics = test_metrics = failed = None
    try:
        with bench.quiet.working(ground.stop.check), explained_device_faults(bench.device), explained_out_of_memory():
            metrics, test_metrics = _train_and_evaluate(ground, key, seed)
    except DivergenceError as error:
        failed = error.message
    return SeedRun(
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


def _train_and_evaluate(ground: Ground, key: Key, seed: int) -> tuple[Metrics, Metrics | None]:
    """COCO's metrics on the validation and the test images; goes on with what an earlier attempt has stored."""
    bench, listener, spec = ground.bench, ground.listener, decode(key[0])
    recipe = bench.settings.train.model_copy(update={"epochs": key[2]})
    checkpoint = _checkpoint(bench.study_dir, key)
    depends_on = {"run": list(key), "seed": seed, **_conditions(ground)}
    detector = bench.build(spec, seed)
    training = Training(
        detector,
        bench.train_batches(spec.input_size, seed),
        recipe,
        seed=seed,
        micro_batch=fitting_images(bench, detector, spec),
        note=listener.note,
    )
    if resume(checkpoint, training, depends_on, listener.note):
        listener.note(f"{key[0]}: goes on after epoch {training.epochs_done}, step {training.step} of the next")

    def on_epoch(report: EpochReport) -> None:
        # First of all: an epoch that is told has been kept, and will not be told again.
        save_checkpoint(checkpoint, training.state(), depends_on)
        listener.epoch(report)

    try:
        training.run(on_step=step_of("train", listener, ground.stop, bench.quiet), on_epoch=on_epoch)
    except Interrupted:
        save_checkpoint(checkpoint, training.state(), depends_on)
        raise
    metrics = _evaluate(ground, detector, bench.splits.val, bench.val_batches(spec.input_size))
    test = bench.splits.test
    if test is None:
        return metrics, None
    return metrics, _evaluate(ground, detector, test, bench.test_batches(spec.input_size))


def _evaluate(ground: Ground, detector: Detector, images: CocoDataset, batches: DetectionLoader) -> Metrics:
    on_step = step_of("evaluate", ground.listener, ground.stop, ground.bench.quiet)
    return without_nan(ground.bench.evaluate(detector, images, batches, on_step, ground.listener.note))


def _checkpoint(study_dir: Path, key: Key) -> Path:
    arch, number, epochs = key
    # a name from a database must not lead out of the folder
    return study_dir / VERIFY / f"{encode(decode(arch))}.seed{number}.epochs{epochs}.safetensors"


def _conditions(ground: Ground) -> dict[str, Any]:
    """What AP depends on, beside architecture, seed and epochs: the study's fingerprint, without the latencies'."""
    depends_on, splits = ground.depends_on, ground.bench.splits
    images = [] if splits.test is None else splits.test.images
    test = {"content": splits.test_hash, "images": len(images), "boxes": sum(len(image.boxes) for image in images)}
    return {
        "data": {**depends_on["data"], "test": test},
        "recipe": {name: depends_on["recipe"][name] for name in RECIPE},
        "device": depends_on["device"],
    }


def _check_studies(ground: Ground, about: Mapping[str, Any]) -> list[str]:
    """Check that the search's numbers and those to come depend on the same; return what differs of the libraries."""
    versions = dict[str, None]()
    now = {**about, "data": {name: value for name, value in about["data"].items() if name != "test"}}
    for study in StudyFolder(ground.study_dir).studies:
        stored = study.user_attrs.get(FINGERPRINT)
        if stored is None:
            continue
        recipe = {name: stored["recipe"].get(name) for name in RECIPE}
        refuse_differences(
            differences({"data": stored["data"], "recipe": recipe, "device": stored["device"]}, now),
            f"{ground.study_dir}: the study was made with other",
            fix="go back to what it was: a longer training is --epochs, and another device has another study",
        )
        versions |= dict.fromkeys(other_versions(study))
    return list(versions)


@contextmanager
def _claimed(checkpoint: Path) -> Iterator[bool]:
    """Be the only worker at the training of ``checkpoint`` while the body runs, or learn that another one is.

    The operating system frees a claim when its process dies. Whoever has one looks into the results before it trains:
    the file may be taken away, and a new one be claimed, while somebody waits for the old one.
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
