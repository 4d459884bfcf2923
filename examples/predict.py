"""Detect the objects in an image with a trained detector, and draw them.

    python examples/predict.py RUN_FOLDER IMAGE [OUTPUT]

RUN_FOLDER is that of a member of a front; ``look_at_a_study.py`` prints one. Takes a few seconds on a CPU.
"""

from __future__ import annotations

import sys

from PIL import Image, ImageDraw, ImageOps

from smnas_optuna import load_detector


def main(run_folder: str, image_file: str, output: str | None = None) -> None:
    """Print the objects in ``image_file``, and draw them into a copy of it if ``output`` is given."""
    detector = load_detector(run_folder)
    with Image.open(image_file) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")  # upright, so that the boxes fit what is drawn on
    found = detector.predict(image)  # the path alone would do, too

    draw = ImageDraw.Draw(image)
    for box, name, score in zip(found.boxes.tolist(), found.names, found.scores, strict=True):
        print(f"{score:.2f}  {name:20}  {', '.join(f'{edge:.1f}' for edge in box)}")
        draw.rectangle(box, outline="red", width=2)
        draw.text(box[:2], f"{name} {score:.2f}", fill="red")
    if output is not None:
        image.save(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
