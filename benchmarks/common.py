"""Parts that several benchmarks share: command line, testbed, conditions, stored results, statistics and tables."""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from smnas_optuna.arch import decode
from smnas_optuna.config import STUDY_FILE, TrainSettings, load_settings
from smnas_optuna.data import CachePool
from smnas_optuna.engine.device import choose_device, describe_device, library_versions
from smnas_optuna.engine.durable import write_durably, write_json
from smnas_optuna.engine.train import train
from smnas_optuna.session.prepare import load_data
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.study.folder import StudyFolder

Results = dict[str, dict[str, Any]]
"""Name of a variant -> seed, as text -> numbers by name."""


def command_line(description: str | None) -> argparse.ArgumentParser:
    """An empty command line whose help is ``description``, a benchmark's docstring, as it stands."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def trainings_command_line(description: str | None, *, study: str, output: str) -> argparse.ArgumentParser:
    """A command line for trainings of a study's recipe: its folder, its data, the seeds and the output."""
    parser = command_line(description)
    parser.add_argument("--study", type=Path, default=Path(study))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(output))
    return parser


def require_two_seeds(parser: argparse.ArgumentParser, num_seeds: int) -> None:
    """Exit with a message if there are too few seeds for a standard error."""
    if num_seeds < 2:
        parser.error(f"--seeds {num_seeds}: a standard error needs two at least")


def load_testbed(study_dir: Path, data_dir: Path | None = None) -> Testbed:
    """The study's settings on this machine's device, with the data in ``data_dir``, or the study's own.

    Raises:
        DataError: If there is no such folder, or the data cannot be used.
    """
    settings = load_settings(study_dir)
    _, splits = load_data(StudyFolder(study_dir), data_dir, settings, lambda *_: None)
    caches = CachePool(study_dir / "cache", print)
    return Testbed(settings=settings, splits=splits, caches=caches, device=choose_device("auto"))


def measured_on(device: torch.device) -> dict[str, Any]:
    """Device and library versions, JSON values."""
    return {"device": describe_device(device), "versions": library_versions()}


def trained_under(testbed: Testbed, recipe: TrainSettings) -> dict[str, Any]:
    """Recipe, data, device and library versions, JSON values."""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "data": testbed.splits.content_hash,
        **measured_on(testbed.device),
    }


def stored_results(parser: argparse.ArgumentParser, output: Path, about: Mapping[str, Any]) -> Results:
    """The results in ``output``, none if it is missing; exits if they were measured under other conditions.

    Args:
        parser: The benchmark's command line, which reports the error.
        output: JSON with the conditions and ``results``.
        about: The conditions now, JSON values by name.
    """
    if not output.exists():
        return {}
    stored = json.loads(output.read_text())
    if {name: stored[name] for name in about} != about:
        parser.error(f"{output} was measured with other data, recipe, device or versions: move it away")
    results: Results = stored["results"]
    return results


def measure_missing(
    parser: argparse.ArgumentParser,
    output: Path,
    about: Mapping[str, Any],
    variants: Mapping[str, Callable[[int], Mapping[str, float]]],
    num_seeds: int,
) -> Results:
    """Measure what ``output`` lacks of all variants and seeds, and write it after each; all results.

    Args:
        parser: The benchmark's command line; it exits if ``output`` was measured under other conditions.
        output: JSON with the conditions and ``results``; it need not exist.
        about: The conditions now, JSON values by name.
        variants: Name -> measures with a seed.
        num_seeds: Seeds 0, 1, ... of each variant.
    """
    results = stored_results(parser, output, about)
    for seed in range(num_seeds):
        for name, measure in variants.items():
            if str(seed) in results.setdefault(name, {}):
                continue
            results[name][str(seed)] = measure(seed)
            write_json(output, {**about, "results": results})
            print(f"{name}, seed {seed}: {results[name][str(seed)]}", flush=True)
    return results


def train_and_evaluate(testbed: Testbed, arch: str, seed: int) -> dict[str, float]:
    """AP and AP50 (both 0 to 1) of one training with the testbed's recipe, and its seconds with evaluation."""
    spec, start = decode(arch), time.perf_counter()
    detector = testbed.build(spec, seed)
    train(detector, testbed.train_batches(spec.input_size, seed), testbed.settings.train)
    metrics = testbed.evaluate(detector, testbed.splits.val, testbed.val_batches(spec.input_size))
    return {"ap": metrics.ap, "ap50": metrics.ap50, "seconds": round(time.perf_counter() - start, 1)}


def with_recipe(testbed: Testbed, recipe: TrainSettings) -> Testbed:
    """``testbed`` with another recipe."""
    return replace(testbed, settings=testbed.settings.model_copy(update={"train": recipe}))


def begin_like(study: Path, folder: Path, seed: int, *, by_chance: bool = False) -> None:
    """Make a study folder with the settings of ``study`` and a seed of its own, unless it is there.

    Args:
        study: Folder of the study file.
        folder: The new study folder.
        seed: Seed of its search.
        by_chance: Draw all architectures at random: the first generation never ends, and there is no surrogate.
    """
    if (folder / STUDY_FILE).is_file():
        return
    before, search, rest = re.split(r"(?m)^(\[search\].*\n)", (study / STUDY_FILE).read_text(), maxsplit=1)
    own, table, others = rest.partition("\n[")
    set_here = ["seed", *(["surrogate", "population"] if by_chance else [])]
    own = re.sub(rf"(?m)^({'|'.join(set_here)}) *=.*\n?", "", own)
    search += f"seed = {seed}\n" + ("surrogate = false\npopulation = 10000\n" if by_chance else "")
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(folder / STUDY_FILE, (before + search + own + table + others).encode())


def deviation(values: Sequence[float]) -> float:
    """Standard deviation of a sample; NaN for fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else math.nan


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean of two values or more."""
    return statistics.stdev(values) / math.sqrt(len(values))


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; each row has a cell for each of ``heads``."""
    lines = [_markdown_row(heads), _markdown_row(["---"] * len(heads))]
    for row in rows:
        assert len(row) == len(heads)
        lines.append(_markdown_row(row))
    return "\n".join(lines)


def _markdown_row(cells: Sequence[str]) -> str:
    return "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"
