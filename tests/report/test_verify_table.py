from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from smnas_optuna.report.verify_table import print_verification, verdict_lines, verification_csv, verification_json
from smnas_optuna.verify.verdict import Kept
from smnas_optuna.verify.verification import Verification

from .report_studies import FAST, MIDDLE, POOR, STRONG
from .verifications import APS, verification


def printed(verification: Verification, *, width: int = 80, terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, markup=False)
    print_verification(verification, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def test_the_table_has_a_row_for_each_architecture_fastest_first() -> None:
    text = printed(verification())
    lines = [line.split() for line in text.splitlines()]

    assert text.startswith(
        "AP (x100) of 16 epochs, mean and standard deviation over seeds; latency on Intel Xeon CPU @ 2.20GHz, "
        "2 threads (batch 1)"
    )
    rows = [line for line in lines if line and line[0] in APS]
    assert rows == [
        [FAST, "3.50", "6.2", "6.0", "±", "1.0", "5.0", "±", "1.0", "3", "front"],
        [MIDDLE, "12.2", "20.0", "32.0", "±", "2.6", "30.0", "±", "2.6", "3", "front,", "baseline"],
        [POOR, "30.0", "15.0", "11.0", "±", "1.7", "10.0", "±", "0.0", "3", "baseline"],
        [STRONG, "140", "50.0", "30.0", "±", "1.0", "26.0", "±", "1.0", "3", "front"],
    ]


def test_without_test_images_there_is_no_column_for_them() -> None:
    header = "\n".join(printed(verification(test_aps=None)).splitlines()[1:5])

    assert "validation" in header
    assert "test" not in header


def test_it_says_what_of_the_order_holds_and_the_spread_for_the_study_file() -> None:
    assert verdict_lines(verification()) == [
        "order along the front: 1 of 2 neighbouring pairs keep the search's order (1 beyond the noise, 0 within it), "
        "1 do not (0 beyond the noise, 1 within it)",
        f"  not kept: {STRONG} has 2.0 AP (x100) less than {MIDDLE}, which is faster (p = 0.2)",
        "Kendall's tau-b of the search's AP (8 epochs, one seed) and the mean AP of 16 epochs: 0.67 over 4 "
        "architectures, too few to tell: chance alone puts 4 into the same or the reversed order in 8 % of cases",
        "spread over seeds: standard deviation 1.73 AP (x100), pooled, with 8 degrees of freedom",
        "for study.toml: [search] ap_spread = 0.017 (measured at 16 epochs; --epochs 8 measures it at the search's)",
    ]


def test_one_seed_tells_no_noise_and_an_early_stop_is_said() -> None:
    first = {arch: aps[:1] for arch, aps in APS.items()} | {POOR: ()}

    assert verdict_lines(verification(first, test_aps=None)) == [
        "3 of 12 trainings are finished: run the same command to resume",
        "order along the front: 1 of 2 neighbouring pairs keep the search's order (the noise is not known), "
        "1 do not (the noise is not known)",
        f"  not kept: {STRONG} has 1.0 AP (x100) less than {MIDDLE}, which is faster",
        "Kendall's tau-b of the search's AP (8 epochs, one seed) and the mean AP of 16 epochs: 0.33 over 3 "
        "architectures, too few to tell: chance alone puts 3 into the same or the reversed order in 33 % of cases",
        "spread over seeds: unknown before each architecture has two finished trainings",
    ]


def test_one_architecture_has_no_order() -> None:
    lines = verdict_lines(verification(dict.fromkeys(APS, ()) | {FAST: (0.1, 0.2)}, test_aps=None))

    assert (
        lines[1]
        == "order along the front: fewer than two of its members are retrained, so there is no order to compare"
    )
    assert lines[2].endswith("mean AP of 16 epochs: needs two architectures with different AP")


def test_trainings_that_diverged_are_counted_in_the_row() -> None:
    assert "2 (1 diverged)" in printed(verification(APS | {STRONG: (0.4, 0.5)}, failed=1))


def test_a_narrow_terminal_folds_the_architectures_and_cuts_nothing_off() -> None:
    text = printed(verification(), width=80, terminal=True)
    rows = text.splitlines()[:-5]

    assert "…" not in text
    assert all(len(line) <= 83 for line in rows)
    assert "".join(line.split()[0] for line in rows[-6:-1]) == STRONG


def uncertain() -> Verification:
    """Of few images, and with the weights of MIDDLE's best training."""
    whole = verification()
    kept = Kept(folder=f"verify/weights/{MIDDLE}.seed3.epochs16", number=3, epochs=16, ap=0.35)
    verified = [
        replace(
            each,
            interval=(0.123, 0.456),
            test_interval=(0.0, 1.0),
            weights=kept if each.candidate.arch == MIDDLE else None,
        )
        for each in whole.verdict.verified
    ]
    about = {**whole.about, "data": {**whole.about["data"], "val": {"images": 4}}}
    return replace(whole, verdict=replace(whole.verdict, verified=verified), about=about)


@pytest.mark.parametrize("terminal", [False, True])
def test_an_ap_of_few_images_has_its_interval_and_kept_weights_are_named(terminal: bool) -> None:
    text = printed(uncertain(), terminal=terminal)

    assert "32.0 ± 2.6 (12-46)" in text
    assert "30.0 ± 2.6 (0-100)" in text
    assert "…" not in text
    lines = text.splitlines()
    for images, role in (("4", "validation"), ("few", "test")):
        assert (
            f"in brackets: 95 % interval of AP (x100) for other images, as there are {images} {role} images; detectors "
            "that are compared on the same images differ more surely"
        ) in lines
    assert lines[-1] == (
        f"weights of its best training: verify/weights/{MIDDLE}.seed3.epochs16 (AP (x100) 35.0, seed 3, 16 epochs)"
    )


def test_files_have_the_interval_and_the_weights() -> None:
    rows = list(csv.DictReader(io.StringIO(verification_csv(uncertain()))))
    values = json.loads(verification_json(uncertain()))

    assert [row["weights"] for row in rows] == ["", f"verify/weights/{MIDDLE}.seed3.epochs16", "", ""]
    for each in (rows[0], values["architectures"][0]):
        ends = [float(each[name]) for name in ("ap_low", "ap_high", "test_ap_low", "test_ap_high")]
        assert ends == [0.123, 0.456, 0, 1]
    assert values["architectures"][1]["weights"] == {
        "folder": f"verify/weights/{MIDDLE}.seed3.epochs16",
        "number": 3,
        "epochs": 16,
        "ap": 0.35,
    }
    assert json.loads(verification_json(verification()))["architectures"][0]["ap_low"] is None


def test_csv_has_numbers_for_programs() -> None:
    rows = list(csv.DictReader(io.StringIO(verification_csv(verification(test_aps=None)))))

    assert [row["arch"] for row in rows] == [FAST, MIDDLE, POOR, STRONG]
    assert [row["on_front"] for row in rows] == ["true", "true", "false", "true"]
    middle = rows[1]
    assert (middle["baseline"], middle["search_epochs"], middle["epochs"], middle["seeds"]) == ("true", "8", "16", "3")
    assert [float(middle[name]) for name in ("latency_ms", "search_ap", "ap_mean", "ap_deviation")] == pytest.approx(
        [12.25, 0.2, 0.32, 0.026457513]
    )
    assert (middle["test_ap_mean"], middle["test_ap_deviation"]) == ("", "")


def test_json_has_all_of_it() -> None:
    values = json.loads(verification_json(verification()))

    assert (values["epochs"], values["search_epochs"], values["seeds"]) == (16, 8, 3)
    assert values["data"]["content"] == "0f"
    assert values["recipe"] == {"train": {"epochs": 8}}
    assert values["device"]["kind"] == "cpu"
    assert values["versions"] == {"torch": "2.11.0"}
    assert [each["test_ap_mean"] for each in values["architectures"]] == pytest.approx([0.05, 0.3, 0.1, 0.26])
    assert [(each["holds"], each["beyond_noise"]) for each in values["neighbours"]] == [(True, True), (False, False)]
    assert values["kendall_tau"] == {"tau": pytest.approx(2 / 3), "architectures": 4}
    assert values["spread"] == {"deviation": pytest.approx(0.0173205), "degrees_of_freedom": 8}
    assert len(values["runs"]) == 12
    assert values["runs"][0]["seed"] == 101
