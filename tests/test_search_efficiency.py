from __future__ import annotations

import sys
from pathlib import Path

import pytest

from smnas_optuna.config import StructuralSpace
from smnas_optuna.search_space import StructuralSearchSpace

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # no package: scripts that share modules

from efficiency.curves import Curves, average, check, shares_at
from efficiency.proposal import Proposal, Run
from efficiency.pruning import prunable_of, pruned_share
from efficiency.samplers import METHODS, replay_ours
from efficiency.table import Row, Table, describe_missing, read_table, spread_over_seeds

SIZES, WIDTHS = ("64x48", "96x72", "128x96"), (8, 12, 16, 24)
STUDY = f"""
[latency]
reference = "64x48.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128"
[space.structural]
input_sizes = {list(SIZES)}
backbones = ["resnet18"]
backbone_widths = {list(WIDTHS)}
necks = ["fpn"]
neck_min_levels = [2]
neck_max_levels = [5]
neck_channels = [32]
rpns = ["rpn"]
heads = ["fc"]
head_widths = [128]
"""
HEAD = "arch,seed,gate_ratio,latency_ratio,ap_epoch2,ap_epoch4,ap_epoch8,num_params,multiply_adds,seconds\n"


def arch_of(size: str, width: int) -> str:
    return f"{size}.resnet18-w{width}.fpn-p2-p5-c32.rpn.fc-w128"


def make_table(rows: dict[str, Row], ap_spread: float | None = 0.01) -> Table:
    settings = StructuralSpace(
        input_sizes=SIZES,
        backbones=("resnet18",),
        backbone_widths=WIDTHS,
        necks=("fpn",),
        neck_min_levels=(2,),
        neck_max_levels=(5,),
        neck_channels=(32,),
        rpns=("rpn",),
        heads=("fc",),
        head_widths=(128,),
    )
    return Table(space=StructuralSearchSpace(settings), rows=rows, repeated={}, ap_spread=ap_spread)


def row(latency: float, ap: float) -> Row:
    return Row(gate_ratio=latency, latency_ratio=latency, ap=ap)


@pytest.fixture
def grid() -> Table:
    """Larger inputs pay, wider backbones only cost: the front is the narrowest at each input size."""
    return make_table(
        {
            arch_of(size, width): row((1 + place) * (1 + width / 100), 0.1 + 0.1 * place + 0.0001 * width)
            for place, size in enumerate(SIZES)
            for width in WIDTHS
        }
    )


def test_the_spread_is_that_within_groups_by_their_degrees_of_freedom() -> None:
    assert spread_over_seeds([[1.0, 3.0], [10.0, 10.0, 10.0]]) == pytest.approx((2 / 3) ** 0.5)
    assert spread_over_seeds([[1.0, 2.0, 3.0]]) == pytest.approx(1.0)
    assert spread_over_seeds([]) is None


def test_shares_and_the_front_of_a_table() -> None:
    fast, slow, bad = arch_of("64x48", 8), arch_of("128x96", 8), arch_of("64x48", 24)
    table = make_table({fast: row(1.0, 0.1), slow: row(2.0, 0.3), bad: row(2.0, 0.05)})

    assert table.reference == (1.1 * 2.0, 0.0)
    assert table.front == {fast, slow}
    whole = 1.2 * 0.1 + 0.2 * 0.2
    assert table.share([]) == 0
    assert table.share([fast, fast]) == pytest.approx(0.12 / whole)
    assert table.share([bad, slow]) == pytest.approx(0.06 / whole)
    assert table.share([fast, slow]) == pytest.approx(1)


def test_a_curve_goes_on_after_a_run_has_ended(grid: Table) -> None:
    archs = sorted(grid.rows)
    short: Run = [Proposal(arch=archs[0], trained=True), Proposal(arch=archs[1], trained=False)]
    long: Run = [Proposal(arch=arch, trained=True) for arch in archs]
    curves = average(grid, [short, long])

    first, last = grid.share(archs[:1]), grid.share(archs[:5])
    assert len(curves.mean) == len(curves.error) == 5  # 40 % of 12
    assert curves.mean[0] == pytest.approx(first)
    assert curves.error[0] == 0
    assert curves.mean[4] == pytest.approx((first + last) / 2)
    assert curves.error[4] == pytest.approx(abs(last - first) / 2)
    assert shares_at(grid, curves)["40"]["mean"] == pytest.approx(curves.mean[4], abs=1e-4)


def test_the_checks_compare_the_parts_of_the_table_that_they_name(grid: Table) -> None:
    # 5, 10, 20, 30 and 40 % of 12 are 1, 1, 2, 4 and 5
    curves = {
        "ours": Curves(mean=[0.5, 0.8, 0.8, 0.9, 0.9], error=[0.03] * 5),
        "stock NSGA-II": Curves(mean=[0.1, 0.1, 0.1, 0.75, 0.9], error=[0.0] * 5),
        "random": Curves(mean=[0.6, 0.6, 0.6, 0.6, 0.6], error=[0.04] * 5),
    }

    assert check(grid, curves) == {
        "lead_at_10_over_nsgaii_at_40": pytest.approx(-0.4),
        "least_leads": {"stock NSGA-II": pytest.approx(0.0), "random": pytest.approx(-2.0)},
    }
    assert check(grid, {name: curves[name] for name in ("stock NSGA-II", "random")}) == {}, "ours is not there yet"


def test_the_share_that_is_pruned_counts_architectures_until_so_many_are_trained() -> None:
    log = [("a", True), ("b", False), ("b", False), ("c", True), ("d", False)]
    run = [Proposal(arch=arch, trained=trained) for arch, trained in log]

    assert pruned_share(run, 1) == 0
    assert pruned_share(run, 2) == pytest.approx(1 / 3)
    assert pruned_share(run, 9) == pytest.approx(2 / 4)


def test_what_all_others_together_would_prune() -> None:
    # A wider backbone brings nothing, and the largest input no more than the middle one.
    rows = {
        arch_of(size, width): row((1 + place) * (1 + width / 100), 0.1 if place == 0 else 0.3)
        for place, size in enumerate(SIZES)
        for width in WIDTHS
    }
    table = make_table(rows, ap_spread=0.0)

    assert table.front == {arch_of("64x48", 8), arch_of("96x72", 8)}
    assert prunable_of(table) == rows.keys() - table.front - {
        arch_of("64x48", 24),  # all that contain it have a higher AP
        arch_of("128x96", 24),  # nothing else contains it
    }
    assert prunable_of(make_table(rows, ap_spread=0.01)) == set(), "nothing is better by the margin"


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_as_much_as_it_is_given(grid: Table, name: str) -> None:
    run = METHODS[name](grid, 0)
    trained = [proposal.arch for proposal in run if proposal.trained]

    assert len(trained) == grid.num_trainings(40)
    assert set(trained) <= grid.rows.keys()
    if name in ("ours", "NSGA-II of Optuna in our loop", "ours without partial-order pruning", "random"):
        assert len(set(trained)) == len(trained)
    assert run == METHODS[name](grid, 0), "a seed says it all"


def test_what_the_table_lacks_costs_nothing(grid: Table) -> None:
    half = make_table({arch: each for arch, each in grid.rows.items() if arch.startswith("96x72")})
    run = replay_ours(half, 0)

    assert {proposal.arch for proposal in run} <= half.rows.keys()
    assert sum(proposal.trained for proposal in run) == half.num_trainings(40)
    assert describe_missing(half) == "8 of 12 architectures are not trained yet"


def test_a_table_is_read_while_it_is_written(tmp_path: Path) -> None:
    lines = [
        f"{arch_of('64x48', 8)},0,0.9,1.0,0.01,0.02,0.03,1,1,1.0\n",
        f"{arch_of('64x48', 8)},0,0.9,1.0,0.01,0.02,0.03,1,1,1.0\n",
        f"{arch_of('64x48', 8)},1,0.8,1.1,0.01,0.02,0.05,1,1,1.0\n",
        f"{arch_of('96x72', 8)},0,1.9,2.0,0.01,0.02,0.04,1,1,1.0\n",
        f"{arch_of('128x96', 8)},0,2.9,3",
    ]
    (tmp_path / "study.toml").write_text(STUDY.replace("'", '"'))
    (tmp_path / "table.csv").write_text(HEAD + "".join(lines))
    table = read_table(tmp_path / "table.csv")

    assert table.rows == {
        arch_of("64x48", 8): Row(gate_ratio=0.9, latency_ratio=1.0, ap=0.03),
        arch_of("96x72", 8): Row(gate_ratio=1.9, latency_ratio=2.0, ap=0.04),
    }
    assert table.repeated == {arch_of("64x48", 8): [0.03, 0.05]}
    assert table.margin == table.ap_spread == pytest.approx(0.02 / 2**0.5)
    assert (tmp_path / "table.csv").read_text().endswith(",3"), "the file is left as it is"
