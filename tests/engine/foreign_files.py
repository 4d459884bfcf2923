"""Files that are no safetensors, by what they are: each made for a path that is touched if somebody executes it."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch


class Bomb:
    """Executed by whoever unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


FOREIGN: dict[str, Callable[[Path], bytes]] = {
    "nothing": lambda _: b"",
    "text": lambda _: b"{}",
    "a pickle": lambda bomb: pickle.dumps(Bomb(bomb)),
    "what torch.save writes": lambda bomb: _torch_saved(Bomb(bomb)),
    "a header that promises too much": lambda _: (2**62).to_bytes(8, "little") + b"{}",
    "a tensor that is larger than the file": lambda _: _header({"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}),
    "a shape without end": lambda _: _header({"dtype": "F32", "shape": [2**62] * 2, "data_offsets": [0, 4]}, b"1234"),
}
foreign = pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)


def _torch_saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _header(tensor: dict[str, object], data: bytes = b"") -> bytes:
    text = json.dumps({"0.weight": tensor}).encode()
    return len(text).to_bytes(8, "little") + text + data
