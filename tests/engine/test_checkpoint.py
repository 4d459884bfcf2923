from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from smnas_optuna.config import TrainSettings
from smnas_optuna.engine.checkpoint import (
    DETECTOR_FILE,
    VERSION,
    keep_weights,
    load_checkpoint,
    load_weights,
    remove_checkpoint,
    resume,
    save_checkpoint,
    save_weights,
)
from smnas_optuna.engine.state import TrainingState
from smnas_optuna.engine.train import Training

from ..models.tiny_detectors import ONE_STAGE, TWO_STAGE
from .engine_fakes import Source, regressor
from .foreign_files import foreign
from .stopped_trainings import StopError, assert_same_end, finished, interrupted, stop_at, training_of

KEY = {"arch": "a.b", "data": {"hash": "12ab", "images": 24}, "learning_rate": 0.1, "device": None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "norm", "optimizer"),
    [
        (TWO_STAGE, "gn", "adamw"),
        (TWO_STAGE, "bn", "adamw"),
        (TWO_STAGE, "gn", "sgd"),
        (TWO_STAGE, "bn", "sgd"),
        (ONE_STAGE, "gn", "adamw"),
    ],
)
def test_a_training_that_is_killed_again_and_again_ends_as_one_that_is_not(
    arch: str, norm: str, optimizer: str, path: Path
) -> None:
    """In the middle of an epoch, after its last step, in the same epoch again, and between epochs."""
    for number, at in enumerate((3, 4, 6)):
        training = training_of(arch, norm=norm, optimizer=optimizer, weights=number)
        assert resume(path, training, KEY, pytest.fail) == (number > 0)
        save_checkpoint(path, interrupted(training, at), KEY)
    between = training_of(arch, norm=norm, optimizer=optimizer, weights=3)
    assert resume(path, between, KEY, pytest.fail)
    with pytest.raises(StopError):
        between.run(on_epoch=lambda _: save_checkpoint(path, between.state(), KEY), on_step=stop_at(9))

    last = training_of(arch, norm=norm, optimizer=optimizer, weights=4)
    assert resume(path, last, KEY, pytest.fail)
    assert (last.epochs_done, last.step) == (2, 0)
    last.run()

    assert_same_end(last, finished(arch, norm=norm, optimizer=optimizer))
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def _small(seed: int = 3, epochs: int = 2) -> Training:
    return Training(regressor((1,)), Source(5), TrainSettings(epochs=epochs), seed=seed)


@pytest.fixture
def state(path: Path) -> TrainingState:
    """After seven of ten steps, stored."""
    state = interrupted(_small(), 7)
    save_checkpoint(path, state, KEY)
    return state


def test_a_checkpoint_is_one_file_of_tensors_and_text(state: TrainingState, path: Path) -> None:
    loaded = load_checkpoint(path, KEY, pytest.fail)

    assert loaded is not None
    assert loaded.values == state.values
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in loaded.tensors.items()} == {
        name: (tensor.dtype, tensor.shape) for name, tensor in state.tensors.items()
    }
    assert all(torch.equal(tensor, loaded.tensors[name]) for name, tensor in state.tensors.items())
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert set(metadata) == {"version", "key", "values", "checksum"}
    assert json.loads(metadata["key"]) == KEY
    values = json.loads(metadata["values"])
    assert (values["step"], values["seed"], len(values["history"])) == (2, 3, 1)
    assert set(values["history"][0]) == {"epoch", "epochs", "loss", "skipped_steps", "seconds"}


def test_without_a_checkpoint_there_is_nothing_to_load(path: Path) -> None:
    training = _small()

    assert load_checkpoint(path, KEY, pytest.fail) is None
    assert not resume(path, training, KEY, pytest.fail)
    assert training.steps_done == 0


def _assert_is_set_aside(path: Path, problem: str, key: dict[str, Any] = KEY, training: Training | None = None) -> None:
    """It is not used, the training begins anew as if there had been none, and the file is kept beside."""
    content, notes = path.read_bytes(), list[str]()
    training, fresh = training or _small(), _small()

    assert not resume(path, training, key, notes.append)

    aside = path.with_name("checkpoint.safetensors.set-aside")
    assert not path.exists()
    assert aside.read_bytes() == content
    assert len(notes) == 1
    assert notes[0].startswith(f"{path}: ")
    assert problem in notes[0]
    assert notes[0].endswith("; it is set aside as checkpoint.safetensors.set-aside, and the training starts again")
    mine, its = training.state(), fresh.state()
    assert all(torch.equal(tensor, mine.tensors[name]) for name, tensor in its.tensors.items())
    assert (training.step, training.epochs_done) == (0, 0)


@foreign
def test_a_foreign_file_is_set_aside_and_not_executed(content: Callable[[Path], bytes], path: Path) -> None:
    bomb = path.with_name("bomb")
    path.write_bytes(content(bomb))

    _assert_is_set_aside(path, "not a checkpoint, or an incomplete one (")
    assert not bomb.exists()


@pytest.mark.usefixtures("state")
def test_a_file_that_is_cut_off_anywhere_is_set_aside(path: Path) -> None:
    content = path.read_bytes()

    for length in (*range(0, len(content) - 1, len(content) // 60), len(content) - 1):
        path.write_bytes(content[:length])
        _assert_is_set_aside(path, "not a checkpoint, or an incomplete one (")


@pytest.mark.usefixtures("state")
def test_a_file_of_which_any_byte_has_changed_is_set_aside(path: Path) -> None:
    content = path.read_bytes()

    for place in range(0, len(content), len(content) // 150):
        changed = bytearray(content)
        changed[place] ^= 0x10
        path.write_bytes(changed)
        _assert_is_set_aside(path, "")


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize(
    ("change", "differing"),
    [
        ({"arch": "a.c"}, "arch"),
        ({"data": {"hash": "12ab", "images": 25}}, "data"),
        ({"device": "cpu", "learning_rate": 0.2}, "device, learning_rate"),
        ({"more": 1}, "more"),
    ],
    ids=["arch", "data", "two", "more"],
)
def test_a_checkpoint_of_something_else_is_set_aside(change: dict[str, Any], differing: str, path: Path) -> None:
    _assert_is_set_aside(path, f"it belongs to another training: {differing} differ;", {**KEY, **change})


@pytest.mark.usefixtures("state")
def test_the_order_of_the_key_and_tuples_in_it_do_not_matter(path: Path) -> None:
    save_checkpoint(path, interrupted(_small(), 2), {"b": (1, 2), "a": "ä"})

    assert load_checkpoint(path, {"a": "ä", "b": [1, 2]}, pytest.fail) is not None


def _stored(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None) -> None:
    path.write_bytes(save(tensors, metadata))


def test_a_checkpoint_of_another_version_is_set_aside(state: TrainingState, path: Path) -> None:
    _stored(path, dict(state.tensors), {"version": "smnas training 0", "key": json.dumps(KEY)})
    _assert_is_set_aside(path, f"its version is smnas training 0 instead of {VERSION}")

    _stored(path, dict(state.tensors), None)
    _assert_is_set_aside(path, f"its version is None instead of {VERSION}")


def test_weights_that_somebody_exchanged_are_set_aside(state: TrainingState, path: Path) -> None:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = dict(state.tensors)
    tensors["model.head.weight"] = tensors["model.head.weight"] + 1

    _stored(path, tensors, metadata)

    _assert_is_set_aside(path, "its content has changed since it was written")


BIAS = "model.head.bias"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({BIAS: None}, f"1 of 27 tensors are missing, such as {BIAS}"),
        ({"model.ema": torch.zeros(1)}, "1 of 28 tensors are unknown, such as model.ema"),
        ({BIAS: torch.zeros(2)}, f"{BIAS} is torch.float32 [2] instead of torch.float32 [1]"),
        ({BIAS: torch.zeros(1).double()}, f"{BIAS} is torch.float64 [1] instead of torch.float32 [1]"),
        ({"generator.cpu": torch.full((5056,), 255).byte()}, "the states of the random generators are invalid"),
    ],
    ids=["missing", "extra", "shape", "type", "random numbers"],
)
def test_a_checkpoint_whose_tensors_do_not_fit_is_set_aside(
    change: dict[str, Tensor | None], problem: str, state: TrainingState, path: Path
) -> None:
    tensors = {name: tensor for name, tensor in {**state.tensors, **change}.items() if tensor is not None}
    save_checkpoint(path, TrainingState(tensors=tensors, values=state.values), KEY)

    _assert_is_set_aside(path, f"state of another training: {problem}")


@pytest.mark.usefixtures("state")
def test_a_checkpoint_of_another_seed_or_length_is_set_aside(path: Path) -> None:
    content = path.read_bytes()

    _assert_is_set_aside(path, "seed is 3 instead of 4", training=_small(seed=4))
    path.write_bytes(content)
    _assert_is_set_aside(path, "epochs is 2 instead of 5", training=_small(epochs=5))


@pytest.mark.usefixtures("state")
def test_what_is_set_aside_replaces_what_was_and_stays_when_the_checkpoint_is_removed(path: Path) -> None:
    aside = path.with_name(path.name + ".set-aside")
    aside.write_bytes(b"older")
    path.write_bytes(b"newer")
    _assert_is_set_aside(path, "not a checkpoint")
    save_checkpoint(path, _small().state(), KEY)
    path.with_name(path.name + ".part").write_bytes(b"half")

    remove_checkpoint(path)
    remove_checkpoint(path)

    assert [each.name for each in path.parent.iterdir()] == [aside.name]


@pytest.mark.usefixtures("state")
def test_nothing_is_written_or_removed_through_a_link_or_a_second_name(path: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"theirs")
    part = path.with_name(path.name + ".part")
    for make in (part.symlink_to, part.hardlink_to, path.symlink_to, path.hardlink_to):
        for each in (path, part):
            each.unlink(missing_ok=True)
        make(theirs)

        save_checkpoint(path, _small().state(), KEY)

        assert theirs.read_bytes() == b"theirs"
        assert load_checkpoint(path, KEY, pytest.fail) is not None
    path.unlink()
    path.symlink_to(theirs)
    part.mkdir()
    remove_checkpoint(path)
    assert (path.is_symlink(), part.is_dir(), theirs.read_bytes()) == (True, True, b"theirs")


def test_a_pipe_in_the_place_of_a_checkpoint_is_set_aside_without_waiting(path: Path) -> None:
    os.mkfifo(path)
    notes: list[str] = []

    assert load_checkpoint(path, KEY, notes.append) is None

    assert notes == [
        f"{path}: not a checkpoint, or an incomplete one (it is a folder, a pipe or a device); it is set aside as "
        "checkpoint.safetensors.set-aside, and the training starts again"
    ]


def test_folders_that_were_removed_meanwhile_are_made_again_and_no_more_than_two(tmp_path: Path) -> None:
    path = tmp_path / "study" / "runs" / "arch" / "checkpoint.safetensors"
    with pytest.raises(FileNotFoundError):
        save_checkpoint(path, _small().state(), KEY)
    (tmp_path / "study").mkdir()

    save_checkpoint(path, _small().state(), KEY)

    assert load_checkpoint(path, KEY, pytest.fail) is not None


def test_saving_again_replaces_the_checkpoint_and_half_of_one(state: TrainingState, path: Path) -> None:
    path.with_name(path.name + ".part").write_bytes(b"half")
    later = interrupted(_small(), 9)

    save_checkpoint(path, later, KEY)

    loaded = load_checkpoint(path, KEY, pytest.fail)
    assert loaded is not None
    assert loaded.values["step"] == 4
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@contextmanager
def _files_of_at_most(size: int) -> Iterator[None]:
    """As if the disk were full: a file cannot become larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(state: TrainingState, path: Path) -> None:
    later = interrupted(_small(), 9)

    with _files_of_at_most(1000), pytest.raises(OSError, match="File too large"):
        save_checkpoint(path, later, KEY)

    loaded = load_checkpoint(path, KEY, pytest.fail)
    assert loaded is not None
    assert loaded.values == state.values
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_the_file_and_then_its_folder_are_on_the_disk_before_it_is_told_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        assert path.exists() == (len(synced) == 2)

    monkeypatch.setattr(os, "fsync", watched)
    save_checkpoint(path, _small().state(), KEY)

    assert synced == [path.name + ".part", path.parent.name]


def test_a_key_that_is_no_json_is_a_programmers_mistake(state: TrainingState, path: Path) -> None:
    for key in ({"a": object()}, {"a": float("nan")}):
        with pytest.raises((TypeError, ValueError)):
            save_checkpoint(path, state, key)
    assert load_checkpoint(path, KEY, pytest.fail) is not None


def test_weights_that_are_kept_of_a_checkpoint_are_those_of_the_detector(path: Path, tmp_path: Path) -> None:
    detector = regressor()
    training = Training(detector, Source(2), TrainSettings(epochs=1), seed=0)
    training.run()
    save_checkpoint(path, training.state(), KEY)

    kept = keep_weights(path, tmp_path / "kept", {"epoch": 1})

    saved = save_weights(tmp_path / "saved", detector, {"epoch": 1})
    assert kept.read_bytes() == saved.read_bytes()
    assert json.loads((kept.parent / DETECTOR_FILE).read_text()) == {"epoch": 1}
    load_weights(kept.parent, regressor())
