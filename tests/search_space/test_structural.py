from __future__ import annotations

import collections
import itertools
import random
import re

import numpy as np
import optuna
import pytest

from smnas_optuna.arch import decode, encode
from smnas_optuna.config import StructuralSpace
from smnas_optuna.errors import ConfigError
from smnas_optuna.search_space import Gene, StructuralSearchSpace
from smnas_optuna.search_space.structural import count_architectures, express, gene_choices

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


@pytest.mark.parametrize("space", [SMALL, BARE], ids=["small", "bare"])
def test_all_architectures_are_drawn_equally_often(space: StructuralSpace) -> None:
    """Genomes are not: those of a bare backbone, or of a one-stage detector, have more than one."""
    search_space, generator = StructuralSearchSpace(space), np.random.default_rng(0)
    drawn = 10 * search_space.size
    counts = collections.Counter(
        encode(search_space.express(search_space.draw_architecture(generator))) for _ in range(drawn)
    )

    assert len(counts) == search_space.size, "each is expected ten times"
    # Pearson's statistic has a mean of size - 1 and a variance of twice that.
    statistic = sum((count - 10) ** 2 / 10 for count in counts.values())
    assert abs(statistic - search_space.size) < 5 * (2 * search_space.size) ** 0.5
