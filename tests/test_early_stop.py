from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from smnas_optuna.config import SearchSettings

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # no package: scripts that share modules

import early_stop
from early_stop import (
    Row,
    describe_gain,
    epochs_saved,
    front_stopped,
    gain_at,
    hypervolume_lost,
    read_table,
    replay,
    seconds_saved,
    share_at,
    summarize,
)

HEAD = "arch,seed,gate_ratio,latency_ratio,ap_epoch2,ap_epoch4,ap_epoch8,num_params,multiply_adds,seconds\n"
FAST, LATE, SLOW = (f"64x48.resnet18-w{width}.c4.rpn.fc" for width in (8, 16, 24))
LINES = f"""{FAST},0,1.0,1.0,0.5,0.5,0.5,1,1,10
{LATE},0,2.0,2.0,0.125,0.25,0.75,1,1,20
{SLOW},0,3.0,3.0,0.375,0.125,0.25,1,1,30
{SLOW},1,3.0,3.0,0.5,0.5,0.5,1,1,30
{FAST},0,1.5,1.0,0.0,0.0,0.0,1,1,10
"""
STUDY = """
[latency]
reference = "64x48.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128"
[train]
epochs = 8
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(HEAD + LINES + "half,0,1.0")
    (tmp_path / "study.toml").write_text(STUDY)
    return path


@pytest.fixture
def rows(table: Path) -> list[Row]:
    return read_table(table)


def test_the_first_training_of_each_architecture_is_read(rows: list[Row]) -> None:
    assert [(row.record.arch, row.record.gate_ratio, row.seconds) for row in rows] == [
        (FAST, 1.0, 10.0),
        (LATE, 2.0, 20.0),
        (SLOW, 3.0, 30.0),
    ]
    assert (rows[1].record.latency_ms, rows[1].record.ap) == (2.0, 0.75)
    assert rows[1].record.ap_by_epoch == {2: 0.125, 4: 0.25, 8: 0.75}


def test_a_replay_stops_what_lags_behind_those_before_it(rows: list[Row]) -> None:
    run = replay(rows, (2, 4), margin=0.5, ap_spread=0.02)

    assert (run.epochs, run.evaluations) == ([8, 2, 4], [2, 1, 2])
    assert [record.arch for record in run.kept] == [FAST]
    assert epochs_saved(run) == 1 - 14 / 24
    assert seconds_saved(run, 0.0) == pytest.approx(1 - (10 * 8 + 20 * 2 + 30 * 4) / (60 * 8))
    assert seconds_saved(run, 0.25) == pytest.approx(1 - (10 * 8.5 + 20 * 2.25 + 30 * 4.5) / (60 * 8))


def test_what_was_asked_for_first_has_nothing_to_lag_behind(rows: list[Row]) -> None:
    run = replay(rows[::-1], (2, 4), margin=0.5, ap_spread=0.02)

    assert run.epochs == [8, 8, 8]
    assert epochs_saved(run) == hypervolume_lost(run) == 0
    assert seconds_saved(run, 0.25) == pytest.approx(-0.5 / 8), "evaluations cost, and nothing is saved"


def test_what_was_stopped_leads_nothing(rows: list[Row]) -> None:
    fast, late, slow = rows

    assert replay([fast, late, slow], (4,), margin=0.4, ap_spread=0.0).epochs == [8, 4, 4]
    assert replay([late, slow], (4,), margin=0.4, ap_spread=0.0).epochs == [8, 4]
    assert replay([fast, slow], (2,), margin=0.4, ap_spread=0.0).epochs == [8, 8]


def test_the_cost_is_what_the_front_and_the_hypervolume_lack(rows: list[Row]) -> None:
    run = replay(rows, (2,), margin=0.5, ap_spread=0.02)

    assert front_stopped(run) == (1, 2)
    whole = (3.3 - 1) * 0.5 + (3.3 - 2) * 0.25
    assert hypervolume_lost(run) == pytest.approx(1 - (3.3 - 1) * 0.5 / whole)


def test_at_the_same_cost_more_is_asked_for(rows: list[Row]) -> None:
    late, slow = rows[1:]
    run = replay([rows[0], slow, late], (4,), margin=0.6, ap_spread=0.02)
    assert run.epochs == [8, 4, 8]

    whole = (3.3 - 1) * 0.5 + (3.3 - 2) * 0.25
    first = (3.3 - 1) * 0.5 / whole
    assert [share_at(run, cost, 0.0) for cost in (7, 8, 19, 20)] == pytest.approx([0, first, first, 1])
    assert share_at(run, 20, 0.25) == pytest.approx(first), "evaluations cost, too"
    assert gain_at(run, 20, 0.0) == pytest.approx(1 - first)
    assert gain_at(run, 24, 0.0) == pytest.approx(0)
    assert gain_at(run, 8, 0.25) == pytest.approx(-first)


def test_means_are_over_random_orders(rows: list[Row]) -> None:
    found = summarize(rows, 3, (2,), 0.5, 0.02, 0.25, 200)

    # ``late`` is stopped where ``fast`` came before it: in half of the orders.
    assert found["stopped"] == pytest.approx(0.5, abs=0.11)
    assert found["front_stopped"] == pytest.approx(found["stopped"], abs=0.05)
    assert found["epochs_saved"] == pytest.approx(0.5 * 6 / 24, abs=0.03)
    assert found["hypervolume_lost"] == pytest.approx(found["hypervolume_lost_at_most"] / 2, abs=0.03)
    assert found["front"] == 2
    assert "gained_at_equal_cost" not in found, "there is no more to ask for than a default budget"


def test_gains_are_told_where_there_is_more_to_ask_for_than_a_default_budget(rows: list[Row]) -> None:
    many = rows * SearchSettings().trials
    runs = [replay(order, (4,), margin=0.6, ap_spread=0.02) for order in (many, many)]

    assert describe_gain(runs, 0.0) == {"gained_at_equal_cost": 0, "gained_error": 0}, "all is found at once"


def test_the_whole_benchmark_on_a_small_table(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = table.with_name("early_stop.json")
    output.write_text(json.dumps({"costs": {"evaluation": 0.25}}))
    arguments = ["--table", str(table), "--output", str(output), "--seeds", "3"]
    monkeypatch.setattr(sys, "argv", ["early_stop.py", *arguments])

    early_stop.main()

    found = json.loads(output.read_text())
    assert found["defaults"]["rungs"] == [2]
    assert found["table"] == {"architectures": 3, "front": 2}
    assert found["costs"] == {"evaluation": 0.25}
    assert len(found["results"]) == 2 * len(early_stop.RUNG_SETS) * len(early_stop.MARGINS)
    printed = capsys.readouterr().out
    assert "3 architectures, 3 random orders" in printed
    assert printed.count("\n| 3 |") == len(found["results"])


def test_without_data_and_output_the_time_of_an_evaluation_is_not_known(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(table.with_name("none.json"))
    monkeypatch.setattr(sys, "argv", ["early_stop.py", "--table", str(table), "--output", missing])

    with pytest.raises(SystemExit):
        early_stop.main()

    assert f"{missing} is not there to take the time of an evaluation from: name --data" in capsys.readouterr().err
