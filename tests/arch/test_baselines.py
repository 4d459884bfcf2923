from __future__ import annotations

import pytest

from smnas_optuna.arch import BASELINES, decode, find_spec
from smnas_optuna.errors import ArchError


@pytest.mark.parametrize("name", BASELINES)
def test_a_name_finds_its_detector(name: str) -> None:
    assert find_spec(name) == BASELINES[name]


def test_a_string_is_read() -> None:
    arch = "128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256"

    assert find_spec(arch) == decode(arch)


def test_a_name_that_nobody_has_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ArchError) as refusal:
        find_spec("sm_nas_e1")

    assert str(refusal.value) == (
        "architecture 'sm_nas_e1': no detector has this name\n"
        f"  fix: take one of {', '.join(BASELINES)}, or a canonical string such as "
        "128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256"
    )


def test_a_string_that_cannot_be_read_is_refused_as_by_decode() -> None:
    with pytest.raises(ArchError, match=r"'resnet19' is not known"):
        find_spec("128x96.resnet19-w16.fpn-p2-p5-c64.rpn.fc-w256")
