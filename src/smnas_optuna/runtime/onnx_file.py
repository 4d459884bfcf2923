"""The metadata of an ONNX file, read without a library, and refusals of files that are damaged or refer to others.

An ONNX file is one protocol buffer, a ``ModelProto`` (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; the wire
format is on https://protobuf.dev/programming-guides/encoding). A runtime would build the whole network before it told
the metadata.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
MAX_FIELDS = 20_000_000
"""Fields of all messages that are looked into; a detector has some 10,000."""
DEEPEST = 64
"""Deepest nesting of messages; a loop in a loop has 12."""

_METADATA = 14
_GRAPH = 7
_PARTS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse tensor",
        23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""Kinds of messages that may hold tensors, with the numbers and kinds of their parts."""
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
"""Fields of a tensor whose values lie in another file."""


def read_metadata(content: bytes) -> dict[str, str]:
    """Return the metadata of an ONNX file, by key; of a repeated key, the last value counts.

    Raises:
        ValueError: If ``content`` is no ONNX file, is cut off, or refers to other files, which could be any.
    """
    message, metadata, has_graph = memoryview(content), dict[str, str](), False
    try:
        for number, value in _fields(message):
            has_graph |= number == _GRAPH and isinstance(value, memoryview)
            if number == _METADATA and isinstance(value, memoryview):
                entry = {field: bytes(text) for field, text in _fields(value) if isinstance(text, memoryview)}
                metadata[entry.get(1, b"").decode()] = entry.get(2, b"").decode()
    except UnicodeDecodeError as error:
        raise ValueError("its metadata is no text") from error
    if not has_graph:
        raise ValueError("it has no graph")
    _refuse_external_data(message)
    return metadata


def _refuse_external_data(model: memoryview) -> None:
    """Look into every tensor of ``model``; none may have its values elsewhere."""
    todo, looked_at = [("model", model, 0)], 0
    while todo:
        kind, message, depth = todo.pop()
        if depth > DEEPEST:
            raise ValueError(f"its messages are nested more than {DEEPEST} times")
        for number, value in _fields(message):
            looked_at += 1
            if looked_at > MAX_FIELDS:
                raise ValueError(f"it has more than {MAX_FIELDS:,} parts")
            if kind == "tensor" and (number == _EXTERNAL_DATA or (number, value) == (_DATA_LOCATION, 1)):
                raise ValueError("its weights are in another file")
            if number in _PARTS[kind] and isinstance(value, memoryview):
                todo.append((_PARTS[kind][number], value, depth + 1))


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yield the number and the value of each field: bytes of texts, messages and fixed numbers, or an integer."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, place = _varint(message, place)
            yield number, value
            continue
        if kind == _BYTES:
            size, place = _varint(message, place)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("it is no ONNX file")
        if place + size > len(message):
            raise ValueError(f"it is cut off: {place + size - len(message):,} bytes are missing, or it is no ONNX file")
        yield number, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """Return the integer at ``place``, and the place behind it."""
    value = 0
    for position, byte in enumerate(message[place : place + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return value, place + position + 1
    raise ValueError("it is cut off, or no ONNX file")
