"""Values -> the text of a study file."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from smnas_optuna.duration import format_seconds
from smnas_optuna.new_study.facts import Asked, DataFacts, DeviceFacts
from smnas_optuna.new_study.values import Line, Values

WIDEST = 118
"""Characters of the longest line that a reason is written behind its value in; else it is above."""


def study_text(name: str, values: Values, facts: DataFacts, device: DeviceFacts, asked: Asked) -> str:
    """Return the text of ``study.toml`` for a study of that name; it ends in a line break."""
    parts = ["\n".join(f"# {each}" for each in header_lines(name, values, facts, device, asked))]
    for table, lines in values.tables.items():
        parts.append("\n".join([f"[{table}]", *(text for each in lines for text in written(each))]))
    return "\n\n".join(parts) + "\n"


def header_lines(name: str, values: Values, facts: DataFacts, device: DeviceFacts, asked: Asked) -> list[str]:
    """Return the facts that the study is made from, one a line."""
    data = f"{facts.title}; {facts.num_train:,} training and {facts.num_val:,} validation images"
    test = f", {facts.num_test:,} test images" if facts.num_test else ""
    edges = np.percentile(np.sqrt(facts.boxes.prod(axis=1)), (10, 50, 90))
    timed = [
        f"Timed here, for an image: {each.arch} takes {1000 * each.train_s:,.1f} ms to train and "
        f"{1000 * each.detect_s:,.1f} ms to detect."
        for each in device.timed
    ]
    scale = values.scale
    lines = [
        f"{name}: written by `smnas init` for {asked.hours:g} hours. Change what you like before the search begins.",
        f"Data: {data}{test}; {facts.num_classes} classes.",
        f"Objects: {len(facts.boxes):,} for training; edges of {edges[0]:.0f}, {edges[1]:.0f} and {edges[2]:.0f} px "
        "(10th, 50th and 90th percentile) in the images as they are.",
        f"Device: {device.in_words}.",
        *timed,
        f"Expected: about {format_seconds(scale.training_s)} for the mean training, by one worker.",
    ]
    return [
        part
        for each in lines
        for part in textwrap.wrap(each, WIDEST - 2, break_long_words=False, break_on_hyphens=False)
    ]


def written(line: Line) -> list[str]:
    """Return the lines of a key: its reason behind it, or above it if the line would be too long."""
    pair = f"{line.key} = {toml(line.value)}"
    if not line.because:
        return [pair]
    reason = f"# {line.because}"
    single = f"{pair}    {reason}"
    if len(single) <= WIDEST and "\n" not in pair:
        return [single]
    return [
        *textwrap.wrap(reason, WIDEST, subsequent_indent="# ", break_long_words=False, break_on_hyphens=False),
        pair,
    ]


def toml(value: Any) -> str:
    """Return ``value`` as TOML: text, a number, a truth value, or a list of them; a long list has an item a line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, float):
        return repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
    if isinstance(value, int):
        return str(value)
    return _list(value)


def _list(values: Sequence[Any]) -> str:
    items = [toml(each) for each in values]
    single = f"[{', '.join(items)}]"
    if len(single) <= WIDEST - 30:
        return single
    return "[\n" + "".join(f"    {item},\n" for item in items) + "]"
