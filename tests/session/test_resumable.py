from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import pytest

from smnas_optuna.arch import decode
from smnas_optuna.engine.memory import estimate_training
from smnas_optuna.errors import OutOfMemoryError
from smnas_optuna.session import resumable as resumable_module
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import prepare
from smnas_optuna.session.resumable import fitting_images
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.interrupt import StopRequest

ARCH = "64x64.resnet18-w8.fpn-p2-p5-c16.rpn.fc-w32"


def test_main_memory_decides_how_many_images_are_trained_at_once(
    study_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    testbed = prepare(StudyFolder(study_dir), listener=Listener(), stop=StopRequest(), device="cpu").testbed
    spec = decode(ARCH)
    detector = testbed.build(spec, seed=0)
    estimate = cache(estimate_training)  # it takes a second
    memory = estimate(detector, 64, 64, max_boxes=testbed.splits.train.max_boxes)
    monkeypatch.setattr(resumable_module, "estimate_training", estimate)

    for images in (8, 2, 1):
        free = memory.fixed_bytes + images * memory.bytes_per_image
        monkeypatch.setattr(resumable_module, "free_memory", partial(int, free))
        assert fitting_images(testbed, detector, spec) == images
    monkeypatch.setattr(resumable_module, "free_memory", partial(int, memory.fixed_bytes))
    with pytest.raises(OutOfMemoryError, match=r"one image a step takes about \d+ MiB of main memory, and \d+ MiB are"):
        fitting_images(testbed, detector, spec)
