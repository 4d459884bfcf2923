from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smnas_optuna.arch.spec import MAX_EDGE as MAX_EDGE_OF_SPECS
from smnas_optuna.errors import FileError
from smnas_optuna.runtime.description import LONGEST, LONGEST_TEXT, MAX_EDGE, FileDescription

from .exported_files import DESCRIPTION

FIX = "\n  fix: export the detector again, with `smnas export`"


def _text(**changes: Any) -> str:
    return json.dumps({**json.loads(DESCRIPTION.json()), **changes})


def _refusal(text: str | bytes) -> str:
    with pytest.raises(FileError) as caught:
        FileDescription.read(text, where="a.onnx")
    return str(caught.value)


def test_what_is_written_is_read() -> None:
    assert FileDescription.read(DESCRIPTION.json()) == DESCRIPTION
    assert FileDescription.read(DESCRIPTION.json().encode()) == DESCRIPTION


@given(
    classes=st.lists(st.text(st.characters(categories=["L", "N"])), min_size=1).map(tuple),
    sizes=st.tuples(st.integers(1, MAX_EDGE), st.integers(1, MAX_EDGE)),
    ap=st.none() | st.floats(0, 1),
    latency=st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.none()),
    padding=st.tuples(*[st.integers(0, 255)] * 3),
)
def test_every_description_is_read_as_it_was(
    classes: tuple[str, ...],
    sizes: tuple[int, int],
    ap: float | None,
    latency: dict[str, Any],
    padding: tuple[int, int, int],
) -> None:
    described = replace(
        DESCRIPTION, classes=classes, long=max(sizes), short=min(sizes), ap=ap, latency=latency, padding=padding
    )

    assert FileDescription.read(described.json()) == described


def test_what_an_older_version_does_not_know_is_ignored() -> None:
    assert FileDescription.read(_text(later="x")) == DESCRIPTION


def test_files_of_earlier_versions_have_no_thresholds_and_do_not_say_what_was_trained_on() -> None:
    values = json.loads(DESCRIPTION.json())
    del values["thresholds"], values["with_val"]

    described = FileDescription.read(json.dumps(values))

    assert (described.thresholds, described.with_val) == ({}, False)


def test_thresholds_are_read_by_the_names_of_the_classes() -> None:
    described = FileDescription.read(_text(classes=["c\x1bat", "dog"], thresholds={"c\x1bat": 0.25, "dog": 1}))

    assert described.thresholds == {described.classes[0]: 0.25, "dog": 1}


def test_control_characters_in_names_of_classes_are_replaced() -> None:
    described = FileDescription.read(_text(classes=["c\x1b[2Jat", "\ud800", "\u202e", "größer, 図"]))

    assert described.classes == ("c\ufffd[2Jat", "\ufffd", "\ufffd", "größer, 図")


def test_an_input_can_be_as_long_as_that_of_an_architecture() -> None:
    assert MAX_EDGE == MAX_EDGE_OF_SPECS


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"arch": 7}, "`arch` of its description must be a printable text of 1 to 1000 characters, but is 7"),
        ({"arch": ""}, "`arch` of its description must be a printable text of 1 to 1000 characters, but is ''"),
        ({"arch": "a\x1b[2J"}, "printable text of 1 to 1000 characters, but is 'a\\x1b[2J'"),
        ({"arch": "a" * (LONGEST_TEXT + 1)}, "printable text of 1 to 1000 characters, but is 'aaa"),
        ({"classes": []}, "`classes` of its description must be a list of at least one name, but is []"),
        ({"classes": ["cat", 1]}, "must be a list of at least one name, but is ['cat', 1]"),
        ({"classes": "cat"}, "must be a list of at least one name, but is 'cat'"),
        ({"long": 64.0}, "`long` of its description must be a whole number in 1..4096, but is 64.0"),
        ({"long": True}, "must be a whole number in 1..4096, but is True"),
        ({"long": 10**9}, "must be a whole number in 1..4096, but is 1000000000"),
        ({"short": 0}, "`short` of its description must be a whole number in 1..4096, but is 0"),
        ({"short": 65}, "its input size is 64x65, but the long edge comes first"),
        ({"canvas_multiple": 0}, "`canvas_multiple` of its description must be a whole number in 1..1024, but is 0"),
        ({"padding": [1, 2]}, "`padding` of its description must be three whole numbers in 0..255, but is [1, 2]"),
        ({"padding": [1, 2, 256]}, "three whole numbers in 0..255, but is [1, 2, 256]"),
        ({"grey_bits": 17}, "`grey_bits` of its description must be a whole number in 8..16, but is 17"),
        ({"precision": "fp8"}, "`precision` of its description must be one of fp32, fp16, int8, but is 'fp8'"),
        ({"precision": ["fp32"]}, "must be one of fp32, fp16, int8, but is ['fp32']"),
        ({"ap": 40}, "`ap` of its description must be a number in 0..1, or null, but is 40"),
        ({"ap": True}, "must be a number in 0..1, or null, but is True"),
        ({"constants": []}, "`constants` of its description must be an object of finite numbers and texts, nested"),
        ({"constants": {"a": 10**30}}, "an object of finite numbers and texts"),
        ({"latency": {"a": [[[[[[[[[1]]]]]]]]]}}, "`latency` of its description must be an object of finite numbers"),
        ({"thresholds": {"cat": 2}}, "`thresholds` of its description must be an object of numbers in 0..1, but is {"),
        ({"thresholds": {"cat": None}}, "must be an object of numbers in 0..1, but is {'cat': None}"),
        ({"thresholds": {"cat": True}}, "must be an object of numbers in 0..1, but is {'cat': True}"),
        ({"thresholds": [0.5]}, "must be an object of numbers in 0..1, but is [0.5]"),
        ({"thresholds": {"cow": 0.5}}, "it has a threshold for 'cow', which is no class of it"),
        ({"data": None}, "`data` of its description must be a printable text of at most 1000 characters, but is None"),
        ({"with_val": 1}, "`with_val` of its description must be true or false, but is 1"),
        ({"smnas_optuna": "1\n  fix: rm"}, "at most 1000 characters, but is '1\\n  fix: rm'"),
    ],
)
def test_values_that_are_wrong_are_named(changes: dict[str, Any], what: str) -> None:
    message = _refusal(_text(**changes))

    assert message.startswith("a.onnx: ")
    assert what in message
    assert message.endswith(FIX)


@pytest.mark.parametrize("name", sorted(json.loads(DESCRIPTION.json()).keys() - {"format", "thresholds", "with_val"}))
def test_a_value_that_is_missing_is_named(name: str) -> None:
    values = json.loads(DESCRIPTION.json())
    del values[name]

    assert _refusal(json.dumps(values)) == f"a.onnx: its description has no `{name}`{FIX}"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "a.onnx: its description is no JSON: Expecting value"),
        (b"\xff\xfe\xff", "a.onnx: its description is no JSON: "),
        ("{", "a.onnx: its description is no JSON: "),
        ("[]", "a.onnx: its description is no JSON object, but []"),
        ('"x"', "a.onnx: its description is no JSON object, but 'x'"),
        ("[" * 100_000, "a.onnx: its description is no JSON: "),
        ("9" * 5000, "a.onnx: its description is no JSON: "),
        (_text().replace("0.4", "NaN"), "a.onnx: its description is no JSON: NaN is no number of JSON"),
        (_text().replace("1.5", "-Infinity"), "a.onnx: its description is no JSON: -Infinity is no number"),
        (_text().replace("1.5", "1e999"), "`latency` of its description must be an object of finite numbers"),
        (_text().replace("0.4", "1e999"), "`ap` of its description must be a number in 0..1, or null, but is inf"),
        (" " * (LONGEST + 1), "a.onnx: its description has 4,194,305 characters, and the limit is 4,194,304"),
    ],
    ids=range(12),
)
def test_a_text_that_is_no_description_is_refused(text: str | bytes, what: str) -> None:
    assert what in _refusal(text)


@pytest.mark.parametrize("version", [0, 2, "1", True, None, [1]])
def test_another_format_is_refused(version: object) -> None:
    assert _refusal(_text(format=version)) == (
        f"a.onnx: its format is {version!r}, and this version of smnas-optuna reads format 1\n"
        "  fix: install the version of smnas-optuna that wrote it, or export the detector again"
    )


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"ap": float("nan")}, "cannot be written: Out of range float values are not JSON compliant"),
        ({"latency": {"ms": object()}}, "cannot be written: "),
        ({"precision": "fp8"}, "`precision` of its description must be one of fp32, fp16, int8, but is 'fp8'"),
        ({"classes": ()}, "`classes` of its description must be a list of at least one name, but is []"),
    ],
)
def test_what_could_not_be_read_is_not_written(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(FileError) as caught:
        replace(DESCRIPTION, **changes).json()

    assert what in str(caught.value)
