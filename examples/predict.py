"""Detect the objects in an image with a trained detector, and draw those with a score of 0.3 or more.

    python examples/predict.py RUN_FOLDER IMAGE [OUTPUT]

RUN_FOLDER is that of a member of a front; ``look_at_a_study.py`` prints one. Takes a few seconds on a CPU.
"""

from __future__ import annotations

import sys

from smnas_optuna import draw_detections, load_detector


def main(run_folder: str, image_file: str, output: str | None = None) -> None:
    """Print the objects in ``image_file``, and draw them into a copy of it if ``output`` is given."""
    found = load_detector(run_folder).predict(image_file)
    for box, name, score in zip(found.boxes.tolist(), found.names, found.scores, strict=True):
        print(f"{score:.2f}  {name:20}  {', '.join(f'{edge:.1f}' for edge in box)}")
    if output is not None:
        draw_detections(image_file, found.above(0.3)).save(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
