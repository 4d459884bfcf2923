from __future__ import annotations

import argparse
import json
import sys
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smnas_optuna.arch import EncodedBackboneSpec, decode
from smnas_optuna.config import load_settings
from smnas_optuna.search_space import ModularSearchSpace, StructuralSearchSpace

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # no package: scripts that share modules

from efficiency.results import LINES, content_hash, draw
from efficiency.samplers import METHODS
from efficiency.table import PERCENTS, Table, describe_missing, read_table
from search_efficiency import curves_of, replay, stored_rows
from search_table import REPEATED, SEEDS, WARM_UP_TURNS, architectures, ratio_of_turns, trainings
from search_table_file import columns, last_ap, space_of

PARENT = "64x48.basicblock-w8-conv7-1-2-2-21.fpn-p3-p5-c32.rpn.fc-w64"
STUDY = f"""
[latency]
reference = "{PARENT}"
[space.modular]
base_channels = [8]
stems = ["conv7"]
min_blocks = 5
max_blocks = 5
neck_channels = [32]
head_widths = [64]
"""
NUM_ARCHS = 40  # C(4, 3) C(5, 3)
BUDGET = 16  # 40 % of them


def latency_and_ap(arch: str) -> tuple[float, float]:
    """Early doublings cost time, and those in the middle pay."""
    backbone = decode(arch).backbone
    assert isinstance(backbone, EncodedBackboneSpec)
    places = [place for place, block in enumerate("".join(backbone.stages)) if block == "2"]
    return 2.0 - 0.1 * sum(places), 0.5 - 0.05 * sum(abs(place - 2) for place in places) - 0.01 * len(
        backbone.stages[0]
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole table around ``PARENT``, and its first architecture with a second seed."""
    (tmp_path / "study.toml").write_text(STUDY)
    (tmp_path / "table.json").write_text(json.dumps({"parent": PARENT}))
    archs = architectures(space_of(load_settings(tmp_path), PARENT))
    lines = [",".join(columns((2, 4)))]
    for arch in archs:
        latency, ap = latency_and_ap(arch)
        lines.append(f"{arch},0,{latency:.3f},{latency:.3f},0.9,{ap:.3f},1,1,1.0")
    lines.append(f"{archs[0]},1,1.0,1.0,0.9,{latency_and_ap(archs[0])[1] + 0.02:.3f},1,1,1.0")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def table(folder: Path) -> Table:
    return read_table(folder / "table.csv")


def test_a_table_around_a_parent_has_its_modular_space_and_the_last_ap(table: Table) -> None:
    assert isinstance(table.space, ModularSearchSpace)
    assert table.space.size == len(table.rows) == NUM_ARCHS
    assert describe_missing(table) == ""
    assert table.rows[PARENT].point == pytest.approx(latency_and_ap(PARENT), abs=1e-3)
    assert table.ap_spread == pytest.approx(0.02 / 2**0.5)


def test_a_table_without_a_parent_has_the_structural_space(folder: Path) -> None:
    (folder / "table.json").write_text("{}")

    assert isinstance(read_table(folder / "table.csv").space, StructuralSearchSpace)


def test_the_last_ap_is_that_of_the_last_epoch() -> None:
    assert columns((1, 10))[4:6] == ("ap_epoch1", "ap_epoch10")
    assert last_ap({"arch": "x", "ap_epoch2": "0.1", "ap_epoch10": "0.3", "seconds": "9"}) == 0.3


def test_every_architecture_of_a_space_is_trained_once_and_some_with_more_seeds(table: Table) -> None:
    jobs = list(trainings(table.space))

    assert {arch for arch, seed in jobs if seed == 0} == table.rows.keys()
    assert len(jobs) == len(set(jobs)) == NUM_ARCHS + REPEATED * (SEEDS - 1)
    assert {arch for arch, seed in jobs if seed} == {arch for arch, _ in jobs[:REPEATED]}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_searches_a_modular_table(table: Table, name: str) -> None:
    if name == "stock GP":
        pytest.importorskip("scipy", reason="Optuna's GPSampler needs SciPy")
    trained = [proposal.arch for proposal in METHODS[name](table, 0) if proposal.trained]

    assert len(trained) == table.budget == BUDGET
    assert set(trained) <= table.rows.keys()
    assert 0.5 < table.share(trained) <= 1


def test_a_ratio_of_turns_drops_the_warm_up_and_ignores_disturbances() -> None:
    slow_start = chain(repeat(0.001, WARM_UP_TURNS), [9.0, 2.0] * 10)
    reference = chain(repeat(0.001, WARM_UP_TURNS), repeat(4.0, 20))

    assert ratio_of_turns(slow_start, reference, 20) == 0.5


ABOUT: dict[str, Any] = {
    "table": {"content": "now"},
    "seeds": 2,
    "optuna": "5",
    "population": {"ours": 10, "stock": 20},
}


def stored(names: list[str], **differences: Any) -> dict[str, Any]:
    flat = {"mean": [0.25] * BUDGET, "standard_error": [0.01] * BUDGET}
    return {**ABOUT, **differences, "curves": dict.fromkeys(names, flat), "pruning": {"pruned_of_proposed": 0.5}}


def test_rows_that_are_not_replayed_are_kept(table: Table) -> None:
    kept = stored(list(METHODS))
    found = replay(table, "random", kept, ABOUT)

    assert list(found["shares"]) == list(METHODS)
    assert all(share == {"mean": 0.25, "standard_error": 0.01} for share in found["shares"]["stock TPE"].values())
    assert found["shares"]["random"][str(PERCENTS[-1])]["mean"] > 0.25
    assert found["pruning"] == kept["pruning"]
    assert kept == stored(list(METHODS))


def test_every_method_has_a_line_of_its_own_in_the_picture(table: Table) -> None:
    assert len({LINES[name] for name in METHODS}) == len(METHODS)
    axes = draw(table, curves_of(stored(list(METHODS)))).axes[0]

    assert {str(line.get_label()) for line in axes.lines if len(np.asarray(line.get_xdata())) == BUDGET} == set(METHODS)


@pytest.mark.parametrize(
    "content",
    [{"seeds": 3}, {"table": {"content": "then"}}],
    ids=["other seeds", "other table"],
)
def test_rows_of_other_conditions_are_not_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: dict[str, Any]
) -> None:
    output = tmp_path / "found.json"
    output.write_text(json.dumps(stored(list(METHODS), **content)))
    arguments = argparse.Namespace(rows=["random"], output=output)

    with pytest.raises(SystemExit):
        stored_rows(argparse.ArgumentParser(), arguments, ABOUT)
    assert "it is of another table, seeds or version" in capsys.readouterr().err
    arguments.rows = None
    assert stored_rows(argparse.ArgumentParser(), arguments, ABOUT) == {}, "all are replayed"


def test_a_replay_goes_on_with_the_rows_that_are_there(tmp_path: Path) -> None:
    output = tmp_path / "found.json"
    arguments = argparse.Namespace(rows=["random"], output=output)
    assert stored_rows(argparse.ArgumentParser(), arguments, ABOUT) == {}, "nothing is there yet"

    output.write_text(json.dumps(stored(["ours"])))
    assert list(stored_rows(argparse.ArgumentParser(), arguments, ABOUT)["curves"]) == ["ours"]


def test_the_hash_of_a_table_changes_with_a_number(table: Table, folder: Path) -> None:
    before = content_hash(table)
    text = (folder / "table.csv").read_text()
    (folder / "table.csv").write_text(text.replace(",0.9,0.", ",0.8,0."))
    assert content_hash(read_table(folder / "table.csv")) == before, "only the last AP counts"

    (folder / "table.csv").write_text(text.replace(",0.9,0.3", ",0.9,0.2"))
    assert content_hash(read_table(folder / "table.csv")) != before
