"""AP and time of trainings with backbone and neck in bf16 on a CPU, beside those in fp32.

    OMP_NUM_THREADS=1 python benchmarks/bf16_on_cpu.py --data BCCD [--study studies/bccd_claim] [--seeds 3]
        [--archs ARCH ...] [--output benchmarks/bf16_on_cpu.json]
    OMP_NUM_THREADS=1 python benchmarks/bf16_on_cpu.py --data BCCD --time [--archs ARCH ...]

The first command trains each architecture both ways, in turn, with the same seeds and the study's recipe. It writes the
output after every training. Resumes: results in it are not trained again.

The second command prints the time of a training step both ways, in alternation. Time is processor time, so that both
commands may run beside other work.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from common import (
    deviation,
    load_testbed,
    markdown_table,
    measure_missing,
    require_two_seeds,
    train_and_evaluate,
    trained_under,
    trainings_command_line,
    with_recipe,
)

from smnas_optuna.arch import decode
from smnas_optuna.engine.optimizer import build_optimizer
from smnas_optuna.engine.steps import train_step
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.verify.statistics import pooled_spread

ARCHS = ("192x144.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256", "192x144.resnet34-w32.fpn-p2-p6-c64.rpn.cascade2-w256")
STEPS = 7
STEP_HEADS = ("architecture", "seconds of a step, fp32", "bf16", "times as fast")


def main() -> None:
    """Train what is missing and print the table."""
    parser = trainings_command_line(__doc__, study="studies/bccd_claim", output="benchmarks/bf16_on_cpu.json")
    parser.add_argument("--archs", nargs="+", default=ARCHS)
    parser.add_argument("--time", action="store_true", help="print the time of a step instead")
    arguments = parser.parse_args()
    require_two_seeds(parser, arguments.seeds)
    testbed = load_testbed(arguments.study, arguments.data)
    if testbed.device.type != "cpu":
        parser.error("this machine has a GPU, which trains in bf16 anyway: hide it with CUDA_VISIBLE_DEVICES=")
    recipe = testbed.settings.train
    if arguments.time:
        print(markdown_table(STEP_HEADS, [step_row(testbed, arch) for arch in arguments.archs]))
        return
    variants = {
        f"{arch} {'bf16' if bf16 else 'fp32'}": partial(
            timed, with_recipe(testbed, recipe.model_copy(update={"bf16_on_cpu": bf16})), arch
        )
        for arch in arguments.archs
        for bf16 in (False, True)
    }
    about = trained_under(testbed, recipe)
    print(table(measure_missing(parser, arguments.output, about, variants, arguments.seeds)))


def step_row(testbed: Testbed, arch: str) -> tuple[str, ...]:
    """Median processor seconds of steps on one batch both ways, in alternation, and their ratio."""
    spec, recipe = decode(arch), testbed.settings.train
    batch = next(iter(testbed.train_batches(spec.input_size, 0).epoch(0)))
    detector = testbed.build(spec, 0).train()
    optimizer = build_optimizer(detector, recipe)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for number in range(1 + STEPS):
        for bf16, taken in seconds.items():
            before = time.process_time()
            train_step(detector, batch, optimizer, recipe.clip_norm, bf16=bf16)
            if number:  # the first one warms up
                taken.append(time.process_time() - before)
    slow, fast = (statistics.median(seconds[bf16]) for bf16 in (False, True))
    return f"`{arch}`", f"{slow:.3f}", f"{fast:.3f}", f"{slow / fast:.2f}"


def timed(testbed: Testbed, arch: str, seed: int) -> dict[str, float]:
    """APs of a training (0 to 1), and its processor seconds with evaluation."""
    before = time.process_time()
    found = train_and_evaluate(testbed, arch, seed)
    return {**found, "processor_seconds": round(time.process_time() - before, 1)}


def table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """AP (x100) both ways, the gain paired by seed with its standard error pooled over all, and the ratio of times."""
    archs = dict.fromkeys(name.rpartition(" ")[0] for name in results)
    pairs = {arch: (results[f"{arch} fp32"], results[f"{arch} bf16"]) for arch in archs}
    gains = {
        arch: [100 * (bf16[seed]["ap"] - fp32[seed]["ap"]) for seed in fp32.keys() & bf16.keys()]
        for arch, (fp32, bf16) in pairs.items()
    }
    spread = pooled_spread(gains.values())
    rows = []
    for arch, (fp32, bf16) in pairs.items():
        gain = gains[arch]
        error = "" if spread is None else f"{spread.deviation / math.sqrt(len(gain)):.1f}"
        ratio = _seconds(fp32) / _seconds(bf16)
        rows.append((f"`{arch}`", _ap(fp32), _ap(bf16), f"{statistics.mean(gain):+.1f}", error, f"{ratio:.2f}"))
    heads = ("architecture", "fp32 AP (x100)", "bf16 AP", "gain", "its standard error", "times as fast")
    return markdown_table(heads, rows)


def _ap(runs: Mapping[str, Mapping[str, Any]]) -> str:
    aps = [100 * run["ap"] for run in runs.values()]
    return f"{statistics.mean(aps):.1f} ± {deviation(aps):.1f}"


def _seconds(runs: Mapping[str, Mapping[str, float]]) -> float:
    return statistics.mean(run["processor_seconds"] for run in runs.values())


if __name__ == "__main__":
    main()
