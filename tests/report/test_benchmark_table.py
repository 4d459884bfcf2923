from __future__ import annotations

import io
import json
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from smnas_optuna.arch import InputSize
from smnas_optuna.benchmark.detectors import TimedDetector, Weights, run_by
from smnas_optuna.benchmark.outside import Outsider
from smnas_optuna.benchmark.run import Benchmark, BenchmarkRow
from smnas_optuna.config import LatencySettings
from smnas_optuna.engine.complexity import Complexity
from smnas_optuna.engine.evaluate import CocoMetrics
from smnas_optuna.engine.gpu_watch import GpuRecord
from smnas_optuna.engine.latency import LatencyStats
from smnas_optuna.evaluation.given_results import GivenResults, Role
from smnas_optuna.models import Detector
from smnas_optuna.report.benchmark_table import benchmark_json, print_benchmark
from smnas_optuna.report.outside import read_outside
from smnas_optuna.report.outside_file import keep_outsider, not_shown_line
from smnas_optuna.study.folder import StudyFolder

LATENCY = LatencyStats(
    ratio=1.2345,
    ratio_low=1.2,
    ratio_high=1.25,
    median_ms=12.34,
    p10_ms=11.9,
    p90_ms=13.57,
    network_ms=9.876,
    reference_median_ms=10.0,
    reference_p10_ms=9.5,
    reference_p90_ms=10.5,
    num_runs=320,
    num_blocks=10,
    warm=True,
)
LONG_NAME = "800x600.bottleneck-w56-211-111111111-2111111-11112111.fpn-p2-p6-c128.rpn.cascade3-w1024"


def never() -> Detector:
    raise AssertionError("a table builds no detector")


def row(name: str, weights: Weights = "random", latency: LatencyStats = LATENCY) -> BenchmarkRow:
    timed = TimedDetector(
        name=name,
        arch=None,
        input_size=InputSize(long=800, short=600),
        weights=weights,
        score_threshold=0.0,
        build=never,
    )
    complexity = Complexity(num_params=41_755_286, multiply_adds=134_400_000_000)
    return BenchmarkRow(timed=timed, complexity=complexity, latency=latency)


def make(*rows: BenchmarkRow) -> Benchmark:
    return Benchmark(
        rows=rows,
        source="32 drawn scenes",
        num_classes=80,
        settings=LatencySettings(),
        device={"kind": "cpu", "model": "Some CPU", "threads": 2},
        versions={"torch": "2"},
    )


def printed(benchmark: Benchmark) -> str:
    text = io.StringIO()
    print_benchmark(benchmark, Console(file=text))
    return text.getvalue()


def test_parts_that_are_known_are_a_line() -> None:
    parts = {"backbone": 0.504, "rpn": 0.2, "selection": 0.296}
    text = printed(make(row("first"), row("second", latency=replace(LATENCY, parts=parts))))

    assert "second, by part: backbone 50 %, layers of the RPN 20 %, post-processing 30 %" in text
    assert text.count("by part") == 1
    assert json.loads(benchmark_json(make(row("a", latency=replace(LATENCY, parts=parts)))))["rows"][0]["latency"][
        "parts"
    ] == pytest.approx(parts)


def test_a_row_has_all_numbers() -> None:
    text = printed(make(row("first"), row(LONG_NAME)))

    assert "Latency on Some CPU, 2 threads (batch 1, eager)" in text
    (line,) = (line for line in text.splitlines() if line.strip().startswith(LONG_NAME))
    assert line.split() == [
        *(LONG_NAME, "800x600", "1.234", "1.200..1.250", "12.3", "11.9", "13.6", "9.88", "320"),
        *("41.8", "134", "random"),
    ]
    assert "ratio: 10th percentile (p10) divided by that of first, timed in alternation, with its 95 %" in text
    assert "32 drawn scenes; 80 classes" in text


@pytest.mark.parametrize(
    ("weights", "says", "leaves_out"),
    [
        (("random", "random"), ["post-processing is at its caps"], ["do not compare"]),
        (("trained", "random"), ["post-processing is at its caps", "trained and random rows do not compare"], []),
        (("trained", "trained"), [], ["post-processing is at its caps", "do not compare"]),
    ],
    ids=["random", "both", "trained"],
)
def test_it_says_what_random_weights_mean(
    weights: tuple[Weights, Weights], says: list[str], leaves_out: list[str]
) -> None:
    text = printed(make(row("first", weights[0]), row("second", weights[1])))

    assert all(words in text for words in says)
    assert not any(words in text for words in leaves_out)


def test_it_says_who_ran_by_graphs_and_what_they_could_not_finish() -> None:
    eager, graph = row("first"), row("second", latency=replace(LATENCY, detected_again=0.25))
    graph = replace(graph, timed=run_by(graph.timed, "graph", renamed=True))

    text = printed(make(eager, graph))

    assert "(batch 1, eager and graph)" in text
    assert "second (graph)" in text
    assert "torchvision's detectors are eager" in text
    assert "images with a part that was repeated eagerly, to be exact: second (graph) 25%" in text
    assert "graph" not in printed(make(eager))


@pytest.mark.parametrize("name", ["warm", "alone"])
def test_a_row_that_was_disturbed_is_marked(name: str) -> None:
    disturbed = replace(LATENCY, warm=name != "warm", alone=name != "alone")

    text = printed(make(row("first"), row("second", latency=disturbed)))

    assert text.count(" 320* ") == 1
    assert "*: latency still drifted when timing began, or something else was computing" in text
    assert "320*" not in printed(make(row("first")))


@pytest.mark.parametrize(
    ("gpu", "words"),
    [
        ({"foreign_load_percent": 37}, "the GPU computed for others 37 % of the time before or after"),
        (
            {"foreign_load_percent": 37, "throttled": ("software power cap",)},
            "the GPU computed for others 37 % of the time before or after; the GPU was throttled (software power cap)",
        ),
    ],
    ids=["load", "load and throttling"],
)
def test_what_disturbed_a_row_on_the_gpu_is_said(gpu: dict[str, Any], words: str) -> None:
    free = GpuRecord(foreign_load_percent=0, throttled=())
    rows = [row("first", latency=replace(LATENCY, gpu=free))]
    rows += [row("second", latency=replace(LATENCY, gpu=replace(free, **gpu)))]

    text = printed(make(*rows))

    assert text.count(" 320* ") == 1
    assert [line for line in text.splitlines() if line.startswith("*")] == [f"* second: {words}; measure again"]
    assert "*" not in printed(make(rows[0]))


def test_json_has_what_happened_on_the_gpu() -> None:
    gpu = GpuRecord(foreign_load_percent=37, throttled=("software power cap",))

    benchmark = make(row("first"), row("second", latency=replace(LATENCY, gpu=gpu)))
    first, second = json.loads(benchmark_json(benchmark))["rows"]

    assert first["latency"]["gpu"] is None
    assert second["latency"]["gpu"] == {
        "foreign_load_percent": 37,
        "throttled": ["software power cap"],
    }


def test_a_network_time_that_nobody_knows_is_a_dash_and_null() -> None:
    benchmark = make(row("first", latency=replace(LATENCY, network_ms=math.nan)))

    (line,) = (line for line in printed(benchmark).splitlines() if line.strip().startswith("first"))
    assert line.split()[7] == "-"
    assert json.loads(benchmark_json(benchmark))["rows"][0]["latency"]["network_ms"] is None


def test_json_is_strict_and_ends_with_a_newline() -> None:
    text = benchmark_json(make(row("first")))

    values = json.loads(text)
    assert text.endswith("}\n")
    assert values["reference"] == "first"
    assert values["rows"][0]["latency"]["ratio"] == 1.2345
    assert values["rows"][0]["num_params"] == 41_755_286


def with_outsider(differs: str | None = None, sha256: str = "0f") -> Benchmark:
    theirs = replace(row("yolo", "given"), complexity=None)
    outsider = Outsider(timed=theirs.timed, sha256=sha256, input="1x3x64x64 tensor(float)", differs=differs)
    return replace(make(row("the study's reference", "reference"), theirs), outsider=outsider)


def results(role: Role, ap: float) -> GivenResults:
    others = {each.name: math.nan for each in fields(CocoMetrics)}
    metrics = CocoMetrics(**{**others, "ap": ap, "ap50": 0.5, "ap_low": ap - 0.1, "ap_high": ap + 0.1})
    return GivenResults(role=role, images=72, content="ab", detections=9, metric_limit=100, metrics=metrics)


def test_a_detector_from_outside_has_a_row_without_counts_and_its_ap() -> None:
    text = io.StringIO()
    print_benchmark(with_outsider(), Console(file=text), results("test", 0.25))

    (line,) = (line for line in text.getvalue().splitlines() if line.strip().startswith("yolo "))
    assert line.split()[-4:] == ["320", "-", "-", "given"]
    lines = " ".join(text.getvalue().split())
    assert "yolo: AP (x100) 25.0 (15-35), AP50 50.0 on 72 test images" in lines
    assert "of the size of its input, 1x3x64x64 tensor(float), to its outputs, in ONNX Runtime" in lines
    assert "untrained networks detect by chance" not in lines
    found = json.loads(benchmark_json(with_outsider(), results("test", 0.25)))["outsider"]
    assert (found["name"], found["results"]["metrics"]["ap"]) == ("yolo", 0.25)


def test_a_line_says_what_the_front_lacks_to_show_it(tmp_path: Path) -> None:
    benchmark = with_outsider()
    assert not_shown_line(tmp_path, benchmark) is None, "it is not stored"

    keep_outsider(tmp_path, benchmark, results("test", 0.5))
    line = not_shown_line(tmp_path, benchmark)
    keep_outsider(tmp_path, benchmark, results("val", 0.25))

    assert line is not None
    assert line.endswith("once its AP on the validation images is known, too: --results FILE --on val")
    assert not_shown_line(tmp_path, benchmark) is None


def test_what_is_known_of_the_same_file_stays_and_of_another_one_goes(tmp_path: Path) -> None:
    path = keep_outsider(tmp_path, with_outsider(), results("val", 0.25))
    keep_outsider(tmp_path, with_outsider(), results("test", 0.5))
    (kept,) = read_outside(StudyFolder(tmp_path))
    keep_outsider(tmp_path, with_outsider(sha256="1f"), None)
    (replaced,) = read_outside(StudyFolder(tmp_path))

    assert path == tmp_path / "report" / "outside.json"
    assert (kept.ratio, kept.ap("val"), kept.ap("test")) == (1.2345, 0.25, 0.5)
    assert (replaced.ap("val"), replaced.ap("test")) == (None, None)


def test_a_latency_that_does_not_compare_is_not_kept_and_that_is_said(tmp_path: Path) -> None:
    benchmark = with_outsider(differs="device.threads was 2, is 1")

    assert keep_outsider(tmp_path, benchmark, None) is None
    assert not (tmp_path / "report").exists()
    text = io.StringIO()
    print_benchmark(benchmark, Console(file=text))
    assert "yolo is not kept for the report" in text.getvalue()
    assert "device.threads was 2, is 1" in text.getvalue()
