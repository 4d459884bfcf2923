from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smnas_optuna.arch import DetectorSpec, EncodedBackboneSpec, MobileNetSpec, RetinaHeadSpec, decode, encode
from smnas_optuna.arch.codec import head_kind
from smnas_optuna.arch.spec import written_out
from smnas_optuna.config import ModularSpace
from smnas_optuna.errors import ConfigError
from smnas_optuna.search_space import Gene, Genome, ModularSearchSpace, SearchSpace
from smnas_optuna.search_space.rows import count_rows
from smnas_optuna.search_space.strings import all_strings, count_strings

SIZES = ("64x48", "96x72", "128x96", "160x120")
PARENTS = {
    "resnet18": "96x72.resnet18-w12.fpn-p2-p5-c24.rpn.fc-w40",
    "resnet34": "64x48.resnet34-w8.fpn-p3-p6-c32.rpn.fc-w32",
    "resnet50": "96x72.resnet50-w8.fpn-p2-p6-c32-convc5.rpn.cascade3-w64",
    "resnet101": "160x120.resnet101-w20.fpn-p2-p7-c24-convp5.rpn.cascade2-w64",
    "resnext50": "96x72.resnext50-w16.fpn-p4-p5-c32.ga.cascade4-w48",
    "mobilenet_v2": "96x72.mobilenet_v2-w12.fpn-p2-p5-c24.ga.fc-w32",
    "mobilenet_v2, no pyramid": "96x72.mobilenet_v2-w23.c4.rpn.fc",
    "rows, shallowest": "96x72.mobilenet_v2-w8-1x6-1x3-1x6-1x3-1x6-1x3.fpn-p2-p5-c32.rpn.fc-w32",
    "rows, deepest": "96x72.mobilenet_v2-w8-30x3-1x3-1x6-1x3-1x6-1x3.fpn-p2-p5-c32.rpn.fc-w32",
    "no pyramid": "96x72.resnet50-w12.c4.rpn.fc",
    "no pyramid, cascade": "64x48.resnet18-w8.c4.ga.cascade2",
    "one-stage": "96x72.resnet18-w8.fpn-p3-p7-c24-convp5.none.retina",
    "written out": "128x96.bottleneck-w12-2-12-1111-12111.fpn-p2-p5-c32.rpn.fc-w32",
    "written out, shallowest": "96x72.basicblock-w8-2-2-2-11.fpn-p2-p5-c32.rpn.fc-w32",
    "written out, deepest": f"96x72.inverted-w8-2-2-2-{32 * '1'}.fpn-p2-p5-c32.rpn.fc-w32",
}
NARROW = ModularSpace(base_channels=(8, 16), min_blocks=7, max_blocks=9, neck_channels=(16, 32), head_widths=(32, 64))
VARIED = NARROW.model_copy(update={"min_blocks": 5, "max_blocks": 35, "vary_input_size": True})
SETTINGS = {"paper": ModularSpace(), "narrow": NARROW, "varied": VARIED}

every_parent = pytest.mark.parametrize("parent", PARENTS.values(), ids=PARENTS)
every_settings = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)


@cache
def space_of(parent: str, settings: str = "varied") -> ModularSearchSpace:
    return ModularSearchSpace(SETTINGS[settings], decode(parent), SIZES)


def genomes(space: SearchSpace) -> st.SearchStrategy[dict[str, Gene]]:
    """Genomes whose genes are any of their choices."""
    return st.fixed_dictionaries({name: st.sampled_from(choices) for name, choices in space.choices.items()})


spaces = st.builds(space_of, st.sampled_from(sorted(PARENTS.values())), st.sampled_from(sorted(SETTINGS)))


def backbone_of(spec: DetectorSpec) -> EncodedBackboneSpec:
    backbone = written_out(spec.backbone)
    assert isinstance(backbone, EncodedBackboneSpec)
    return backbone


def depth_of(spec: DetectorSpec) -> int:
    backbone = written_out(spec.backbone)
    return sum(backbone.depths) if isinstance(backbone, MobileNetSpec) else sum(map(len, backbone.stages))


def kinds_of(spec: DetectorSpec) -> tuple[object, ...]:
    neck = None if spec.neck is None else (spec.neck.min_level, spec.neck.max_level, spec.neck.extra)
    backbone = written_out(spec.backbone)
    block = "rows" if isinstance(backbone, MobileNetSpec) else backbone.block
    return block, neck, spec.rpn, head_kind(spec.head)


@every_settings
@every_parent
def test_a_parent_is_in_its_space_whatever_the_settings(parent: str, settings: ModularSpace) -> None:
    for sizes in ((), SIZES, SIZES[::2]):
        space, spec = ModularSearchSpace(settings, decode(parent), sizes), decode(parent)
        genome = space.genome(spec)

        assert space.express(genome) == spec
        assert list(genome) == list(space.choices)
        assert all(gene in space.choices[name] for name, gene in genome.items())


@given(st.data(), spaces)
def test_every_genome_is_read_as_an_architecture_that_has_a_genome(data: st.DataObject, space: SearchSpace) -> None:
    spec = space.express(data.draw(genomes(space)))
    genome = space.genome(spec)

    assert decode(encode(spec)) == spec
    assert space.express(genome) == spec
    assert space.genome(space.express(genome)) == genome
    assert all(gene in space.choices[name] for name, gene in genome.items())


@every_parent
def test_a_parent_is_read_from_its_genome_under_its_own_string(parent: str) -> None:
    space = ModularSearchSpace(VARIED, decode(parent), SIZES)

    assert encode(space.express(space.genome(decode(parent)))) == encode(decode(parent))


@every_parent
def test_kinds_are_the_parents(parent: str) -> None:
    space, random = space_of(parent), np.random.default_rng(0)
    kinds = kinds_of(decode(parent))
    genome = space.genome(decode(parent))

    for _ in range(50):
        genome = space.mutate(genome, random)
        assert kinds_of(space.express(genome)) == kinds
        assert kinds_of(space.express(space.draw(random))) == kinds


@pytest.mark.parametrize(
    ("parent", "choices"),
    [
        (
            "resnet18",
            {
                "input_size": ("64x48", "96x72", "128x96"),
                "backbone.stem": ("conv3", "conv7"),  # the settings' and the parent's
                "backbone.width": (8, 12, 16),
                "neck.channels": (16, 24, 32),
                "head.width": (32, 40, 64),
                "backbone.depth": (7, 8, 9),
            },
        ),
        (
            "mobilenet_v2",
            {
                "input_size": ("64x48", "96x72", "128x96"),
                "backbone.width": (8, 12, 16),
                "neck.channels": (16, 24, 32),
                "head.width": (32, 64),
                "backbone.depth": tuple(range(7, 17)),
            },
        ),
        (
            "mobilenet_v2, no pyramid",
            {
                "input_size": ("64x48", "96x72", "128x96"),
                "backbone.width": (8, 16, 22),  # 23 is another name for 22
                "backbone.depth": tuple(range(7, 17)),
            },
        ),
        (
            "no pyramid",
            {
                "input_size": ("64x48", "96x72", "128x96"),
                "backbone.stem": ("conv3", "conv7"),  # the settings' and the parent's
                "backbone.width": (8, 12, 16),
                "backbone.depth": tuple(range(7, 17)),  # as deep as ResNet-50
            },
        ),
        (
            "one-stage",
            {
                "input_size": ("64x48", "96x72", "128x96"),
                "backbone.stem": ("conv3", "conv7"),
                "backbone.width": (8, 16),
                "neck.channels": (16, 24, 32),
                "backbone.depth": (7, 8, 9),
            },
        ),
    ],
)
def test_choices_are_those_of_the_settings_and_the_parents(parent: str, choices: dict[str, tuple[Gene, ...]]) -> None:
    settings = NARROW.model_copy(update={"vary_input_size": True})
    space = ModularSearchSpace(settings, decode(PARENTS[parent]), SIZES)

    positions = tuple(range(int(choices["backbone.depth"][-1])))
    places = [*(f"backbone.stage{level}" for level in (3, 4, 5)), *(f"backbone.double{n}" for n in (1, 2, 3))]
    expansions = []
    if parent.startswith("mobilenet"):
        places = [f"backbone.row{n}" for n in range(2, 7)]
        expansions = [f"backbone.expansion{n}" for n in range(1, 7)]
    assert space.choices == {**choices, **dict.fromkeys(places, positions), **dict.fromkeys(expansions, (3, 6))}
    assert list(space.choices) == [*choices, *places, *expansions]


@pytest.mark.parametrize(
    ("parent", "vary", "sizes"),
    [
        ("64x48", True, ("64x48", "96x72")),
        ("96x72", True, ("64x48", "96x72", "128x96")),
        ("160x120", True, ("128x96", "160x120")),
        ("96x72", False, ("96x72",)),
        ("96x64", True, ("96x64",)),
    ],
    ids=["smallest", "middle", "largest", "not varied", "none of stage 1"],
)
def test_the_input_may_be_the_next_size_of_stage_1(parent: str, vary: bool, sizes: tuple[str, ...]) -> None:
    settings = NARROW.model_copy(update={"vary_input_size": vary})
    space = ModularSearchSpace(settings, decode(f"{parent}.resnet18-w8.c4.rpn.fc"), SIZES)

    assert space.choices["input_size"] == sizes
    assert space.size == len(sizes) * 2 * 2 * count_strings(7, 9), "two stems, two widths"


def distinct(space: ModularSearchSpace) -> set[DetectorSpec]:
    """What all genomes are read as; the order of places says nothing, see ``places_of``."""
    widths = [n for n in space.choices if not n.startswith(("backbone.stage", "backbone.double"))]
    cuts = [name for name in space.choices if name.startswith("backbone.stage")]
    doublings = [name for name in space.choices if name.startswith("backbone.double")]
    triples = list(itertools.combinations_with_replacement(space.choices[cuts[0]], 3))
    found = set()
    for genes in itertools.product(*(space.choices[name] for name in widths)):
        frame = dict(zip(widths, genes, strict=True))
        for three, others in itertools.product(triples, triples):
            places = dict(zip((*cuts, *doublings), (*three, *others), strict=True))
            found.add(space.express({**frame, **places}))
    return found


@pytest.mark.parametrize(
    ("parent", "deepest"),
    [
        ("96x72.basicblock-w8-2-2-2-11.fpn-p2-p5-c16.rpn.fc-w16", 5),
        ("96x72.basicblock-w8-2-2-2-111.c4.rpn.fc", 6),
        ("96x72.inverted-w12-2-2-2-11.fpn-p2-p5-c16.none.retina", 5),
    ],
)
def test_the_size_is_that_of_an_enumeration(parent: str, deepest: int) -> None:
    settings = ModularSpace(base_channels=(8,), min_blocks=5, max_blocks=deepest, neck_channels=(16, 24))
    settings = settings.model_copy(update={"head_widths": (16,), "vary_input_size": deepest == 5})
    space = ModularSearchSpace(settings, decode(parent), SIZES[:2])
    found = distinct(space)

    assert space.size == len(found)
    assert {backbone_of(spec).stages for spec in found} == set(all_strings(5, deepest))


def test_the_papers_space_has_as_many_backbones_as_published() -> None:
    parent = decode("1333x800.bottleneck-w64-11-21-21-21.c4.rpn.fc")

    assert ModularSearchSpace(ModularSpace(), parent).size == 829_669_616
    assert ModularSearchSpace(ModularSpace(max_blocks=15), parent).size == 1_625_712
    assert ModularSearchSpace(ModularSpace(), decode(PARENTS["resnet18"])).size == (
        829_669_616 // 4 * 5 * 4 * 2 * 2  # with its own three widths and its stem
    )


@every_parent
def test_mutations_stay_in_the_space_and_widths_move_one_step_at_most(parent: str) -> None:
    space, random = space_of(parent), np.random.default_rng(0)
    genome = space.genome(decode(parent))
    changes, steps = 0, Counter[str]()
    for _ in range(200):
        child = space.mutate(genome, random)

        assert list(child) == list(space.choices)
        assert all(child[name] in choices for name, choices in space.choices.items())
        assert space.genome(space.express(child)) == child
        moved = [name for name in space_widths(space) if child[name] != genome[name]]
        for name in moved:
            choices = space.choices[name]
            assert abs(choices.index(child[name]) - choices.index(genome[name])) == 1
        assert len([name for name in moved if name != "backbone.width"]) <= 1
        assert abs(depth_of(space.express(child)) - depth_of(space.express(genome))) <= 3
        steps.update(moved)
        changes += space.express(child) != space.express(genome)
        genome = child

    assert changes == 200, "every one is another architecture"
    assert 70 < steps["backbone.width"] < 130, "in half of them"
    assert set(steps) == {name for name in space_widths(space) if len(space.choices[name]) > 1}


@given(st.data(), spaces, st.integers(0, 100))
def test_a_mutation_of_any_genome_is_another_architecture(data: st.DataObject, space: SearchSpace, seed: int) -> None:
    genome = data.draw(genomes(space))

    assert space.express(space.mutate(genome, np.random.default_rng(seed))) != space.express(genome)


def space_widths(space: SearchSpace) -> list[str]:
    return [name for name in ("input_size", "backbone.width", "neck.channels", "head.width") if name in space.choices]


def test_where_all_are_of_one_depth_and_one_width_mutations_reach_all() -> None:
    settings = ModularSpace(base_channels=(8,), min_blocks=5, max_blocks=5, neck_channels=(32,), head_widths=(32,))
    parent = decode(PARENTS["written out, shallowest"])
    space, random = ModularSearchSpace(settings, parent), np.random.default_rng(0)
    genome, seen = space.genome(parent), set()
    for _ in range(600):
        genome = space.mutate(genome, random)
        seen.add(space.express(genome))

    assert space.choices["backbone.depth"] == (5,)
    assert len(seen) == space.size == 40


def test_random_genomes_have_each_depth_alike() -> None:
    space, random = space_of(PARENTS["resnet18"]), np.random.default_rng(0)
    genes_alone = Counter(depth_of(space.express(SearchSpace.draw(space, random))) for _ in range(3_100))
    drawn = Counter(depth_of(space.express(space.draw(random))) for _ in range(3_100))

    for depths in (genes_alone, drawn):
        assert set(depths) == set(range(5, 36))
        assert 100 / 1.5 < min(depths.values()) <= max(depths.values()) < 100 * 1.5


def test_drawn_genomes_are_those_of_their_architectures() -> None:
    space, random = space_of(PARENTS["resnext50"]), np.random.default_rng(0)
    for _ in range(200):
        genome = space.draw(random)

        assert space.genome(space.express(genome)) == genome
        assert list(genome) == list(space.choices)


@every_parent
def test_every_gene_is_asked_in_every_trial_with_the_same_choices(parent: str) -> None:
    space, study = space_of(parent), optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    choices = {name: optuna.distributions.CategoricalDistribution(each) for name, each in space.choices.items()}

    for _ in range(5):
        trial = study.ask()
        spec = space.suggest(trial)
        assert trial.distributions == choices
        assert space.express(trial.params) == spec
        assert kinds_of(spec) == kinds_of(decode(parent))


@every_parent
def test_an_enqueued_genome_is_suggested(parent: str) -> None:
    space, random = space_of(parent), np.random.default_rng(0)
    genome = space.draw(random)
    study = optuna.create_study()
    study.enqueue_trial(dict(genome))

    assert space.suggest(study.ask()) == space.express(genome)


def test_genes_are_named_after_the_spec_fields_or_the_parts_of_the_string_that_they_set() -> None:
    space = space_of(PARENTS["resnet18"])
    genome: Genome = {
        "input_size": "64x48",
        "backbone.stem": "conv3",
        "backbone.width": 16,
        "neck.channels": 16,
        "head.width": 64,
        "backbone.depth": 15,
        **{"backbone.stage3": 5, "backbone.stage4": 13, "backbone.stage5": 23},  # places 2, 5 and 9 of 14 gaps
        **{"backbone.double1": 3, "backbone.double2": 7, "backbone.double3": 26},  # places 1, 3 and 11 of 15 blocks
    }

    arch = "64x48.basicblock-w16-121-211-1111-12111.fpn-p2-p5-c16.rpn.fc-w64"
    assert encode(space.express(genome)) == arch
    assert space.genome(decode(arch)) == genome


STAYS = "96x72.basicblock-w8-11-21-21-21.fpn-p2-p5-c32.rpn.fc-w32"
MIDDLE = ModularSpace(base_channels=(8, 16), min_blocks=6, max_blocks=9, neck_channels=(16, 32), head_widths=(32, 64))


@pytest.mark.parametrize(
    ("arch", "gene", "choices"),
    [
        ("64x48.basicblock-w8-11-21-21-21.fpn-p2-p5-c32.rpn.fc-w32", "input_size '64x48'", "96x72"),
        ("96x72.basicblock-w12-11-21-21-21.fpn-p2-p5-c32.rpn.fc-w32", "backbone.width 12", "8, 16"),
        ("96x72.basicblock-w8-11-21-21-21.fpn-p2-p5-c24.rpn.fc-w32", "neck.channels 24", "16, 32"),
        ("96x72.basicblock-w8-11-21-21-21.fpn-p2-p5-c32.rpn.fc-w40", "head.width 40", "32, 64"),
        ("96x72.basicblock-w8-2-2-2-11.fpn-p2-p5-c32.rpn.fc-w32", "backbone.depth 5", "6, 7, 8, 9"),
        ("96x72.basicblock-w8-1111-21-21-21.fpn-p2-p5-c32.rpn.fc-w32", "backbone.depth 10", "6, 7, 8, 9"),
    ],
    ids=["input", "base width", "neck", "head", "too shallow", "too deep"],
)
def test_a_spec_outside_the_choices_is_refused_with_its_gene(arch: str, gene: str, choices: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        ModularSearchSpace(MIDDLE, decode(STAYS)).genome(decode(arch))

    assert refusal.value.message == (f"{arch} is not in the modular space of {STAYS}: {gene} is none of its choices")
    assert refusal.value.fix == f"take one of {choices}"


BARE = "96x72.basicblock-w8-11-21-21-21.c4.rpn.fc"
ONE_STAGE = "96x72.basicblock-w8-11-21-21-21.fpn-p2-p5-c32.none.retina"
WITH_EXTRA = "96x72.basicblock-w8-11-21-21-21.fpn-p2-p6-c32.rpn.fc-w32"


@pytest.mark.parametrize(
    ("parent", "arch"),
    [
        (STAYS, "96x72.bottleneck-w8-11-21-21-21.fpn-p2-p5-c32.rpn.fc-w32"),
        (STAYS, "96x72.basicblock-w8-11-21-21-21.fpn-p3-p5-c32.rpn.fc-w32"),
        (STAYS, WITH_EXTRA),
        (WITH_EXTRA, "96x72.basicblock-w8-11-21-21-21.fpn-p2-p6-c32-convc5.rpn.fc-w32"),
        (STAYS, "96x72.basicblock-w8-11-21-21-21.fpn-p2-p5-c32.ga.fc-w32"),
        (STAYS, "96x72.basicblock-w8-11-21-21-21.fpn-p2-p5-c32.rpn.cascade2-w32"),
        (BARE, STAYS),
        (ONE_STAGE, STAYS),
        (STAYS, ONE_STAGE),
        (STAYS, BARE),
        (STAYS, "96x72.resnet50-w8.fpn-p2-p5-c32.rpn.fc-w32"),
        (STAYS, "96x72.mobilenet_v2-w8.fpn-p2-p5-c32.rpn.fc-w32"),
        ("96x72.mobilenet_v2-w8.fpn-p2-p5-c32.rpn.fc-w32", "96x72.inverted-w8-11-21-21-21.fpn-p2-p5-c32.rpn.fc-w32"),
    ],
    ids=[
        *("block", "first level", "last level", "extra level", "RPN", "head"),
        *("a pyramid", "two-stage", "one-stage", "no pyramid", "a classic network", "mobilenet", "its blocks"),
    ],
)
def test_a_spec_of_another_kind_is_refused(parent: str, arch: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        ModularSearchSpace(MIDDLE, decode(parent)).genome(decode(arch))

    assert refusal.value.message == f"{arch} is not in the modular space of {parent}: its modules are of other kinds"
    assert refusal.value.fix == "take the parent's kinds of block, pyramid, RPN and head"


def test_a_classic_network_is_in_the_space_around_strings_of_its_blocks() -> None:
    settings = MIDDLE.model_copy(update={"stems": ("conv3", "conv7")})
    spec = decode("96x72.resnet18-w16.fpn-p2-p5-c32.rpn.fc-w64")
    space = ModularSearchSpace(settings, decode(STAYS))

    assert space.express(space.genome(spec)) == spec
    assert space.genome(spec)["backbone.stem"] == "conv7"


def test_rows_are_read_from_a_genome() -> None:
    space = space_of(PARENTS["mobilenet_v2"])
    genome: Genome = {
        "input_size": "64x48",
        "backbone.width": 16,
        "neck.channels": 16,
        "head.width": 64,
        "backbone.depth": 8,
        # positions 0, 1, 2, 4 and 6 of 7 gaps
        **{"backbone.row2": 0, "backbone.row3": 5, "backbone.row4": 10, "backbone.row5": 20, "backbone.row6": 30},
        **{f"backbone.expansion{number}": 3 if number == 5 else 6 for number in range(1, 7)},
    }

    arch = "64x48.mobilenet_v2-w16-1x6-1x6-1x6-2x6-2x3-1x6.fpn-p2-p5-c16.ga.fc-w64"
    assert encode(space.express(genome)) == arch
    assert space.genome(decode(arch)) == genome


def test_the_space_around_mobilenet_has_its_neighbours_and_is_counted() -> None:
    parent = decode("96x72.mobilenet_v2-w64.fpn-p2-p5-c128.rpn.fc-w1024")
    space = ModularSearchSpace(ModularSpace(), parent)

    assert space.size == 4 * 3 * count_rows(6, 35), "base channels and widths of the pyramid"
    for rows in ("2x6-3x6-4x6-3x6-3x6-2x6", "1x6-3x6-4x6-3x6-3x6-1x6", "2x6-3x6-4x6-3x6-3x6-1x3"):
        neighbour = decode(f"96x72.mobilenet_v2-w64-{rows}.fpn-p2-p5-c128.rpn.fc-w1024")
        assert space.express(space.genome(neighbour)) == neighbour


def test_the_fingerprint_says_which_genes_a_space_has() -> None:
    settings = NARROW.model_copy(update={"vary_input_size": True})
    strings, rows = (
        ModularSearchSpace(settings, decode(PARENTS[name]), SIZES) for name in ("resnet18", "mobilenet_v2")
    )

    # As earlier versions stored it: a study around a ResNet goes on, one around MobileNetV2 had other genes.
    assert strings.as_json == {**settings.model_dump(mode="json"), "input_sizes": ["64x48", "96x72", "128x96"]}
    assert rows.as_json == {**strings.as_json, "rows": "mobilenet_v2"}


def test_the_widths_of_what_is_made_are_those_of_the_genome() -> None:
    space = space_of(PARENTS["resnext50"])
    genome = space.genome(decode(PARENTS["resnext50"]))
    parent = space.express(genome)
    assert parent.neck is not None
    assert not isinstance(parent.head, RetinaHeadSpec)

    assert space.express({**genome, "neck.channels": 16}) == replace(parent, neck=replace(parent.neck, channels=16))
    assert space.express({**genome, "head.width": 64}) == replace(parent, head=replace(parent.head, width=64))
    assert space.express({**genome, "backbone.width": 8}) == replace(
        parent, backbone=replace(written_out(parent.backbone), width=8)
    )
    assert str(space.express({**genome, "input_size": "128x96"}).input_size) == "128x96"
