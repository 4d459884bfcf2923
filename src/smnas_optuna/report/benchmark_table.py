"""A benchmark as a table for people, and as JSON for programs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from smnas_optuna.benchmark.run import Benchmark, BenchmarkRow
from smnas_optuna.engine.latency import LatencyStats
from smnas_optuna.evaluation.given_results import GivenResults
from smnas_optuna.report.outside_file import outsider_lines
from smnas_optuna.report.summary import name_device
from smnas_optuna.report.tables import UNKNOWN, new_table, print_tables, short, strict
from smnas_optuna.runtime.parts import parts_in_words

NARROWEST = 94
"""Columns of text that the numbers and a folded name need."""


def print_benchmark(benchmark: Benchmark, console: Console, results: GivenResults | None = None) -> None:
    """Print the table, and the lines on its measurement and on ``results``, those of the detector from outside."""
    lines = [*protocol_lines(benchmark), *outsider_lines(benchmark, results)]
    print_tables([benchmark_table(benchmark)], lines, console, narrowest=NARROWEST)


def benchmark_table(benchmark: Benchmark) -> Table:
    """One row per detector, in the order of measurement."""
    runtimes = " and ".join(sorted({row.timed.runtime for row in benchmark.rows}))
    table = new_table(f"Latency on {name_device(benchmark.device)} (batch 1, {runtimes})", "detector")
    table.add_column("input", no_wrap=True)
    for header in (
        *("ratio", "95 %", "median\n(ms)", "p10\n(ms)", "p90\n(ms)", "network\n(ms)"),
        *("runs", "params\n(M)", "GMACs"),
    ):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("weights", no_wrap=True)
    for row in benchmark.rows:
        latency, timed = row.latency, row.timed
        table.add_row(
            timed.name,
            str(timed.input_size),
            f"{latency.ratio:.3f}",
            f"{latency.ratio_low:.3f}..{latency.ratio_high:.3f}",
            *(short(value) for value in (latency.median_ms, latency.p10_ms, latency.p90_ms)),
            UNKNOWN if math.isnan(latency.network_ms) else short(latency.network_ms),
            f"{latency.num_runs}{'' if _sound(latency) else '*'}",
            *_counted(row),
            timed.weights,
        )
    return table


def _counted(row: BenchmarkRow) -> tuple[str, str]:
    if row.complexity is None:
        return UNKNOWN, UNKNOWN
    return short(row.complexity.num_params, 1e6), short(row.complexity.multiply_adds, 1e9)


def protocol_lines(benchmark: Benchmark) -> list[str]:
    """Lines for people on the measurement, and on rows that should be measured again."""
    lines = [
        f"ratio: 10th percentile (p10) divided by that of {benchmark.reference}, timed in alternation, with its 95 % "
        "confidence interval",
        "timed: from uint8 pixels on the device to boxes in original pixels (Mask R-CNN in torch: and masks), float32; "
        f"{benchmark.source}; {benchmark.num_classes} classes",
        "network: all layers on the largest number of regions that they can get, without RoIAlign, decoding and NMS; "
        "GMACs counts the same",
    ]
    lines += [
        f"{row.timed.name}, {parts_in_words(row.latency.parts)}"
        for row in benchmark.rows
        if row.latency.parts is not None
    ]
    if "random" in benchmark.weights:
        lines.append(
            "random weights: untrained networks detect by chance, so every candidate passes the score threshold (0.0), "
            "ours and torchvision's alike, and post-processing is at its caps: a trained detector's takes less"
        )
    if "reference" in benchmark.weights:
        lines.append(
            "reference: never trained, with the same weights each time; the latencies of the study are ratios to it"
        )
    if benchmark.outsider is not None:
        lines.append(
            f"{benchmark.outsider.timed.name}: the whole file, from uint8 pixels of the size of its input, "
            f"{benchmark.outsider.input}, to its outputs, in ONNX Runtime; they are not looked at"
        )
    if {"trained", "random"} <= benchmark.weights:
        lines.append("trained and random rows do not compare, except in network, params and GMACs")
    graphs = [row for row in benchmark.rows if row.timed.runtime == "graph"]
    if graphs:
        again = [f"{row.timed.name} {row.latency.detected_again:.0%}" for row in graphs if row.latency.detected_again]
        lines.append(
            "graph: parts with fixed shapes are replayed as CUDA graphs; torchvision's detectors are eager"
            + (f"; images with a part that was repeated eagerly, to be exact: {', '.join(again)}" if again else "")
        )
    if not all(row.latency.warm and row.latency.alone for row in benchmark.rows):
        lines.append("*: latency still drifted when timing began, or something else was computing; measure again")
    for row in benchmark.rows:
        if disturbances := _disturbances(row.latency):
            lines.append(f"* {row.timed.name}: {'; '.join(disturbances)}; measure again")
    return lines


def benchmark_json(benchmark: Benchmark, results: GivenResults | None = None) -> str:
    """All numbers, the protocol, device and versions as strict JSON: NaN becomes null. Latencies are in ms.

    ``results`` are those of the detector from outside.
    """
    values = benchmark.as_json()
    if results is not None:
        values["outsider"]["results"] = asdict(results)
    return json.dumps(strict(values), indent=2, allow_nan=False) + "\n"


def _sound(latency: LatencyStats) -> bool:
    return latency.warm and latency.alone and not _disturbances(latency)


def _disturbances(latency: LatencyStats) -> list[str]:
    return [words for record in (latency.cpu, latency.gpu) if record is not None for words in record.disturbances]
