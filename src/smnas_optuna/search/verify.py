"""Members of the front and baselines, trained again: with further seeds, for longer, and seen by images held out.

A search tells one training of each detector, of few epochs, and picks the best of many: some of what it picks was
lucky. What is trained here was picked before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from smnas_optuna.arch import decode, encode
from smnas_optuna.config import load_settings
from smnas_optuna.data import CocoDataset, DetectionLoader
from smnas_optuna.engine.checkpoint import remove_checkpoint, resume, save_checkpoint
from smnas_optuna.engine.device import explained_device_faults, explained_out_of_memory, library_versions
from smnas_optuna.engine.train import EpochReport, Training
from smnas_optuna.errors import DivergenceError, OutOfMemoryError, StudyError
from smnas_optuna.models import Detector
from smnas_optuna.search.ground import Ground, other_versions, prepare
from smnas_optuna.search.interrupt import Interrupted, StopRequest
from smnas_optuna.search.listener import Listener, step_of
from smnas_optuna.search.objective import fitting_images, without_nan
from smnas_optuna.search.record import TrialRecord
from smnas_optuna.search.request import Request
from smnas_optuna.search.seed_runs import Metrics, Results, SeedRun, refuse_differences
from smnas_optuna.search.seeds import derive_seed
from smnas_optuna.search.storage import explained_disk_errors
from smnas_optuna.search.study import FINGERPRINT, all_studies, differences
from smnas_optuna.search.verdict import Candidate, Verdict, Verified, choose_candidates, judge

if TYPE_CHECKING:
    from smnas_optuna.engine.device import DeviceChoice

VERIFY = "verify"
"""Folder of the study folder that has the results, and a folder of unfinished trainings for each architecture."""
RESULTS_FILE, LOCK_FILE = "results.json", "verify.lock"
LONGER = 2
"""Times the study's epochs that are trained by default."""
RECIPE = ("train", "detector")
"""What of a study's recipe AP depends on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyRequest:
    """What a user asks for.

    Attributes:
        study_dir: Holds a study that has trained something, and gets the results.
        seeds: Trainings of each architecture.
        epochs: Of each training; ``LONGER`` times the study's by default.
        data_dir: The data; by default that of the last search, or ``study_dir/data``.
        device: Where to train.
    """

    study_dir: Path
    seeds: int = 3
    epochs: int | None = None
    data_dir: Path | None = None
    device: DeviceChoice = "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What is known when all is trained, or when it was stopped.

    Attributes:
        verdict: What it says.
        runs: The finished trainings of the candidates, with the seeds and epochs that were asked for.
        seeds: Trainings of each architecture that were asked for.
        epochs: Of each of them.
        search_epochs: Of a training in the search.
        about: What the results depend on, as JSON values: data, recipe, device.
        interrupted: What stopped it, if something did.
    """

    verdict: Verdict
    runs: Sequence[SeedRun]
    seeds: int
    epochs: int
    search_epochs: int
    about: Mapping[str, Any]
    interrupted: Interrupted | None

    @property
    def has_test(self) -> bool:
        """Whether the data has test images."""
        return self.about["data"]["test"]["content"] is not None


def candidates_of(
    study_dir: Path,
    front: Sequence[TrialRecord],
    records: Sequence[TrialRecord],
    reference: tuple[float, float],
    top: int,
) -> list[Candidate]:
    """What is trained again of a study: see :func:`smnas_optuna.search.verdict.choose_candidates`.

    Raises:
        SmnasError: If the settings cannot be read, or there is nothing yet.
    """
    candidates = choose_candidates(front, records, load_settings(study_dir).search.baselines, reference, top)
    if not candidates:
        raise StudyError(
            f"{study_dir}: there is no detector yet that could be trained again: of {len(records)} trials "
            f"{sum(record.trained for record in records)} are trained, none is on the front or a baseline",
            fix=f"search first, or with larger limits: smnas structural {study_dir} [--data DIR]",
        )
    return candidates


def verify(
    request: VerifyRequest, candidates: Sequence[Candidate], *, listener: Listener, stop: StopRequest
) -> Verification:
    """Train ``candidates`` again, and return what came out, also if it is stopped in between.

    All get their first seed before any gets its second. What is finished is kept, and not trained again.

    Args:
        request: What the user asks for.
        candidates: From :func:`candidates_of`.
        listener: Told what happens; a training is told as a trial.
        stop: Asked at every step.

    Raises:
        SmnasError: If the data, the device or earlier results do not fit the study, or another process verifies it.
        DeviceFault: If the device can only be used by a new process.
        Interrupted: If asked to stop before the first training.
    """
    assert request.seeds >= 1
    study_dir = request.study_dir
    with explained_disk_errors(study_dir), _alone(study_dir):
        ground = prepare(
            Request(study_dir=study_dir, data_dir=request.data_dir, device=request.device), None, listener, stop
        )
        about = _conditions(ground)
        _check_studies(ground, about)
        results = Results.load(study_dir / VERIFY / RESULTS_FILE, about)
        epochs = request.epochs or LONGER * ground.settings.train.epochs
        if ground.bench.splits.test is None:
            listener.note("no test images ([data] test in study.toml): AP is on the validation images alone")
        interrupted = None
        try:
            _train_all(ground, results, candidates, seeds=request.seeds, epochs=epochs)
        except Interrupted as caught:
            interrupted = caught
    wanted = _wanted(candidates, request.seeds, epochs)
    runs = [results.runs[key] for _, key in wanted if key in results.runs]
    return Verification(
        verdict=judge([_verified(candidate, runs) for candidate in candidates]),
        runs=runs,
        seeds=request.seeds,
        epochs=epochs,
        search_epochs=ground.settings.train.epochs,
        about=about,
        interrupted=interrupted,
    )


def seed_of(arch: str, number: int, searched: int | None) -> int:
    """The seed of an architecture's training ``number``, from 1; never ``searched``, that of the search."""
    seed = derive_seed(VERIFY, number, arch)
    return seed if seed != searched else derive_seed(VERIFY, number, arch, "another")


def _wanted(candidates: Sequence[Candidate], seeds: int, epochs: int) -> list[tuple[Candidate, tuple[str, int, int]]]:
    """The trainings that are asked for, in the order in which they are made, each with its key."""
    return [(each, (each.arch, number, epochs)) for number in range(1, seeds + 1) for each in candidates]


def _verified(candidate: Candidate, runs: Sequence[SeedRun]) -> Verified:
    mine = [run for run in runs if run.arch == candidate.arch]
    return Verified(
        candidate=candidate,
        aps=tuple(run.ap for run in mine if run.ap is not None),
        test_aps=tuple(each for run in mine if run.test_metrics and (each := run.test_metrics["ap"]) is not None),
        failed=sum(run.failed is not None for run in mine),
    )


def _train_all(ground: Ground, results: Results, candidates: Sequence[Candidate], *, seeds: int, epochs: int) -> None:
    wanted = _wanted(candidates, seeds, epochs)
    for number, (candidate, key) in enumerate(wanted, start=1):
        checkpoint = _checkpoint(ground.study_dir, key)
        if key in results.runs:
            remove_checkpoint(checkpoint)  # of a process that died before it could
            continue
        done = sum(each in results.runs for _, each in wanted)
        why = f"seed {key[1]} of {seeds}"
        ground.listener.trial_started(number, candidate.arch, why=why, done=done, budget=len(wanted))
        begin = time.perf_counter()
        try:
            run = _train(ground, candidate, key)
        except OutOfMemoryError as error:  # there may be more of it next time
            ended = replace(candidate.record, number=number, state="failed", reason=error.message, latency_ms=None)
        else:
            results.add(run)
            remove_checkpoint(checkpoint)
            done += 1
            ended = replace(candidate.record, number=number, ap=run.ap)
            if run.failed is not None:
                ended = replace(ended, state="failed", reason=run.failed)
        seconds = time.perf_counter() - begin
        ground.listener.trial_ended(ended, on_front=False, seconds=seconds, done=done, budget=len(wanted))


def _train(ground: Ground, candidate: Candidate, key: tuple[str, int, int]) -> SeedRun:
    """A finished training, or one that diverged.

    Raises:
        OutOfMemoryError: If memory does not suffice.
        DeviceFault: If the GPU failed, and this process can use it no more.
        Interrupted: If asked to stop; what was trained is kept, and gone on with.
    """
    arch, number, epochs = key
    seed = seed_of(arch, number, candidate.record.attrs.get("seed"))
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


def _train_and_evaluate(ground: Ground, key: tuple[str, int, int], seed: int) -> tuple[Metrics, Metrics | None]:
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


def _checkpoint(study_dir: Path, key: tuple[str, int, int]) -> Path:
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


def _check_studies(ground: Ground, about: Mapping[str, Any]) -> None:
    """Check that the search's numbers and those to come depend on the same; say if libraries differ."""
    versions = dict[str, None]()
    now = {**about, "data": {name: value for name, value in about["data"].items() if name != "test"}}
    for study in all_studies(ground.study_dir):
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
    for line in versions:
        ground.listener.note(f"warning: {line}")


@contextmanager
def _alone(study_dir: Path) -> Iterator[None]:
    """Be the only process that verifies the study; the operating system frees it when the process dies."""
    folder = study_dir / VERIFY
    folder.mkdir(exist_ok=True)
    lock = FileLock(folder / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise StudyError(
            f"{study_dir}: another process verifies this study", fix="wait for it, or stop it and go on here"
        ) from None
    try:
        yield
    finally:
        lock.release()
