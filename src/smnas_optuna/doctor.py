"""Diagnosis of a machine and a study: findings, what to do about them, and repair where no worker is alive."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from optuna.study import Study

from smnas_optuna.allowance import (
    MIB,
    ROOT,
    cores_in_words,
    cpu_quota,
    free_memory,
    memory_in_words,
    usable_cores,
)
from smnas_optuna.arch import canonical
from smnas_optuna.config import load_settings
from smnas_optuna.engine.nvml import Gpu, NvmlError, open_gpu
from smnas_optuna.errors import SmnasError, StudyError, shortened
from smnas_optuna.real_files import files_in, is_real_folder, remove_file
from smnas_optuna.study.database import database_of, sqlite_uri
from smnas_optuna.study.faults import LockedError, damaged, database_error, may_write, unwritable
from smnas_optuna.study.folder import CHECKPOINT_FILE, StudyFolder
from smnas_optuna.study.forms import is_arch
from smnas_optuna.study.identity import read_identity
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import STRUCTURAL, folder_scale, read_records
from smnas_optuna.study.settled import known_results
from smnas_optuna.study.storage import SQLITE_TIMEOUT_S, explained_disk_errors, has_storage
from smnas_optuna.study.stored import check_drawn
from smnas_optuna.workers.crew import Crew, open_crew
from smnas_optuna.workers.lock_holders import named
from smnas_optuna.workers.locks import check_locks
from smnas_optuna.workers.measurement_lock import PATIENCE_SECONDS
from smnas_optuna.workers.meeting_place import FOLDER, open_shared, temporary_folders
from smnas_optuna.workers.placement import DRIVERS, WORKER_MIB
from smnas_optuna.workers.recovery import owners, recover_dead_trials

Level = Literal["fine", "warning", "fault", "mended"]
LITTLE_DISK = 2**30
"""Free space, in bytes, below which the doctor warns. A search needs some hundred MiB for checkpoints and its images,
and more with large detectors."""
LEFTOVERS = ("*.part", "*.set-aside", CHECKPOINT_FILE)
"""Patterns of files that an attempt that is over may leave in ``runs/<arch>``."""
SHOWN, LONGEST = 3, 80
"""Maximum number of names in a finding, and of the characters of one."""


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
    yield from allowance()
    yield meeting_place_finding(temporary_folders(os.environ))
    if study_dir is None:
        return
    folder = StudyFolder(study_dir)
    yield from _disk(study_dir)
    try:
        load_settings(study_dir)
        yield Finding(level="fine", what=f"settings: {study_dir / 'study.toml'} can be read")
        with explained_disk_errors(study_dir):
            yield from _study(folder, fix=fix)
    except SmnasError as error:
        yield _fault(error)


def _study(folder: StudyFolder, *, fix: bool) -> Iterator[Finding]:
    """Examine the files of a study folder.

    Raises:
        SmnasError: If they cannot be used; nothing more can be said then.
    """
    yield from _database(folder)
    try:
        folder.check_own()
        if may_write(folder.path):
            check_locks(folder.path)
    except StudyError as error:  # nothing is repaired behind a link, or beside a worker that is not seen
        yield _fault(error)
        fix = False
    studies = folder.studies
    if not studies:
        begun = read_identity(folder.path) is not None
        yield _fault(folder.not_begun(STRUCTURAL)) if begun else Finding(level="fine", what="study: not begun yet")
        return
    yield from _trials(studies)
    yield from _drawn(studies)
    crews = [(study, open_crew(study, folder)) for study in studies]
    yield _unit(studies[0], folder.path)
    yield from _workers(crews, fix=fix)
    yield from _leftovers(crews, folder.runs, fix=fix)


def _fault(error: SmnasError) -> Finding:
    first = "" if error.first is None else f" (first: {error.first})"
    level: Level = "warning" if isinstance(error, LockedError) else "fault"
    return Finding(level=level, what=error.message + first, fix=error.fix)


def _trials(studies: Sequence[Study]) -> Iterator[Finding]:
    """Report trials that are not as this package stores them."""
    foreign = [record for study in studies for record in read_records(study) if record.foreign is not None]
    if foreign:
        yield Finding(
            level="warning",
            what=f"trials: {len(foreign)} are not as smnas stores them, and count for nothing; the first is "
            f"{foreign[0].study} {foreign[0].number}: {foreign[0].reason}",
            fix="none is needed: the search goes on without them; a copy of the database may still have them whole",
        )


def _drawn(studies: Sequence[Study]) -> Iterator[Finding]:
    """Report what Optuna could not go on with."""
    for study in studies:
        try:
            check_drawn(study, None)
        except StudyError as error:
            yield _fault(error)


def _versions() -> Iterator[Finding]:
    trains, searches = ("torch", "torchvision", "onnx", "onnxruntime"), ("optuna", "sqlalchemy", "optuna-dashboard")
    found = ", ".join(f"{name} {_version(name)}" for name in ("smnas-optuna", *trains, "pycocotools", *searches))
    yield Finding(level="fine", what=f"versions: Python {platform.python_version()}, {found}")


def _version(package: str) -> str:
    """Return the version of a package, or of its variant for GPUs."""
    for name in (package, f"{package}-gpu"):
        with suppress(PackageNotFoundError):
            return version(name)
    return "is not installed"


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
        yield cpu_finding(torch.get_num_threads(), os.environ)
    else:
        yield Finding(
            level="warning",
            what=f"device: there is a GPU driver ({driver}), but torch {torch.__version__} cannot use it",
            fix="check `nvidia-smi`, CUDA_VISIBLE_DEVICES, and that torch was built for the driver's CUDA",
        )


def cpu_finding(threads: int, environment: Mapping[str, str]) -> Finding:
    """Return the number of threads for torch, which is ``threads`` unless fewer cores can be used.

    A number that the user's environment names stays.
    """
    usable, named_by_user = usable_cores(), "OMP_NUM_THREADS" in environment
    what = f"device: no GPU; the CPU has {threads if named_by_user else min(threads, usable)} threads for torch"
    if not named_by_user or threads <= usable:
        return Finding(level="fine", what=what)
    return Finding(
        level="warning",
        what=f"{what} (OMP_NUM_THREADS), and this process may use {cores_in_words()}",
        fix=f"unset OMP_NUM_THREADS, or set it to {usable}",
    )


def allowance(root: Path = ROOT) -> Iterator[Finding]:
    """Return the cores and the memory that this process may use, and what limits them.

    Args:
        root: Folder in which ``proc`` and ``sys`` are.
    """
    quota, what = cpu_quota(root), f"cores: this process may use {cores_in_words(root)}"
    if quota is not None and quota < 1:
        yield Finding(
            level="warning",
            what=f"{what}: it stands still for a part of each period, in measurements of latency, too",
            fix="give its container or batch job a whole core",
        )
    else:
        yield Finding(level="fine", what=what)
    free = free_memory(root) // MIB
    what = f"memory: this process may use {memory_in_words(root)}; {free:,} MiB are free"
    if free < WORKER_MIB:
        fix = f"a worker takes about {WORKER_MIB} MiB: end what else uses memory, or raise the limit"
        yield Finding(level="warning", what=what, fix=fix)
    else:
        yield Finding(level="fine", what=what)


def meeting_place_finding(folders: Sequence[Path]) -> Finding:
    """Return who works and measures on this machine, and whether all users' searches wait for one another there.

    Args:
        folders: Folders for temporary files.
    """
    if not any(os.path.lexists(folder / FOLDER) for folder in folders):
        return Finding(level="fine", what="measurements: nobody has measured a latency on this machine yet")
    try:
        place = open_shared(folders)
    except OSError as error:
        return Finding(
            level="warning",
            what=f"measurements: {error.filename} cannot be used ({error.strerror}): latencies are measured beside the "
            "work of other users",
            fix=f"its owner or root removes it while no search runs (rm -r {error.filename}); the next search makes it",
        )
    try:
        measuring, working = place.turn.look(), place.room.look()
    finally:
        place.close()
    if stopped := {holder for holder in measuring | working if holder.stopped}:
        path = place.turn.path if min(stopped) in measuring else place.room.path
        return Finding(
            level="warning",
            what=f"measurements: {named(stopped, path)}; searches wait {PATIENCE_SECONDS:.0f} s for it, and then mark "
            "what they measure (alone = false)",
            fix=f"ask its user to let it go on (kill -CONT {min(stopped).pid}) or to end it",
        )
    what = named(measuring, place.turn.path) if measuring else f"nobody measures; {len(working)} processes at work"
    return Finding(level="fine", what=f"measurements: {what} on this machine")


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


def _database(folder: StudyFolder) -> Iterator[Finding]:
    """Check a database file of a study folder; a database on a server is only named.

    Raises:
        StudyError: If it is not this folder's, or empty, or no database.
    """
    database = database_of(folder.path)
    if database.file is None or not has_storage(folder.path):
        if database.url is not None:
            yield Finding(level="fine", what=f"database: {database}")
        return
    try:
        with closing(
            sqlite3.connect(sqlite_uri(database.file, "rw"), uri=True, timeout=SQLITE_TIMEOUT_S)
        ) as connection:
            faults = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
    except sqlite3.DatabaseError as error:
        raise database_error(database.file, error) from error
    if faults != ["ok"]:
        raise damaged(database.file, faults[0])
    closed = unwritable(database.file)
    if closed is None:
        yield Finding(level="fine", what=f"database: {database} is whole")
    else:
        yield Finding(
            level="warning", what=f"database: whole, but no search can go on: {closed.message}", fix=closed.fix
        )


def _unit(study: Study, study_dir: Path) -> Finding:
    """Return what is known of the unit of all latencies of the folder."""
    unit = folder_scale(study).unit
    if unit is None:
        return Finding(level="fine", what="latency: nothing is measured yet")
    what = f"latency: the reference detector takes {unit.ms:.3g} ms undisturbed, the unit of all latencies"
    if unit.doubt is None:
        return Finding(level="fine", what=f"{what}; the lowest of {unit.num_measurements} measurements agree")
    return Finding(
        level="warning",
        what=f"{what}; doubtful: {unit.doubt}",
        fix=f"on a machine that does nothing else: smnas retime {study_dir}",
    )


def _workers(crews: Sequence[tuple[Study, Crew]], *, fix: bool) -> Iterator[Finding]:
    """Report the workers of all studies, and what dead ones left."""
    (_, first_crew), *_ = crews
    workers = set(first_crew.lock_files()).union(*(owners(read_records(study), crew) for study, crew in crews))
    alive = {worker for worker in workers if first_crew.is_alive(worker)}
    yield Finding(level="fine", what=f"workers: {len(alive)} at work{': ' if alive else ''}{_some(sorted(alive))}")
    trials, claims = [], 0
    for study, crew in crews:
        running = [record for record in read_records(study) if record.state == "running"]
        trials += [f"{r.study} {r.number}" for r in running if (r.worker or "") not in alive]
        claims += sum(worker not in alive for worker in crew.claims().values())
    locks = [worker for worker in first_crew.lock_files() if worker not in alive]
    if not (trials or claims or locks):
        return
    what = (
        f"workers: {len(trials)} trials ({_some(trials) or 'none'}), {claims} claims "
        f"and {len(locks)} locks of workers that are gone"
    )
    if not fix:
        yield Finding(
            level="warning",
            what=what,
            fix="the next search cleans up trials and claims; smnas doctor STUDY_DIR --fix also cleans up locks",
        )
        return
    notes: list[str] = []
    for study, crew in crews:
        with crew.registered():
            recover_dead_trials(study, crew, notes.append)
    for worker in locks:
        with first_crew.clean_up_after(worker):  # removes the lock file
            pass
    yield Finding(level="mended", what="; ".join([what, *notes[:SHOWN]]))


def _leftovers(crews: Sequence[tuple[Study, Crew]], runs: Path, *, fix: bool) -> Iterator[Finding]:
    """Report files of attempts that are over: their architecture is settled, or no study knows it."""
    claimed, open_archs = set[str](), set[str | None]()
    for study, crew in crews:
        records = read_records(study)
        claimed |= set(map(canonical, crew.claims()))
        open_archs |= {record.arch for record in records} - known_results(records, Limits()).keys()
    if os.path.lexists(runs) and not is_real_folder(runs):
        return  # said already
    entries = sorted(runs.iterdir()) if runs.exists() else []
    folders = [each for each in entries if is_real_folder(each) and is_arch(each.name)]
    found = [
        file
        for folder in folders
        if (name := canonical(folder.name)) not in claimed
        for file in files_in(folder)
        if _is_leftover(file.name, unfinished=name in open_archs)
    ]
    others = [ascii(each.name)[1:-1] for each in entries if each not in folders]
    if others:
        what = f"files: {len(others)} in {runs} belong to no architecture, or are links: {_some(others)}"
        yield Finding(level="warning", what=what, fix="look at them, and move them away; they are left as they are")
    if not found:
        yield Finding(level="fine", what=f"files: no leftovers in {runs}")
        return
    mib = sum(file.stat().st_size for file in found) / 2**20
    what = f"files: {len(found)} leftovers in {runs}, {mib:,.1f} MiB; the first is {found[0].relative_to(runs)}"
    if fix:
        for file in found:
            remove_file(file)
        yield Finding(level="mended", what=f"{what}: removed")
    else:
        yield Finding(level="warning", what=what, fix=f"remove them: smnas doctor {runs.parent} --fix")


def _is_leftover(name: str, *, unfinished: bool) -> bool:
    """Return whether an attempt that is over may have left a file of that name; a checkpoint is used again."""
    return any(fnmatch(name, pattern) for pattern in LEFTOVERS) and not (unfinished and name == CHECKPOINT_FILE)


def _some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    shown = [shortened(name, LONGEST) for name in names[:SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
