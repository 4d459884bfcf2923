from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from smnas_optuna.batch import Batch
from smnas_optuna.config import TrainSettings
from smnas_optuna.engine.optimizer import warmup_cosine
from smnas_optuna.engine.skips import STEPS_PER_READING
from smnas_optuna.engine.train import EpochReport, Training, train
from smnas_optuna.errors import OutOfMemoryError

from ..models.tiny_detectors import ARCHS, TWO_STAGE
from .engine_fakes import DetectorBatches, Regressor, Small, Source, exact_detector, regressor
from .stopped_trainings import (
    STEADY,
    StopError,
    interrupted,
    stop_at,
)


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts how often the host asks for a value of a tensor, which on CUDA makes it wait."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default)
        return func(*args, **(kwargs or {}))


class _Lists(TorchFunctionMode):
    """Counts how often the host asks for all values of a tensor, which is no operator."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (Tensor.tolist, Tensor.numpy, Tensor.cpu)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_no_step_reads_a_value_from_the_device(name: Literal["sgd", "adamw"]) -> None:
    reads, lists, seen = _Reads(), _Lists(), list[int]()
    steps = STEPS_PER_READING - 1

    with reads, lists:
        settings = TrainSettings(epochs=1, optimizer=name)
        training = Training(regressor((3,)), Source(steps), settings, seed=0)
        training.run(on_step=lambda *_: seen.append(reads.count + lists.count))
        torch.zeros(()).item()

    assert seen == [0] * steps
    assert (reads.count, lists.count) == (1, 3), "what an epoch ends with is read, so that a read would have been seen"


@pytest.mark.parametrize("spoil", [math.nan, math.inf])
def test_the_loss_of_an_epoch_is_that_of_the_steps_that_were_taken(spoil: float) -> None:
    class Counter(nn.Module):
        """Losses 1, 2, 3, and so on; the third is not finite, the fourth has a gradient that is not."""

        def __init__(self) -> None:
            super().__init__()
            self.weight, self.step = nn.Parameter(torch.zeros(1)), 0

        def losses(self, _: object) -> dict[str, Tensor]:
            self.step += 1
            slope = (self.weight - self.weight.detach()).abs().sqrt().sum() if self.step == 4 else self.weight.sum() * 0
            return {"loss": slope + self.step * (spoil if self.step == 3 else 1)}

    reports: list[EpochReport] = []
    training = Training(Counter(), Source(6), TrainSettings(epochs=1), seed=0)
    training.run(on_epoch=reports.append)

    assert training.history == reports
    assert [(report.loss, report.skipped_steps) for report in reports] == [((1 + 2 + 5 + 6) / 4, 2)]


def test_steps_and_epochs_are_reported() -> None:
    steps: list[tuple[int, int]] = []
    reports: list[EpochReport] = []
    source = Source(4)

    training = Training(regressor((5,)), source, TrainSettings(epochs=3), seed=0)
    skipped = training.run(on_step=lambda *step: steps.append(step), on_epoch=reports.append)

    assert skipped == 1
    assert training.epochs_done == 3
    assert source.epochs == [0, 1, 2]
    assert steps == [(done, 12) for done in range(1, 13)]
    assert [(report.epoch, report.epochs, report.skipped_steps) for report in reports] == [
        (1, 3, 0),
        (2, 3, 1),
        (3, 3, 1),
    ]
    assert all(math.isfinite(report.loss) and report.seconds > 0 for report in reports)


def test_a_callback_that_raises_ends_the_training() -> None:
    detector = regressor()
    with pytest.raises(StopError):
        Training(detector, Source(10), TrainSettings(epochs=2), seed=0).run(on_step=stop_at(3))

    assert detector.step == 3


@pytest.mark.parametrize("spoiled", [(), (0, 7)], ids=["all steps", "skipped steps"])
def test_every_step_has_the_rate_of_its_number(spoiled: tuple[int, ...]) -> None:
    """A step of SGD moves by the rate times the clipped gradient, whose norm is 1 as long as it is clipped."""

    class Slope(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.steps = nn.Parameter(torch.zeros(1)), list[float]()

        def losses(self, _: object) -> dict[str, Tensor]:
            self.steps.append(self.weight.item())
            return {"loss": self.weight.sum() * (math.nan if len(self.steps) - 1 in spoiled else 1e6)}

    detector = Slope()
    settings = TrainSettings(epochs=4, optimizer="sgd", learning_rate=0.1, clip_norm=1.0, batch_size=16, warmup=0.25)
    Training(detector, Source(5), settings, seed=0).run()

    moves, velocity = [], 0.0
    for before, after in itertools.pairwise([*detector.steps, detector.weight.item()]):
        moves.append(before - after)
    for step, move in enumerate(moves):
        if step in spoiled:
            assert move == 0
            continue
        velocity = 0.9 * velocity + 1  # SGD's momentum
        assert move == pytest.approx(0.1 * warmup_cosine(step, 20, 0.25) * velocity, rel=1e-3)


def test_training_lowers_the_loss_and_puts_the_detector_into_training_mode() -> None:
    detector, reports = regressor().eval(), list[EpochReport]()

    settings = TrainSettings(epochs=3, learning_rate=0.1)
    Training(detector, Source(20), settings, seed=0).run(on_epoch=reports.append)

    assert detector.training
    assert reports[-1].loss < 0.2 * reports[0].loss


def _weights(detector: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().double() for p in detector.parameters()])


class _Dice(Regressor):
    """A regressor whose losses are multiplied by numbers from torch's global generator, which it keeps."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__()
        self.drawn: list[float] = []

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        self.drawn.append(torch.rand(()).item())
        return {name: loss * self.drawn[-1] for name, loss in super().losses(batch).items()}


def test_random_numbers_come_from_the_seed_and_the_epoch() -> None:
    def drawn(seed: int) -> list[float]:
        detector = _Dice()

        def evaluate(_: EpochReport) -> None:
            torch.rand(5)  # it may draw some

        Training(detector, Source(3), TrainSettings(epochs=2), seed=seed).run(on_epoch=evaluate)
        return detector.drawn

    numbers = [drawn(seed) for seed in (0, 1, 2)]

    assert numbers[0] == drawn(0)
    assert len(set(itertools.chain(*numbers))) == 18


def test_without_a_seed_it_is_drawn_from_torchs_generator() -> None:
    def weights(seed: int) -> Tensor:
        detector = _Dice()
        torch.manual_seed(seed)
        train(detector, Source(6), TrainSettings(epochs=2))
        return _weights(detector)

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_a_training_that_is_done_does_nothing_more() -> None:
    detector, reports = regressor((1,)), list[EpochReport]()
    training = Training(detector, Source(4), TrainSettings(epochs=2), seed=0)
    training.run()
    before = _weights(detector)

    assert training.run(on_epoch=reports.append) == 1
    assert torch.equal(_weights(detector), before)
    assert (training.epochs_done, training.step, reports) == (2, 0, [])


def _exact(arch: str, most: int, notes: list[str], micro_batch: int | None = None) -> tuple[Training, Small]:
    detector = Small(exact_detector(arch), most)
    settings = TrainSettings(epochs=2, batch_size=5, optimizer="sgd", learning_rate=2e-3)
    batches = DetectorBatches(2, exact=True)
    return Training(detector, batches, settings, seed=0, micro_batch=micro_batch, note=notes.append), detector


@pytest.mark.slow
@pytest.mark.parametrize("arch", [ARCHS[name] for name in STEADY], ids=STEADY)
def test_a_training_short_of_memory_ends_with_the_same_weights(arch: str) -> None:
    notes: list[str] = []
    (whole, expected), (training, detector) = _exact(arch, 5, notes), _exact(arch, 2, notes)
    start = _weights(detector)
    whole.run()

    training.run()

    moved = _weights(expected) - start
    assert moved.norm() > 1e-4 * start.norm()
    assert (_weights(detector) - _weights(expected)).norm() < 1e-7 * start.norm()
    assert expected.sizes == [5] * 4
    assert detector.sizes == [5, 3, 2, 2, 1, *[2, 2, 1] * 3]
    assert (whole.micro_batch, training.micro_batch) == (5, 2)
    assert [note.partition(" (")[0] for note in notes] == ["out of memory: 2,048.0 MiB more were asked for"] * 2
    assert [note.partition("); ")[2] for note in notes] == [
        "from now on 3 images at once instead of 5",
        "from now on 2 images at once instead of 3",
    ]
    for one, other in zip(whole.history, training.history, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-6)


def test_a_given_number_of_images_at_once_is_kept() -> None:
    training, detector = _exact(TWO_STAGE, 5, [], micro_batch=2)

    training.run()

    assert detector.sizes == [2, 2, 1] * 4
    assert training.micro_batch == 2


@pytest.mark.slow
def test_where_not_even_one_image_fits_it_is_told_how_much_was_asked_for() -> None:
    notes: list[str] = []
    training, detector = _exact(TWO_STAGE, 0, notes)
    before = _weights(detector)

    with pytest.raises(OutOfMemoryError) as failure:
        training.run()

    assert failure.value.message.startswith(
        "not even one image at once: out of memory: 2,048.0 MiB more were asked for (CUDA out of memory. Tried"
    )
    assert detector.sizes == [5, 3, 2, 1]
    assert len(notes) == 3
    assert torch.equal(_weights(detector), before)
    assert training.steps_done == 0


def test_the_images_at_once_do_not_belong_to_the_state() -> None:
    (training, _), (rest, detector) = _exact(TWO_STAGE, 5, []), _exact(TWO_STAGE, 5, [], micro_batch=3)
    rest.restore(interrupted(training, 3))

    rest.run()

    assert detector.sizes == [3, 2]


class _Portraits(DetectorBatches):
    """Batches of five images and of one."""

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        for number, batch in enumerate(super().epoch(index, start)):
            yield batch[:1] if number % 2 == 0 else batch


def test_a_batch_of_few_images_is_split_by_its_own_number() -> None:
    detector = Small(exact_detector(TWO_STAGE), 3)
    settings = TrainSettings(epochs=1, batch_size=16)
    training = Training(detector, _Portraits(4, exact=True), settings, seed=0)

    training.run()

    assert detector.sizes == [1, 5, 3, 2, 1, 3, 2]
    assert training.micro_batch == 3
