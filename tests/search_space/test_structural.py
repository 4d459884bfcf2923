from __future__ import annotations

import itertools
import random
import re
from collections import Counter

import numpy as np
import optuna
import pytest

from smnas_optuna.arch import decode, encode
from smnas_optuna.config import StructuralSpace
from smnas_optuna.errors import ConfigError
from smnas_optuna.search_space import Gene, SearchSpace, StructuralSearchSpace
from smnas_optuna.search_space.structural import count_architectures, express, gene_choices

from .test_strings import uneven

WIDE = StructuralSpace(
    input_sizes=("64x48", "96x64", "128x96", "333x320"),
    backbone_widths=(4, 8, 64),
    neck_min_levels=(2, 3, 4),
    neck_max_levels=(5, 6, 7),
    neck_channels=(4, 12, 256),
    neck_extras=("pool", "conv_c5", "conv_p5"),
    head_widths=(16, 32, 1024),
)
SMALL = StructuralSpace(
    input_sizes=("64x48", "96x64"),
    backbones=("resnet18", "resnet50"),
    backbone_widths=(4,),
    necks=("fpn",),
    neck_min_levels=(2, 3),
    neck_max_levels=(5,),
    neck_channels=(4, 8),
    rpns=("rpn",),
    heads=("retina", "fc"),
    head_widths=(16, 32, 64),
)
BARE = SMALL.model_copy(update={"necks": ("c4", "fpn"), "neck_max_levels": (5, 6, 7), "rpns": ("ga", "rpn")})
SPACES = {
    "default": StructuralSpace(),
    "small": SMALL,
    "only retina": SMALL.model_copy(update={"heads": ("retina",)}),
    "without retina": SMALL.model_copy(update={"heads": ("fc",)}),
    "pyramid or none": BARE,
    "pyramid first": BARE.model_copy(update={"necks": ("fpn", "c4"), "neck_max_levels": (7, 5)}),
    "no pyramid": BARE.model_copy(update={"necks": ("c4",), "heads": ("fc", "cascade2")}),
    "only cascades": BARE.model_copy(update={"heads": ("cascade4", "cascade2", "cascade3")}),
    "only extra levels": BARE.model_copy(update={"neck_max_levels": (6,), "neck_extras": ("conv_p5",)}),
    "retina last": SMALL.model_copy(update={"heads": ("fc", "retina")}),
    "one point": SMALL.model_copy(
        update={
            "input_sizes": ("64x48",),
            "backbones": ("resnet18",),
            "neck_min_levels": (2,),
            "neck_channels": (4,),
            "heads": ("retina",),
        }
    ),
}


def _genomes(space: StructuralSpace) -> list[dict[str, Gene]]:
    choices = gene_choices(space)
    return [dict(zip(choices, genes, strict=True)) for genes in itertools.product(*choices.values())]


@pytest.fixture(scope="module")
def trials() -> list[tuple[optuna.Trial, str]]:
    """200 random trials of the wide space, with the architectures that they were read as."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    asked = [study.ask() for _ in range(200)]
    return [(trial, encode(StructuralSearchSpace(WIDE).suggest(trial))) for trial in asked]


def test_every_suggested_architecture_round_trips(trials: list[tuple[optuna.Trial, str]]) -> None:
    assert [encode(decode(arch)) for _, arch in trials] == [arch for _, arch in trials]
    assert len({arch for _, arch in trials}) > 100


def test_every_gene_is_asked_in_every_trial_with_the_same_choices(trials: list[tuple[optuna.Trial, str]]) -> None:
    choices = {name: optuna.distributions.CategoricalDistribution(each) for name, each in gene_choices(WIDE).items()}

    assert all(trial.distributions == choices for trial, _ in trials)


def test_a_trial_is_read_as_its_parameters_say(trials: list[tuple[optuna.Trial, str]]) -> None:
    assert all(encode(express(trial.params)) == arch for trial, arch in trials)


def test_genes_are_named_after_the_spec_fields_that_they_set() -> None:
    two_stage = decode("64x48.resnet18-w4.fpn-p2-p5-c4.rpn.fc-w16")

    for name in gene_choices(WIDE):
        part, _, field = name.partition(".")
        assert hasattr(two_stage, part)
        assert field in ("", "kind") or hasattr(getattr(two_stage, part), field)


def test_the_papers_space_has_as_many_architectures_as_its_choices_allow() -> None:
    # 4 sizes x 7 backbones, each with 12 pyramids (2 first levels x 2 widths x (p5, p6 pooled, p6 convolved)) or none;
    # RetinaNet needs a pyramid, and 4 RoI heads behind 2 RPNs do not.
    assert count_architectures(StructuralSpace()) == 4 * 7 * (12 + 4 * 2 * (12 + 1))


def test_ten_thousand_random_genomes_are_valid_and_round_trip() -> None:
    choices = gene_choices(WIDE)
    dice = random.Random(0)
    architectures = set()
    for _ in range(10_000):
        spec = express({name: dice.choice(each) for name, each in choices.items()})
        arch = encode(spec)
        assert decode(arch) == spec
        architectures.add(arch)

    assert 1_000 < len(architectures) <= count_architectures(WIDE)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_the_count_is_that_of_an_enumeration(space: StructuralSpace) -> None:
    assert count_architectures(space) == len({express(genome) for genome in _genomes(space)})


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_genome_of_a_spec_is_read_as_that_spec(space: StructuralSpace) -> None:
    choices = gene_choices(space)
    for spec in {express(genome) for genome in _genomes(space)}:
        genome = StructuralSearchSpace(space).genome(spec)

        assert express(genome) == spec
        assert list(genome) == list(choices)
        assert all(gene in choices[name] for name, gene in genome.items())


def test_the_width_of_a_roi_head_makes_no_second_one_stage_detector() -> None:
    space = StructuralSearchSpace(SMALL)
    one, other = (
        {
            **space.genome(decode("64x48.resnet18-w4.fpn-p2-p5-c4.none.retina")),
            "head.width": width,
        }
        for width in (16, 64)
    )

    assert express(one) == express(other)


@pytest.mark.parametrize(
    ("arch", "silent"),
    [
        ("64x48.resnet18-w4.fpn-p2-p5-c4.none.retina", {"neck.kind", "neck.extra", "rpn.kind", "head.width"}),
        ("64x48.resnet18-w4.fpn-p2-p6-c4-convc5.none.retina", {"neck.kind", "rpn.kind", "head.width"}),
        ("64x48.resnet18-w4.fpn-p2-p5-c4.ga.fc-w32", {"neck.extra"}),
        ("64x48.resnet18-w4.fpn-p2-p7-c4.rpn.cascade3-w32", set()),
        (
            "64x48.resnet18-w4.c4.ga.fc",
            {"neck.min_level", "neck.max_level", "neck.channels", "neck.extra", "head.width"},
        ),
    ],
)
def test_exactly_the_genes_that_are_switched_off_make_no_second_architecture(arch: str, silent: set[str]) -> None:
    space = WIDE.model_copy(update={"backbone_widths": (4, 8)})
    choices, genome = gene_choices(space), StructuralSearchSpace(space).genome(decode(arch))

    for name, each in choices.items():
        read = {encode(express({**genome, name: gene})) for gene in each}
        assert (read == {arch}) == (name in silent), name
        assert name not in silent or genome[name] == each[0]


def test_an_enqueued_genome_is_suggested() -> None:
    study = optuna.create_study()
    spec = decode("96x64.resnet50-w4.fpn-p3-p5-c8.rpn.fc-w64")
    study.enqueue_trial(dict(StructuralSearchSpace(SMALL).genome(spec)))

    assert StructuralSearchSpace(SMALL).suggest(study.ask()) == spec


@pytest.mark.parametrize(
    ("arch", "gene"),
    [
        ("128x96.resnet18-w4.fpn-p2-p5-c4.rpn.fc-w16", "input_size '128x96'"),
        ("64x48.resnet34-w4.fpn-p2-p5-c4.rpn.fc-w16", "backbone.family 'resnet34'"),
        ("64x48.resnet18-w8.fpn-p2-p5-c4.rpn.fc-w16", "backbone.width 8"),
        ("64x48.resnet18-w4.fpn-p4-p5-c4.rpn.fc-w16", "neck.min_level 4"),
        ("64x48.resnet18-w4.fpn-p2-p6-c4.rpn.fc-w16", "neck.max_level 6"),
        ("64x48.resnet18-w4.c4.rpn.fc", "neck.kind 'c4'"),
        ("64x48.resnet18-w4.fpn-p2-p5-c4.ga.fc-w16", "rpn.kind 'ga'"),
        ("64x48.resnet18-w4.fpn-p2-p5-c4.rpn.cascade2-w16", "head.kind 'cascade2'"),
        ("64x48.resnet34-w8.c4.ga.cascade2", "backbone.family 'resnet34'"),
        ("64x48.resnet18-w4.c4.ga.cascade2", "neck.kind 'c4'"),
        ("64x48.resnet18-w4.fpn-p2-p5-c12.rpn.fc-w16", "neck.channels 12"),
        ("64x48.resnet18-w4.fpn-p2-p5-c4.rpn.fc-w20", "head.width 20"),
    ],
)
def test_a_spec_outside_the_space_is_refused_with_its_gene(arch: str, gene: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        StructuralSearchSpace(SMALL).genome(decode(arch))

    assert refusal.value.message == f"{arch} is not in [space.structural]: {gene} is none of its choices"
    assert re.match(r"add it to the space, or take one of \w+", refusal.value.fix)


@pytest.mark.parametrize("modules", ["fpn-p2-p6-c4-convp5.rpn.fc-w16", "fpn-p2-p6-c4-convp5.none.retina"])
def test_extra_levels_outside_the_space_are_refused(modules: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        StructuralSearchSpace(BARE).genome(decode(f"64x48.resnet18-w4.{modules}"))

    assert refusal.value.message.endswith("neck.extra 'conv_p5' is none of its choices")
    assert refusal.value.fix == "add it to the space, or take one of pool, conv_c5"


def test_a_pyramid_outside_the_space_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"neck\.kind 'fpn' is none of its choices"):
        StructuralSearchSpace(SPACES["no pyramid"]).genome(decode("64x48.resnet18-w4.fpn-p2-p5-c4.rpn.fc-w16"))


def test_a_head_outside_the_space_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"head\.kind 'fc' is none of its choices"):
        StructuralSearchSpace(SPACES["only retina"]).genome(decode("64x48.resnet18-w4.fpn-p2-p5-c4.rpn.fc-w16"))
    with pytest.raises(ConfigError, match=r"head\.kind 'retina' is none of its choices"):
        StructuralSearchSpace(SPACES["without retina"]).genome(decode("64x48.resnet18-w4.fpn-p2-p5-c4.none.retina"))


COCO = StructuralSpace(
    necks=("c4", "fpn"),
    neck_min_levels=(2, 3),
    neck_max_levels=(5, 6, 7),
    neck_channels=(128, 256),
    neck_extras=("pool", "conv_c5"),
    head_widths=(512, 1024),
)
DOUBLE = SMALL.model_copy(
    update={"backbones": ("mobilenet_v2", "resnet18"), "backbone_widths": (22, 23, 28), "neck_max_levels": (5, 6)}
)
"""Of these base widths the first two make one MobileNetV2."""


@pytest.mark.parametrize("space", [*SPACES.values(), DOUBLE], ids=[*SPACES, "double names"])
def test_all_architectures_are_drawn_alike(space: StructuralSpace) -> None:
    dice, structural = np.random.default_rng(0), StructuralSearchSpace(space)
    everything = {express(genome) for genome in _genomes(space)}
    draws = max(2_000, 5 * len(everything))
    drawn: Counter[object] = Counter(structural.express(structural.draw(dice)) for _ in range(draws))

    # chi-square by Wilson and Hilferty (1931): 99.99 % of what equal shares give
    freedom = max(1, len(everything) - 1)
    bound = freedom * (1 - 2 / (9 * freedom) + 3.72 * (2 / (9 * freedom)) ** 0.5) ** 3
    assert set(drawn) <= everything
    assert uneven(drawn, len(everything)) < bound


def test_genes_drawn_by_themselves_would_draw_some_architectures_more_often() -> None:
    """The test above can fail."""
    dice, structural = np.random.default_rng(0), StructuralSearchSpace(BARE)
    everything = {express(genome) for genome in _genomes(BARE)}
    drawn: Counter[object] = Counter(
        structural.express(SearchSpace.draw(structural, dice)) for _ in range(20 * len(everything))
    )

    assert uneven(drawn, len(everything)) > 10 * len(everything)


def test_detectors_without_a_pyramid_are_drawn_as_often_as_they_are_in_the_space() -> None:
    dice, space = np.random.default_rng(0), StructuralSearchSpace(COCO)
    share = 4 * 7 * (4 * 2) / count_architectures(COCO)

    drawn = [space.express(space.draw(dice)).neck is None for _ in range(4_000)]
    assert share < 0.06
    assert np.mean(drawn) == pytest.approx(share, abs=0.01)
    by_genes = [space.express(SearchSpace.draw(space, dice)).neck is None for _ in range(1_000)]
    assert np.mean(by_genes) > 0.3


def test_a_drawn_genome_has_a_choice_of_each_gene() -> None:
    dice, space = np.random.default_rng(0), StructuralSearchSpace(BARE)
    for _ in range(200):
        genome = space.draw(dice)

        assert list(genome) == list(space.choices)
        assert all(genome[name] in choices for name, choices in space.choices.items())


@pytest.mark.parametrize("space", [*SPACES.values(), DOUBLE], ids=[*SPACES, "double names"])
def test_a_mutation_is_another_architecture_one_or_two_steps_away(space: StructuralSpace) -> None:
    dice, structural = np.random.default_rng(0), StructuralSearchSpace(space)
    genome = structural.draw(dice)
    for _ in range(300):
        child = structural.mutate(genome, dice)

        moved = [name for name in genome if child[name] != genome[name]]
        steps = {
            name: abs(each.index(child[name]) - each.index(genome[name])) for name, each in structural.choices.items()
        }
        if structural.size == 1:
            assert child == genome
        else:
            assert structural.express(child) != structural.express(genome)
            assert 1 <= len(moved) <= 2 + (space is DOUBLE)
            assert max(steps.values()) == 1 + (space is DOUBLE and max(steps.values()) > 1)
        genome = child


def test_genes_that_are_switched_off_do_not_mutate() -> None:
    dice, space = np.random.default_rng(0), StructuralSearchSpace(BARE)
    one_stage = space.genome(decode("64x48.resnet18-w4.fpn-p2-p5-c4.none.retina"))

    for _ in range(100):
        child = space.mutate(one_stage, dice)
        assert [child[name] for name in ("neck.kind", "neck.extra", "rpn.kind", "head.width")] == [
            one_stage[name] for name in ("neck.kind", "neck.extra", "rpn.kind", "head.width")
        ]


def test_widths_that_make_one_network_are_one_architecture() -> None:
    space = StructuralSearchSpace(DOUBLE.model_copy(update={"backbone_widths": (23, 22, 28)}))
    spec = decode("64x48.mobilenet_v2-w23.fpn-p2-p5-c4.none.retina")

    assert space.size == len({express(genome) for genome in _genomes(DOUBLE)})
    assert space.genome(spec)["backbone.width"] == 23
    assert space.express(space.genome(spec)) == spec
    assert encode(spec).startswith("64x48.mobilenet_v2-w22.")


@pytest.mark.parametrize("backbone", ["basicblock-w4-11-21-21-21", "mobilenet_v2-w4-2x6-3x6-4x6-3x6-3x6-2x6"])
def test_a_written_out_backbone_is_refused(backbone: str) -> None:
    arch = f"64x48.{backbone}.fpn-p2-p5-c4.rpn.fc-w16"

    with pytest.raises(ConfigError) as refusal:
        StructuralSearchSpace(SMALL).genome(decode(arch))
    assert refusal.value.message == f"{arch} is not in [space.structural]: its backbone is written out"
    assert refusal.value.fix == "take one of resnet18, resnet50"


def test_a_classic_network_that_is_written_out_is_in_the_space() -> None:
    genome = StructuralSearchSpace(SMALL).genome(
        decode("64x48.basicblock-w4-conv7-11-21-21-21.fpn-p2-p5-c4.rpn.fc-w16")
    )

    assert genome["backbone.family"] == "resnet18"
