from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smnas_optuna.arch import DetectorSpec, EncodedBackboneSpec, FcHeadSpec, decode, describe, encode
from smnas_optuna.arch.codec import EXAMPLE, parse_input_size
from smnas_optuna.arch.spec import BACKBONE_FAMILIES
from smnas_optuna.errors import ArchError

from .arch_strategies import specs

TWO_STAGE = "128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256"
ONE_STAGE = "128x96.resnet18-w16.fpn-p3-p7-c64.none.retina"
# digits that int() reads and a regular expression's \d matches unless told not to
ARABIC_128 = "\N{ARABIC-INDIC DIGIT ONE}\N{ARABIC-INDIC DIGIT TWO}\N{ARABIC-INDIC DIGIT EIGHT}"
WIDE_6 = "\N{FULLWIDTH DIGIT SIX}"


@given(specs)
def test_decode_is_the_exact_inverse_of_encode(spec: DetectorSpec) -> None:
    assert decode(encode(spec)) == spec


@given(specs)
def test_a_string_is_safe_in_a_shell_and_as_a_file_name(spec: DetectorSpec) -> None:
    arch = encode(spec)

    assert re.fullmatch(r"[a-z0-9_-][a-z0-9._-]*", arch)
    assert len(arch) < 200


@given(specs, specs)
def test_two_specs_share_a_string_only_if_they_are_equal(one: DetectorSpec, other: DetectorSpec) -> None:
    assert (encode(one) == encode(other)) == (one == other)


@pytest.mark.parametrize("arch", [EXAMPLE, TWO_STAGE, ONE_STAGE])
def test_a_canonical_string_is_encoded_as_it_was_written(arch: str) -> None:
    assert encode(decode(arch)) == arch


@st.composite
def _mutated(draw: st.DrawFn) -> str:
    """A canonical string with one to three edits: characters removed, put in or replaced, modules moved or repeated."""
    arch = encode(draw(specs))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(arch)))
        letter = draw(st.sampled_from("0123456789abcxwpfn-._ ABX\n\u0663\u00e9/") | st.characters())
        modules = arch.split(".")
        arch = draw(
            st.sampled_from(
                [
                    arch[:place] + arch[place + 1 :],
                    arch[:place] + letter + arch[place:],
                    arch[:place] + letter + arch[place + 1 :],
                    ".".join(draw(st.permutations(modules))),
                    ".".join([*modules, draw(st.sampled_from(modules))]),
                ]
            )
        )
    return arch


@given(_mutated())
def test_a_mutated_string_is_refused_or_is_another_architecture_in_canonical_writing(arch: str) -> None:
    try:
        spec = decode(arch)
    except ArchError as error:
        refusal = error
    else:
        assert encode(spec) == arch
        return
    assert repr(arch) in refusal.message
    assert refusal.fix


@given(st.text())
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ArchError):
        decode(text)


@pytest.mark.parametrize(
    ("arch", "reason"),
    [
        ("", "1 modules instead of 5"),
        ("resnet18", "1 modules instead of 5"),
        ("128x96.resnet18-w16.rpn.fc-w256", "4 modules instead of 5"),
        (TWO_STAGE + ".", "6 modules instead of 5"),
        ("." + TWO_STAGE, "6 modules instead of 5"),
        (f"{TWO_STAGE}.{ONE_STAGE}", "10 modules instead of 5"),
        ("resnet18-w16.128x96.fpn-p2-p5-c64.rpn.fc-w256", "input size 'resnet18-w16' cannot be read"),
        ("128x96.fpn-p2-p5-c64.resnet18-w16.rpn.fc-w256", "backbone 'fpn-p2-p5-c64' cannot be read"),
        ("128x96.resnet18-w16.fpn-p2-p5-c64.fc-w256.rpn", "RPN 'fc-w256' cannot be read"),
        ("128X96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256", "input size '128X96' cannot be read"),
        ("128x96.ResNet18-w16.fpn-p2-p5-c64.rpn.fc-w256", "backbone 'ResNet18-w16' cannot be read"),
        (" " + TWO_STAGE, "input size ' 128x96' cannot be read"),
        (TWO_STAGE + "\n", "head 'fc-w256\\n' cannot be read"),
        ("128 x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256", "input size '128 x96' cannot be read"),
        (f"{ARABIC_128}x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256", f"input size '{ARABIC_128}x96' cannot be read"),
        (f"128x96.resnet18-w{WIDE_6}.fpn-p2-p5-c64.rpn.fc-w256", f"backbone 'resnet18-w{WIDE_6}' cannot be read"),
        ("128x96.resnet18-w-16.fpn-p2-p5-c64.rpn.fc-w256", "backbone 'resnet18-w-16' cannot be read"),
        ("128x96.resnet18-w1_6.fpn-p2-p5-c64.rpn.fc-w256", "backbone 'resnet18-w1_6' cannot be read"),
        ("128x96.resnet18.fpn-p2-p5-c64.rpn.fc-w256", "backbone 'resnet18' cannot be read"),
        ("128x96.resnet18-w16.fpn-p2-p5.rpn.fc-w256", "neck 'fpn-p2-p5' cannot be read"),
        ("128x96.resnet18-w16.none.rpn.fc-w256", "neck 'none' cannot be read"),
        ("128x96.resnet18-w16.fpn-p2-p5-c64..fc-w256", "RPN '' cannot be read"),
        ("128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc", "head 'fc' cannot be read"),
        ("128x96.resnet18-w16.fpn-p2-p5-c64.none.retina-w256", "head 'retina-w256' cannot be read"),
        ("128x96.resnet99-w16.fpn-p2-p5-c64.rpn.fc-w256", "backbone: 'resnet99' is not known"),
        ("128x96.resnet18-w3.fpn-p2-p5-c64.rpn.fc-w256", "backbone: a width of 3 channels is not possible"),
        ("128x96.resnet18-w4097.fpn-p2-p5-c64.rpn.fc-w256", "backbone: a width of 4097 channels is not possible"),
        ("128x96.resnet18-w16.fpn-p2-p5-c0.rpn.fc-w256", "neck: a width of 0 channels is not possible"),
        ("128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w0", "head: a width of 0 channels is not possible"),
        ("128x96.resnet18-w16.fpn-p1-p5-c64.rpn.fc-w256", "the pyramid's first level: 1 is not known"),
        ("128x96.resnet18-w16.fpn-p2-p8-c64.rpn.fc-w256", "the pyramid's last level: 8 is not known"),
        ("96x128.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256", "input size 96x128: 32 <= short <= long <= 4096 must hold"),
        ("128x31.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256", "input size 128x31: 32 <= short <= long <= 4096 must hold"),
        ("4097x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256", "input size 4097x96: 32 <= short <= long <= 4096 must hold"),
        ("128x96.resnet18-w16.fpn-p2-p5-c64.rpn.retina", "a RetinaNet head takes no RPN"),
        ("128x96.resnet18-w16.fpn-p2-p5-c64.none.fc-w256", "an RoI head needs proposals, but there is no RPN"),
    ],
)
def test_a_string_that_names_no_detector_is_refused_with_the_reason(arch: str, reason: str) -> None:
    with pytest.raises(ArchError) as refusal:
        decode(arch)

    assert refusal.value.message == f"architecture {arch!r}: {reason}"
    assert refusal.value.fix


@pytest.mark.parametrize(
    "arch",
    [
        "0128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256",
        "128x096.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256",
        "128x96.resnet18-w016.fpn-p2-p5-c64.rpn.fc-w256",
        "128x96.resnet18-w16.fpn-p2-p5-c0064.rpn.fc-w256",
        "128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w00256",
    ],
)
def test_leading_zeros_are_refused_and_the_fix_is_the_canonical_string(arch: str) -> None:
    with pytest.raises(ArchError) as refusal:
        decode(arch)

    assert refusal.value.message == f"architecture {arch!r} is not written canonically"
    assert refusal.value.fix == f"write {TWO_STAGE}"


def test_a_refusal_tells_what_could_be_written_instead() -> None:
    with pytest.raises(ArchError) as unknown_family:
        decode("128x96.resnet99-w16.fpn-p2-p5-c64.rpn.fc-w256")
    with pytest.raises(ArchError) as too_few:
        decode("resnet18")

    assert unknown_family.value.fix == f"take one of {', '.join(BACKBONE_FAMILIES)}"
    assert EXAMPLE in too_few.value.fix


@pytest.mark.parametrize("text", ["320", "320x", "x240", "320x240x3", "320*240", "-320x240", "320.0x240", "320x240 "])
def test_an_input_size_is_read_strictly(text: str) -> None:
    with pytest.raises(ArchError) as refusal:
        parse_input_size(text)

    assert refusal.value.message == f"input size {text!r} cannot be read"
    assert refusal.value.fix == "write it like 320x240"


@given(specs)
def test_the_words_for_people_hold_every_number(spec: DetectorSpec) -> None:
    neck = spec.neck

    words = describe(spec)

    assert f"input {spec.input_size.long}x{spec.input_size.short} px" in words
    backbone = spec.backbone
    name = "-".join(backbone.stages) + ")" if isinstance(backbone, EncodedBackboneSpec) else backbone.family
    assert f"{name} with base width {backbone.width}," in words
    assert f"p{neck.min_level}..p{neck.max_level} with {neck.channels} channels" in words
    if isinstance(spec.head, FcHeadSpec):
        assert words.endswith(f"head of width {spec.head.width}")
    assert ("one-stage" in words) == (spec.rpn is None)
