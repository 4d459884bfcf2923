"""Weights and checkpoints of unfinished trainings, as safetensors files, which contain no code.

A checkpoint is one file: tensors, and in its header, as text, the key (the training it belongs to), the values and a
checksum. ``torch.load(weights_only=True)`` would read a pickle with a restricted interpreter, which had to be fixed
more than once (CVE-2025-32434). A safetensors file is a table of names, shapes and bytes, with nothing to execute.
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
from smnas_optuna.engine.train import MODEL, Training
from smnas_optuna.errors import CheckpointError
from smnas_optuna.real_files import remove_file

WEIGHTS_FILE = "weights.safetensors"
DETECTOR_FILE = "detector.json"
VERSION = "smnas training 1"
"""Version of the checkpoint format; increase it when a state's tensors or values change their meaning."""


def save_weights(folder: Path, detector: nn.Module, description: Mapping[str, Any]) -> Path:
    """Save the weights and their description in ``folder``, each atomically, and return the path of the weights.

    Args:
        folder: Created if it does not exist, with the folder around it.
        detector: Its state dict is stored.
        description: JSON values: architecture, classes, metrics, ...
    """
    return _save(folder, {name: each.contiguous() for name, each in detector.state_dict().items()}, description)


def keep_weights(checkpoint: Path, folder: Path, description: Mapping[str, Any]) -> Path:
    """Save the weights in a checkpoint that has just been written, as :func:`save_weights` does."""
    tensors, _ = _read(checkpoint)
    return _save(
        folder,
        {name.removeprefix(MODEL): each for name, each in tensors.items() if name.startswith(MODEL)},
        description,
    )


def _save(folder: Path, weights: dict[str, Tensor], description: Mapping[str, Any]) -> Path:
    path = folder / WEIGHTS_FILE
    # Not save_file: it does not raise OSError, and only the owner can read its files.
    write_durably(path, save(weights))
    write_json(folder / DETECTOR_FILE, description)
    return path


def load_weights(folder: Path, detector: nn.Module) -> None:
    """Load the weights in ``folder`` into ``detector``, which must have the same architecture.

    Raises:
        CheckpointError: If they are missing, damaged or of another architecture; the detector is then unchanged.
    """
    path = folder / WEIGHTS_FILE
    fix = "train the architecture again, or name the folder of one that is trained"
    try:
        tensors, _ = _read(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file", fix=fix) from None
    except (OSError, SafetensorError) as error:
        cause = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path}: the weights are damaged or incomplete ({cause})", fix=fix) from error
    tensors = _with_new_names(detector, tensors)
    problem = misfit(detector.state_dict(), tensors)
    if problem is not None:
        raise CheckpointError(f"{path}: weights of another architecture: {problem}", fix=fix)
    detector.load_state_dict(tensors)


def _with_new_names(detector: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``tensors`` by the names of ``detector``, whose modules may have ``old_names``: old beginning -> new."""
    renamed = dict(tensors)
    for path, module in detector.named_modules():
        for old, new in getattr(module, "old_names", {}).items():
            before, after = (f"{path}.{start}" if path else start for start in (old, new))
            renamed = {
                name.replace(before, after, 1) if name.startswith(before) else name: tensor
                for name, tensor in renamed.items()
            }
    return renamed


def remove_weights(folder: Path) -> None:
    """Remove the weights in ``folder``, if any; the log stays, and so does a link in their place."""
    for name in (WEIGHTS_FILE, DETECTOR_FILE):
        remove_file(folder / name)


def save_checkpoint(path: Path, state: TrainingState, key: Mapping[str, Any]) -> None:
    """Save ``state`` in one file, atomically: after a kill the file holds the previous state or this one.

    Args:
        path: Its folder is made if it does not exist, with the folder around it.
        state: From :meth:`smnas_optuna.engine.train.Training.state`.
        key: JSON values that the training depends on (architecture, data, recipe, device); only a training with the
            same key can resume from it.
    """
    texts = {"version": VERSION, "key": _text(key), "values": _text(state.values)}
    metadata = {**texts, "checksum": _checksum(state.tensors, texts)}
    write_durably(path, save(dict(state.tensors), metadata))


def load_checkpoint(path: Path, key: Mapping[str, Any], note: Callable[[str], None]) -> TrainingState | None:
    """Return the state stored in ``path``, or None without a usable checkpoint.

    A file that is damaged, or has another version or key, is renamed.

    Args:
        path: The checkpoint file; may be missing.
        key: As for :func:`save_checkpoint`.
        note: Called with the name of a renamed file and the reason.
    """
    try:
        return _state(*_read(path), key)
    except FileNotFoundError:
        return None
    except SafetensorError as error:
        _set_aside(path, f"not a checkpoint, or an incomplete one ({error})", note)
    except CheckpointError as error:
        _set_aside(path, error.message, note)
    return None


def resume(path: Path, training: Training, key: Mapping[str, Any], note: Callable[[str], None]) -> bool:
    """Resume ``training`` from the checkpoint in ``path``; return False, with the training unchanged, if impossible.

    Args:
        path: The checkpoint file; may be missing, and is renamed if it cannot be used.
        training: Not started yet.
        key: As for :func:`save_checkpoint`.
        note: Called with the name of a renamed file and the reason.
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
    """Remove the checkpoint in ``path``, if any; files set aside stay, and so does a link in its place."""
    for each in (path, part_of(path)):
        remove_file(each)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and metadata of a safetensors file.

    Raises:
        OSError: If it is missing, or not accessible.
        SafetensorError: If it is not a safetensors file.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise SafetensorError("it is a folder, a pipe or a device")
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118  # no dict


def _text(values: Mapping[str, Any]) -> str:
    """Return canonical JSON: equal values give equal text."""
    return json.dumps(values, sort_keys=True, allow_nan=False)


def _checksum(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> str:
    """Return the CRC-32 of all tensors and texts of a checkpoint, in hexadecimal."""
    checksum = zlib.crc32(_text(texts).encode())
    for name, tensor in sorted(tensors.items()):
        checksum = zlib.crc32(name.encode(), checksum)
        checksum = zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data, checksum)
    return f"{checksum:08x}"


def _state(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], key: Mapping[str, Any]) -> TrainingState:
    """Return the state in the content of a safetensors file.

    Raises:
        CheckpointError: If it is not a checkpoint with this key.
    """
    texts = {name: text for name, text in metadata.items() if name != "checksum"}
    if texts.get("version") != VERSION:
        raise _unusable(f"its version is {texts.get('version')} instead of {VERSION}")
    if metadata.get("checksum") != _checksum(tensors, texts):
        raise _unusable("its content has changed since it was written")
    try:
        stored, values = json.loads(texts["key"]), json.loads(texts["values"])
    except (KeyError, ValueError, RecursionError) as error:
        raise _unusable("its key or values are missing or not JSON") from error
    if not isinstance(stored, dict) or not isinstance(values, dict):
        raise _unusable("its key or values are not JSON objects")
    wanted = json.loads(_text(key))
    differing = sorted(name for name in {*stored, *wanted} if stored.get(name) != wanted.get(name))
    if stored != wanted:
        raise _unusable(f"it belongs to another training: {', '.join(differing)} differ")
    return TrainingState(tensors=tensors, values=values)


def _unusable(problem: str) -> CheckpointError:
    return CheckpointError(problem, fix="nothing: the training starts again")


def _set_aside(path: Path, problem: str, note: Callable[[str], None]) -> None:
    aside = path.with_name(path.name + ".set-aside")
    path.replace(aside)
    note(f"{path}: {problem}; it is set aside as {aside.name}, and the training starts again")
