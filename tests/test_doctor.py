from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import pytest
import torch
from optuna.samplers import RandomSampler

from smnas_optuna.allowance import MIB, cores_in_words, usable_cores
from smnas_optuna.doctor import Finding, allowance, cpu_finding, examine, meeting_place_finding, nvml_finding
from smnas_optuna.engine.nvml import Gpu, NvmlError
from smnas_optuna.study.attributes import store_attrs
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.identity import make_identity
from smnas_optuna.study.optuna_private import begin_trial
from smnas_optuna.study.record import INTERRUPTED, STRUCTURAL, read_records
from smnas_optuna.workers.crew import open_crew
from smnas_optuna.workers.measurement_lock import MeasurementLock
from smnas_optuna.workers.meeting_place import FOLDER
from smnas_optuna.workers.placement import WORKER_MIB
from tests.as_nobody import as_nobody
from tests.engine.nvml_fakes import FakeNvml
from tests.machines import UNIFIED, make_machine
from tests.workers.lock_processes import MEASURES, WORKS, holding

ARCH = "64x64.resnet18-w8.fpn-p2-p5-c16.rpn.fc-w32"
OTHER = "32x32.resnet18-w4.fpn-p3-p5-c8.none.retina"
MACHINE = ("disk", "nvml", "cores", "memory")
"""Beginnings of findings that depend on the machine of the tests."""


@pytest.fixture
def study(study_dir: Path) -> optuna.Study:
    return StudyFolder(study_dir).create(STRUCTURAL, RandomSampler())


def worst(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level != "fine"]


def leave(study: optuna.Study, study_dir: Path, arch: str) -> str:
    """What a killed worker leaves: a running trial, a claim, a lock and a checkpoint. Returns its name."""
    crew = open_crew(study, StudyFolder(study_dir))
    assert crew.claim(arch)
    store_attrs(begin_trial(study, crew.me), {"arch": arch})
    (study_dir / "workers").mkdir(exist_ok=True)
    (study_dir / "workers" / f"{crew.me}.lock").touch()
    run = study_dir / "runs" / arch
    run.mkdir(parents=True)
    (run / "checkpoint.safetensors").write_bytes(b"x" * 1000)
    (run / "checkpoint.safetensors.part").write_bytes(b"x" * 1000)
    return crew.me


def test_a_machine_and_a_new_study_are_fine(study_dir: Path, study: optuna.Study) -> None:
    findings = list(examine(study_dir))

    said = dict.fromkeys(finding.what.partition(":")[0] for finding in findings)
    per_gpu = ["nvml"] if torch.cuda.is_available() else []
    machine = ["versions", "device", *per_gpu, "cores", "memory", "measurements"]
    assert list(said) == [*machine, "disk", "settings", "database", "latency", "workers", "files"]
    rest = [finding.level for finding in worst(findings) if not finding.what.startswith(MACHINE[1:])]
    assert rest in ([], ["warning"]), "a warning if the disk is small"
    here = dict.fromkeys(finding.what.partition(":")[0] for finding in examine(None))
    assert list(here) == machine


@pytest.mark.parametrize(
    ("nvml", "finding"),
    [
        (
            FakeNvml(),
            Finding(level="fine", what="nvml: GPU 3: at work 0 % of the time"),
        ),
        (
            FakeNvml(loads=(37,), reasons=0x4 | 0x40),
            Finding(
                level="warning",
                what="nvml: GPU 3: at work 37 % of the time, throttled (hardware thermal slowdown, software power cap)",
                fix="see `nvidia-smi -q -d PERFORMANCE`: cool it, or raise its power limit",
            ),
        ),
        (
            FakeNvml(loads=None, reasons=None),
            Finding(
                level="fine",
                what="nvml: GPU 3: load unknown, throttling unknown",
            ),
        ),
    ],
    ids=["free", "throttled", "unknown"],
)
def test_what_nvml_sees_is_said(nvml: FakeNvml, finding: Finding) -> None:
    assert nvml_finding(3, nvml.gpu) == finding


def test_a_gpu_that_nvml_does_not_see_is_a_warning() -> None:
    def find() -> Gpu:
        raise NvmlError("nvidia-ml-py is not installed", fix="pip install 'smnas-optuna[nvidia]'")

    assert nvml_finding(0, find) == Finding(
        level="warning",
        what="nvml: nothing is seen of GPU 0 (nvidia-ml-py is not installed): measurements of latency do not notice "
        "what else computes on it, nor throttling",
        fix="pip install 'smnas-optuna[nvidia]'",
    )


def test_a_container_is_named_with_what_it_allows(tmp_path: Path) -> None:
    files = {"cpu.max": "50000 100000", "memory.max": 700 * MIB, "memory.current": 300 * MIB}

    cores, memory = allowance(make_machine(tmp_path, "0::/", UNIFIED, files))

    assert cores == Finding(
        level="warning",
        what=f"cores: this process may use {cores_in_words(tmp_path)}: it stands still for a part of each period, in "
        "measurements of latency, too",
        fix="give its container or batch job a whole core",
    )
    assert "a CPU quota of 0.5" in cores.what
    assert memory == Finding(
        level="warning",
        what="memory: this process may use 700 of 8,000 MiB (a limit of its control group); 400 MiB are free",
        fix=f"a worker takes about {WORKER_MIB} MiB: end what else uses memory, or raise the limit",
    )


def test_a_container_with_whole_cores_and_enough_memory_is_fine(tmp_path: Path) -> None:
    files = {"cpu.max": "100000 100000", "memory.max": 7000 * MIB, "memory.current": 300 * MIB}

    cores, memory = allowance(make_machine(tmp_path, "0::/", UNIFIED, files))

    assert (cores.level, memory.level) == ("fine", "fine")
    assert cores.what == f"cores: this process may use {cores_in_words(tmp_path)}"
    assert memory.what.endswith("7,000 of 8,000 MiB (a limit of its control group); 4,000 MiB are free")


@pytest.mark.parametrize(
    ("threads", "environment", "said", "level"),
    [
        (1, {}, "1 threads for torch", "fine"),
        (10**6, {}, f"{usable_cores()} threads for torch", "fine"),
        (1, {"OMP_NUM_THREADS": "1"}, "1 threads for torch", "fine"),
        (
            10**6,
            {"OMP_NUM_THREADS": "1000000"},
            f"1000000 threads for torch (OMP_NUM_THREADS), and this process may use {cores_in_words()}",
            "warning",
        ),
    ],
    ids=["fewer", "more than cores", "the user's", "more than cores as the user wishes"],
)
def test_the_threads_are_those_that_a_search_takes(
    threads: int, environment: dict[str, str], said: str, level: str
) -> None:
    finding = cpu_finding(threads, environment)

    assert (finding.what, finding.level) == (f"device: no GPU; the CPU has {said}", level)
    assert (finding.fix is None) == (level == "fine")


def test_who_measures_and_works_on_the_machine_is_said(tmp_path: Path) -> None:
    assert meeting_place_finding([tmp_path]).what == ("measurements: nobody has measured a latency on this machine yet")
    assert list(tmp_path.iterdir()) == [], "looking changes nothing"

    with MeasurementLock(tmp_path).running(), holding(WORKS, tmp_path):
        at_work = meeting_place_finding([tmp_path])
    with holding(MEASURES, tmp_path) as process:
        measuring = meeting_place_finding([tmp_path])

    assert at_work == Finding(level="fine", what="measurements: nobody measures; 2 processes at work on this machine")
    assert measuring.level == "fine"
    assert measuring.what.startswith(f"measurements: process {process.pid} of ")
    assert measuring.what.endswith(f"which holds {tmp_path / FOLDER}/turn.lock on this machine")


@pytest.mark.parametrize(("code", "file"), [(MEASURES, "turn.lock"), (WORKS, "room.lock")], ids=["measures", "works"])
def test_a_stopped_process_that_others_wait_for_is_named(tmp_path: Path, code: str, file: str) -> None:
    with holding(code, tmp_path, stopped=True) as process:
        finding = meeting_place_finding([tmp_path])

    assert finding.level == "warning"
    assert finding.what.startswith(f"measurements: process {process.pid} of ")
    assert finding.what.endswith(
        f"which is stopped and holds {tmp_path / FOLDER / file}; searches wait 60 s for it, and then mark what they "
        "measure (alone = false)"
    )
    assert finding.fix == f"ask its user to let it go on (kill -CONT {process.pid}) or to end it"


def test_a_meeting_place_that_cannot_be_used_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / FOLDER).symlink_to("nowhere")

    assert meeting_place_finding([tmp_path]) == Finding(
        level="warning",
        what=f"measurements: {tmp_path / FOLDER} cannot be used (Not a directory): latencies are measured beside the "
        "work of other users",
        fix=f"its owner or root removes it while no search runs (rm -r {tmp_path / FOLDER}); the next search makes it",
    )


def test_what_dead_workers_left_is_found_and_mended_when_asked(study_dir: Path, study: optuna.Study) -> None:
    leave(study, study_dir, ARCH)

    found = [finding for finding in examine(study_dir) if "gone" in finding.what]

    assert found == [
        Finding(
            level="warning",
            what="workers: 1 trials (structural 0), 1 claims and 1 locks of workers that are gone",
            fix="the next search cleans up trials and claims; smnas doctor STUDY_DIR --fix also cleans up locks",
        )
    ]
    assert read_records(study)[0].state == "running", "looking changes nothing"
    assert (study_dir / "runs" / ARCH / "checkpoint.safetensors.part").exists()

    mended = [finding.what for finding in examine(study_dir, fix=True) if finding.level == "mended"]

    assert mended[0].endswith(f"gone; trial 0 ({ARCH}): its process died; interrupted")
    assert "1 leftovers" in mended[1]
    (record,) = read_records(study)
    assert (record.state, record.reason, record.killed) == ("failed", INTERRUPTED, True)
    assert open_crew(study, StudyFolder(study_dir)).claims() == {}
    assert list((study_dir / "workers").iterdir()) == []
    left = [file.name for file in (study_dir / "runs" / ARCH).iterdir()]
    assert left == ["checkpoint.safetensors"], "the architecture will be gone on with"
    assert worst([f for f in examine(study_dir) if not f.what.startswith(MACHINE)]) == []


def test_what_a_living_worker_has_is_left_alone(study_dir: Path, study: optuna.Study) -> None:
    code = (
        "import sys; from pathlib import Path; from smnas_optuna.study.folder import StudyFolder\n"
        "from smnas_optuna.workers.crew import open_crew\n"
        f"folder = StudyFolder(Path(sys.argv[1])); crew = open_crew(folder.load({STRUCTURAL!r}), folder)\n"
        f"with crew.registered():\n    crew.claim({ARCH!r}); print(crew.me, flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code, str(study_dir)], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        worker = process.stdout.readline().strip()
        run = study_dir / "runs" / ARCH
        run.mkdir(parents=True)
        (run / "checkpoint.safetensors.part").touch()

        findings = list(examine(study_dir, fix=True))

        assert f"workers: 1 at work: {worker}" in [finding.what for finding in findings]
        assert [finding for finding in findings if finding.level == "mended"] == []
        assert open_crew(study, StudyFolder(study_dir)).claims() == {ARCH: worker}
        assert (run / "checkpoint.safetensors.part").exists()
        process.communicate("")


def test_checkpoints_that_nobody_will_go_on_with_are_leftovers(study_dir: Path, study: optuna.Study) -> None:
    trial = begin_trial(study, "someone")
    store_attrs(trial, {"arch": ARCH})
    study.tell(trial, [1.0, 0.5])
    for arch in (ARCH, OTHER):
        (study_dir / "runs" / arch).mkdir(parents=True)
        (study_dir / "runs" / arch / "checkpoint.safetensors").touch()
        (study_dir / "runs" / arch / "weights.safetensors").touch()

    (finding,) = [finding for finding in examine(study_dir, fix=True) if "leftovers" in finding.what]

    assert finding.what.startswith("files: 2 leftovers")
    assert (
        sorted(file.name for file in (study_dir / "runs").rglob("*") if file.is_file()) == ["weights.safetensors"] * 2
    )


def test_a_folder_under_an_older_spelling_belongs_to_its_architecture(study_dir: Path, study: optuna.Study) -> None:
    old = "32x32.basicblock-w4-conv7-11-21-21-21.c4.rpn.fc"
    trial = begin_trial(study, "someone")
    store_attrs(trial, {"arch": old, "reason": INTERRUPTED})
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    (study_dir / "runs" / old).mkdir(parents=True)
    (study_dir / "runs" / old / "checkpoint.safetensors").touch()

    findings = [finding.what for finding in examine(study_dir, fix=True) if finding.what.startswith("files")]

    assert findings == [f"files: no leftovers in {study_dir / 'runs'}"]


def test_files_of_no_architecture_are_named_harmlessly_and_left(study_dir: Path, study: optuna.Study) -> None:
    (study_dir / "runs" / "evil\x1b[2J").mkdir(parents=True)

    (finding,) = [finding for finding in examine(study_dir, fix=True) if "belong to no" in finding.what]

    runs = study_dir / "runs"
    assert finding.what == f"files: 1 in {runs} belong to no architecture, or are links: evil\\x1b[2J"
    assert (study_dir / "runs" / "evil\x1b[2J").exists()


def test_a_damaged_database_and_settings_are_faults_with_a_cure(study_dir: Path, study: optuna.Study) -> None:
    study._storage.remove_session()
    content = bytearray((study_dir / "study.db").read_bytes())
    content[5000:9000] = b"\xff" * 4000
    (study_dir / "study.db").write_bytes(content)

    (fault, *_) = worst([finding for finding in examine(study_dir) if not finding.what.startswith(MACHINE)])

    assert fault.level == "fault"
    assert f"{study_dir / 'study.db'}: is damaged: " in fault.what
    assert ".recover" in str(fault.fix)

    (study_dir / "study.toml").write_text("[serach]")
    (fault,) = worst([finding for finding in examine(study_dir) if not finding.what.startswith(MACHINE)])
    assert "unknown key `serach`" in fault.what
    assert "did you mean `search`" in str(fault.fix)


def test_a_study_that_is_not_begun_is_fine(study_dir: Path) -> None:
    assert Finding(level="fine", what="study: not begun yet") in list(examine(study_dir))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def leavings(run: Path) -> None:
    run.mkdir(parents=True, exist_ok=True)
    for name in ("a.part", "b.set-aside", "checkpoint.safetensors", "weights.safetensors", "train.log"):
        (run / name).write_text("theirs")


@pytest.mark.parametrize("what", ["runs", "run", "workers", "study.db", "files"])
def test_nothing_behind_a_link_is_repaired(tmp_path: Path, study_dir: Path, study: optuna.Study, what: str) -> None:
    theirs, runs = tmp_path / "theirs", study_dir / "runs"
    leavings(theirs / ARCH)
    (theirs / "dead.lock").touch()
    study._storage.remove_session()
    if what == "runs":
        runs.symlink_to(theirs)
    elif what == "workers":
        (study_dir / "workers").symlink_to(theirs)
    elif what == "study.db":
        (study_dir / "study.db").rename(theirs / "study.db")
        (study_dir / "study.db").symlink_to(theirs / "study.db")
    elif what == "run":
        runs.mkdir()
        (runs / ARCH).symlink_to(theirs / ARCH)
    else:
        (runs / ARCH).mkdir(parents=True)
        for name in ("a.part", "b.set-aside", "checkpoint.safetensors"):
            (runs / ARCH / name).symlink_to(theirs / ARCH / name)
        os.mkfifo(runs / ARCH / "pipe.part")
        (runs / ARCH / "folder.part").mkdir()
    before = tree(theirs)

    findings = list(examine(study_dir, fix=True))

    assert tree(theirs) == before
    assert [finding for finding in findings if finding.level == "mended"] == []
    said = [finding.what for finding in worst(findings) if not finding.what.startswith(("disk", "nvml"))]
    if what == "files":
        assert said == []
        assert len(list((runs / ARCH).iterdir())) == 5
    elif what == "run":
        assert said == [f"files: 1 in {runs} belong to no architecture, or are links: {ARCH}"]
    else:
        assert f"(first: {study_dir / what} is a link to {theirs}" in said[0]


def test_a_second_name_of_a_file_is_removed_and_the_file_stays(
    tmp_path: Path, study_dir: Path, study: optuna.Study
) -> None:
    (tmp_path / "theirs").write_text("theirs")
    run = StudyFolder(study_dir).make_run(ARCH)
    (run / "a.part").hardlink_to(tmp_path / "theirs")

    assert [finding.level for finding in examine(study_dir, fix=True) if "leftovers" in finding.what] == ["mended"]
    assert list(run.iterdir()) == []
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_folders_that_name_no_architecture_keep_their_files_and_are_counted(
    study_dir: Path, study: optuna.Study
) -> None:
    for number in range(20):
        leavings(study_dir / "runs" / f"photos of {number:02d}")

    (finding,) = [finding for finding in examine(study_dir, fix=True) if "belong to no" in finding.what]

    assert finding.what.endswith("links: photos of 00, photos of 01, photos of 02 and 17 more")
    assert len(list((study_dir / "runs").rglob("*.part"))) == 20


def test_a_database_that_another_program_holds_is_a_warning(
    study_dir: Path, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smnas_optuna.study.storage.SQLITE_TIMEOUT_S", 0.1)
    with closing(sqlite3.connect(study_dir / "study.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")

        findings = [finding for finding in examine(study_dir) if "study.db" in finding.what]

    assert findings == [
        Finding(
            level="warning",
            what=f"{study_dir / 'study.db'}: another process has held it for a minute",
            fix="end what else uses it, and give the same command again",
        )
    ]


def test_a_study_that_can_only_be_read_is_not_called_fine(study_dir: Path, study: optuna.Study) -> None:
    list(examine(study_dir))  # what is imported late

    said = as_nobody(lambda: "\n".join(f"{f.level}: {f.what}; {f.fix}" for f in examine(study_dir)), study_dir)

    database = study_dir / "study.db"
    assert f"warning: database: whole, but no search can go on: {database}: can only be read: you may not wr" in said
    assert "; search in a copy of the folder that is yours, or ask for write access" in said
    assert "fault" not in said


@pytest.mark.parametrize(
    ("happen", "level", "what"),
    [
        (lambda file: file.unlink(), "fault", "is gone: it was deleted or moved away"),
        (lambda file: file.write_bytes(b""), "fault", "is empty: something has removed its content"),
        (lambda file: os.truncate(file, 30_000), "fault", "is damaged: database disk image is malformed"),
    ],
    ids=["deleted", "emptied", "cut off"],
)
def test_what_happened_to_the_database_is_told_apart(
    study_dir: Path, study: optuna.Study, happen: Callable[[Path], object], level: str, what: str
) -> None:
    make_identity(study_dir)
    study._storage.remove_session()
    happen(study_dir / "study.db")

    (finding,) = [f for f in worst(list(examine(study_dir))) if not f.what.startswith(("disk", "nvml"))]

    assert (finding.level, finding.what) == (level, f"{study_dir / 'study.db'}: {what}")


def test_trials_of_another_form_are_a_warning(study_dir: Path, study: optuna.Study) -> None:
    for attrs in ({"arch": ARCH}, {"arch": "../.."}, {"arch": ARCH, "worker": ["x"]}):
        study.add_trial(optuna.trial.create_trial(values=(1.0, 0.5), user_attrs=attrs))

    (finding,) = [finding for finding in examine(study_dir) if finding.what.startswith("trials")]

    assert finding.level == "warning"
    assert finding.what == (
        "trials: 2 are not as smnas stores them, and count for nothing; the first is structural 1: not a trial of "
        "smnas: arch is not as it stores it"
    )


def test_a_generation_that_optuna_cannot_go_on_with_is_a_fault(study_dir: Path, study: optuna.Study) -> None:
    trial = begin_trial(study, "someone")
    trial.storage.set_trial_system_attr(trial._trial_id, optuna.samplers.NSGAIISampler._get_generation_key(), "x")

    (finding,) = [finding for finding in examine(study_dir) if finding.level == "fault"]

    assert finding.what == (
        "study structural: its trial 0 cannot be read, as no program writes them: its generation is 'x'"
    )
    assert finding.fix == "bring a copy of the database back; somebody has edited it"


def test_the_study_of_another_program_is_a_fault_and_stays_as_it_is(study_dir: Path) -> None:
    other = optuna.create_study(
        study_name=STRUCTURAL, storage=f"sqlite:///{study_dir}/study.db", directions=["minimize", "maximize"]
    )
    other.add_trial(optuna.trial.create_trial(values=(1.0, 0.5)))
    before = (study_dir / "study.db").read_bytes()

    (finding,) = [f for f in worst(list(examine(study_dir, fix=True))) if not f.what.startswith(("disk", "nvml"))]

    assert finding.level == "fault"
    assert "the study structural was made by another program: it has 1 trials and no fingerprint" in finding.what
    assert (study_dir / "study.db").read_bytes() == before
