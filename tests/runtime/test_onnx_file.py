from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from smnas_optuna.runtime.onnx_file import read_metadata

from .exported_files import DESCRIPTION, make_content, make_model

CONTENT = make_content()


def test_the_metadata_is_read() -> None:
    assert read_metadata(CONTENT) == {"smnas": DESCRIPTION.json(), "other": "ignored"}


@pytest.mark.parametrize("length", [0, 1, 2, 10, len(CONTENT) // 2, len(CONTENT) - 1])
def test_a_file_that_is_cut_off_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=r"it is cut off|it has no graph"):
        read_metadata(CONTENT[:length])


def test_a_file_without_its_end_has_no_description() -> None:
    lengths = range(len(CONTENT))

    described = []
    for length in lengths:
        try:
            described.append("smnas" in read_metadata(CONTENT[:length]))
        except ValueError:
            described.append(False)

    other = len(make_model().metadata_props[1].SerializeToString()) + 2
    assert [length for length in lengths if described[length]] in ([], [len(CONTENT) - other])


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        metadata = read_metadata(content)
    except ValueError:
        return
    assert isinstance(metadata, dict)


@given(st.integers(0, len(CONTENT) - 1), st.integers(0, 255))
def test_a_changed_byte_is_no_other_error(place: int, value: int) -> None:
    changed = bytearray(CONTENT)
    changed[place] = value

    with suppress(ValueError):
        read_metadata(bytes(changed))


def _external() -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros((3, 3), np.float32), "secret")
    external_data_helper.set_external_data(tensor, "../../etc/passwd")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    return tensor


@pytest.mark.parametrize("where", ["initializer", "constant", "branch", "function"])
def test_weights_in_another_file_are_refused(where: str) -> None:
    model = make_model()
    constant = helper.make_node("Constant", [], ["secret"], value=_external())
    if where == "initializer":
        model.graph.initializer.append(_external())
    elif where == "constant":
        model.graph.node.append(constant)
    elif where == "branch":
        graph = helper.make_graph([constant], "branch", [], [])
        model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=graph, else_branch=graph))
    else:
        model.functions.append(
            helper.make_function("d", "f", [], ["secret"], [constant], [helper.make_opsetid("", 18)])
        )

    with pytest.raises(ValueError, match="its weights are in another file"):
        read_metadata(model.SerializeToString())


def test_messages_that_are_nested_deeply_are_refused() -> None:
    graph = helper.make_graph([], "inner", [], [])
    for _ in range(30):
        graph = helper.make_graph([helper.make_node("If", ["x"], ["y"], then_branch=graph)], "outer", [], [])
    model = helper.make_model(graph)

    with pytest.raises(ValueError, match="its messages are nested more than 64 times"):
        read_metadata(model.SerializeToString())
