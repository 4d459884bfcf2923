from __future__ import annotations

import pytest
import torch

from smnas_optuna.arch import DetectorConstants, decode
from smnas_optuna.config import TrainSettings
from smnas_optuna.new_study import probe
from smnas_optuna.new_study.probe import RandomBatches, probe_device

SPECS = [decode("32x32.resnet18-w4.fpn-p3-p5-c8.rpn.fc-w16"), decode("64x64.resnet18-w8.fpn-p2-p5-c16.rpn.fc-w32")]
CONSTANTS = DetectorConstants(
    anchor_scale=4, train_proposals=50, test_proposals=30, guided_proposals=20, rpn_samples=32, roi_samples=16
)
CPU = torch.device("cpu")


def test_random_batches_are_what_a_detector_trains_on() -> None:
    batches = RandomBatches(SPECS[1], 3, 5, 2, CPU, count=4)

    epoch = list(batches.epoch(0, start=1))

    assert len(batches) == 4
    assert len(epoch) == 3
    batch = epoch[0]
    assert batch.images.shape == (3, 3, 64, 64)
    assert batch.boxes.shape == (3, 5, 4)
    assert bool((batch.boxes[..., 2:] > batch.boxes[..., :2]).all())
    assert float(batch.boxes.min()) >= 0
    assert float(batch.boxes.max()) <= 64
    assert set(batch.labels.flatten().tolist()) <= {1, 2}
    assert bool(batch.objects.all())


def test_detectors_are_timed_as_a_worker_trains_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "TIMED_S", 0.0)
    steps: list[tuple[int, int]] = []

    found = probe_device(
        CPU,
        SPECS,
        workers=2,
        threads=1,
        recipe=TrainSettings(batch_size=2),
        constants=CONSTANTS,
        num_classes=2,
        num_boxes=5,
        on_step=lambda done, total: steps.append((done, total)),
    )

    assert (found.kind, found.workers, found.threads) == ("cpu", 2, 1)
    assert [each.arch.split(".")[0] for each in found.timed] == ["32x32", "64x64"]
    assert found.timed[0].multiply_adds < found.timed[1].multiply_adds
    assert all(each.train_s > each.detect_s > 0 and each.latency_ms > 0 for each in found.timed)
    assert sorted(steps) == steps
    assert set(steps) == {(0, 2), (1, 2), (2, 2)}


def test_a_detector_that_is_slow_to_time_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "TIMED_S", 1000.0)

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probe_device(
            CPU,
            SPECS,
            workers=1,
            threads=1,
            recipe=TrainSettings(batch_size=2),
            constants=CONSTANTS,
            num_classes=2,
            num_boxes=5,
            on_step=stop,
        )


def test_enough_is_some_calls_and_some_time_or_very_long() -> None:
    assert not probe._is_enough(2, 100.0, 3.0)
    assert not probe._is_enough(3, 1.9, 3.0)
    assert probe._is_enough(3, 2.0, 3.0)
    assert probe._is_enough(0, 0.0, 20.0)
    assert not probe._is_enough(-1, 0.0, 20.0)
