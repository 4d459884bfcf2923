"""Learning from other study folders."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from smnas_optuna.arch import decode, encode
from smnas_optuna.config import SearchSettings
from smnas_optuna.errors import StudyError
from smnas_optuna.search.evolution.sampler import build_ranking
from smnas_optuna.search.request import Request
from smnas_optuna.search.warm_start import read_lessons
from smnas_optuna.search_space import StructuralSearchSpace
from smnas_optuna.session.deadline import Deadline
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import STRUCTURAL, read_record

from .conftest import SPACE, closed_form, make_study

SIZES = ("64x48", "96x72", "128x96")
ARCHS = [f"{size}.resnet18-w{width}.fpn-p2-p5-c32.rpn.fc-w64" for size in SIZES for width in (8, 12, 16, 24)]


def fill(path: Path, archs: list[str] = ARCHS) -> Path:
    path.mkdir()
    study = StudyFolder(path).create(STRUCTURAL, optuna.samplers.RandomSampler())
    for place, arch in enumerate(archs):
        study.add_trial(create_trial(values=(1.0 + place, place / 20), user_attrs={"arch": arch}))
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"arch": ARCHS[0], "reason": "x"}))
    return path


def test_trainings_of_another_folder_are_another_task_and_what_cannot_be_decoded_is_left_out(tmp_path: Path) -> None:
    other = fill(tmp_path / "other", [*ARCHS, "of a later version"])

    (lessons,) = read_lessons([other, tmp_path / "." / "other"], tmp_path / "own")

    assert lessons.in_words() == f"surrogate: learns from 12 trainings of {tmp_path / 'other'}"
    assert [encode(each.spec) for each in lessons.observations] == ARCHS
    assert {each.task for each in lessons.observations} == {str(other.resolve())}
    assert [each.ap for each in lessons.observations] == [place / 20 for place in range(12)]


def test_the_other_folder_stays_as_it_is(tmp_path: Path) -> None:
    other = fill(tmp_path / "other")

    def content() -> dict[str, str]:
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in other.iterdir()}

    before = content()
    read_lessons([other], tmp_path / "own")

    assert content() == before


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "there is nothing to learn from: it holds no study"),
        ("empty", "there is nothing to learn from: it holds no study"),
        ("untrained", "there is nothing to learn from: none of its 1 trials is trained"),
        ("own", "is the study itself, whose trials are known anyway"),
        ("broken", "study.db"),
    ],
)
def test_a_folder_that_has_nothing_to_teach_is_refused(tmp_path: Path, kind: str, message: str) -> None:
    own, path = tmp_path / "own", tmp_path / kind
    if kind == "untrained":
        fill(path, [])
    elif kind != "missing":
        path.mkdir()
    if kind == "broken":
        (path / "study.db").write_text("no database, and longer than nothing")

    with pytest.raises(StudyError) as caught:
        read_lessons([path], own)

    assert message in caught.value.message
    assert caught.value.fix
    if kind != "broken":
        assert caught.value.message.startswith(f"--warm-start {path}: ")


def test_workers_get_it_with_the_request(tmp_path: Path) -> None:
    request = Request(study_dir=tmp_path, warm_start=(tmp_path / "one", Path("two")))

    assert request.as_json()["warm_start"] == [str(tmp_path / "one"), "two"]
    assert Request.from_json(request.as_json()) == request
    in_time = replace(request, deadline=Deadline(at=1.0, latest=2.0, end=3.0, total_s=4.0))
    assert Request.from_json(json.loads(json.dumps(in_time.as_json()))) == in_time


def test_ap_elsewhere_helps_to_choose_here_and_latency_elsewhere_does_not() -> None:
    """Four trainings here say little of 200 architectures; 30 of another task, with other latencies, say more."""
    space, random = StructuralSearchSpace(SPACE), np.random.default_rng(0)
    specs = list(dict.fromkeys(space.express(space.draw(random)) for _ in range(240)))
    trial = make_study().ask()
    found = {spec: closed_form(spec, trial) for spec in specs}
    own = [
        read_record(create_trial(values=(found[s].latency_ms, found[s].ap), user_attrs={"arch": encode(s)}))
        for s in specs[:4]
    ]
    from smnas_optuna.search.surrogate.observations import Observation

    earlier = [
        Observation(spec=spec, latency_ms=1000.0 / found[spec].latency_ms, ap=found[spec].ap / 2, task="other")
        for spec in specs[4:34]
    ]
    left = specs[34:]

    def order(known: list[Observation]) -> float:
        """Rank correlation of the predicted gain with the AP gain over the front, by the true results."""
        ranking = build_ranking(SearchSettings(), Limits(), earlier=lambda: known)
        assert ranking is not None
        gains = ranking.gains(left, own)
        assert gains is not None
        best = np.argsort(-gains)[:20]
        return float(np.mean([found[left[place]].ap for place in best]))

    assert order(earlier) > order([]) + 0.02
    assert decode(str(own[0].arch)) == specs[0]
