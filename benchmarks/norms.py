"""AP of GroupNorm with Weight Standardization beside BatchNorm, trained from scratch with one recipe.

    OMP_NUM_THREADS=1 python benchmarks/norms.py [--study studies/shapes] [--data DIR] [--seeds 3] [--arch ARCH]
        [--batches 4 16] [--output benchmarks/norms_shapes.json]

BatchNorm folds into the convolutions of an exported file, and GroupNorm does not, so it is the faster one there. It
needs images in a batch to estimate its statistics from. Trains both with the same seeds, epochs and rate per image.
Writes the output after every training. Resumes: results in the output file are not trained again.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from common import (
    deviation,
    load_testbed,
    markdown_table,
    measure_missing,
    train_and_evaluate,
    trained_under,
    trainings_command_line,
)

from smnas_optuna.session.testbed import Testbed

ARCH = "128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256"
NORMS = ("gn", "bn")


def main() -> None:
    """Train what is missing and print the table."""
    parser = trainings_command_line(__doc__, study="studies/shapes", output="benchmarks/norms_shapes.json")
    parser.add_argument("--arch", default=ARCH)
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 16])
    arguments = parser.parse_args()
    testbed = load_testbed(arguments.study, arguments.data)
    variants = {
        f"{norm}, batches of {batch}": partial(train_and_evaluate, varied(testbed, norm, batch), arguments.arch)
        for batch in arguments.batches
        for norm in NORMS
    }
    about = {"arch": arguments.arch, **trained_under(testbed, testbed.settings.train)}
    print(table(measure_missing(parser, arguments.output, about, variants, arguments.seeds)))


def varied(testbed: Testbed, norm: str, batch: int) -> Testbed:
    """``testbed`` with another norm and batch size; the learning rate is one per image, so that it follows."""
    settings = testbed.settings
    changes = {
        "detector": settings.detector.model_copy(update={"norm": norm}),
        "train": settings.train.model_copy(update={"batch_size": batch}),
    }
    return replace(testbed, settings=settings.model_copy(update=changes))


def table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """AP (x100) of each variant: mean and standard deviation over seeds, and the seconds of a training."""
    rows = []
    for name, runs in results.items():
        aps = [100 * run["ap"] for run in runs.values()]
        if aps:
            seconds = statistics.mean(run["seconds"] for run in runs.values())
            sd = f"{deviation(aps):.1f}"
            rows.append((name, f"{len(aps)}", f"{statistics.mean(aps):.1f}", sd, f"{seconds:.0f}"))
    return markdown_table(("norm", "seeds", "AP (x100)", "sd", "seconds"), rows)


if __name__ == "__main__":
    main()
