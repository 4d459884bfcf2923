from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from smnas_optuna.arch import decode
from smnas_optuna.engine.device import library_versions
from smnas_optuna.session import testbed as testbed_module
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import prepare
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.machine import reference_key, remembered
from smnas_optuna.workers.interrupt import StopRequest

SMALL = "32x32.resnet18-w4.fpn-p3-p5-c8.none.retina"


@dataclass(frozen=True)
class Measured:
    """As much of a latency as a testbed looks at."""

    reference_p10_ms: float
    alone: bool
    runtime_version: str | None = None


def test_a_worker_with_a_share_of_the_cpu_measures_with_all_its_threads(
    study_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    testbed = prepare(StudyFolder(study_dir), listener=Listener(), stop=StopRequest(), device="cpu").testbed
    seen: list[int] = []

    def measure(*_: object, **__: object) -> Measured:
        seen.append(torch.get_num_threads())
        return Measured(reference_p10_ms=float(len(seen)), alone=len(seen) > 1)

    monkeypatch.setattr(testbed_module, "measure_alone", measure)
    before, detector, spec = torch.get_num_threads(), testbed.build(decode(SMALL), 0), decode(SMALL)
    shared = replace(testbed, threads=before + 2)

    shared.measure_gate(spec, lambda: None)
    shared.measure_latency(detector, spec, lambda: None)
    testbed.measure_gate(spec, lambda: None)

    assert seen == [before + 2, before + 2, before]
    assert torch.get_num_threads() == before
    assert shared.device_description["threads"] == before + 2
    assert remembered(reference_key(shared.fingerprint, library_versions())) == [(1.0, False), (2.0, True)]
    assert remembered(reference_key(testbed.fingerprint, library_versions())) == [(3.0, True)]


def test_the_parts_of_a_trained_detector_are_taken_and_those_of_a_gate_are_not(drawn_dir: Path) -> None:
    file = drawn_dir / "study.toml"
    file.write_text(file.read_text().replace('runtime = "eager"', 'runtime = "onnxruntime"'))
    testbed = prepare(StudyFolder(drawn_dir), listener=Listener(), stop=StopRequest(), device="cpu").testbed
    spec = decode(SMALL)

    gate = testbed.measure_gate(spec, lambda: None)
    stats = testbed.measure_latency(testbed.build(spec, 0), spec, lambda: None)

    assert gate.parts is None
    stored = json.loads(json.dumps(testbed.latency_values(stats), allow_nan=False))["parts"]
    assert set(stored) == {"backbone", "neck", "head", "selection"}
    assert sum(stored.values()) == pytest.approx(1)


def test_validation_images_that_are_trained_on_are_decoded_once(drawn_dir: Path) -> None:
    testbed = prepare(StudyFolder(drawn_dir), listener=Listener(), stop=StopRequest(), device="cpu").testbed
    size = decode(SMALL).input_size

    caches = [
        each.caches.get(each.splits.train, each.splits.content_hash, size.long, size.short)
        for each in (testbed.with_val, testbed.with_val)
    ]

    assert caches[0] is caches[1]
    assert len(testbed.with_val.splits.train.images) == 24 + 12
    assert len(testbed.splits.train.images) == 24
