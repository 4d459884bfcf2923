from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import create_trial

from smnas_optuna.report.evidence import evidence_of, known_of
from smnas_optuna.study.choice import Pick
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import TrialRecord
from smnas_optuna.verify.results import SeedRun

from ..conftest import TINY_STUDY
from ..final_training.trainings import ARCH, OTHER

THIRD = "64x64.resnet18-w4.fpn-p3-p5-c8.none.retina"


def trained(folder: Path) -> dict[str, TrialRecord]:
    study = StudyFolder(folder)
    made = study.create("structural", optuna.samplers.RandomSampler())
    made.set_user_attr("fingerprint", {"data": {}})
    for arch, point in ((ARCH, (10.0, 0.1)), (OTHER, (20.0, 0.4))):
        made.add_trial(create_trial(values=point, user_attrs={"arch": arch, "epochs_done": 6}))
    return {str(record.arch): record for record in study.records()}


def seed_run(arch: str, ap: float | None, *, epochs: int = 12, test_ap: float | None = None) -> SeedRun:
    return SeedRun(
        arch=arch,
        number=1,
        seed=1,
        epochs=epochs,
        metrics=None if ap is None else {"ap": ap},
        test_metrics=None if test_ap is None else {"ap": test_ap},
        failed=None if ap is not None else "diverged",
        seconds=1.0,
        versions={},
    )


RUNS = [
    seed_run(ARCH, 0.2, test_ap=0.15),
    seed_run(ARCH, None),
    seed_run(OTHER, 0.5),
    seed_run(OTHER, 0.6),
    seed_run(OTHER, 0.7, epochs=24),
    seed_run(THIRD, 0.9),  # the search has not trained it
]


def test_the_search_and_verify_tell_what_to_expect(tmp_path: Path) -> None:
    found = evidence_of(ARCH, trained(tmp_path), RUNS, 0.01, with_val=False)

    assert (found.searched, found.retrained, found.spread) == ((6, 0.1), [(12, 0.2)], 0.01)
    assert [epochs for epochs, _ in found.gains] == [12, 24]
    assert [gain for _, gain in found.gains] == pytest.approx([0.15, 0.3])


def test_trained_on_validation_images_only_test_images_tell(tmp_path: Path) -> None:
    found = evidence_of(ARCH, trained(tmp_path), RUNS, 0.01, with_val=True)

    assert (found.searched, found.retrained, list(found.gains)) == (None, [(12, 0.15)], [])


def test_an_architecture_is_chosen_whether_its_weights_are_kept_or_not(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(TINY_STUDY)
    trained(tmp_path)

    arch, known = known_of(tmp_path, Pick(), with_val=False)
    third, unknown = known_of(tmp_path, Pick(arch=THIRD), with_val=False)

    assert (arch, third) == (OTHER, THIRD)
    assert known.record is not None
    assert (known.record.ap, known.evidence.searched, known.evidence.spread) == (0.4, (6, 0.4), 0.02)
    assert [member.arch for member in known.front] == [ARCH, OTHER]
    assert (unknown.record, unknown.evidence.searched) == (None, None)
