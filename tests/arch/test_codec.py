from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smnas_optuna.arch import (
    BackboneSpec,
    CascadeHeadSpec,
    DetectorSpec,
    EncodedBackboneSpec,
    GuidedRpnSpec,
    MobileNetSpec,
    NeckSpec,
    RetinaHeadSpec,
    decode,
    describe,
    encode,
)
from smnas_optuna.arch.codec import EXAMPLE, parse_input_size
from smnas_optuna.arch.spec import BACKBONE_FAMILIES
from smnas_optuna.errors import ArchError

from .arch_strategies import specs

TWO_STAGE = "128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256"
ONE_STAGE = "128x96.resnet18-w16.fpn-p3-p7-c64.none.retina"
BARE = "128x96.resnet18-w16.c4.ga.cascade3"
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


@pytest.mark.parametrize("arch", [EXAMPLE, TWO_STAGE, ONE_STAGE, BARE])
def test_a_canonical_string_is_encoded_as_it_was_written(arch: str) -> None:
    assert encode(decode(arch)) == arch


@pytest.mark.parametrize(
    ("text", "neck"),
    [
        ("c4", None),
        ("fpn-p2-p5-c64", NeckSpec(min_level=2, max_level=5, channels=64)),
        ("fpn-p2-p6-c64", NeckSpec(min_level=2, max_level=6, channels=64, extra="pool")),
        ("fpn-p2-p6-c64-convc5", NeckSpec(min_level=2, max_level=6, channels=64, extra="conv_c5")),
        ("fpn-p3-p7-c64-convp5", NeckSpec(min_level=3, max_level=7, channels=64, extra="conv_p5")),
    ],
)
def test_a_neck_is_read_as_what_its_string_says(text: str, neck: NeckSpec | None) -> None:
    assert decode(f"128x96.resnet18-w16.{text}.rpn.{'fc' if neck is None else 'fc-w256'}").neck == neck


def test_rpns_and_heads_are_read_as_what_their_strings_say() -> None:
    bare = decode(BARE)
    wide = decode("128x96.resnet18-w16.fpn-p2-p5-c64.ga.cascade2-w256")

    assert (bare.rpn, bare.head) == (GuidedRpnSpec(), CascadeHeadSpec(stages=3, width=None))
    assert (wide.rpn, wide.head) == (GuidedRpnSpec(), CascadeHeadSpec(stages=2, width=256))
    assert decode(BARE.replace("ga", "rpn")).rpn != bare.rpn


@st.composite
def _mutated(draw: st.DrawFn) -> str:
    """A canonical string with one to three edits: characters removed, put in or replaced, modules moved or repeated."""
    arch = encode(draw(specs))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(arch)))
        letter = draw(st.sampled_from("0123456789abcxwpfnv-._ ABX\n\u0663\u00e9/") | st.characters())
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
        ("128x96.resnet18-w16.fpn-p2-p5-c64-.rpn.fc-w256", "neck 'fpn-p2-p5-c64-' cannot be read"),
        ("128x96.resnet18-w16.fpn-p2-p6-c64-pool.rpn.fc-w256", "neck 'fpn-p2-p6-c64-pool' cannot be read"),
        ("128x96.resnet18-w16.fpn-p2-p6-c64convc5.rpn.fc-w256", "neck 'fpn-p2-p6-c64convc5' cannot be read"),
        ("128x96.resnet18-w16.fpn-p2-p6-c64-convc4.rpn.fc-w256", "neck 'fpn-p2-p6-c64-convc4' cannot be read"),
        ("128x96.resnet18-w16.c5.rpn.fc", "neck 'c5' cannot be read"),
        ("128x96.resnet18-w16.c4-c64.rpn.fc", "neck 'c4-c64' cannot be read"),
        ("128x96.resnet18-w16.fpn-p2-p5-c64.garpn.fc-w256", "RPN 'garpn' cannot be read"),
        ("128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w", "head 'fc-w' cannot be read"),
        ("128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc3-w256", "head 'fc3-w256' cannot be read"),
        ("128x96.resnet18-w16.fpn-p2-p5-c64.rpn.cascade-w256", "head 'cascade-w256' cannot be read"),
        ("128x96.resnet18-w16.fpn-p2-p5-c64.rpn.cascade03-w256", "head 'cascade03-w256' cannot be read"),
        ("128x96.resnet18-w16.fpn-p2-p5-c64.none.retina-w256", "head 'retina-w256' cannot be read"),
        ("128x96.resnet99-w16.fpn-p2-p5-c64.rpn.fc-w256", "backbone: 'resnet99' is not known"),
        ("128x96.resnet18-w3.fpn-p2-p5-c64.rpn.fc-w256", "backbone: a width of 3 channels is not possible"),
        ("128x96.resnet18-w4097.fpn-p2-p5-c64.rpn.fc-w256", "backbone: a width of 4097 channels is not possible"),
        ("128x96.resnet18-w16.fpn-p2-p5-c0.rpn.fc-w256", "neck: a width of 0 channels is not possible"),
        ("128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w0", "head: a width of 0 channels is not possible"),
        ("128x96.resnet18-w16.fpn-p1-p5-c64.rpn.fc-w256", "the pyramid's first level: 1 is not known"),
        ("128x96.resnet18-w16.fpn-p2-p8-c64.rpn.fc-w256", "the pyramid's last level: 8 is not known"),
        ("128x96.resnet18-w16.fpn-p2-p4-c64-convc5.rpn.fc-w256", "the pyramid's last level: 4 is not known"),
        (
            "128x96.resnet18-w16.fpn-p2-p5-c64-convc5.rpn.fc-w256",
            "neck: a pyramid up to p5 has no extra levels, but `extra` is 'conv_c5'",
        ),
        (
            "128x96.resnet18-w16.fpn-p2-p5-c64.rpn.cascade1-w256",
            "the cascade's number of stages: 1 is not known",
        ),
        (
            "128x96.resnet18-w16.fpn-p2-p5-c64.rpn.cascade5-w256",
            "the cascade's number of stages: 5 is not known",
        ),
        ("128x96.resnet18-w16.fpn-p2-p5-c64.rpn.cascade3-w3", "head: a width of 3 channels is not possible"),
        ("96x128.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256", "input size 96x128: 32 <= short <= long <= 4096 must hold"),
        ("128x31.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256", "input size 128x31: 32 <= short <= long <= 4096 must hold"),
        ("4097x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256", "input size 4097x96: 32 <= short <= long <= 4096 must hold"),
        ("128x96.resnet18-w16.fpn-p2-p5-c64.rpn.retina", "a RetinaNet head takes no RPN"),
        ("128x96.resnet18-w16.fpn-p2-p5-c64.ga.retina", "a RetinaNet head takes no RPN"),
        ("128x96.resnet18-w16.c4.rpn.retina", "a RetinaNet head takes no RPN"),
        ("128x96.resnet18-w16.fpn-p2-p5-c64.none.fc-w256", "an RoI head needs proposals, but there is no RPN"),
        ("128x96.resnet18-w16.c4.none.cascade3", "an RoI head needs proposals, but there is no RPN"),
        ("128x96.resnet18-w16.c4.none.retina", "a RetinaNet head needs a pyramid, but there is none"),
        ("128x96.resnet18-w16.c4.rpn.fc-w256", "an RoI head without a pyramid takes no width, but it is 256"),
        ("128x96.resnet18-w16.c4.ga.cascade2-w64", "an RoI head without a pyramid takes no width, but it is 64"),
        (
            "128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc",
            "an RoI head behind a pyramid needs a width, but there is none",
        ),
        (
            "128x96.resnet18-w16.fpn-p2-p5-c64.rpn.cascade3",
            "an RoI head behind a pyramid needs a width, but there is none",
        ),
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
    words = describe(spec)

    assert f"input {spec.input_size.long}x{spec.input_size.short} px" in words
    backbone = spec.backbone
    match backbone:
        case EncodedBackboneSpec(stages=stages):
            name = "-".join(stages) + ")"
        case MobileNetSpec(depths=depths, expansions=expansions):
            assert words.count(f"{sum(depths)} blocks (mobilenet_v2 ") == 1
            rows = "-".join(f"{depth}x{expansion}" for depth, expansion in zip(depths, expansions, strict=True))
            name = f"{rows}, blocks x expansion)"
        case BackboneSpec(family=family):
            name = family
    assert f"{name} with base width {backbone.width}," in words
    resnets = isinstance(backbone, EncodedBackboneSpec) and backbone.stem == "conv7"
    assert ("ResNet's stem" in words) == resnets
    neck = spec.neck
    if neck is not None:
        assert f"p{neck.min_level}..p{neck.max_level} with {neck.channels} channels" in words
    if not isinstance(spec.head, RetinaHeadSpec) and spec.head.width is not None:
        assert words.endswith(f"head of width {spec.head.width}")
    if isinstance(spec.head, CascadeHeadSpec):
        assert f"cascade of {spec.head.stages} stages" in words
    assert ("one-stage" in words) == (spec.rpn is None)
    assert ("Guided Anchoring" in words) == isinstance(spec.rpn, GuidedRpnSpec)
    assert ("no pyramid (C4)" in words) == ("FPN" not in words) == (neck is None)


@given(specs, specs)
def test_two_specs_have_the_same_words_only_if_they_are_equal(one: DetectorSpec, other: DetectorSpec) -> None:
    assert (describe(one) == describe(other)) == (one == other)


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        ("fpn-p2-p5-c64.rpn.fc-w256", "FPN p2..p5 with 64 channels, RPN and a 2-FC head of width 256"),
        ("fpn-p3-p6-c64.none.retina", "FPN p3..p6 with 64 channels, p6 max-pooled, RetinaNet head (one-stage)"),
        (
            "fpn-p2-p7-c64-convc5.ga.cascade3-w256",
            "FPN p2..p7 with 64 channels, p6 and p7 convolved from c5, "
            "RPN with Guided Anchoring and a cascade of 3 stages, each a 2-FC head of width 256",
        ),
        (
            "fpn-p3-p6-c64-convp5.none.retina",
            "FPN p3..p6 with 64 channels, p6 convolved from p5, RetinaNet head (one-stage)",
        ),
        ("c4.rpn.fc", "no pyramid (C4), RPN and the last backbone stage as RoI head"),
        (
            "c4.ga.cascade2",
            "no pyramid (C4), RPN with Guided Anchoring and a cascade of 2 stages, "
            "each the last backbone stage as RoI head",
        ),
    ],
)
def test_every_module_has_its_words(modules: str, words: str) -> None:
    spec = decode(f"128x96.resnet18-w16.{modules}")

    assert describe(spec) == f"input 128x96 px, resnet18 with base width 16, {words}"
