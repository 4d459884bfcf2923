"""Weights and unfinished trainings on disk, as safetensors. Nothing in them is code.

A checkpoint of a training is one file: its tensors, and as text in the file's header what it belongs to (the key), its
counts, and a checksum. ``torch.load(weights_only=True)`` would read a pickle with a restricted interpreter, which had
to be mended more than once (CVE-2025-32434); safetensors is a table of names, shapes and bytes, with nothing to run.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from smnas_optuna.engine.durable import part_of, write_durably, write_json
from smnas_optuna.engine.state import TrainingState, misfit
from smnas_optuna.engine.train import Training
from smnas_optuna.errors import CheckpointError

WEIGHTS_FILE = "weights.safetensors"
DETECTOR_FILE = "detector.json"
VERSION = "smnas training 1"
"""Of the form of a checkpoint: raised when a state's tensors or values get another meaning."""


def save_weights(folder: Path, detector: nn.Module, description: Mapping[str, Any]) -> Path:
    """Store the weights and what they are in ``folder`` and return the weights' path; a kill leaves no half a file.

    Args:
        folder: Made if it is not there.
        detector: Its state dict is stored.
        description: JSON values: architecture, classes, metrics, ...
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / WEIGHTS_FILE
    # Not save_file: its errors are no OSErrors, and its files are readable by their owner only.
    write_durably(weights, save({name: tensor.contiguous() for name, tensor in detector.state_dict().items()}))
    write_json(folder / DETECTOR_FILE, description)
    return weights


def load_weights(folder: Path, detector: nn.Module) -> None:
    """Load the weights in ``folder`` into ``detector``, which must be of the same architecture.

    Raises:
        CheckpointError: If they are missing, damaged or of another architecture; the detector is as it was then.
    """
    path = folder / WEIGHTS_FILE
    fix = "train the architecture again, or name the folder of one that is trained"
    try:
        tensors, _ = _read(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file", fix=fix) from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: no weights, or only a part of them ({error})", fix=fix) from error
    problem = misfit(detector.state_dict(), tensors)
    if problem is not None:
        raise CheckpointError(f"{path}: weights of another architecture: {problem}", fix=fix)
    detector.load_state_dict(tensors)


def remove_weights(folder: Path) -> None:
    """Remove the weights in ``folder``, if there are any; the log stays."""
    for name in (WEIGHTS_FILE, DETECTOR_FILE):
        (folder / name).unlink(missing_ok=True)


def save_checkpoint(path: Path, state: TrainingState, key: Mapping[str, Any]) -> None:
    """Store ``state`` in one file; a kill leaves the one before it, or this one.

    Args:
        path: Its folder must be there.
        state: From :meth:`smnas_optuna.engine.train.Training.state`.
        key: JSON values that the training depends on (architecture, data, recipe, device): no other may go on from it.
    """
    texts = {"version": VERSION, "key": _text(key), "values": _text(state.values)}
    metadata = {**texts, "checksum": _checksum(state.tensors, texts)}
    write_durably(path, save(dict(state.tensors), metadata))


def load_checkpoint(path: Path, key: Mapping[str, Any], note: Callable[[str], None]) -> TrainingState | None:
    """The state that is stored in ``path``, or None if there is none that can be used.

    A file that is damaged, of another form or of another key is set aside.

    Args:
        path: A checkpoint, if there is one.
        key: As for :func:`save_checkpoint`.
        note: Told which file is set aside and why.
    """
    try:
        return _state(*_read(path), key)
    except FileNotFoundError:
        return None
    except SafetensorError as error:
        _set_aside(path, f"no checkpoint, or only a part of one ({error})", note)
    except CheckpointError as error:
        _set_aside(path, error.message, note)
    return None


def resume(path: Path, training: Training, key: Mapping[str, Any], note: Callable[[str], None]) -> bool:
    """Whether ``training`` goes on from the checkpoint in ``path``; if not, it is as it was.

    Args:
        path: A checkpoint, if there is one; set aside if it cannot be used.
        training: Not begun yet.
        key: As for :func:`save_checkpoint`.
        note: Told which file is set aside and why.
    """
    state = load_checkpoint(path, key, note)
    if state is None:
        return False
    try:
        training.restore(state)
    except CheckpointError as error:
        _set_aside(path, error.message, note)
        return False
    return True


def remove_checkpoint(path: Path) -> None:
    """Remove the checkpoint in ``path``, if there is one; what was set aside stays."""
    for each in (path, part_of(path)):
        each.unlink(missing_ok=True)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and texts of a file of safetensors.

    Raises:
        SafetensorError: If it is none.
    """
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118  # no dict


def _text(values: Mapping[str, Any]) -> str:
    """JSON that is equal for equal values."""
    return json.dumps(values, sort_keys=True, allow_nan=False)


def _checksum(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> str:
    """CRC-32 of all that a checkpoint holds, in hexadecimal."""
    checksum = zlib.crc32(_text(texts).encode())
    for name, tensor in sorted(tensors.items()):
        checksum = zlib.crc32(name.encode(), checksum)
        checksum = zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data, checksum)
    return f"{checksum:08x}"


def _state(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], key: Mapping[str, Any]) -> TrainingState:
    """The state in a file of safetensors.

    Raises:
        CheckpointError: If it is no checkpoint of this key.
    """
    texts = {name: text for name, text in metadata.items() if name != "checksum"}
    if texts.get("version") != VERSION:
        raise _unusable(f"its version is {texts.get('version')} instead of {VERSION}")
    if metadata.get("checksum") != _checksum(tensors, texts):
        raise _unusable("its content has changed since it was written")
    try:
        stored, values = json.loads(texts["key"]), json.loads(texts["values"])
    except (KeyError, ValueError, RecursionError) as error:
        raise _unusable("its key or its values are not there") from error
    if not isinstance(stored, dict) or not isinstance(values, dict):
        raise _unusable("its key or its values are no objects")
    wanted = json.loads(_text(key))
    differing = sorted(name for name in {*stored, *wanted} if stored.get(name) != wanted.get(name))
    if stored != wanted:
        raise _unusable(f"it belongs to something else: {', '.join(differing)} differ")
    return TrainingState(tensors=tensors, values=values)


def _unusable(problem: str) -> CheckpointError:
    return CheckpointError(problem, fix="nothing: the training starts again")


def _set_aside(path: Path, problem: str, note: Callable[[str], None]) -> None:
    aside = path.with_name(path.name + ".set-aside")
    path.replace(aside)
    note(f"{path}: {problem}; it is set aside as {aside.name}, and the training starts again")
