from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
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
from smnas_optuna.engine.state import TrainingState
from smnas_optuna.engine.train import EpochReport, Training, train
from smnas_optuna.errors import CheckpointError, OutOfMemoryError

from ..models.tiny_detectors import ARCHS, TWO_STAGE
from .engine_fakes import DetectorBatches, Regressor, Small, Source, exact_detector, regressor
from .stopped_trainings import (
    EPOCHS,
    SPOILT,
    STEPS,
    StopError,
    assert_same_end,
    finished,
    interrupted,
    stop_at,
    training_of,
)

OPTIMIZERS = pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
# Every kind of RPN and head. Not c4-mobilenet, which turns a difference of 1e-9 in its weights into one of 1e-4 within
# these steps, so a rounding error, too; that steps are the same, one by one, is tested for all in test_steps.
STEADY = ("one_stage", "two_stage", "cascade2-xbottleneck-convc5", "c4-cascade3", "guided-inverted")


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


def test_a_callback_that_raises_ends_thetraining() -> None:
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


@OPTIMIZERS
@pytest.mark.parametrize("norm", ["bn", "gn"])
@pytest.mark.parametrize("at", [1, 3, 4, 6, 12], ids="after {}".format)
def test_an_interrupted_training_ends_as_one_that_is_not(optimizer: str, norm: str, at: int) -> None:
    """Stopped within an epoch, at its last step, at the last of all, and after steps that were skipped."""
    state = interrupted(training_of(norm=norm, optimizer=optimizer), at)

    rest = training_of(norm=norm, optimizer=optimizer, weights=1)
    rest.restore(state)
    torch.rand(7)  # what others draw before it goes on
    assert rest.steps_done == at
    assert rest.run() == len(SPOILT)

    assert_same_end(rest, finished(norm=norm, optimizer=optimizer))
    assert isinstance(rest._batches, DetectorBatches)
    assert rest._batches.made == list(range(at, EPOCHS * STEPS)), "batches that are done are not made again"


@pytest.mark.parametrize("arch", [ARCHS[name] for name in STEADY], ids=STEADY)
def test_it_may_be_interrupted_again_and_again_within_and_between_epochs(arch: str) -> None:
    training = training_of(arch)

    for at in (2, 4, 5, 11):
        state = interrupted(training, at)
        training = training_of(arch, weights=at)
        training.restore(state)
    reports: list[EpochReport] = []
    training.run(on_epoch=reports.append)

    assert_same_end(training, finished(arch))
    assert [report.epoch for report in reports] == [3], "what was told is not told again"
    assert training.history[-1] is reports[-1]


def test_the_same_training_goes_on_where_it_was_stopped() -> None:
    training = training_of()

    for at in (3, 9):
        interrupted(training, at)
        torch.rand(7)
    training.run()

    assert_same_end(training, finished())


def test_a_state_between_epochs_is_that_after_the_epoch() -> None:
    first = training_of()
    states: list[TrainingState] = []

    def stop(report: EpochReport) -> None:
        states.append(first.state())
        if report.epoch == 2:
            raise StopError

    with pytest.raises(StopError):
        first.run(on_epoch=stop)

    for epochs, state in enumerate(states, start=1):
        rest = training_of(weights=1)
        rest.restore(state)
        assert (rest.epochs_done, rest.step) == (epochs, 0)
        rest.run()
        assert_same_end(rest, finished())


def test_a_state_is_a_copy_and_leaves_the_training_alone() -> None:
    training = training_of()
    state = interrupted(training, 5)
    before = {name: tensor.clone() for name, tensor in state.tensors.items()}

    other = training_of(weights=1)
    other.restore(state)
    training.run()
    other.run()

    assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors.items())
    assert_same_end(training, finished())
    assert_same_end(other, finished())


def test_an_epoch_counts_the_seconds_of_all_its_parts() -> None:
    training = training_of()
    state = interrupted(training, 3)

    rest = training_of()
    rest.restore(replace(state, values={**state.values, "seconds": 1000.0}))
    rest.run()

    assert 1000 < rest.history[0].seconds < 1100
    assert rest.history[1].seconds < 100


def _change(state: TrainingState, **values: Any) -> TrainingState:
    return replace(state, values={**state.values, **values})


def _with(state: TrainingState, name: str, tensor: Tensor | None) -> TrainingState:
    tensors = {key: value for key, value in state.tensors.items() if key != name}
    return replace(state, tensors=tensors if tensor is None else {**tensors, name: tensor})


WEIGHT = "model.detector.backbone.conv1.weight"
GENERATOR = "generator.cpu"
UNFIT: dict[str, tuple[Callable[[TrainingState], TrainingState], str]] = {
    "another seed": (lambda s: _change(s, seed=4), "seed is 4 instead of 3"),
    "other epochs": (lambda s: _change(s, epochs=9), "epochs is 9 instead of 3"),
    "other data": (lambda s: _change(s, steps_per_epoch=9), "steps_per_epoch is 9 instead of 4"),
    "no values": (lambda s: replace(s, values={}), "seed is None instead of 3"),
    "a step beyond the epoch": (lambda s: _change(s, step=5), "step 5 after the epochs [1] is none of this training"),
    "a step before the first": (lambda s: _change(s, step=-1), "step -1 after the epochs [1] is none of this training"),
    "no step": (lambda s: _change(s, step=None), "step, seconds or history are missing"),
    "an epoch twice": (
        lambda s: _change(s, history=[*s.values["history"]] * 2),
        "step 1 after the epochs [1, 1] is none of this training",
    ),
    "an epoch too many": (
        lambda s: _change(s, history=[{**s.values["history"][0], "epoch": 1 + i} for i in range(3)]),
        "step 1 after the epochs [1, 2, 3] is none of this training",
    ),
    "an epoch without a loss": (lambda s: _change(s, history=[{"epoch": 1}]), "an epoch of the history has other"),
    "an epoch that is text": (
        lambda s: _change(s, history=[{**s.values["history"][0], "loss": "1"}]),
        "an epoch of the history has values that are no numbers",
    ),
    "a weight is missing": (lambda s: _with(s, WEIGHT, None), f"tensors are missing, such as {WEIGHT}"),
    "a weight too many": (lambda s: _with(s, "more", torch.zeros(1)), "tensors are unknown, such as more"),
    "a weight of another shape": (
        lambda s: _with(s, WEIGHT, torch.zeros(8, 3, 7)),
        f"{WEIGHT} is torch.float32 [8, 3, 7] instead of torch.float32 [8, 3, 7, 7]",
    ),
    "a weight of another type": (
        lambda s: _with(s, WEIGHT, torch.zeros(8, 3, 7, 7).half()),
        f"{WEIGHT} is torch.float16 [8, 3, 7, 7] instead of torch.float32 [8, 3, 7, 7]",
    ),
    "no random numbers": (lambda s: _with(s, GENERATOR, None), f"tensors are missing, such as {GENERATOR}"),
    "random numbers that are none": (
        lambda s: _with(s, GENERATOR, torch.full_like(s.tensors[GENERATOR], 255)),
        "the random numbers have no state",
    ),
}


@pytest.mark.parametrize(("change", "problem"), UNFIT.values(), ids=UNFIT)
def test_a_state_that_does_not_fit_changes_nothing(
    change: Callable[[TrainingState], TrainingState], problem: str
) -> None:
    state = change(interrupted(training_of(), 5))
    training, same = training_of(weights=1), training_of(weights=1)

    with pytest.raises(CheckpointError) as refusal:
        training.restore(state)

    assert problem in refusal.value.message
    assert refusal.value.message.startswith("state of another training: ")
    for each in (training, same):
        each.run()
    assert_same_end(training, same)


@OPTIMIZERS
def test_the_state_of_another_optimizer_does_not_fit(optimizer: str) -> None:
    other = "sgd" if optimizer == "adamw" else "adamw"

    with pytest.raises(CheckpointError, match=r"tensors are missing, such as optimizer\.detector\..*\.(exp|momentum)"):
        training_of(optimizer=optimizer).restore(interrupted(training_of(optimizer=other), 1))


def test_an_epoch_without_a_step_that_was_taken_has_no_loss_and_is_stored_nevertheless() -> None:
    settings = TrainSettings(epochs=2)
    training = Training(regressor(range(3)), Source(3), settings, seed=0)
    state = training.state()
    with pytest.raises(StopError):
        training.run(on_step=stop_at(4))
    state = training.state()

    rest = Training(regressor(), Source(3), settings, seed=0)
    rest.restore(state)

    assert state.values["history"][0]["loss"] is None
    assert math.isnan(rest.history[0].loss)
    assert rest.run() == 3


def _exact(arch: str, most: int, notes: list[str], micro_batch: int | None = None) -> tuple[Training, Small]:
    detector = Small(exact_detector(arch), most)
    settings = TrainSettings(epochs=2, batch_size=5, optimizer="sgd", learning_rate=2e-3)
    batches = DetectorBatches(2, exact=True)
    return Training(detector, batches, settings, seed=0, micro_batch=micro_batch, note=notes.append), detector


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
