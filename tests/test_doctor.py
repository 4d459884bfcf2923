from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import torch
from optuna.samplers import RandomSampler

from smnas_optuna.doctor import Finding, examine, nvml_finding
from smnas_optuna.engine.nvml import Gpu, NvmlError
from smnas_optuna.study.attributes import store_attrs
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.optuna_private import begin_trial
from smnas_optuna.study.record import INTERRUPTED, STRUCTURAL, read_records
from smnas_optuna.workers.crew import open_crew
from tests.engine.nvml_fakes import FakeNvml

ARCH = "64x64.resnet18-w8.fpn-p2-p5-c16.rpn.fc-w32"
OTHER = "32x32.resnet18-w4.fpn-p3-p5-c8.none.retina"


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
    assert list(said) == ["versions", "device", *per_gpu, "disk", "settings", "database", "workers", "files"]
    rest = [finding.level for finding in worst(findings) if not finding.what.startswith("nvml")]
    assert rest in ([], ["warning"]), "a warning if the disk is small"
    here = dict.fromkeys(finding.what.partition(":")[0] for finding in examine(None))
    assert list(here) == ["versions", "device", *per_gpu]


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


def test_what_dead_workers_left_is_found_and_mended_when_asked(study_dir: Path, study: optuna.Study) -> None:
    leave(study, study_dir, ARCH)

    found = [finding for finding in examine(study_dir) if "gone" in finding.what]

    assert found == [
        Finding(
            level="warning",
            what="workers: 1 trials (structural 0), 1 claims and 1 locks of workers that are gone",
            fix="the next search cleans up trials and claims; smnas doctor --fix also cleans up locks",
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
    assert worst([f for f in examine(study_dir) if not f.what.startswith(("disk", "nvml"))]) == []


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

    (finding,) = [finding for finding in examine(study_dir, fix=True) if "belongs to no" in finding.what]

    assert finding.what == f"files: {study_dir / 'runs'}/evil\\x1b[2J belongs to no architecture"
    assert (study_dir / "runs" / "evil\x1b[2J").exists()


def test_a_damaged_database_and_settings_are_faults_with_a_cure(study_dir: Path, study: optuna.Study) -> None:
    study._storage.remove_session()
    content = bytearray((study_dir / "study.db").read_bytes())
    content[5000:9000] = b"\xff" * 4000
    (study_dir / "study.db").write_bytes(content)

    (fault, *_) = worst([finding for finding in examine(study_dir) if not finding.what.startswith(("disk", "nvml"))])

    assert fault.level == "fault"
    assert f"database: {study_dir / 'study.db'} is damaged" in fault.what
    assert ".recover" in str(fault.fix)

    (study_dir / "study.toml").write_text("[serach]")
    (fault,) = worst([finding for finding in examine(study_dir) if not finding.what.startswith(("disk", "nvml"))])
    assert "unknown key `serach`" in fault.what
    assert "did you mean `search`" in str(fault.fix)


def test_a_study_that_is_not_begun_is_fine(study_dir: Path) -> None:
    assert Finding(level="fine", what="study: not begun yet") in list(examine(study_dir))
