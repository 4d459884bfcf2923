"""Weights of retrained detectors: those of the best training of each architecture are kept. No torch."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from smnas_optuna.arch import decode, spellings
from smnas_optuna.real_files import is_regular_file, linked_part
from smnas_optuna.study.choice import DETECTOR_FILE
from smnas_optuna.study.folder import WEIGHTS, StudyFolder
from smnas_optuna.verify.results import Key, SeedRun
from smnas_optuna.verify.verdict import Kept


def weights_folder(verify: Path, key: Key) -> Path:
    """Return the folder of the weights of a training; each has its own, so that a kill never mixes two of them.

    Args:
        verify: Folder of the verification.
        key: The training.
    """
    arch, number, epochs = key
    # a name from a database must not lead out of the folder; earlier versions wrote some in another spelling
    folders = [verify / WEIGHTS / f"{name}.seed{number}.epochs{epochs}" for name in spellings(decode(arch))]
    return next(filter(Path.is_dir, folders), folders[0])


def is_best(verify: Path, key: Key, ap: float, runs: Mapping[Key, SeedRun]) -> bool:
    """Return whether no other finished training of the architecture that is as accurate has its weights kept."""
    return all(run.key == key or (run.ap or 0.0) < ap for run in _kept_runs(verify, key[0], runs.values()))


def remove_all_but_best(verify: Path, runs: Mapping[Key, SeedRun]) -> None:
    """Remove the weights of finished trainings that another one of their architecture surpasses.

    Weights without a result stay: another worker may be about to store it.
    """
    for arch in {run.arch for run in runs.values()}:
        kept = sorted(_kept_runs(verify, arch, runs.values()), key=_rank)
        for run in kept[:-1]:
            shutil.rmtree(weights_folder(verify, run.key), ignore_errors=True)


def kept_weights(folder: StudyFolder, runs: Iterable[SeedRun]) -> dict[str, Kept]:
    """Return the trainings whose weights are kept, by architecture: the best one of each."""
    best: dict[str, SeedRun] = {}
    for run in sorted((run for run in runs if _is_kept(folder.verify, run)), key=_rank):
        best[run.arch] = run
    return {
        arch: Kept(
            folder=str(weights_folder(folder.verify, run.key).relative_to(folder.path)),
            number=run.number,
            epochs=run.epochs,
            ap=run.ap or 0.0,
        )
        for arch, run in best.items()
    }


def _kept_runs(verify: Path, arch: str, runs: Iterable[SeedRun]) -> list[SeedRun]:
    return [run for run in runs if run.arch == arch and _is_kept(verify, run)]


def _is_kept(verify: Path, run: SeedRun) -> bool:
    """Return whether the weights of ``run`` lie in the folder of the verification; those behind a link do not."""
    file = weights_folder(verify, run.key) / DETECTOR_FILE
    return run.failed is None and linked_part(file, verify) is None and is_regular_file(file)


def _rank(run: SeedRun) -> tuple[float, int, int]:
    """Sort key of trainings: the better one last, and of equal ones the longer, then the earlier."""
    return run.ap or 0.0, run.epochs, -run.number
