from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from optuna.study import Study
from optuna.trial import TrialState
from rich.console import Console

from smnas_optuna.report.summary import COUNTED, summarize
from smnas_optuna.report.tables import counts_line, front_csv, front_json, hypervolume_line, print_front, time_lines

from .report_studies import (
    DEEP,
    DEVICE,
    FAST,
    MIDDLE,
    OLD_GPU_RECORD,
    PARTS,
    SLIM,
    STRONG,
    add_trial,
    both_stages,
    full_study,
    new_study,
    timed_together,
    with_recipes,
)


def printed(width: int, *studies: Study, terminal: bool) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    print_front(summarize(*(studies or [full_study()])), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


@pytest.mark.parametrize("width", [20, 80, 200])
def test_a_row_is_a_line_where_there_is_no_terminal(width: int) -> None:
    lines = [line.split() for line in printed(width, terminal=False).splitlines()]

    assert [FAST, "3.50", "6.2", "-", "0.4", "0.002", "2", "found"] in lines
    assert [MIDDLE, "12.2", "20.0", "41.2", "1.23", "0.0567", "0", "baseline"] in lines
    assert [STRONG, "140", "50.0", "-", "41.0", "-", "3", "found"] in lines
    assert ["0", f"runs/{MIDDLE}"] in lines
    assert ["2", "not", "kept"] in lines


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_narrow_terminal_folds_an_architecture_and_cuts_nothing_off(width: int) -> None:
    text = printed(width, terminal=True)
    first = text.index("140")  # STRONG's row, from its latency on
    rows = text[text.rindex("\n", 0, first) : text.index("weights")].splitlines()

    assert "".join(row[1:].split(" ")[0] for row in rows).startswith(STRONG)
    assert "…" not in text
    assert all(len(line) <= max(width, 73) for line in text.splitlines()[:-2])


def few_images() -> Study:
    study = full_study()
    study.set_user_attr("fingerprint", {"data": {"val": {"images": 4, "boxes": 73}}, "device": DEVICE})
    metrics = {"ap": 0.6, "ap_low": 0.0, "ap_high": 0.96}
    add_trial(study, (150.0, 0.6), TrialState.COMPLETE, arch=DEEP, metrics=metrics)
    return study


@pytest.mark.parametrize("terminal", [False, True])
def test_an_ap_of_few_images_has_its_interval(terminal: bool) -> None:
    text = printed(80, few_images(), terminal=terminal)

    assert "60.0 (0-96)" in text
    assert "…" not in text
    assert text.splitlines()[-3] == (
        "in brackets: 95 % interval of AP (x100) for other images, as there are 4 validation images; detectors that "
        "are compared on the same images differ more surely"
    )
    (member,) = [each for each in json.loads(front_json(summarize(few_images())))["front"] if each["arch"] == DEEP]
    assert (member["metrics"]["ap_low"], member["metrics"]["ap_high"]) == (0.0, 0.96)


def test_the_table_says_what_the_numbers_are() -> None:
    text = printed(80, terminal=False)

    assert text.startswith(
        "Pareto front of structural: latency on Intel Xeon CPU @ 2.20GHz, 2 threads (batch 1) and AP (x100)"
    )
    assert "stage" not in text
    assert text.splitlines()[-2:] == [
        "hypervolume to (154 ms, AP 0): structural 33.1 (3 members); AP in [0, 1]",
        "structural: 4 trained (3 on the front), 1 answered from an earlier trial, 1 pruned, 1 failed, 1 interrupted, "
        "1 running",
    ]


def test_two_stages_say_which_one_a_member_is_from() -> None:
    text = printed(80, *both_stages(), terminal=False)
    lines = [line.split() for line in text.splitlines()]

    assert text.startswith("Pareto front of stages 1 (structural) and 2 (modular): latency on Intel Xeon CPU")
    assert [FAST, "3.50", "6.2", "-", "0.4", "0.002", "2", "found", "1"] in lines
    assert [SLIM, "10.0", "25.0", "-", "-", "-", "0", "found", "2"] in lines
    assert ["0", "2", f"runs/{SLIM}"] in lines
    assert ["2", "1", "not", "kept"] in lines
    assert MIDDLE not in text  # is on the structural front alone


DIFFERENT_RUNS = "latencies of the two fronts are from different runs; smnas retime measures them in one"
ONE_RUN = "latencies of both fronts were timed together in one run"


@pytest.mark.parametrize(("together", "said"), [(False, DIFFERENT_RUNS), (True, ONE_RUN)])
def test_two_stages_end_with_their_hypervolumes_and_what_their_latencies_are_worth(together: bool, said: str) -> None:
    studies = timed_together({}) if together else both_stages()

    assert printed(80, *studies, terminal=False).splitlines()[-3:] == [
        "hypervolume to (165 ms, AP 0): structural 38.6 (3 members), modular 44.38 (2 members), "
        "both 47.28 (4 members); AP in [0, 1]",
        said,
        "structural and modular: 6 trained (4 on the front), 1 answered from an earlier trial, 1 pruned, 1 failed, "
        "2 interrupted, 1 running",
    ]


def test_stage_2_that_has_trained_nothing_yet_has_no_latencies_to_speak_of() -> None:
    begun = new_study(name=f"modular/{MIDDLE}")
    add_trial(begun, None, TrialState.RUNNING, arch=SLIM)

    assert printed(80, full_study(), begun, terminal=False).splitlines()[-2] == (
        "hypervolume to (154 ms, AP 0): structural 33.1 (3 members), modular 0 (0 members), both 33.1 (3 members); "
        "AP in [0, 1]"
    )


def test_one_member_is_no_members() -> None:
    study = new_study()
    add_trial(study, (2.0, 0.5), TrialState.COMPLETE, arch=FAST)

    assert (
        hypervolume_line(summarize(study)) == "hypervolume to (2.20 ms, AP 0): structural 0.1 (1 member); AP in [0, 1]"
    )


def test_where_the_time_went() -> None:
    study = new_study()
    times: dict[str, Any] = {"gate": 10.0, "train": 120.0, "rungs": 5, "evaluate": 15.0, "latency": 30.0}
    for state, values, seconds in (
        (TrialState.COMPLETE, (2.0, 0.5), times),
        (TrialState.PRUNED, None, {"gate": 14.0, "load": 1.0, "bookkeeping": 5.0}),
        (TrialState.RUNNING, None, None),
    ):
        attrs: dict[str, Any] = {} if seconds is None else {"seconds": seconds}
        add_trial(study, values, state, arch=FAST, **attrs)

    assert time_lines(summarize(study)) == [
        "3 min of all trials: training 60 %, timing 27 %, evaluation 10 %, other work 3 %"
    ]
    assert time_lines(summarize(new_study())) == []


@pytest.mark.parametrize("width", [60, 80, 100])
def test_the_table_of_two_stages_fits_a_terminal_of_80_columns(width: int) -> None:
    table = printed(width, *both_stages(), terminal=True).splitlines()[:-3]

    assert all(len(line) <= max(width, 79) for line in table)
    assert "…" not in "".join(table)


def test_an_empty_front_prints_the_counts_alone() -> None:
    console, summary = Console(file=io.StringIO()), summarize(new_study())
    print_front(summary, console)

    assert console.file.getvalue() == counts_line(summary) + "\n"  # type: ignore[attr-defined]


def test_csv_reads_back() -> None:
    rows = list(csv.DictReader(io.StringIO(front_csv(summarize(full_study())))))

    assert [row["arch"] for row in rows] == [FAST, MIDDLE, STRONG]
    assert rows[1] == {
        "arch": MIDDLE,
        "latency_ms": "12.25",
        "latency_low_ms": "12.25",
        "latency_high_ms": "12.25",
        "precise": "true",
        "ap": "0.2",
        "ap50": "0.4125",
        "ap75": "0.1",
        "ap_small": "",
        "ap_medium": "",
        "ap_large": "",
        "num_params": "1234567",
        "multiply_adds": "56700000",
        "study": "structural",
        "trial_number": "0",
        "baseline": "true",
        "weights": f"runs/{MIDDLE}",
    }
    assert (rows[2]["baseline"], rows[2]["weights"], rows[2]["multiply_adds"]) == ("false", "", "")


def test_csv_of_two_stages_names_the_study_of_each_trial() -> None:
    rows = list(csv.DictReader(io.StringIO(front_csv(summarize(*timed_together({SLIM: 9.5}))))))

    assert [(row["arch"], row["study"], row["trial_number"], row["latency_ms"]) for row in rows] == [
        (FAST, "structural", "2", "3.5"),
        (SLIM, f"modular/{MIDDLE}", "0", "9.5"),
        (STRONG, "structural", "3", "140.0"),
        (DEEP, f"modular/{STRONG}", "0", "150.0"),
    ]


def test_json_is_strict_and_reads_back() -> None:
    values = json.loads(front_json(summarize(full_study())), parse_constant=no_constant)

    assert list(values) == [
        *("study", "front", "fronts", "hypervolume", "hypervolume_curve", "apart", "timed_together", "unit"),
        *("trials", "device", "versions"),
    ]
    assert values["trials"] == {**dict.fromkeys(COUNTED, 1), "complete": 4}
    assert (values["study"], values["device"], values["versions"]) == ("structural", DEVICE, {"torch": "2.14.0"})
    assert [entry["trial_number"] for entry in values["front"]] == [2, 0, 3]
    assert values["front"][1] == {
        "arch": MIDDLE,
        "latency_ms": 12.25,
        "latency_low_ms": 12.25,
        "latency_high_ms": 12.25,
        "precise": True,
        "ap": 0.2,
        "num_params": 1_234_567,
        "multiply_adds": 56_700_000,
        "study": "structural",
        "trial_number": 0,
        "baseline": True,
        "weights": f"runs/{MIDDLE}",
        "metrics": {"ap": 0.2, "ap50": 0.4125, "ap75": 0.1, "ap_small": None, "ar1": None},
        "latency": {
            **{"ratio": 0.5, "median_ms": 12.5, "p10_ms": 12.0, "p90_ms": 13.0, "reference_median_ms": 25.0},
            "gpu": OLD_GPU_RECORD,
            "parts": PARTS,
        },
    }
    assert (values["front"][0]["weights"], values["unit"]) == (None, None)


def imprecise_study() -> Study:
    """Its first measurement took 27 ms and its other one 8; FAST is imprecise."""
    study = new_study()
    study.set_user_attr("reference_ms", 27.0)
    for arch, ratio, low, high, ap in ((MIDDLE, 1.0, 0.98, 1.03, 0.2), (FAST, 1.25, 0.95, 1.625, 0.4)):
        latency = {"ratio": ratio, "ratio_low": low, "ratio_high": high, "reference_p10_ms": 8.0}
        add_trial(study, (ratio * 27.0, ap), TrialState.COMPLETE, arch=arch, latency=latency)
    return study


def test_an_imprecise_latency_is_shown_with_its_interval() -> None:
    text = printed(120, imprecise_study(), terminal=False)
    shown = [line.split()[1:3] for line in text.splitlines() if line.split()[:1] in ([FAST], [MIDDLE])]

    assert shown == [["8.00", "20.0"], ["10.0", "(7.60-13.0)"]]
    assert text.splitlines()[-3:-1] == [
        "a latency with its 95 % confidence interval was not measured precisely, and counts as the upper end; "
        "smnas retime measures the front again",
        "the unit of milliseconds is doubtful: it rests on 2 measurements of the reference detector; see smnas doctor",
    ]


def test_an_imprecise_latency_is_marked_for_programs() -> None:
    summary = summarize(imprecise_study())
    members = json.loads(front_json(summary))["front"]
    names = ("latency_ms", "latency_low_ms", "latency_high_ms", "precise")

    assert [[member[name] for name in names] for member in members] == [
        [pytest.approx(8.0), pytest.approx(7.84), pytest.approx(8.24), True],
        [pytest.approx(13.0), pytest.approx(7.6), pytest.approx(13.0), False],
    ]
    rows = list(csv.DictReader(io.StringIO(front_csv(summary))))
    assert [[row[name] for name in names] for row in rows] == [
        [str(member[name]) if name != "precise" else str(member[name]).lower() for name in names] for member in members
    ]
    assert json.loads(front_json(summary))["unit"] == {
        "ms": 8.0,
        "num_measurements": 2,
        "spread": 0.0,
        "num_alone": 2,
        "doubt": "it rests on 2 measurements of the reference detector",
    }


def test_json_has_the_fronts_and_hypervolumes_of_one_stage() -> None:
    values = json.loads(front_json(summarize(full_study())))
    area = 150.5 * 0.0625 + 141.75 * 0.1375 + 14.0 * 0.3

    assert values["fronts"] == {"structural": [FAST, MIDDLE, STRONG]}
    assert values["hypervolume"] == {
        "reference": {"latency_ms": pytest.approx(154.0), "ap": 0.0},
        "structural": pytest.approx(area),
        "all": pytest.approx(area),
    }
    assert values["hypervolume_curve"] == pytest.approx(
        [141.75 * 0.2, 141.75 * 0.2, 150.5 * 0.0625 + 141.75 * 0.1375, area]  # POOR, the second, adds nothing
    )
    assert values["timed_together"] is False


def test_json_has_the_fronts_and_hypervolumes_of_two_stages() -> None:
    summary = summarize(*timed_together({}))
    values = json.loads(front_json(summary), parse_constant=no_constant)

    assert (values["study"], values["timed_together"]) == ("structural and modular", True)
    assert [entry["study"] for entry in values["front"]] == [
        *("structural", f"modular/{MIDDLE}", "structural", f"modular/{STRONG}")
    ]
    assert values["fronts"] == {"structural": [FAST, MIDDLE, STRONG], "modular": [SLIM, DEEP]}
    assert values["hypervolume"] == {
        "reference": {"latency_ms": pytest.approx(165.0), "ap": 0.0},
        "structural": pytest.approx(38.596875),
        "modular": pytest.approx(44.375),
        "all": pytest.approx(47.28125),
    }
    assert len(values["hypervolume_curve"]) == 6
    assert values["hypervolume_curve"][3::2] == pytest.approx([38.596875, 47.28125])


def test_json_and_csv_of_an_empty_study() -> None:
    summary = summarize(new_study())

    values = json.loads(front_json(summary))
    assert (values["front"], values["fronts"], values["hypervolume_curve"]) == ([], {}, [])
    assert values["hypervolume"] == {"reference": {"latency_ms": 0.0, "ap": 0.0}, "all": 0.0}
    assert len(front_csv(summary).splitlines()) == 1


def test_the_front_of_stages_of_different_recipes_is_said_to_be_that_of_stage_2() -> None:
    text = printed(200, *with_recipes(5, 9, 9), terminal=False)

    assert "Pareto front of modular: latency on " in text
    assert "the front is that of stage 2: stage 1 has another recipe, and AP does not compare" in text
    assert "stage 1 has another recipe" not in printed(200, *with_recipes(5, 5, 5), terminal=False)
    assert [json.loads(front_json(summarize(*with_recipes(5, last, last))))["apart"] for last in (5, 9)] == [
        False,
        True,
    ]
