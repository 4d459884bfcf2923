"""One string for each network: all spellings are read, and one of them is written."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given

from smnas_optuna.arch import (
    BackboneSpec,
    DetectorSpec,
    EncodedBackboneSpec,
    canonical,
    decode,
    encode,
    find_spec,
    spellings,
)
from smnas_optuna.arch.classics import CLASSICS
from smnas_optuna.arch.mobilenet import CLASSIC_DEPTHS, EXPANSIONS, same_width, scale_channels
from smnas_optuna.arch.spec import (
    BACKBONE_FAMILIES,
    BLOCKS,
    CASCADE_STAGES,
    MAX_BLOCKS,
    MAX_WIDTH,
    MIN_BLOCKS,
    MIN_WIDTH,
    STEMS,
    AnyBackboneSpec,
    MobileNetSpec,
    one_name,
    written_out,
)
from smnas_optuna.errors import ArchError

from .arch_strategies import specs

WRITTEN = {
    **{name: f"{it.block}-w12-conv7-{'-'.join(it.stages)}" for name, it in CLASSICS.items()},
    "mobilenet_v2": "mobilenet_v2-w12-2x6-3x6-4x6-3x6-3x6-1x6",
}


def arch_of(backbone: str) -> str:
    return f"96x72.{backbone}.fpn-p2-p6-c24.rpn.fc-w32"


@pytest.mark.parametrize("family", BACKBONE_FAMILIES)
def test_a_written_out_classic_network_is_the_classic_network(family: str) -> None:
    classic, written = arch_of(f"{family}-w12"), arch_of(WRITTEN[family])

    assert decode(written) == decode(classic) == find_spec(written)
    assert hash(decode(written)) == hash(decode(classic))
    assert decode(written).backbone == BackboneSpec(family=family, width=12)
    assert encode(decode(written)) == canonical(written) == canonical(classic) == classic
    assert spellings(decode(classic)) == [classic, written]


@pytest.mark.parametrize(
    "backbone",
    [
        "basicblock-w12-11-21-21-21",
        "basicblock-w12-conv7-11-21-21-2",
        "basicblock-w12-conv7-12-11-21-21",
        "bottleneck-w12-conv7-11-21-21-21",
        "xbottleneck-w12-conv7-11-21-21-21",
        "inverted-w12-conv7-11-211-2111111-2111",
        "mobilenet_v2-w12-2x6-3x6-4x6-3x6-3x6-2x6",
        "mobilenet_v2-w12-2x6-3x6-4x3-3x6-3x6-1x6",
    ],
)
def test_what_is_near_a_classic_network_is_not_it(backbone: str) -> None:
    assert encode(decode(arch_of(backbone))) == arch_of(backbone)
    assert spellings(decode(arch_of(backbone))) == [arch_of(backbone)]


def test_widths_with_the_same_channels_are_one_mobilenet_and_not_one_resnet() -> None:
    assert decode(arch_of("mobilenet_v2-w23")) == decode(arch_of("mobilenet_v2-w22"))
    assert canonical(arch_of("mobilenet_v2-w23")) == arch_of("mobilenet_v2-w22")
    assert canonical(arch_of("mobilenet_v2-w23-2x6-3x6-4x6-3x6-3x6-1x6")) == arch_of("mobilenet_v2-w22")
    assert canonical(arch_of("resnet18-w23")) == arch_of("resnet18-w23")
    assert set(spellings(decode(arch_of("mobilenet_v2-w22")))) == {
        arch_of(f"mobilenet_v2-w{width}{rows}") for width in (22, 23) for rows in ("", "-2x6-3x6-4x6-3x6-3x6-1x6")
    }


def test_widths_are_the_same_exactly_if_all_channels_are() -> None:
    def channels(width: int) -> list[int]:
        return [scale_channels(classic, width) for classic in (32, 16, 24, 32, 64, 96, 160, 320)]

    first: dict[tuple[int, ...], int] = {}
    for width in range(MIN_WIDTH, MAX_WIDTH + 1):
        assert same_width(width, MIN_WIDTH) == first.setdefault(tuple(channels(width)), width)
    assert len(first) == 3329, "764 widths are second names"


def test_usual_widths_of_mobilenet_keep_their_strings() -> None:
    for width in (*range(4, MAX_WIDTH + 1, 4), 6, 10, 14):
        assert canonical(arch_of(f"mobilenet_v2-w{width}")) == arch_of(f"mobilenet_v2-w{width}")


@given(specs)
def test_all_spellings_are_read_as_one_and_the_first_is_written(spec: DetectorSpec) -> None:
    names = spellings(spec)

    assert names[0] == encode(spec)
    assert len(names) == len(set(names))
    assert {decode(name) for name in names} == {spec}
    assert {canonical(name) for name in names} == {names[0]}


@pytest.mark.parametrize("text", ["", "runs", "../../etc", arch_of("resnet19-w12"), arch_of("resnet18-w012")])
def test_what_names_no_architecture_stays_as_it_is(text: str) -> None:
    assert canonical(text) == text


def random_spelling(dice: random.Random) -> tuple[str, AnyBackboneSpec]:
    """A string that a user might write, and its backbone as it is written."""
    width = dice.choice((dice.randint(MIN_WIDTH, 128), dice.randint(MIN_WIDTH, MAX_WIDTH)))
    backbone = dice.choice((_classic, _classic_written_out, _string, _rows))(dice, width)
    size = sorted((dice.randint(32, 4096), dice.randint(32, 4096)), reverse=True)
    extra = dice.choice(("", "-convc5", "-convp5"))
    modules = dice.choice(
        (
            f"fpn-p{dice.choice((2, 3, 4))}-p5-c{dice.randint(4, 512)}.none.retina",
            f"fpn-p{dice.choice((2, 3, 4))}-p{dice.choice((6, 7))}-c64{extra}.none.retina",
            f"fpn-p2-p6-c{dice.randint(4, 512)}.{dice.choice(('rpn', 'ga'))}.fc-w{dice.randint(4, 2048)}",
            f"c4.{dice.choice(('rpn', 'ga'))}.{dice.choice(('fc', *(f'cascade{n}' for n in CASCADE_STAGES)))}",
        )
    )
    return f"{size[0]}x{size[1]}.{_text(backbone)}.{modules}", backbone


def _text(backbone: AnyBackboneSpec) -> str:
    match backbone:
        case BackboneSpec(family=family, width=width):
            return f"{family}-w{width}"
        case MobileNetSpec(width=width, depths=depths, expansions=expansions):
            rows = (f"{depth}x{expansion}" for depth, expansion in zip(depths, expansions, strict=True))
            return "-".join((f"mobilenet_v2-w{width}", *rows))
    return "-".join((f"{backbone.block}-w{backbone.width}", *["conv7"][: backbone.stem == "conv7"], *backbone.stages))


def _classic(dice: random.Random, width: int) -> AnyBackboneSpec:
    return BackboneSpec(family=dice.choice(BACKBONE_FAMILIES), width=width)


def _classic_written_out(dice: random.Random, width: int) -> AnyBackboneSpec:
    return written_out(_classic(dice, width))


def _string(dice: random.Random, width: int) -> AnyBackboneSpec:
    """Any blocks, or those of a classic network with the stem or the kind of block of another one."""
    stages = dice.choice(tuple(CLASSICS.values())).stages
    if dice.random() < 0.5:
        count = dice.randint(MIN_BLOCKS, MAX_BLOCKS)
        doubled, cuts = dice.sample(range(count), 3), sorted(dice.sample(range(1, count), 3))
        blocks = "".join("2" if place in doubled else "1" for place in range(count))
        stages = tuple(blocks[start:end] for start, end in zip((0, *cuts), (*cuts, count), strict=True))
    return EncodedBackboneSpec(block=dice.choice(BLOCKS), width=width, stages=stages, stem=dice.choice(STEMS))


def _rows(dice: random.Random, width: int) -> AnyBackboneSpec:
    depths = tuple(max(1, depth + dice.choice((-1, 0, 0, 1))) for depth in CLASSIC_DEPTHS)
    return MobileNetSpec(width=width, depths=depths, expansions=tuple(dice.choices(EXPANSIONS, (1, 9), k=6)))


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.nightly)])
def test_random_strings_have_one_identity_each(count: int) -> None:
    dice, second_names = random.Random(count), 0
    for _ in range(count):
        arch, written = random_spelling(dice)
        spec = decode(arch)
        name = encode(spec)

        assert encode(decode(name)) == name
        assert decode(name) == spec
        assert arch in spellings(spec)
        assert spec.backbone == one_name(written)
        assert one_name(spec.backbone) == spec.backbone
        assert (name == arch) == (spec.backbone == written)
        second_names += name != arch

    assert count / 5 < second_names < count / 2, "written-out classic networks are among them"


@pytest.mark.parametrize(
    "backbone",
    [
        "mobilenet_v2-w12-2x6-3x6-4x6-3x6-3x6",
        "mobilenet_v2-w12-2x6-3x6-4x6-3x6-3x6-1x6-1x6",
        "mobilenet_v2-w12-0x6-3x6-4x6-3x6-3x6-1x6",
        "mobilenet_v2-w12-2x6-3x6-4x6-3x4-3x6-1x6",
        "mobilenet_v2-w12-9x6-9x6-9x6-6x6-2x6-1x6",
    ],
    ids=["a row less", "a row more", "an empty row", "another expansion", "too deep"],
)
def test_impossible_rows_are_refused(backbone: str) -> None:
    with pytest.raises(ArchError, match=r"backbone: '[0-9x-]+' are not valid rows of mobilenet_v2") as refusal:
        decode(arch_of(backbone))

    assert refusal.value.fix == (
        "write blocks x expansion for each of 6 rows between hyphens, with expansion 3 or 6 and at most 35 blocks "
        "together, such as 2x6-3x6-4x6-3x6-3x6-1x6"
    )


@pytest.mark.parametrize(
    ("change", "fix"),
    [
        (lambda text: text.replace("2x6", "02x6"), "write "),
        (lambda text: text.replace("2x6", "2X6"), "write it like "),
        (lambda text: text.replace("2x6", "2x6-"), "write it like "),
        (lambda text: text.replace("w12", "w012"), "write "),
    ],
    ids=["a zero in front", "a capital letter", "two hyphens", "a zero before the width"],
)
def test_rows_in_another_writing_are_refused(change: Callable[[str], str], fix: str) -> None:
    text = arch_of("mobilenet_v2-w12-2x6-3x6-4x6-3x6-3x3-1x6")

    with pytest.raises(ArchError) as refusal:
        decode(change(text))
    assert refusal.value.fix.startswith(fix)
