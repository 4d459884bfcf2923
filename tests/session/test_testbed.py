from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from smnas_optuna.arch import decode
from smnas_optuna.session import testbed as testbed_module
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import prepare
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.interrupt import StopRequest

SMALL = "32x32.resnet18-w4.fpn-p3-p5-c8.none.retina"


def test_a_worker_with_a_share_of_the_cpu_measures_with_all_its_threads(
    study_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    testbed = prepare(StudyFolder(study_dir), listener=Listener(), stop=StopRequest(), device="cpu").testbed
    seen: list[int] = []
    monkeypatch.setattr(testbed_module, "measure_alone", lambda *_, **__: seen.append(torch.get_num_threads()))
    before, detector, spec = torch.get_num_threads(), testbed.build(decode(SMALL), 0), decode(SMALL)
    shared = replace(testbed, threads=before + 2)

    shared.measure_gate(spec, lambda: None)
    shared.measure_latency(detector, spec.input_size, lambda: None)
    testbed.measure_gate(spec, lambda: None)

    assert seen == [before + 2, before + 2, before]
    assert torch.get_num_threads() == before
    assert shared.device_description["threads"] == before + 2
