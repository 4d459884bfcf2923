"""Architectures by names that say what they are in a test."""

from __future__ import annotations

_NUMBERS: dict[str, int] = {}


def named(name: str) -> str:
    """The architecture string that stands for ``name`` in this process; another name has another one."""
    return f"64x48.resnet18-w{8 * (1 + _NUMBERS.setdefault(name, len(_NUMBERS)))}.c4.rpn.fc"
