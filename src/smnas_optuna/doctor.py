"""Diagnosis of a machine and a study: findings, what to do about them, and repair where no worker is alive."""

from __future__ import annotations

import platform
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from optuna.study import Study

from smnas_optuna.arch import canonical, decode
from smnas_optuna.config import load_settings
from smnas_optuna.engine.nvml import Gpu, NvmlError, open_gpu
from smnas_optuna.errors import ArchError, SmnasError
from smnas_optuna.study.folder import CHECKPOINT_FILE, StudyFolder
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import read_records
from smnas_optuna.study.settled import known_results
from smnas_optuna.study.storage import DATABASE, SQLITE_TIMEOUT_S, explained_disk_errors, storage_url
from smnas_optuna.workers.crew import Crew, open_crew
from smnas_optuna.workers.placement import DRIVERS
from smnas_optuna.workers.recovery import owners, recover_dead_trials

Level = Literal["fine", "warning", "fault", "mended"]
LITTLE_DISK = 2**30
"""Free space, in bytes, below which the doctor warns. A search needs some hundred MiB for checkpoints and its images,
and more with large detectors."""
LEFTOVERS = ("*.part", "*.set-aside", CHECKPOINT_FILE)
"""Patterns of files that an attempt that is over may leave in ``runs/<arch>``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """The result of one check, with an action to take if it is not fine."""

    level: Level
    what: str
    fix: str | None = None


def examine(study_dir: Path | None, *, fix: bool = False) -> Iterator[Finding]:
    """Examine this machine, and the study in ``study_dir`` if one is named.

    Args:
        study_dir: Folder that contains ``study.toml``.
        fix: Repair what can be repaired without losing anything, unless it belongs to a worker that is alive.
    """
    yield from _versions()
    yield from _device()
    if study_dir is None:
        return
    folder = StudyFolder(study_dir)
    yield from _disk(study_dir)
    try:
        load_settings(study_dir)
        yield Finding(level="fine", what=f"settings: {study_dir / 'study.toml'} can be read")
        database = list(_database(study_dir))
        yield from database
        if any(finding.level == "fault" for finding in database):
            return
        with explained_disk_errors(study_dir):
            studies = folder.studies
    except SmnasError as error:
        first = "" if error.first is None else f" ({error.first})"
        yield Finding(level="fault", what=error.message + first, fix=error.fix)
        return
    if not studies:
        yield Finding(level="fine", what="study: not begun yet")
        return
    crews = [(study, open_crew(study, folder)) for study in studies]
    yield from _workers(crews, fix=fix)
    yield from _leftovers(crews, folder.runs, fix=fix)


def _versions() -> Iterator[Finding]:
    names = ("smnas-optuna", "torch", "torchvision", "optuna", "sqlalchemy", "pycocotools", "optuna-dashboard")
    yield Finding(
        level="fine",
        what=f"versions: Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in names),
    )


def _device() -> Iterator[Finding]:
    try:
        import torch
        import torchvision

        torchvision.ops.nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    except (ImportError, RuntimeError) as error:
        yield Finding(
            level="fault",
            what=f"torch and torchvision do not work together: {str(error).splitlines()[0]}",
            fix="install both from the same index: pip install --force-reinstall torch torchvision",
        )
        return
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            free, total = (size // 2**20 for size in torch.cuda.mem_get_info(number))
            name = torch.cuda.get_device_name(number)
            yield Finding(level="fine", what=f"device: GPU {number} is a {name}, {free:,} of {total:,} MiB free")
            yield nvml_finding(number, partial(open_gpu, torch.device("cuda", number)))
        return
    driver = next((path for path in DRIVERS if Path(path).exists()), None)
    if driver is None:
        yield Finding(level="fine", what=f"device: no GPU; the CPU has {torch.get_num_threads()} threads for torch")
    else:
        yield Finding(
            level="warning",
            what=f"device: there is a GPU driver ({driver}), but torch {torch.__version__} cannot use it",
            fix="check `nvidia-smi`, CUDA_VISIBLE_DEVICES, and that torch was built for the driver's CUDA",
        )


def nvml_finding(number: int, find: Callable[[], Gpu]) -> Finding:
    """Return load and throttling of the GPU with that number, as NVML reports them.

    Args:
        number: Torch's number of the GPU.
        find: Returns the GPU; may raise NvmlError.
    """
    try:
        gpu = find()
    except NvmlError as error:
        return Finding(
            level="warning",
            what=f"nvml: nothing is seen of GPU {number} ({error}): measurements of latency do not notice what else "
            "computes on it, nor throttling",
            fix=error.fix,
        )
    load, reasons = gpu.load_percent(), gpu.throttle_reasons()
    seen = (
        "load unknown" if load is None else f"at work {load} % of the time",
        "throttling unknown" if reasons is None else f"throttled ({', '.join(sorted(reasons))})" if reasons else "",
    )
    return Finding(
        level="warning" if reasons else "fine",
        what=f"nvml: GPU {number}: {', '.join(filter(None, seen))}",
        fix="see `nvidia-smi -q -d PERFORMANCE`: cool it, or raise its power limit" if reasons else None,
    )


def _disk(study_dir: Path) -> Iterator[Finding]:
    if not study_dir.is_dir():
        return
    free = shutil.disk_usage(study_dir).free
    what = f"disk: {free / 2**20:,.0f} MiB free at {study_dir}"
    if free < LITTLE_DISK:
        yield Finding(level="warning", what=what, fix="make room before a long search")
    else:
        yield Finding(level="fine", what=what)


def _database(study_dir: Path) -> Iterator[Finding]:
    """Check a database file of a study folder; a database on a server is only named."""
    path, url = study_dir / DATABASE, storage_url(study_dir)
    if url is not None:
        yield Finding(level="fine", what=f"database: {url}")
        return
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(path, timeout=SQLITE_TIMEOUT_S)) as database:
            faults = [row[0] for row in database.execute("PRAGMA integrity_check")]
    except sqlite3.DatabaseError as error:
        faults = [str(error)]
    if faults == ["ok"]:
        yield Finding(level="fine", what=f"database: {path} is whole")
    else:
        yield Finding(
            level="fault",
            what=f"database: {path} is damaged: {faults[0]}",
            fix=f"bring a copy back, or save what can be read: sqlite3 {path} .recover | sqlite3 whole.db",
        )


def _workers(crews: Sequence[tuple[Study, Crew]], *, fix: bool) -> Iterator[Finding]:
    """Report the workers of all studies, and what dead ones left."""
    (_, first_crew), *_ = crews
    workers = set(first_crew.lock_files()).union(*(owners(read_records(study), crew) for study, crew in crews))
    alive = {worker for worker in workers if first_crew.is_alive(worker)}
    yield Finding(level="fine", what=f"workers: {len(alive)} at work{': ' if alive else ''}{', '.join(sorted(alive))}")
    trials, claims = [], 0
    for study, crew in crews:
        running = [record for record in read_records(study) if record.state == "running"]
        trials += [f"{r.study} {r.number}" for r in running if (r.worker or "") not in alive]
        claims += sum(worker not in alive for worker in crew.claims().values())
    locks = [worker for worker in first_crew.lock_files() if worker not in alive]
    if not (trials or claims or locks):
        return
    what = (
        f"workers: {len(trials)} trials ({', '.join(trials) or 'none'}), {claims} claims "
        f"and {len(locks)} locks of workers that are gone"
    )
    if not fix:
        yield Finding(
            level="warning",
            what=what,
            fix="the next search cleans up trials and claims; smnas doctor --fix also cleans up locks",
        )
        return
    notes: list[str] = []
    for study, crew in crews:
        with crew.registered():
            recover_dead_trials(study, crew, notes.append)
    for worker in locks:
        with first_crew.clean_up_after(worker):  # removes the lock file
            pass
    yield Finding(level="mended", what="; ".join([what, *notes]))


def _leftovers(crews: Sequence[tuple[Study, Crew]], runs: Path, *, fix: bool) -> Iterator[Finding]:
    """Report files of attempts that are over: their architecture is settled, or no study knows it."""
    claimed, open_archs = set[str](), set[str | None]()
    for study, crew in crews:
        records = read_records(study)
        claimed |= set(map(canonical, crew.claims()))
        open_archs |= {record.arch for record in records} - known_results(records, Limits()).keys()
    found = [
        file
        for folder in sorted(runs.glob("*"))
        for pattern in LEFTOVERS
        for file in sorted(folder.glob(pattern))
        if (name := canonical(folder.name)) not in claimed and (name not in open_archs or pattern != CHECKPOINT_FILE)
    ]
    unknown = [folder.name for folder in sorted(runs.glob("*")) if not _is_arch(folder.name)]
    for name in unknown:
        what = f"files: {runs / ascii(name)[1:-1]} belongs to no architecture"
        yield Finding(level="warning", what=what, fix="look at it, and move it away")
    if not found:
        yield Finding(level="fine", what=f"files: no leftovers in {runs}")
        return
    mib = sum(file.stat().st_size for file in found) / 2**20
    what = f"files: {len(found)} leftovers in {runs}, {mib:,.1f} MiB; the first is {found[0].relative_to(runs)}"
    if fix:
        for file in found:
            file.unlink(missing_ok=True)
        yield Finding(level="mended", what=f"{what}: removed")
    else:
        yield Finding(level="warning", what=what, fix="remove them: smnas doctor --fix")


def _is_arch(name: str) -> bool:
    try:
        decode(name)
    except ArchError:
        return False
    return True
