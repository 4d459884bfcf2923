"""Latencies of a finished study that are measured again, without any training: weights are random, times are given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.study import Study
from optuna.trial import create_trial

from smnas_optuna.arch import decode
from smnas_optuna.engine.checkpoint import save_weights
from smnas_optuna.engine.latency import LatencyStats
from smnas_optuna.errors import StudyError
from smnas_optuna.report.summary import summarize
from smnas_optuna.search.request import Request
from smnas_optuna.search.retime import retime, retime_fronts
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import Session, prepare
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.study.attributes import FINGERPRINT, REFERENCE_MS, RETIMED, json_values
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import STRUCTURAL, read_records
from smnas_optuna.workers.interrupt import Interrupted, StopRequest

FAST = "32x32.resnet18-w4.fpn-p3-p5-c8.none.retina"
MIDDLE = "32x32.resnet18-w8.fpn-p2-p5-c8.rpn.fc-w16"
STRONG = "64x64.resnet18-w8.fpn-p2-p5-c16.rpn.fc-w32"
POOR = "64x64.resnet18-w4.fpn-p2-p5-c16.rpn.fc-w32"
AP = {FAST: 0.1, MIDDLE: 0.2, STRONG: 0.3, POOR: 0.15}


class Notes(Listener):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def stats(ratio: float, reference_ms: float = 8.0, *, width: float = 0.02) -> LatencyStats:
    return LatencyStats(
        ratio=ratio,
        ratio_low=ratio * (1 - width / 2),
        ratio_high=ratio * (1 + width / 2),
        median_ms=ratio * reference_ms,
        p10_ms=ratio * reference_ms,
        p90_ms=ratio * reference_ms,
        network_ms=math.nan,
        reference_median_ms=reference_ms,
        reference_p10_ms=reference_ms,
        reference_p90_ms=reference_ms,
        num_runs=60,
        num_blocks=12,
        warm=True,
    )


@pytest.fixture
def session(drawn_dir: Path) -> Session:
    settings = (drawn_dir / "study.toml").read_text()
    (drawn_dir / "study.toml").write_text(settings.replace("[latency]", "[latency]\nnoise = 0"))
    return prepare(StudyFolder(drawn_dir), listener=Listener(), stop=StopRequest(), device="cpu")


Found = Callable[..., Study]


@pytest.fixture
def found(session: Session) -> Found:
    """Makes a study of the session's folder, as a search begun on a busy machine leaves it: 27 ms for the reference."""

    def make(ratios: dict[str, float], name: str = STRUCTURAL, *, weights: bool = True, width: float = 0.02) -> Study:
        study = session.folder.create(name, optuna.samplers.NSGAIISampler())
        study.set_user_attr(FINGERPRINT, {**session.depends_on, "space": {}})
        study.set_user_attr(REFERENCE_MS, 27.0)
        for arch, ratio in ratios.items():
            latency = json_values(stats(ratio, 24.0, width=width))
            study.add_trial(
                create_trial(values=[ratio * 27.0, AP[arch]], user_attrs={"arch": arch, "latency": latency})
            )
            if weights:
                save_weights(session.folder.run(arch), session.testbed.build(decode(arch), seed=1), {"arch": arch})
        return study

    return make


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What the next measurements find: statistics, or an exception."""
    given: list[Any] = []

    def measure(*_: object) -> LatencyStats:
        found = given.pop(0)
        if isinstance(found, BaseException):
            raise found
        assert isinstance(found, LatencyStats)
        return found

    monkeypatch.setattr(Testbed, "measure_latency", measure)
    yield given
    assert given == []


def again(session: Session, work: Callable[..., None] = retime) -> list[str]:
    listener, request = Notes(), Request(study_dir=session.folder.path, device="cpu")
    work(request, listener=listener, stop=StopRequest())
    return listener.notes


def latencies(study: Study) -> dict[str | None, float]:
    return {record.arch: round(record.latency_ms or 0.0, 6) for record in read_records(study)}


def test_the_front_is_measured_again_in_one_run_and_in_a_better_unit(
    session: Session, found: Found, times: list[Any]
) -> None:
    study = found({STRONG: 2.0, FAST: 0.5, MIDDLE: 1.0, POOR: 1.5})
    assert latencies(study) == {STRONG: 48.0, FAST: 12.0, MIDDLE: 24.0, POOR: 36.0}
    before = {trial.number: trial.values for trial in study.trials}
    times += [stats(0.625), stats(1.25), stats(2.5)]

    assert again(session) == ["timing again, in one run: 3 detectors"], "POOR is beaten whatever a new time says"

    assert latencies(study) == {STRONG: 20.0, FAST: 5.0, MIDDLE: 10.0, POOR: 12.0}
    assert {trial.number: trial.values for trial in study.trials} == before
    summary = summarize(study)
    assert [record.arch for record in summary.front] == [FAST, MIDDLE, STRONG]
    assert summary.timed_together
    assert len({record.retimed for record in summary.front}) == 1


def test_what_may_be_on_the_front_is_measured_too_and_takes_its_place(
    session: Session, found: Found, times: list[Any]
) -> None:
    study = found({MIDDLE: 1.0, POOR: 1.01})
    times += [stats(1.0), stats(0.8)]

    again(session)

    assert [record.arch for record in summarize(study).front] == [POOR, MIDDLE]


def test_an_interrupted_run_changes_nothing(session: Session, found: Found, times: list[Any]) -> None:
    study = found({FAST: 0.5, MIDDLE: 1.0})
    before, attrs = latencies(study), study.user_attrs
    times += [stats(5.0), Interrupted(15)]

    with pytest.raises(Interrupted):
        again(session)

    assert (latencies(study), study.user_attrs) == (before, attrs)


def test_an_imprecise_time_takes_the_place_of_an_imprecise_one_alone(
    session: Session, found: Found, times: list[Any]
) -> None:
    study = found({FAST: 0.5})
    found({MIDDLE: 1.0}, width=0.5)
    times += [stats(0.7, width=0.4), stats(1.5, width=0.4)]

    notes = again(session)

    assert notes[1:] == [f"{FAST}: keeps its latency: the new one is imprecise, as the machine is busy"]
    first, second = read_records(study)
    assert first.retimed is None
    assert first.latency_ms == pytest.approx(4.0)
    assert second.retimed is not None
    assert second.latency_ms == pytest.approx(1.5 * 1.2 * 8), "its upper end"


def test_members_without_weights_keep_their_latency(session: Session, found: Found, times: list[Any]) -> None:
    study = found({FAST: 0.5})
    found({MIDDLE: 1.0}, weights=False)
    times += [stats(0.6)]

    notes = again(session)

    assert notes == [
        f"{MIDDLE}: cannot be timed again, its weights are gone: it keeps its latency",
        "timing again, in one run: 1 detectors",
    ]
    assert latencies(study) == {FAST: 4.8, MIDDLE: 8.0}
    assert not summarize(study).timed_together


def test_damaged_weights_are_told(session: Session, found: Found, times: list[Any]) -> None:
    study = found({FAST: 0.5, MIDDLE: 1.0})
    (session.folder.run(FAST) / "weights.safetensors").write_bytes(b"x")
    times += [stats(1.0)]

    notes = again(session)

    assert notes[1].startswith(f"{FAST}: cannot be timed again: ")
    assert "the weights are damaged or incomplete" in notes[1]
    assert latencies(study) == {FAST: 4.0, MIDDLE: 8.0}


def test_without_any_weights_there_is_nothing_to_do(session: Session, found: Found, times: list[Any]) -> None:
    found({FAST: 0.5, MIDDLE: 1.0}, weights=False)

    with pytest.raises(StudyError) as caught:
        again(session)

    folder = session.folder
    assert caught.value.message == (
        f"{folder.path}: nothing can be timed again: of 2 members of the front none has its weights in {folder.runs}"
    )
    assert caught.value.fix == "search first, or bring the folder back"


def test_a_study_that_has_not_begun_is_told(session: Session) -> None:
    with pytest.raises(StudyError, match="there is no structural study yet"):
        again(session)


def test_other_data_or_another_device_is_refused(session: Session, found: Found, times: list[Any]) -> None:
    study = found({FAST: 0.5})
    other = {**session.depends_on, "device": {**session.depends_on["device"], "model": "another"}}
    study.set_user_attr(FINGERPRINT, {**other, "space": {}})

    with pytest.raises(StudyError, match="made with other device"):
        again(session)
    assert RETIMED not in study.user_attrs


def test_the_fronts_of_both_stages_are_measured_once(session: Session, found: Found, times: list[Any]) -> None:
    found({FAST: 0.5, STRONG: 2.0})
    assert again(session, retime_fronts) == [], "there is but one stage"
    modular = found({MIDDLE: 1.0}, f"modular/{STRONG}")
    times += [stats(0.5), stats(1.0), stats(2.0)]

    assert again(session, retime_fronts) == ["timing again, in one run: 3 detectors"]
    assert again(session, retime_fronts) == [], "there is nothing new"
    assert latencies(modular) == {MIDDLE: 8.0}
    assert summarize(*session.folder.of_stage(None)).timed_together

    modular.add_trial(create_trial(values=[0.25 * 27.0, AP[POOR]], user_attrs={"arch": POOR}))
    save_weights(session.folder.run(POOR), session.testbed.build(decode(POOR), seed=1), {"arch": POOR})
    times += [stats(0.25), stats(0.5), stats(1.0), stats(2.0)]
    assert again(session, retime_fronts) == ["timing again, in one run: 4 detectors"]
