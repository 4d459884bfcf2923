"""Weights on disk: safetensors beside a JSON file that says what they are. Nothing in them is code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import nn

WEIGHTS_FILE = "weights.safetensors"
DETECTOR_FILE = "detector.json"


def save_weights(folder: Path, detector: nn.Module, description: Mapping[str, Any]) -> Path:
    """Store the weights and what they are in ``folder`` and return the weights' path; a kill leaves no half a file.

    Args:
        folder: Made if it is not there.
        detector: Its state dict is stored.
        description: JSON values: architecture, classes, metrics, ...
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / WEIGHTS_FILE
    partial = weights.with_name(WEIGHTS_FILE + ".part")
    # Not save_file: its errors are no OSErrors, and its files are readable by their owner only.
    partial.write_bytes(save({name: tensor.contiguous() for name, tensor in detector.state_dict().items()}))
    replace_durably(partial, weights)
    write_json(folder / DETECTOR_FILE, description)
    return weights


def load_weights(folder: Path, detector: nn.Module) -> None:
    """Load the weights in ``folder`` into ``detector``, which must be of the same architecture."""
    detector.load_state_dict(load_file(folder / WEIGHTS_FILE))


def remove_weights(folder: Path) -> None:
    """Remove the weights in ``folder``, if there are any; the log stays."""
    for name in (WEIGHTS_FILE, DETECTOR_FILE):
        (folder / name).unlink(missing_ok=True)


def write_json(path: Path, values: Any) -> None:
    """Write ``values`` as JSON in one piece: readers see the old file or the new one."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    replace_durably(partial, path)


def replace_durably(partial: Path, path: Path) -> None:
    """Rename a finished file to its name, once its bytes are on the disk."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
