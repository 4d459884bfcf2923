"""Searches and trainings of a notebook whose nodes are this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from smnas_optuna import load_detector, open_study
from smnas_optuna.api.events import EpochEnded, Event, TrialEnded, TrialStarted
from smnas_optuna.cluster import workforce

from ..cluster.fake_ray import FakeRay

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("enough_memory")]


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that were connected to, of a cluster with two places."""
    addresses = list[str]()

    @contextmanager
    def connected(address: str) -> Iterator[Any]:
        addresses.append(address)
        yield FakeRay({"a": {"CPU": 1.0}, "b": {"CPU": 1.0}})

    monkeypatch.setattr(workforce, "connected", connected)
    return addresses


def test_a_study_is_searched_and_a_detector_trained_on_a_cluster(drawn_dir: Path, addresses: list[str]) -> None:
    study, events = open_study(drawn_dir), list[Event]()

    steps = list(study.search(trials=3, device="cpu", ray="there:6379", callbacks=[events.append]))

    assert [step.trial.state for step in steps] == ["complete"] * 3
    started = [event for event in events if isinstance(event, TrialStarted)]
    ended = [event for event in events if isinstance(event, TrialEnded)]
    assert {event.number: event.arch for event in started} == {event.trial.number: event.trial.arch for event in ended}
    of_trials = {event.number: event.arch for event in started}
    epochs = [event for event in events if isinstance(event, EpochEnded)]
    assert all(of_trials[event.number] == event.arch for event in epochs if event.number is not None)
    assert sorted((event.number, event.epoch) for event in epochs) == [
        (number, epoch) for number in sorted(of_trials) for epoch in (1, 2)
    ]

    trained = study.train(epochs=1, name="mine", device="cpu", ray="there:6379")

    assert load_detector(trained, device="cpu").description["epochs"] == 1
    assert addresses == ["there:6379"] * 2
    study.train(epochs=1, name="mine", device="cpu", ray="nowhere")
    assert "nowhere" not in addresses, "it is finished"
