"""A benchmark as a table for people, and as JSON for programs."""

from __future__ import annotations

import json
import math

from rich.console import Console
from rich.table import Table

from smnas_optuna.benchmark.run import Benchmark
from smnas_optuna.engine.latency import LatencyStats
from smnas_optuna.report.summary import name_device
from smnas_optuna.report.tables import UNKNOWN, new_table, print_tables, short, strict
from smnas_optuna.runtime.parts import parts_in_words

NARROWEST = 94
"""Columns of text that the numbers and a folded name need."""


def print_benchmark(benchmark: Benchmark, console: Console) -> None:
    """Print the table, and the lines on its measurement."""
    print_tables([benchmark_table(benchmark)], protocol_lines(benchmark), console, narrowest=NARROWEST)


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
            short(row.complexity.num_params, 1e6),
            short(row.complexity.multiply_adds, 1e9),
            timed.weights,
        )
    return table


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
    if len(benchmark.weights) > 1:
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


def benchmark_json(benchmark: Benchmark) -> str:
    """All numbers, the protocol, device and versions as strict JSON: NaN becomes null. Latencies are in ms."""
    return json.dumps(strict(benchmark.as_json()), indent=2, allow_nan=False) + "\n"


def _sound(latency: LatencyStats) -> bool:
    return latency.warm and latency.alone and not _disturbances(latency)


def _disturbances(latency: LatencyStats) -> list[str]:
    return [words for record in (latency.cpu, latency.gpu) if record is not None for words in record.disturbances]
